//! Hostile templates and documents against real worker processes: whatever they do, the one who asks goes on, has an answer
//! soon, and knows whose it was.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use conjur_client::sensitive::Sensitive;
use conjur_operator::{
    api::Reason,
    seams::{Failure, Heavy, Text, Whose},
};

fn heavy() -> Heavy {
    Heavy::new(env!("CARGO_BIN_EXE_conjur-operator").into())
}

fn whose(name: &str) -> Whose {
    Whose { kind: "ConjurSecret", namespace: "tenant".into(), name: name.into(), state: "1".into() }
}

fn values() -> BTreeMap<String, Sensitive<Vec<u8>>> {
    let json = format!("[{}0]", "0,".repeat(400_000));
    [("user", "alice".to_owned()), ("big", "x".repeat(500_000)), ("json", json)]
        .map(|(key, value)| (key.to_owned(), Sensitive::new(value.into_bytes())))
        .into()
}

async fn render(heavy: &Heavy, whose: &Whose, text: &str) -> Result<String, Failure> {
    let made = heavy.render_templates(whose, &[Text::inline("out", text)], &values()).await?;
    Ok(String::from_utf8(made["out"].expose().clone()).unwrap())
}

/// In a loop, `{% set ns.x = … %}`.
fn grown(with: &str, then: &str) -> String {
    format!(
        "{{% set ns = namespace(x=0, y=1) %}}{{% for i in range(99000) %}}{{% set ns.x = {with} %}}{{% endfor %}}{then}"
    )
}

