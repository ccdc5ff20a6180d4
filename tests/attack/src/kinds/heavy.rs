//! What costs processor time and memory: templates, regular expressions, documents, JSON.

use serde_json::{Value, json};

use super::Plan;
use super::shared::{connection, secret_of};
use crate::apply::{config_map, ours};

/// Where each of them fetches one value.
fn variable(namespace: &str) -> String {
    format!("attack/{namespace}/v")
}

fn values(namespace: &str) -> Vec<(String, String)> {
    vec![(variable(namespace), "x".repeat(100))]
}

/// Templates, each with one text.
fn templated(namespace: &str, name: &str, text: &str) -> Value {
    secret_of(
        namespace,
        name,
        &variable(namespace),
        &json!({ "target": { "template": { "data": { "t": text } } } }),
    )
}

const GROWING: [&str; 14] = [
    "[ns.x]",
    "{'a': ns.x}",
    "[ns.x, ns.x]",
    "ns.x ~ ns.x",
    "ns.x ~ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
    "[ns.x]|list",
    "ns.x|string|list",
    "ns.x|map('upper')",
    "ns.x|batch(2)",
    "[ns.x]|reverse",
    "ns.x|tojson",
    "(ns.x|string) * 1000",
    "dict(a=ns.x)",
    "namespace(x=ns.x)",
];

const ALONE: [&str; 12] = [
    "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "{{ 'x' * 1000000000 }}",
    "{{ v|indent(4000000000) }}",
    "{{ range(100000000)|list|join('x') }}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{{ v|upper }}{% endfor %}{% endfor %}",
    "{{ v|replace('x', 'y' * 1000000)|replace('y', 'z' * 1000000) }}",
    "{{ v|fromjson|tojson(indent=1000000000) }}",
    "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ range(1000000)|map('string')|sort|unique|join }}",
    "{{ (v * 100000)|list|sort|reverse|join|b64encode|b64encode|b64encode }}",
    "{{ v[0:100000000:1] * 99999999 }}",
    "{% set a = range(99999)|list %}{% for x in a %}{% set a = a + a %}{{ a|length }}{% endfor %}",
];

/// Each text is another one: what is remembered of one is of no use for the next.
pub fn templates(namespace: &str, count: usize) -> Plan {
    let object = |at: usize| {
        let text = match at % 3 {
            0 => {
                let grows = GROWING[at / 3 % GROWING.len()];
                format!(
                    "{{% set ns = namespace(x={at}) %}}{{% for i in range(99000) %}}{{% set ns.x = {grows} %}}{{% endfor %}}{{{{ v }}}}{at}"
                )
            }
            1 => format!("{}{at}", ALONE[at / 3 % ALONE.len()]),
            _ => nested(at / 3),
        };
        templated(namespace, &format!("t{at}"), &text)
    };
    Plan { variables: values(namespace), objects: (0..count).map(object).collect(), ..Plan::default() }
}

/// A text that nests as it is written.
fn nested(at: usize) -> String {
    let deep = 20_000;
    match at % 6 {
        0 => format!("{{{{ {}v{} }}}}", "(".repeat(deep), ")".repeat(deep)),
        1 => format!("{{{{ {}v{} }}}}", "[".repeat(deep), "]".repeat(deep)),
        2 => format!("{{{{ {}v }}}}", "not ".repeat(12_000)),
        3 => format!("{{{{ v{} }}}}", "|upper".repeat(9_000)),
        4 => format!("{}{{{{ v }}}}{}", "{% if 1 %}".repeat(2_500), "{% endif %}".repeat(2_500)),
        _ => format!("{{{{ v{} }}}}", "~v".repeat(deep)),
    }
}

