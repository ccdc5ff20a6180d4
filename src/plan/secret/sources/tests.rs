use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::sensitive::Sensitive;

fn read(data: &Value, from: &Value) -> (Vec<DataEntry>, Vec<DataSource>) {
    (serde_json::from_value(data.clone()).unwrap(), serde_json::from_value(from.clone()).unwrap())
}

/// What becomes of a spec whose finds bring `found`, with these values by id; an id that is not there is missing, and one
/// whose value is null forbidden.
fn made(data: &Value, from: &Value, found: &[&[&str]], values: &Value) -> Result<Value, Problem> {
    with_keys(data, from, found, values, &[])
}

fn with_keys(
    data: &Value,
    from: &Value,
    found: &[&[&str]],
    values: &Value,
    keys: &[&[&str]],
) -> Result<Value, Problem> {
    let (entries, sources) = read(data, from);
    let text = |list: &&[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let resolved = Sources::of(&entries, &sources)?.resolve(found.iter().map(text).collect())?;
    let got = resolved.asks().map(|ask| match values.get(ask.variable) {
        Some(Value::String(value)) => Got::Value(value.as_bytes()),
        Some(_) => Got::Forbidden(format!("variable {} is forbidden", ask.variable)),
        None => Got::NotFound(format!("variable {} is missing", ask.variable)),
    });
    let (got, keys) = (got.collect::<Vec<_>>(), keys.iter().map(text).collect::<Vec<_>>());
    let made = resolved.data(&got, &keys, true, LeftOut::default());
    // For templates the same comes of it, and what only a Secret can't have.
    if let Ok(made) = &made {
        let for_templates = resolved.data(&got, &keys, false, LeftOut::default()).unwrap();
        assert!(made.data.iter().all(|(key, _)| for_templates.data.contains_key(key)));
    }
    let data = made?.data;
    let text = |bytes: &Sensitive<Vec<u8>>| Value::from(String::from_utf8(bytes.expose().clone()).unwrap());
    Ok(data.iter().map(|(key, value)| (key.clone(), text(value))).collect::<serde_json::Map<_, _>>().into())
}

fn refused(data: &Value, from: &Value, found: &[&[&str]], values: &Value) -> Failure {
    match made(data, from, found, values) {
        Err(Problem::Failure(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

const NONE: Value = Value::Array(Vec::new());

#[test]
fn for_templates_keys_may_be_such_as_no_secret_can_have() {
    let (entries, sources) = read(&NONE, &json!([{ "find": { "prefix": "p/" } }]));
    let resolve = |ids: &[&str]| {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Sources::of(&entries, &sources).unwrap().resolve(vec![ids]).unwrap()
    };
    let got = [Got::Value(b"1"), Got::Value(b"2")];
    let made = |ids: &[&str], plain| resolve(ids).data(&got[..ids.len()], &[], plain, LeftOut::default());
    let keys: Vec<_> = made(&["p/a@b, ü", "p/.."], false).unwrap().data.into_keys().collect();
    assert_eq!(keys, ["..", "a@b, ü"]);
    assert!(
        matches!(made(&["p/a@b, ü", "p/.."], true), Err(Problem::Failure(f)) if f.reason == Reason::NoKeys)
    );
    for bad in ["p/".to_owned(), format!("p/{}", "x".repeat(1025))] {
        let Err(Problem::Failure(failure)) = made(&[&bad], false) else { panic!("{bad}") };
        assert_eq!(failure.reason, Reason::NoKeys);
    }
    // Two of one name would hide each other there, too.
    assert_eq!(made(&["p/a/b", "p/a_b"], false).unwrap().data.len(), 1);
}

#[test]
fn what_is_found_and_has_no_key_of_its_own_is_left_out_and_the_first_id_has_the_key() {
    let long = format!("p/{}", "x".repeat(254));
    let find = json!({ "find": { "prefix": "p/" } });
    let last = json!({ "find": { "prefix": "q/" }, "keyFrom": "LastSegment" });
    let grown = json!([{ "pattern": "(g+)$", "replacement": "$1".repeat(2_000) }]);
    let grow = json!({ "find": { "prefix": "p/" }, "rewrite": grown });
    let extract = json!({ "extract": { "variable": "j" } });
    let keys = json!({ "publicKeys": { "kind": "user", "id": "alice", "key": "k" } });
    let entry = json!([{ "key": "a", "variable": "v" }]);
    let optional = json!([{ "key": "a", "variable": "gone", "optional": true }]);
    for (data, from, found, expected, left_out) in [
        (&NONE, json!([find]), vec![vec!["p/my key", "p/é", "p/ok", &long, "p/.."]], vec![("ok", "p/ok")], 4),
        // In whatever order, and of whichever find.
        (&NONE, json!([find]), vec![vec!["p/a_b", "p/a/b"]], vec![("a_b", "p/a/b")], 1),
        (&NONE, json!([find]), vec![vec!["p/a/b", "p/a_b"]], vec![("a_b", "p/a/b")], 1),
        (&NONE, json!([last, find]), vec![vec!["q/x"], vec!["p/x"]], vec![("x", "p/x")], 1),
        (&NONE, json!([grow]), vec![vec!["p/ggg", "p/o"]], vec![("o", "p/o")], 1),
        // What is named comes before what is found.
        (&entry, json!([find]), vec![vec!["p/a", "p/b"]], vec![("a", "v"), ("b", "p/b")], 1),
        (&NONE, json!([find, extract]), vec![vec!["p/f", "p/b"]], vec![("b", "p/b"), ("f", "1")], 1),
        (&NONE, json!([find, keys]), vec![vec!["p/b", "p/k"]], vec![("b", "p/b"), ("k", "key\n")], 1),
        // What is named and not there takes no key from what is.
        (&optional, json!([find]), vec![vec!["p/a"]], vec![("a", "p/a")], 0),
    ] {
        let (entries, sources) = read(data, &from);
        let ids = found.iter().map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()).collect();
        let resolved = Sources::of(&entries, &sources).unwrap().resolve(ids).unwrap();
        let got = resolved.asks().map(|ask| match ask.variable {
            "j" => Got::Value(b"{\"f\": 1}"),
            "gone" => Got::NotFound("gone".into()),
            id => Got::Value(id.as_bytes()),
        });
        let got: Vec<_> = got.collect();
        let keys: Vec<_> = resolved.public_keys().map(|_| vec!["key".to_owned()]).collect();
        let made = resolved.data(&got, &keys, true, LeftOut::default()).unwrap();
        let text = |bytes: &Sensitive<Vec<u8>>| String::from_utf8(bytes.expose().clone()).unwrap();
        let data: Vec<_> = made.data.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        assert_eq!(data, expected, "{from}");
        let note = made.left_out.note();
        let counted = note.as_ref().map_or(0, |note| note.split(' ').next().unwrap().parse().unwrap());
        assert_eq!(counted, left_out, "{from}: {note:?}");
    }
}

#[test]
fn each_kind_of_source_gives_its_keys() {
    let data = json!([
        { "key": "plain", "variable": "v" },
        { "key": "field", "variable": "j", "property": "/o/k" },
        { "key": "bytes", "variable": "b", "decode": "Base64" },
        { "key": "inner", "variable": "j", "property": "b64", "decode": "Base64" },
        { "key": "gone", "variable": "nope", "optional": true },
    ]);
    let from = json!([
        { "find": { "prefix": "p/" }, "rewrite": [{ "pattern": "^db_", "replacement": "" }] },
        { "publicKeys": { "kind": "user", "id": "alice", "key": "keys" }, "rewrite": [{ "pattern": "^", "replacement": "ssh-" }] },
        { "extract": { "variable": "j", "property": "o" }, "rewrite": [{ "pattern": "^", "replacement": "x." }] },
        { "find": { "pattern": "z" }, "keyFrom": "LastSegment" },
        { "extract": { "variable": "flat" } },
    ]);
    let values = json!({
        "v": "V", "b": "aGk", "j": "{\"o\": {\"k\": \"deep\", \"n\": 1}, \"b64\": \"eA==\"}", "flat": "{\"list\": [1, 2]}",
        "p/db/user": "U", "p/web": "W", "q/r/z": "Z",
    });
    let found: [&[&str]; 2] = [&["p/db/user", "p/vanished", "p/web"], &["q/r/z"]];
    let expected = json!({
        "plain": "V", "field": "deep", "bytes": "hi", "inner": "x", "user": "U", "web": "W", "ssh-keys": "a\nb\n",
        "x.k": "deep", "x.n": "1", "z": "Z", "list": "[1,2]",
    });
    assert_eq!(with_keys(&data, &from, &found, &values, &[&["a", "b"]]).unwrap(), expected);
}

#[test]
fn what_is_named_and_not_there_is_missing_once_and_what_vanished_is_not() {
    let data = json!([
        { "key": "a", "variable": "gone" },
        { "key": "b", "variable": "gone", "property": "x" },
        { "key": "c", "variable": "no", "optional": true },
    ]);
    let from = json!([
        { "find": { "prefix": "p/" } },
        { "extract": { "variable": "no-object" } },
        { "publicKeys": { "kind": "user", "id": "alice", "key": "keys" } },
    ]);
    let problem =
        with_keys(&data, &from, &[&["p/no", "p/gone"]], &json!({ "no": null, "p/no": null }), &[&[]]);
    let Err(Problem::Missing(missing)) = problem else { panic!("{problem:?}") };
    let named: Vec<_> = missing.iter().map(|m| (m.variable.as_str(), m.forbidden)).collect();
    let expected = [
        ("gone", false),
        ("no", true),
        ("no-object", false),
        ("p/no", true),
        ("public_key:user/alice", false),
    ];
    assert_eq!(named, expected);
}

#[test]
fn values_that_do_not_fit_are_told_without_a_word_of_them() {
    let secret = "hunter2-is-not-json";
    let values = json!({ "v": secret, "j": format!("{{\"a\": null, \"s\": \"{secret}\"}}"), "l": format!("[\"{secret}\"]") });
    let entry = |more: Value| {
        let mut entry = json!({ "key": "k", "variable": "v" });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (json!([entry]), NONE)
    };
    let extract = |extract: Value| (NONE, json!([{ "extract": extract }]));
    for ((data, from), said) in [
        (
            entry(json!({ "property": "a" })),
            ["variable v (for key k, spec.data[0]) is not JSON", "property /a"],
        ),
        (
            entry(json!({ "decode": "Base64" })),
            ["variable v (for key k, spec.data[0]) is not base64", "decode"],
        ),
        (
            entry(json!({ "variable": "j", "property": "b/c" })),
            ["property /b~1c of variable j", "is not there"],
        ),
        (entry(json!({ "variable": "j", "property": "a" })), ["property /a of variable j", "is null"]),
        (
            entry(json!({ "variable": "j", "property": "s", "decode": "Base64" })),
            ["property /s", "is not base64"],
        ),
        (
            extract(json!({ "variable": "v" })),
            ["variable v (spec.dataFrom[0].extract) is not JSON", "JSON object"],
        ),
        (extract(json!({ "variable": "l" })), ["variable l", "is not a JSON object"]),
        (
            extract(json!({ "variable": "j", "property": "s" })),
            ["property /s of variable j", "is not a JSON object"],
        ),
        (extract(json!({ "variable": "j", "property": "x" })), ["property /x of variable j", "is not there"]),
        (extract(json!({ "variable": "j" })), ["field 'a' of variable j", "is null"]),
    ] {
        let failure = refused(&data, &from, &[], &values);
        assert_eq!(failure.reason, Reason::InvalidValue, "{failure}");
        assert!(said.iter().all(|said| failure.message.contains(said)), "{failure}");
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
}

#[test]
fn one_key_named_twice_is_refused_naming_both() {
    let entry = |key: &str| json!({ "key": key, "variable": "v" });
    let values = json!({ "v": "V", "j": "{\"k\": 1, \"x\": 2, \"k\": 3}" });
    let extract = json!({ "extract": { "variable": "j" } });
    let no_k = json!({ "extract": { "variable": "j" }, "rewrite": [{ "pattern": "k", "replacement": "y" }] });
    for (data, from, both) in [
        (json!([entry("a"), entry("b"), entry("a")]), NONE, ["spec.data[0] and ", "spec.data[2] both"]),
        (
            NONE,
            json!([extract]),
            ["(field 'k' of variable j) and ", "spec.dataFrom[0].extract (field 'k' of variable j) both"],
        ),
        (
            json!([entry("y")]),
            json!([no_k]),
            ["spec.data[0] and ", "spec.dataFrom[0].extract (field 'k' of variable j) both"],
        ),
    ] {
        let failure = refused(&data, &from, &[], &values);
        assert_eq!(failure.reason, Reason::InvalidSpec, "{failure}");
        assert!(both.iter().all(|said| failure.message.contains(said)), "{failure}");
    }
}

#[test]
fn a_key_that_cannot_be_is_refused_naming_the_field_and_what_to_do() {
    let from = json!([{ "extract": { "variable": "j" } }]);
    let failure = refused(&NONE, &from, &[], &json!({ "j": "{\"a@b\": 1}" }));
    assert_eq!(failure.reason, Reason::InvalidSpec, "{failure}");
    let said = ["field 'a@b' of variable j", "Rename it with rewrite"];
    assert!(said.iter().all(|said| failure.message.contains(said)), "{failure}");
}

#[test]
fn where_no_key_would_be_left_nothing_is_made() {
    let optional = json!([{ "key": "a", "variable": "gone", "optional": true }]);
    let find = json!([{ "find": { "prefix": "p/" } }]);
    for (data, from, found, said) in [
        (&optional, &NONE, vec![], "all variables are optional and missing"),
        (&NONE, &find, vec![[].as_slice()], "nothing that has a value was found"),
        (&NONE, &find, vec![["p/vanished"].as_slice()], "nothing that has a value was found"),
        (&optional, &find, vec![[].as_slice()], "nothing else was found"),
        (&NONE, &json!([{ "extract": { "variable": "empty" } }]), vec![], "no fields"),
    ] {
        let failure = refused(data, from, &found, &json!({ "empty": "{}" }));
        assert_eq!(failure.reason, Reason::NoKeys, "{failure}");
        assert!(failure.message.contains(said) && failure.message.contains("not touched"), "{failure}");
    }
}

#[test]
fn a_spec_that_cannot_be_is_refused_naming_the_field() {
    for (data, from, said) in [
        (NONE, NONE, "give spec.data, spec.dataFrom or both"),
        (
            json!([{ "key": "a", "variable": "v", "property": "/~" }]),
            NONE,
            "spec.data[0].property: in a JSON pointer",
        ),
        (NONE, json!([{}]), "spec.dataFrom[0]: give exactly one"),
        (NONE, json!([{ "find": { "prefix": "a" }, "extract": { "variable": "v" } }]), "exactly one"),
        (NONE, json!([{ "find": {} }]), "spec.dataFrom[0].find: give at least one"),
        (NONE, json!([{ "find": { "prefix": "", "annotations": {} } }]), "give at least one"),
        (
            NONE,
            json!([{ "find": { "pattern": "(" } }]),
            "spec.dataFrom[0].find.pattern is not a regular expression: unclosed group",
        ),
        (
            NONE,
            json!([{ "extract": { "variable": "v", "property": "/~" } }]),
            "spec.dataFrom[0].extract.property",
        ),
        (
            NONE,
            json!([{ "extract": { "variable": "v" } }, { "find": { "prefix": "a" }, "rewrite": [{ "pattern": "a", "replacement": "" }, { "pattern": "[", "replacement": "" }] }]),
            "spec.dataFrom[1].rewrite[1].pattern can't be used: unclosed character class",
        ),
    ] {
        let (entries, sources) = read(&data, &from);
        let read = Sources::of(&entries, &sources).and_then(|sources| sources.check_patterns());
        let failure = read.unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(failure.message.contains(said), "{failure}");
    }
}

#[test]
fn all_criteria_that_are_given_must_match() {
    let annotations = [("env", "prod"), ("team", "pay")];
    let annotation = |name: &str| annotations.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    for (find, taken) in [
        (json!({ "prefix": "apps/" }), true),
        (json!({ "prefix": "app/" }), false),
        (json!({ "pattern": "password$" }), true),
        (json!({ "pattern": "^password" }), false),
        (json!({ "annotations": { "env": "prod" } }), true),
        (json!({ "annotations": { "env": "prod", "team": "pay" } }), true),
        (json!({ "annotations": { "env": "prod", "team": "x" } }), false),
        (json!({ "annotations": { "none": "" } }), false),
        (json!({ "prefix": "apps/", "pattern": "db", "annotations": { "env": "prod" } }), true),
        (json!({ "prefix": "apps/", "pattern": "dbx", "annotations": { "env": "prod" } }), false),
        (json!({ "prefix": "apps/", "pattern": "db", "annotations": { "env": "dev" } }), false),
        (json!({ "search": "words" }), true),
    ] {
        let (_, sources) = read(&NONE, &json!([{ "find": find }]));
        let sources = Sources::of(&[], &sources).unwrap();
        let (_, criteria) = sources.finds().next().unwrap();
        let matcher = criteria.matcher(Place::Find(0)).unwrap();
        assert_eq!(matcher.takes("apps/db/password", annotation), Ok(taken), "{find}");
    }
}

#[test]
fn more_than_a_secret_could_hold_is_refused_with_the_count() {
    let (_, sources) = read(&NONE, &json!([{ "find": { "prefix": "a" } }, { "find": { "prefix": "b" } }]));
    let ids = |count: usize| (0..count).map(|at| format!("v{at}")).collect::<Vec<_>>();
    assert!(Sources::of(&[], &sources).unwrap().resolve(vec![ids(1), ids(FOUND_VARIABLES - 1)]).is_ok());
    let failure =
        Sources::of(&[], &sources).unwrap().resolve(vec![ids(1), ids(FOUND_VARIABLES)]).unwrap_err();
    assert!(
        failure.message.contains("finds 5001 variables (5000 of them by spec.dataFrom[1].find)"),
        "{failure}"
    );
}

#[test]
fn a_prefix_that_no_id_can_begin_with_is_refused_and_a_full_id_is_told() {
    let of = |prefix: &str| read(&NONE, &json!([{ "find": { "prefix": prefix } }])).1;
    for bad in ["/apps/x/", "/", "apps//x", "apps/x//", "apps/../x", "../x", "./", "apps/./", "apps/\u{1}x"] {
        let failure = Sources::of(&[], &of(bad)).unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(failure.message.starts_with("spec.dataFrom[0].find.prefix "), "{failure}");
    }
    for good in ["apps/x/", "apps/x", "apps/.x", "apps/..x/", "a", "apps/x/..", "a b,ü/"] {
        let sources = of(good);
        assert_eq!(Sources::of(&[], &sources).unwrap().full_id("demo"), None, "{good}");
    }
    let (entries, sources) = read(
        &json!([{ "key": "a", "variable": "demo:variable:x" }]),
        &json!([{ "find": { "prefix": "demo:variable:apps/" } }]),
    );
    let hint = |entries, sources| Sources::of(entries, sources).unwrap().full_id("demo").unwrap();
    assert!(hint(&entries, &[]).starts_with("spec.data[0].variable is written as a full id; leave out"));
    assert!(hint(&[], &sources).starts_with("spec.dataFrom[0].find.prefix is written as a full id"));
    assert_eq!(Sources::of(&entries, &[]).unwrap().full_id("prod"), None);
}

proptest! {
    #[test]
    fn found_variables_become_keys_or_are_left_out(ids in proptest::collection::btree_set("[a-c/_. ]{1,6}", 0..6)) {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let values: serde_json::Map<_, _> = ids.iter().map(|id| ((*id).to_owned(), Value::from(*id))).collect();
        let from = json!([{ "find": { "pattern": "" , "prefix": "x" } }]);
        let key = |id: &str| id.replace('/', "_");
        match made(&NONE, &from, &[&ids], &values.into()) {
            Ok(made) => {
                let made = made.as_object().unwrap();
                for (key_made, value) in made {
                    prop_assert!(rename::unfit(key_made).is_none());
                    prop_assert_eq!(&key(value.as_str().unwrap()), key_made);
                }
                for id in &ids {
                    prop_assert!(made.contains_key(&key(id)) || rename::unfit(&key(id)).is_some());
                }
            }
            Err(Problem::Failure(failure)) => {
                prop_assert_eq!(failure.reason, Reason::NoKeys);
                prop_assert!(ids.iter().all(|id| rename::unfit(&key(id)).is_some()));
            }
            Err(Problem::Missing(missing)) => prop_assert!(false, "{missing:?}"),
        }
    }
}