fn doubled(times: usize, then: &str) -> String {
    "{% set a = [1] %}{% set b = [1] %}".to_owned()
        + &"{% set a = [a, a] %}{% set b = [b, b] %}".repeat(times)
        + then
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_template_ends_or_holds_up_who_asks() {
    let heavy = heavy();
    let hostile = [
        grown("[ns.x]", "ok"),
        grown("[ns.x]", "{{ ns.x }}"),
        grown("[ns.x]", "{{ ns.x ~ '' }}"),
        grown("[ns.x]", "{{ ns.x == [ns.x] }}"),
        grown("{'a': ns.x}", "{{ ns.x | tojson }}"),
        grown("{'a': ns.x}", "{{ {ns.x: 1} }}"),
        grown("ns", "{{ ns }}"),
        grown("ns", "{{ ns ~ '' }}"),
        grown("[ns]", "{{ ns == ns.x }}"),
        grown("ns.x | default(0) | list if ns.x is iterable else [1]", "ok"),
        grown("[i] | batch(1, ns.x)", "{{ ns.x }}"),
        grown("[ns.x] | map('default', 1)", "{{ ns.x }}"),
        grown("[ns.x] | reverse", "ok"),
        grown("dict(a=ns.x)", "{{ ns.x }}"),
        grown("namespace(a=ns.x)", "{{ ns.x }}"),
        grown("[1] + [ns.x]", "{{ ns.x | length }}"),
        grown("ns.x ~ big", "ok"),
        grown("[ns.x, big | upper]", "ok"),
        doubled(40, "{{ a == b }}"),
        doubled(40, "{{ a in [b] }}"),
        doubled(40, "{{ a ~ b }}"),
        doubled(40, "{{ {a: 1, b: 2} }}"),
        doubled(40, "{{ [a, b] | sort }}"),
        doubled(40, "{{ [a, b] | unique | list }}"),
        "{{ ([1] * 100000000) ~ '' }}".to_owned(),
        "{{ [[[1] * 1000] * 1000] * 1000 == [[[1] * 1000] * 1000] * 1000 }}".to_owned(),
        "{{ [big] * 100000 ~ '' }}".to_owned(),
        "{{ ([big] * 100000) | join | length }}".to_owned(),
        "{{ '%999999999d' | format(1) }}".to_owned(),
        "{{ 'a\n\n' | indent(2000000000, true, true) }}".to_owned(),
        "{{ 1.5 | round(2000000000) }}".to_owned(),
        "{{ big | replace('x', big) }}".to_owned(),
        "{% for a in range(100000) %}{% for b in range(100000) %}{% if big == big ~ '' %}{% endif %}{% endfor %}{% endfor %}".to_owned(),
        "{% for x in [[[[]]]] recursive %}{{ loop([[x]]) }}{% endfor %}".to_owned(),
        "{% for x in range(100000) %}{{ loop.changed(loop) }}{% endfor %}".to_owned(),
        "{{ json | fromjson | tojson | fromjson | tojson }}".to_owned(),
        format!("{{{{ {}1{} }}}}", "(".repeat(900), ")".repeat(900)),
        format!("{{{{ {}1 }}}}", "not ".repeat(490)),
        "{% if 1 %}".repeat(190) + &"{% endif %}".repeat(190),
    ];
    for (at, text) in hostile.iter().enumerate() {
        let start = Instant::now();
        let made = render(&heavy, &whose(&format!("h{at}")), text).await;
        let took = start.elapsed();
        let shown = &text[..text.len().min(150)];
        // Three tries at most, each of a second of a processor, which others want, too.
        assert!(took < Duration::from_secs(90), "{shown} took {took:?}");
        if let Err(failure) = &made {
            assert!(
                matches!(failure.reason, Reason::TemplateInvalid | Reason::SetAside),
                "{shown}: {failure}"
            );
            assert!(!failure.message.contains("alice"), "{failure}");
        }
    }
    assert_eq!(render(&heavy, &whose("good"), "{% set x = user %}<{{ x }}>").await.unwrap(), "<alice>");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_its_workers_die_of_is_set_aside_until_an_edit() {
    let heavy = heavy();
    let deep = grown("[ns.x]", "{{ ns.x ~ '' }}");
    let failure = render(&heavy, &whose("poison"), &deep).await.unwrap_err();
    assert_eq!(failure.reason, Reason::SetAside, "{failure}");
    let start = Instant::now();
    assert_eq!(
        render(&heavy, &whose("poison"), &deep).await.unwrap_err(),
        failure,
        "it says the same at each look"
    );
    assert!(start.elapsed() < Duration::from_millis(200), "nothing is tried: {:?}", start.elapsed());
    let good = "{% set x = user %}{{ x }}";
    assert_eq!(render(&heavy, &whose("poison"), good).await.unwrap_err().reason, Reason::SetAside);
    let edited = Whose { state: "2".into(), ..whose("poison") };
    assert_eq!(render(&heavy, &edited, good).await.unwrap(), "alice");
    assert_eq!(render(&heavy, &whose("another"), good).await.unwrap(), "alice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_light_does_not_wait_for_those_who_are_heavy() {
    let heavy = heavy();
    let slow = "{{ [[[1] * 1000] * 1000] * 1000 == [[[1] * 1000] * 1000] * 1000 }}";
    let hostile: Vec<_> = (0..20)
        .map(|at| {
            let heavy = heavy.clone();
            tokio::spawn(async move { render(&heavy, &whose(&format!("slow{at}")), slow).await.unwrap_err() })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    assert_eq!(render_small(&heavy, "postgres://{{ user | urlencode }}@db").await, "postgres://alice@db");
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    // Another namespace waits for those that run, not for the twenty.
    let start = Instant::now();
    let other = Whose { namespace: "other".into(), ..whose("good") };
    assert_eq!(render(&heavy, &other, "{% set x = user %}{{ x }}").await.unwrap(), "alice");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    hostile.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn render_small(heavy: &Heavy, text: &str) -> String {
    let values = [("user".to_owned(), Sensitive::new(b"alice".to_vec()))].into();
    let made = heavy.render_templates(&whose("small"), &[Text::inline("out", text)], &values).await.unwrap();
    String::from_utf8(made["out"].expose().clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_document_ends_or_holds_up_who_asks() {
    let heavy = heavy();
    let bombs = (0..60)
        .map(|n| format!("- &a{} [{}]\n", n + 1, format!("*a{n}, ").repeat(9)))
        .collect::<Vec<_>>()
        .concat();
    let documents = [
        ("- !host h\n".repeat(20_000), true),
        ("- !variable v\n".repeat(150_000), true),
        ("- a\n".repeat(600_000), false),
        (format!("- [{}]\n", ",".repeat(9_000_000)), false),
        (format!("- [{}]\n", "a,".repeat(4_500_000)), false),
        (format!("- {}x\n", "[".repeat(1_000_000)), false),
        (format!("- &a0 [x]\n{bombs}{}", "# padding\n".repeat(10_000)), true),
        (format!("- !variable {{id: v, annotations: {{a: {}}}}}\n", "a".repeat(4_000_000)), true),
        (format!("- '{}'\n", "''\n\n".repeat(2_000_000)), true),
        (format!("- \"{}\"\n", "\\n".repeat(4_000_000)), true),
        (format!("{}\n", "? ".repeat(1_000_000)), false),
        ("\u{feff}- a: b\n  c: d\n".repeat(100_000), false),
        ((0..20_000).map(|n| format!("- &b{n} !host h{n}\n")).collect::<Vec<_>>().concat(), true),
        (format!("- !!binary {}\n", "QUJD".repeat(2_000_000)), true),
    ];
    for (at, (document, is_read)) in documents.into_iter().enumerate() {
        let start = Instant::now();
        let read = heavy.read_document(&whose(&format!("d{at}")), &document, "app", "demo").await;
        let took = start.elapsed();
        let shown = &document[..40];
        assert!(took < Duration::from_secs(20), "{shown:?} took {took:?}");
        match read {
            Ok(read) => assert_eq!(read.is_ok(), is_read, "{shown:?}: {:?}", read.err()),
            Err(failure) => panic!("{shown:?}: {failure}"),
        }
    }
}
