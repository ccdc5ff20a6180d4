//! The examples of the pages: each is applied, and becomes what its page says.

mod connections;
mod install;
mod litellm;
mod policy;
mod push;
mod walk;

use std::{collections::BTreeSet, fmt::Write as _};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;
use testbed::wait_for;

use super::{
    Bench, SOON,
    setup::{LOGIN, untyped},
    test,
};

const PAGE: &str = include_str!("../../../docs/conjursecret.md");

/// A manifest of a page, and what is to come of the object that stands last in it.
struct Example {
    manifest: &'static str,
    kind: &'static str,
    name: &'static str,
    expected: Expected,
}

enum Expected {
    /// Ready.
    Ready,
    /// Ready, and the operator is this role there.
    Identity(&'static str),
    /// Ready, and its Secret has these keys.
    Keys(BTreeSet<&'static str>),
    /// Ready, and these variables are the object's and hold values.
    Pushed(BTreeSet<&'static str>),
    /// A condition with this reason.
    Says(&'static str),
}

/// The blocks of YAML of a page, each with the comment behind it.
fn examples(page: &'static str) -> Vec<Example> {
    page.split("\n```yaml\n").skip(1).map(example).collect()
}

/// The manifest that a text begins with, and the comment behind it.
fn example(block: &'static str) -> Example {
    let (manifest, rest) = block.split_once("\n```\n").expect("a block has an end");
    let object = manifest.rsplit("\n---\n").next().unwrap_or(manifest);
    let kind = after(object, "kind: ").next().expect("an object has a kind");
    let name = after(object, "name: ").next().expect("an object has a name");
    let comment = rest.lines().next().and_then(|line| line.strip_prefix("<!-- ")?.strip_suffix(" -->"));
    let comment = comment.unwrap_or_else(|| panic!("nothing says what comes of {kind} {name}"));
    let expected = match comment.split_once(": ") {
        None if comment == "ready" => Expected::Ready,
        Some(("identity", role)) => Expected::Identity(role),
        Some(("keys", keys)) => Expected::Keys(keys.split(' ').collect()),
        Some(("pushed", ids)) => Expected::Pushed(ids.split(' ').collect()),
        Some(("says", reason)) => Expected::Says(reason),
        _ => panic!("what does this mean for {kind} {name}: {comment}"),
    };
    Example { manifest, kind, name, expected }
}

/// The policies of Conjur that a page has.
fn policies(page: &'static str) -> Vec<&'static str> {
    let blocks = page.split("\n```yml\n").skip(1);
    blocks.map(|block| block.split_once("\n```\n").expect("a block has an end").0).collect()
}

/// The words that stand behind each `field`.
fn after<'t>(text: &'t str, field: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(field).skip(1).filter_map(|rest| rest.split([' ', ',', '}', '\n']).next())
}

const CONFIG: &str = r#"{"host":"db.example.com","pool":{"timeout":30,"size":5}}"#;
const BUNDLE: &str = "-----BEGIN CERTIFICATE-----\nMTE=\n-----END CERTIFICATE-----\n\
    -----BEGIN CERTIFICATE-----\nMzM=\n-----END CERTIFICATE-----\n\
    -----BEGIN PRIVATE KEY-----\nMjI=\n-----END PRIVATE KEY-----\n";
/// The first bytes of a Java key store: no text.
const KEYSTORE: &str = "/u3+7QAAAAI=";

/// Loads a policy with all the variables that the page names, and gives them values.
async fn variables(bench: &Bench) {
    let mut ids: BTreeSet<_> = after(PAGE, "variable: ").collect();
    ids.retain(|id| id.starts_with("apps/") && !id.ends_with("/not-there"));
    let mut policy = String::from(
        "- !policy {id: apps, body: [!host app]}\n- !user {id: alice, public_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1 alice@laptop]}\n",
    );
    for id in &ids {
        writeln!(
            policy,
            "- !variable {{id: {id}, annotations: {{env: prod}}}}\n\
             - !permit {{role: !host apps/app, privileges: [read, execute], resource: !variable {id}}}"
        )
        .unwrap();
    }
    bench.root(&policy).await;
    for id in ids {
        let value = match id.rsplit('/').next() {
            Some("config.json") => CONFIG,
            Some("tls-bundle") => BUNDLE,
            Some("keystore") => KEYSTORE,
            _ => {
                bench.set(id);
                continue;
            }
        };
        assert!(bench.conjur.set_variable(id, value.as_bytes()), "no variable {id}");
    }
}

#[test]
fn every_example_becomes_what_the_page_says() {
    test(|bench| async move {
        variables(&bench).await;
        bench.connect(LOGIN).await;
        let examples = examples(PAGE);
        assert!(names(&examples).len() > 15);
        all_become(&bench, &examples).await;
    });
}

/// The names of the examples, which are different ones.
fn names(examples: &[Example]) -> BTreeSet<&'static str> {
    let names: BTreeSet<_> = examples.iter().map(|example| example.name).collect();
    assert_eq!(names.len(), examples.len(), "{names:?}");
    names
}

/// Applies examples as they are, and waits until each is what the page says.
async fn all_become(bench: &Bench, examples: &[Example]) {
    let mut wrong: Vec<String> = Vec::new();
    for example in examples {
        if let Err(error) = bench.try_apply(example.manifest).await {
            wrong.push(format!("{}: {error}", example.name));
        }
    }
    let told = join_all(examples.iter().map(|example| becomes(bench, example))).await;
    wrong.extend(told.into_iter().flatten());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Waits until an example is what the page says; else tells what it is.
async fn becomes(bench: &Bench, example: &Example) -> Option<String> {
    let objects = of_kind(bench, example.kind);
    let look = || async {
        let object = objects.get_opt(example.name).await.ok()??;
        is_as_said(bench, example, &object).await.then_some(())
    };
    wait_for(example.name, SOON, look).await.err()?;
    let told = objects.get_opt(example.name).await.ok().flatten();
    let told = told.map(|object| object.data["status"]["conditions"].to_string());
    Some(format!("{} {}: {}", example.kind, example.name, told.unwrap_or_default()))
}

/// Objects of a kind in the namespace, or of one that lies in none.
fn of_kind(bench: &Bench, kind: &str) -> Api<DynamicObject> {
    if !kind.starts_with("Cluster") {
        return untyped(bench, kind);
    }
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("conjur-operator.io", "v1alpha1", kind));
    Api::all_with(bench.client.clone(), &kind)
}

async fn is_as_said(bench: &Bench, example: &Example, object: &DynamicObject) -> bool {
    let status = &object.data["status"];
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Expected::Says(reason) = example.expected {
        return conditions.iter().any(|condition| condition["reason"] == reason);
    }
    let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    if !conditions.iter().any(is_ready) || status["observedGeneration"].as_i64() != object.metadata.generation
    {
        return false;
    }
    match &example.expected {
        Expected::Ready | Expected::Says(_) => true,
        Expected::Identity(role) => status["identity"] == *role,
        Expected::Keys(keys) => {
            let Some(target) = status["target"]["name"].as_str() else { return false };
            let Ok(Some(secret)) = bench.api::<Secret>().get_opt(target).await else { return false };
            let there: BTreeSet<_> = secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
            there == *keys
        }
        Expected::Pushed(ids) => {
            let ids: BTreeSet<_> = ids.iter().map(|id| id.replace("{namespace}", &bench.namespace)).collect();
            let variables = status["variables"].as_array().map(Vec::as_slice).unwrap_or_default();
            let pushed: BTreeSet<_> =
                variables.iter().filter_map(|variable| variable["id"].as_str()).map(str::to_owned).collect();
            pushed == ids && ids.iter().all(|id| bench.conjur.variable(id).is_some())
        }
    }
}

#[test]
fn every_field_is_on_the_page() {
    tells_every_field("ConjurSecret", PAGE, "docs/conjursecret.md");
}

/// The schemas of `spec` and `status` of a kind.
fn schema(kind: &str) -> Value {
    let crds = conjur_operator::api::crds();
    let crd = crds.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let mut schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    schema["openAPIV3Schema"]["properties"].take()
}

/// The fields of a kind's spec that stand in none of a page's examples: `auth.apiKey.login`.
fn without_example(kind: &str, page: &'static str) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    paths(&schema(kind)["spec"], "", &mut fields);
    for manifest in examples(page).iter().flat_map(|example| example.manifest.split("\n---\n")) {
        let object: Value = serde_saphyr::from_str(manifest).unwrap_or_else(|e| panic!("{e}: {manifest}"));
        if object["kind"] == kind {
            written(&object["spec"], "", &mut fields);
        }
    }
    fields
}

/// The paths of all fields below a schema.
fn paths(schema: &Value, at: &str, fields: &mut BTreeSet<String>) {
    let below = [&schema["properties"], &schema["items"]["properties"]];
    for (name, schema) in below.into_iter().filter_map(Value::as_object).flatten() {
        let path = format!("{at}{name}");
        paths(schema, &format!("{path}."), fields);
        fields.insert(path);
    }
}

/// Takes away the paths of all that is written in an object.
fn written(value: &Value, at: &str, fields: &mut BTreeSet<String>) {
    for entry in value.as_array().into_iter().flatten() {
        written(entry, at, fields);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{at}{name}");
        written(value, &format!("{path}."), fields);
        fields.remove(&path);
    }
}

/// Sees that a page tells of all fields of a kind.
fn tells_every_field(kind: &str, page: &str, name: &str) {
    let schema = schema(kind);
    let mut fields = Vec::new();
    for part in ["spec", "status"] {
        collect(&schema[part]["properties"], &mut fields);
    }
    assert!(fields.len() > 40, "{fields:?}");
    // Those of a condition are Kubernetes' own.
    let known = ["lastTransitionTime", "message", "status", "reason", "type", "uid", "resourceVersion"];
    for field in fields.iter().filter(|field| !known.contains(&field.as_str())) {
        let named = ["`", " ", "{"]
            .iter()
            .any(|before| [":", "`"].iter().any(|after| page.contains(&format!("{before}{field}{after}"))));
        assert!(named, "{name} does not tell of {field}");
    }
}

/// The names of all fields below.
fn collect(properties: &Value, fields: &mut Vec<String>) {
    for (name, schema) in properties.as_object().into_iter().flatten() {
        fields.push(name.clone());
        collect(&schema["properties"], fields);
        collect(&schema["items"]["properties"], fields);
    }
}