/// Sixteen keys from one ConfigMap that is full of the same few signs.
pub fn texts(namespace: &str, count: usize) -> Plan {
    const TEXTS: [&str; 5] = ["{{v}}", "{{v", "{#", "{% raw %}", "{{'a'}}"];
    let maps = TEXTS.iter().enumerate();
    let before = maps.map(|(at, text)| {
        config_map(namespace, &format!("text{at}"), "t", text.repeat(262_144 / text.len()))
    });
    let object = |at: usize| {
        let from = |key: usize| json!({ "kind": "ConfigMap", "name": format!("text{}", at % TEXTS.len()), "key": "t", "targetKey": format!("k{key}") });
        let template = json!({ "dataFrom": (0..16).map(from).collect::<Vec<_>>() });
        secret_of(
            namespace,
            &format!("t{at}"),
            &variable(namespace),
            &json!({ "target": { "template": template } }),
        )
    };
    Plan {
        variables: values(namespace),
        before: before.collect(),
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

/// 32 searches, each with seventeen expressions.
pub fn expressions(namespace: &str, count: usize) -> Plan {
    const FORMS: [&str; 6] = [
        r"\pL{23}",
        r"(\pL{4}){5}",
        r"(?i)[\pL\pN]{12}",
        r"\w{40}",
        r"(a{1,50}){1,50}b",
        r"(\pL|\pN|\d|\w){8}",
    ];
    let object = |at: usize| {
        let form = |n: usize| format!("{}{at}x{n}", FORMS[(at + n) % FORMS.len()]);
        let find = |f: usize| {
            let rewrites: Vec<_> =
                (0..16).map(|r| json!({ "pattern": form(f * 17 + r + 1), "replacement": "" })).collect();
            json!({ "find": { "pattern": form(f * 17) }, "rewrite": rewrites })
        };
        let spec = json!({
            "connectionRef": connection(), "refreshInterval": "10s", "dataFrom": (0..32).map(find).collect::<Vec<_>>(),
        });
        ours("ConjurSecret", namespace, &format!("e{at}"), spec)
    };
    Plan { variables: values(namespace), objects: (0..count).map(object).collect(), ..Plan::default() }
}

/// Six megabytes each, from ConfigMaps that all of them share.
pub fn documents(namespace: &str, count: usize) -> Plan {
    const LONG: usize = 900_000;
    let texts: Vec<String> = vec![
        "- a\n".repeat(LONG / 4),
        "[],".repeat(LONG / 3),
        "[".repeat(LONG),
        "- - - - - - - - - - - - - - -\n".repeat(LONG / 30),
        format!("- &a [x,x,x,x,x,x,x,x]\n{}", "- [*a,*a,*a,*a,*a,*a,*a,*a]\n".repeat(LONG / 28)),
        "- !variable a\n".repeat(LONG / 14),
        "? a\n".repeat(LONG / 4),
        numbered(LONG / 40, |at| format!("- &b{at} [*b{0}, *b{0}]\n", at.max(1) - 1)),
    ];
    let before = texts
        .iter()
        .enumerate()
        .map(|(at, text)| config_map(namespace, &format!("d{at}"), "p", text.clone()));
    let object = |at: usize| {
        let from = |n: usize| json!({ "kind": "ConfigMap", "name": format!("d{}", (at + n % 2) % texts.len()), "key": "p" });
        let spec = json!({
            "connectionRef": connection(), "branch": format!("attack/{namespace}/{at}"), "driftCheckInterval": "10s",
            "documentFrom": (0..7).map(from).collect::<Vec<_>>(),
        });
        ours("ConjurPolicy", namespace, &format!("p{at}"), spec)
    };
    Plan { before: before.collect(), objects: (0..count).map(object).collect(), ..Plan::default() }
}

/// Texts for each number below `count`, joined.
fn numbered(count: usize, text: impl Fn(usize) -> String) -> String {
    (0..count).map(text).collect::<Vec<_>>().concat()
}

/// Values of a megabyte, used in each way in which JSON is read.
pub fn json_values(namespace: &str, count: usize) -> Plan {
    const LONG: usize = 600_000;
    let texts = [
        "[".repeat(LONG),
        format!("{}1{}", "{\"a\":".repeat(LONG / 6), "}".repeat(LONG / 6)),
        format!("{{{}\"z\":1}}", numbered(LONG / 12, |at| format!("\"k{at}\":1,"))),
        format!("[{}1]", "1,".repeat(LONG / 2)),
        format!("{{\"a\":{}}}", "9".repeat(LONG)),
        format!("{{\"a\":\"{}\"}}", "\\u0000".repeat(LONG / 6)),
        "{\"a\":1e999999999,\"b\":-0,\"c\":1e-999999999}".to_owned(),
    ];
    let id = |at: usize| format!("attack/{namespace}/j{at}");
    let variables = texts.iter().enumerate().map(|(at, text)| (id(at), text.clone())).collect();
    let object = |at: usize| {
        let (name, id) = (format!("j{at}"), id(at % texts.len()));
        match at % 4 {
            0 => secret_of(
                namespace,
                &name,
                &id,
                &json!({ "data": null, "dataFrom": [{ "extract": { "variable": id } }] }),
            ),
            1 => secret_of(
                namespace,
                &name,
                &id,
                &json!({ "data": [{ "key": "v", "variable": id, "property": "/a/a/a" }] }),
            ),
            2 => {
                let text = format!("{{{{ v|fromjson|tojson }}}}{at}");
                secret_of(
                    namespace,
                    &name,
                    &id,
                    &json!({ "target": { "template": { "data": { "t": text } } } }),
                )
            }
            _ => {
                let text = format!(
                    "{{% for k in v|fromjson %}}{{{{ k }}}}{{{{ (v|fromjson).a }}}}{{% endfor %}}{at}"
                );
                secret_of(
                    namespace,
                    &name,
                    &id,
                    &json!({ "target": { "template": { "data": { "t": text } } } }),
                )
            }
        }
    };
    Plan { variables, objects: (0..count).map(object).collect(), ..Plan::default() }
}
