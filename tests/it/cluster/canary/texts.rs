//! Values that are used in wrong ways, and templates and documents that lie in Secrets and ConfigMaps.

use serde_json::{Value, json};

use super::{super::Bench, Canaries, config_map, policy_of, secret, secret_of, shaped};

/// Values around a canary.
pub const VALUES: [&str; 7] = [
    "%",
    "{\"a\": \"%\", \"b\": {\"c\": \"%\"}}",
    "{\"a\": \"%",
    "[\"%\"]",
    "\"%\"",
    "%=%",
    "{\"a\": null, \"b\": \"%\"}",
];

/// Ways in which a template uses a value `v`.
pub const USES: [&str; 18] = [
    "{{ (v|fromjson).a.b }}",
    "{{ v|fromjson|fromjson }}",
    "{{ v|b64decode }}",
    "{{ v + 1 }}",
    "{{ v|int }}",
    "{{ v() }}",
    "{{ v.x.y }}",
    "{{ data[v] }}",
    "{{ data[v].x }}",
    "{% include v %}",
    "{{ v is sameas }}",
    "{% for x in v %}{{ x.y.z }}{% endfor %}",
    "{{ range(v) }}",
    "{{ v|join(1, 2, 3) }}",
    "{{ [][v] }}{{ {}[v].x }}",
    "{{ namespace(v) }}",
    "{{ v|round }}",
    "{{ v|sort(attribute=v)|map(v)|list }}",
];

const TEMPLATES: [&str; 14] = [
    "{{ % }}",
    "{{ %",
    "{% % %}",
    "{{ v|% }}",
    "{{ v is % }}",
    "{{ v.% }}{{ v.%.x }}",
    "{{ %() }}",
    "{{ v.%() }}",
    "{{ '%'|fromjson }}",
    "{{ '%' + 1 }}",
    "{% include '%' %}",
    "{% extends '%' %}",
    "{% import '%' as x %}",
    "{% macro %() %}{{ %.x }}{% endmacro %}{{ %() }}{# %",
];

const DOCUMENTS: [&str; 14] = [
    "%",
    "- !% x\n",
    "- !variable [%\n",
    "%: %\n",
    "- !host {id: %, %: %}\n",
    "- !grant {role: !group %, member: !host %}\n",
    "- *%\n",
    "- &% !variable a\n- *b\n",
    "- !delete {record: !host %}\n",
    "- \"%\n",
    "- !permit {role: !host %, privileges: [%], resource: !variable %}\n",
    "%YAML %\n---\n",
    "- !host {id: a, restricted_to: %}\n",
    "- !policy {id: %, body: %}\n",
];

/// Values in Conjur that are not what a spec takes them for.
pub fn values(bench: &Bench, canaries: &mut Canaries) -> Vec<Value> {
    let template = |text: &str| json!({ "target": { "template": { "data": { "t": text } } } });
    let entry = |more: Value| {
        let mut entry = json!({ "key": "v", "variable": "" });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "data": [entry] })
    };
    let uses: Vec<Value> = [
        entry(json!({ "property": "a" })),
        entry(json!({ "property": "/b/c/d" })),
        entry(json!({ "decode": "Base64" })),
        json!({ "data": null, "dataFrom": [{ "extract": { "variable": "" } }] }),
        json!({ "data": null, "dataFrom": [{ "extract": { "variable": "", "property": "a" } }] }),
    ]
    .into_iter()
    .chain(USES.map(template))
    .chain(
        ["kubernetes.io/tls", "kubernetes.io/dockerconfigjson", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth"]
            .map(|type_| json!({ "target": { "type": type_ } })),
    )
    .chain([json!({ "target": { "type": "kubernetes.io/dockerconfigjson", "template": { "data": { ".dockerconfigjson": "{\"auths\": {{ v }}}" } } } })])
    .collect();
    let mut objects = Vec::new();
    for (at, value) in VALUES.iter().enumerate() {
        let canary = canaries.put(format!("a value as {value:?}"));
        let variable = format!("apps/value-{at}");
        assert!(bench.conjur.set_variable(&variable, &shaped(value, &canary)));
        for (way, more) in uses.iter().enumerate() {
            let text = more.to_string().replace("\"variable\":\"\"", &format!("\"variable\":\"{variable}\""));
            let mut more: Value = serde_json::from_str(&text).unwrap();
            if more.get("data").is_none() {
                more["data"] = json!([{ "key": "v", "variable": variable }]);
            }
            objects.push(secret_of(&format!("value-{at}-{way}"), "conjur", &more));
        }
    }
    objects
}

/// Templates that lie in Secrets and ConfigMaps under the key `t`: kind and name of each.
pub async fn templates(bench: &Bench, canaries: &mut Canaries) -> Vec<(&'static str, String)> {
    let mut made = Vec::new();
    for kind in ["Secret", "ConfigMap"] {
        for (at, text) in TEMPLATES.iter().enumerate() {
            let name = format!("template-{at}");
            // The signs of a template stay: only a `%` that stands for itself is the canary.
            let what = if kind == "ConfigMap" && !text.contains('\'') { "name" } else { "template" };
            let place = format!("{what} in a {kind}: {text:?}");
            let text = text.replace("{%", "{\u{1}").replace("%}", "\u{1}}");
            let text = text.replace('%', &format!("c{}", canaries.put(place)));
            let text = text.replace('\u{1}', "%");
            if kind == "Secret" {
                secret(bench, &name, &[("t", text.into_bytes())]).await;
            } else {
                config_map(bench, &name, "t", &text).await;
            }
            made.push((kind, name));
        }
    }
    made
}

/// Those templates, and documents.
pub async fn texts(bench: &Bench, canaries: &mut Canaries) -> Vec<Value> {
    let mut objects = Vec::new();
    for (kind, name) in templates(bench, canaries).await {
        let template = json!({ "dataFrom": [{ "kind": kind, "name": name, "key": "t" }] });
        objects.push(secret_of(
            &format!("{}-{name}", kind.to_lowercase()),
            "conjur",
            &json!({ "target": { "template": template } }),
        ));
    }
    for kind in ["Secret", "ConfigMap"] {
        for (at, text) in DOCUMENTS.iter().enumerate() {
            // What a document that may be read asks for, a server may name in its refusal.
            if kind == "ConfigMap" && at > 3 && at != 9 {
                continue;
            }
            let name = format!("document-{at}");
            let what = if kind == "ConfigMap" && text.starts_with("- !") { "name" } else { "document" };
            let text = text.replace('%', &canaries.put(format!("{what} in a {kind}: {text:?}")));
            if kind == "Secret" {
                secret(bench, &name, &[("d", text.into_bytes())]).await;
            } else {
                config_map(bench, &name, "d", &text).await;
            }
            let more =
                json!({ "documentFrom": [{ "kind": kind, "name": name, "key": "d" }], "mode": "Update" });
            objects.push(policy_of(&format!("{}-{name}", kind.to_lowercase()), "loader", "work", &more));
        }
    }
    objects
}
