//! Values.

use std::time::Instant;

use conjur_client::sensitive::Sensitive;
use conjur_client::{Answer, Error, Freshness, LoadMode, Priority, VariableId, Wanted};

use super::{Bed, failed};

pub async fn check(bed: &Bed) {
    what_was_set_comes_back(bed).await;
    versions_count_changes(bed).await;
    missing_and_forbidden_are_told_apart_where_the_server_does(bed).await;
    a_batch_gives_each_its_own(bed).await;
    any_name_works(bed).await;
    who_may_only_update_fills_and_looks(bed).await;
}

async fn what_was_set_comes_back(bed: &Bed) {
    let id = bed.id("db/password");
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for value in
        [&b"s3cret"[..], b"with a newline\n", b"100%sure&a=b", b"\0", "ünïcode ✓".as_bytes(), &every_byte]
    {
        bed.admin.set_secret("variable", &id, value).await.unwrap();
        let read = bed.admin.fetch_secret("variable", &id, None).await.unwrap();
        assert_eq!(read.expose(), value);
    }
    for blank in [&b""[..], b"  \n"] {
        let error = failed(bed.admin.set_secret("variable", &id, blank).await);
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
}

async fn versions_count_changes(bed: &Bed) {
    let id = bed.id("db/user");
    for value in ["one", "two", "two"] {
        bed.admin.set_secret("variable", &id, value.as_bytes()).await.unwrap();
    }
    let version = |number| bed.admin.fetch_secret("variable", &id, Some(number));
    assert_eq!(version(1).await.unwrap().expose(), b"one");
    assert_eq!(version(2).await.unwrap().expose(), b"two");
    assert!(matches!(failed(version(3).await), Error::NotFound { .. }), "the same value again is no version");
    let shown = bed.admin.show_resource("variable", &id).await.unwrap().unwrap();
    assert_eq!(shown.secrets.iter().map(|secret| secret.version).collect::<Vec<_>>(), [1, 2]);
}

async fn missing_and_forbidden_are_told_apart_where_the_server_does(bed: &Bed) {
    let web = bed.host("web");
    bed.admin.set_secret("variable", &bed.id("seen"), b"not for web").await.unwrap();
    let seen = failed(web.fetch_secret("variable", &bed.id("seen"), None).await);
    assert!(matches!(seen, Error::Forbidden { .. }), "{seen:?}");
    for id in ["private", "nope"] {
        let error = failed(web.fetch_secret("variable", &bed.id(id), None).await);
        assert!(matches!(error, Error::NotFound { .. }), "{id}: {error:?}");
        assert!(error.to_string().contains("not visible to host/"), "{error}");
    }
    let error = failed(web.set_secret("variable", &bed.id("db/password"), b"x").await);
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
    let error = failed(web.set_secret("variable", &bed.id("private"), b"x").await);
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    web.set_secret("variable", &bed.id("db/user"), b"set by web").await.unwrap();
}

fn wanted(bed: &Bed, id: &str) -> Wanted {
    Wanted::latest(VariableId::new(&bed.id(id)).unwrap())
}

async fn a_batch_gives_each_its_own(bed: &Bed) {
    bed.admin.set_secret("variable", &bed.id("private"), b"p").await.unwrap();
    let ids = ["db/password", "db/user", "private", "seen", "nope"].map(|id| wanted(bed, id));
    let answers = bed.host("web").fetch_variables(&ids, Priority::Foreground, Freshness::Remembered).await;
    let of = |index: usize| -> &Answer { &answers[&ids[index]] };
    assert_eq!(of(0).as_ref().unwrap().expose().len(), 100_000);
    assert_eq!(of(1).as_ref().unwrap().expose(), b"set by web");
    assert!(matches!(of(2), Err(Error::NotFound { .. })), "{:?}", of(2));
    assert!(matches!(of(3), Err(Error::Forbidden { .. })), "{:?}", of(3));
    assert!(matches!(of(4), Err(Error::NotFound { .. })), "{:?}", of(4));
}

/// Below the branch `owned`.
pub const NAMES: &[&str] = &[
    "a,b",
    "sp ace",
    "ünï✓",
    "a+b",
    "a%b",
    "a%2Fb",
    "a:b",
    "a?b",
    "a#b",
    "a&b",
    "a;b",
    "a=b",
    "a.json",
    "a'b",
    "a\"b",
    "deep/er/still",
];

async fn any_name_works(bed: &Bed) {
    let names = NAMES.iter().map(|name| format!("- !variable {}", serde_json::Value::from(*name)));
    let document = names.collect::<Vec<_>>().join("\n");
    let branch = bed.branch("owned");
    bed.admin.load_policy(&branch, LoadMode::Append, document.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    for name in NAMES {
        let id = format!("owned/{name}");
        bed.admin.set_secret("variable", &bed.id(&id), name.as_bytes()).await.unwrap();
        let alone = bed.admin.fetch_secret("variable", &bed.id(&id), None).await.unwrap();
        assert_eq!(alone.expose(), name.as_bytes());
        all.push(wanted(bed, &id));
    }
    let answers = bed.admin.fetch_variables(&all, Priority::Refresh, Freshness::Remembered).await;
    for (wanted, name) in all.iter().zip(NAMES) {
        assert_eq!(answers[wanted].as_ref().unwrap().expose(), name.as_bytes(), "{name}");
    }
}

/// Recordings 748 to 754: the list and the show, the version and the annotations, and not the value.
async fn who_may_only_update_fills_and_looks(bed: &Bed) {
    let (filler, id) = (bed.host("filler"), bed.id("filled"));
    let list = |since| filler.list_variables(None, Priority::Foreground, Freshness::Since(since));
    let before = list(Instant::now()).await.unwrap();
    let listed = before.get(&id).expect("it sees the variable");
    assert!(before.len() == 1 && !listed.has_value() && listed.annotation("team") == Some("suite"));
    let shown = filler.show_resource("variable", &id).await.unwrap().unwrap();
    assert_eq!(
        (shown.newest_version(), shown.mark(), shown.annotation("team")),
        (None, listed.mark(), Some("suite"))
    );
    assert!(shown.made_at().is_some() && shown.made_at() == listed.made_at(), "{shown:?}");
    let role = bed.role("host", "filler");
    assert!(shown.permits(&role, "update") && !shown.permits(&role, "execute"), "{shown:?}");

    let variable = VariableId::new(&id).unwrap();
    let set =
        |value: &[u8]| filler.set_variable(&variable, Sensitive::new(value.to_vec()), Priority::Refresh);
    for value in [&b"one"[..], b"\0\xff", b"\0\xff"] {
        set(value).await.unwrap();
    }
    let after = list(Instant::now()).await.unwrap();
    let listed = after.get(&id).unwrap();
    assert_eq!(
        (listed.has_value(), listed.mark().version, listed.made_at()),
        (true, Some(2), shown.made_at())
    );
    assert_eq!(filler.show_resource("variable", &id).await.unwrap().unwrap().mark(), listed.mark());
    let read = failed(filler.fetch_secret("variable", &id, None).await);
    assert!(matches!(read, Error::Forbidden { .. }), "{read:?}");
    assert_eq!(bed.admin.fetch_secret("variable", &id, None).await.unwrap().expose(), b"\0\xff");
    let blank = failed(set(b" ").await);
    assert!(matches!(blank, Error::Invalid { .. }), "{blank:?}");
    let other = VariableId::new(&bed.id("private")).unwrap();
    let other = filler.set_variable(&other, Sensitive::new(b"x".to_vec()), Priority::Foreground).await;
    assert!(matches!(failed(other), Error::NotFound { .. }));
}
