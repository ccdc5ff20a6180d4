//! The examples of `docs/conjurhost.md`, and `examples/conjurhost.yaml`: each is applied, and becomes what the page says.

use std::collections::BTreeSet;

use conjur_operator::api::{ConjurHost, condition::find};
use futures::future::join_all;
use serde_json::json;
use testbed::wait_for;

use super::super::{Bench, SOON, Told, setup::edit, test};

const PAGE: &str = include_str!("../../../../docs/conjurhost.md");
const EXAMPLE: &str = include_str!("../../../../examples/conjurhost.yaml");

/// A manifest of the page, its object's name, and what is to come of it.
struct Example {
    manifest: &'static str,
    name: &'static str,
    expected: &'static str,
}

fn examples() -> Vec<Example> {
    let example = |block: &'static str| {
        let (manifest, rest) = block.split_once("\n```\n").expect("a block has an end");
        let name = manifest.split("metadata: {name: ").nth(1).and_then(|rest| rest.split('}').next());
        let comment = rest.lines().next().and_then(|line| line.strip_prefix("<!-- ")?.strip_suffix(" -->"));
        Example { manifest, name: name.expect("a name"), expected: comment.expect("what comes of it") }
    };
    PAGE.split("\n```yaml\n").skip(1).map(example).collect()
}

/// What the page takes for granted.
async fn prepare(bench: &Bench) {
    bench
        .root(
            "- !host ops\n- !host rotator\n- !policy\n  id: ops\n  owner: !host rotator\n  body:\n  - !host operator\n\
             - !policy\n  id: apps\n  owner: !host ops\n  body:\n  - !policy\n    id: billing\n    owner: !host /ops\n    body:\n    \
             - !policy {id: eu, owner: !host /ops}\n    - !layer all\n    - !host old\n    - !host anothers\n    \
             - !host-factory {id: factory, layers: [!layer all]}\n",
        )
        .await;
    bench.connect("host/ops").await;
    for (login, secret, connection) in
        [("host/rotator", "rotator-login", "rotator"), ("host/ops/operator", "credentials", "operator")]
    {
        let key = bench.conjur.api_key_of(login).unwrap();
        bench.keep_secret(key.clone());
        bench.put_secret(secret, &[("login", login), ("api-key", &key)]).await;
        bench.apply(&bench.connection(connection, login).replace("conjur-login", secret)).await;
    }
    let adopt =
        json!({ "metadata": { "annotations": { "conjur-operator.io/adopt": "ConjurHost/operator" } } });
    edit(bench, "credentials", adopt).await;
}

/// Waits until an example is what the page says; else tells what it is.
async fn becomes(bench: &Bench, example: &Example) -> Option<String> {
    let api = bench.api::<ConjurHost>();
    let look = || async {
        let object = api.get_opt(example.name).await.ok()??;
        let (generation, conditions) = object.told();
        let ready = find(&conditions, "Ready").is_some_and(|c| c.status == "True");
        let ready = ready && generation == object.metadata.generation;
        match example.expected.split_once(": ") {
            Some(("says", reason)) => conditions.iter().any(|c| c.reason == reason).then_some(()),
            Some(("keys", keys)) => {
                let data = bench.data(&object.status?.target?.name).await?;
                let keys: BTreeSet<&str> = keys.split(' ').collect();
                (ready && data.keys().map(String::as_str).collect::<BTreeSet<_>>() == keys).then_some(())
            }
            _ => (ready && example.expected == "ready").then_some(()),
        }
    };
    wait_for(example.name, SOON, look).await.err()?;
    let told = api.get_opt(example.name).await.ok().flatten().map(|object| format!("{:?}", object.told().1));
    Some(format!("{}: {}", example.name, told.unwrap_or_default()))
}

#[test]
fn every_example_becomes_what_the_page_says() {
    test(|bench| async move {
        prepare(&bench).await;
        let mut examples = examples();
        let own = EXAMPLE.replace("namespace: billing", &format!("namespace: {}", bench.namespace));
        let keys = "keys: CONJUR_AUTHN_API_KEY CONJUR_AUTHN_LOGIN api-key login";
        examples.push(Example { manifest: own.leak(), name: "billing-web", expected: keys });
        let names: BTreeSet<_> = examples.iter().map(|example| example.name).collect();
        assert!(names.len() == examples.len() && names.len() > 9, "{names:?}");
        for example in &examples {
            bench.apply(example.manifest).await;
        }
        let told: Vec<String> = join_all(examples.iter().map(|example| becomes(&bench, example)))
            .await
            .into_iter()
            .flatten()
            .collect();
        assert!(told.is_empty(), "\n{}", told.join("\n"));
        for login in bench.conjur.all("host") {
            let login = login.replacen("demo:host:", "host/", 1);
            bench.conjur.api_key_of(&login).into_iter().for_each(|key| bench.keep_secret(key));
        }
    });
}

#[test]
fn every_field_is_on_the_page() {
    let crds = conjur_operator::api::crds();
    let crd = crds.iter().find(|crd| crd.spec.names.kind == "ConjurHost").unwrap();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    let mut fields = Vec::new();
    for part in ["spec", "status"] {
        collect(&schema["openAPIV3Schema"]["properties"][part]["properties"], &mut fields);
    }
    assert!(fields.len() > 40, "{fields:?}");
    // Those of a condition are Kubernetes' own, and those of templates are told by docs/conjursecret.md.
    let known = [
        "lastTransitionTime",
        "message",
        "status",
        "reason",
        "type",
        "uid",
        "resourceVersion",
        "data",
        "dataFrom",
        "kind",
        "targetKey",
        "key",
        "name",
    ];
    for field in fields.iter().filter(|field| !known.contains(&field.as_str())) {
        let named = ["`", " ", "{", "."].iter().any(|before| {
            [":", "`", "."].iter().any(|after| PAGE.contains(&format!("{before}{field}{after}")))
        });
        assert!(named, "docs/conjurhost.md does not tell of {field}");
    }
}

/// The names of all fields below.
fn collect(properties: &serde_json::Value, fields: &mut Vec<String>) {
    for (name, schema) in properties.as_object().into_iter().flatten() {
        fields.push(name.clone());
        collect(&schema["properties"], fields);
        collect(&schema["items"]["properties"], fields);
    }
}
