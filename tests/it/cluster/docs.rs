//! The examples of `docs/conjursecret.md`: each is applied, and becomes what the page says.

use std::{collections::BTreeSet, fmt::Write as _};

use conjur_operator::api::{ConjurSecret, condition::find};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use testbed::wait_for;

use super::{Bench, SOON, Told, setup::LOGIN, test};

const PAGE: &str = include_str!("../../../docs/conjursecret.md");

/// A manifest of the page, and what is to come of its ConjurSecret.
struct Example {
    manifest: &'static str,
    name: &'static str,
    expected: Expected,
}

enum Expected {
    /// Ready, and the Secret has these keys.
    Keys(BTreeSet<&'static str>),
    /// A condition with this reason.
    Says(&'static str),
}

/// The blocks of YAML, each with the comment behind it.
fn examples() -> Vec<Example> {
    let blocks = PAGE.split("\n```yaml\n").skip(1);
    let example = |block: &'static str| {
        let (manifest, rest) = block.split_once("\n```\n").expect("a block has an end");
        let (_, object) = manifest.split_once("kind: ConjurSecret\n").expect("an example has a ConjurSecret");
        let name = after(object, "name: ").next().expect("an object has a name");
        let comment = rest.lines().next().and_then(|line| line.strip_prefix("<!-- ")?.strip_suffix(" -->"));
        let comment = comment.unwrap_or_else(|| panic!("nothing says what comes of {name}"));
        let expected = match comment.split_once(": ") {
            Some(("keys", keys)) => Expected::Keys(keys.split(' ').collect()),
            Some(("says", reason)) => Expected::Says(reason),
            _ => panic!("what does this mean for {name}: {comment}"),
        };
        Example { manifest, name, expected }
    };
    blocks.map(example).collect()
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
        let examples = examples();
        let names: BTreeSet<_> = examples.iter().map(|example| example.name).collect();
        assert!(names.len() == examples.len() && names.len() > 15, "{names:?}");
        let mut wrong: Vec<String> = Vec::new();
        for example in &examples {
            if let Err(error) = bench.try_apply(example.manifest).await {
                wrong.push(format!("{}: {error}", example.name));
            }
        }
        let told = join_all(examples.iter().map(|example| becomes(&bench, example))).await;
        wrong.extend(told.into_iter().flatten());
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    });
}

/// Waits until an example is what the page says; else tells what it is.
async fn becomes(bench: &Bench, example: &Example) -> Option<String> {
    let (objects, secrets) = (bench.api::<ConjurSecret>(), bench.api::<Secret>());
    let look = || async {
        let object = objects.get_opt(example.name).await.ok()??;
        match &example.expected {
            Expected::Says(reason) => object.told().1.iter().any(|c| c.reason == *reason).then_some(()),
            Expected::Keys(keys) => {
                let (generation, conditions) = object.told();
                let ready = find(&conditions, "Ready").is_some_and(|c| c.status == "True");
                let target = object.status?.target?;
                let secret = secrets.get_opt(&target.name).await.ok()??;
                let there: BTreeSet<_> = secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
                (ready && generation == object.metadata.generation && there == *keys).then_some(())
            }
        }
    };
    wait_for(example.name, SOON, look).await.err()?;
    let told = objects.get_opt(example.name).await.ok().flatten().map(|object| {
        let conditions = object
            .told()
            .1
            .into_iter()
            .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
        conditions.collect::<Vec<_>>().join("; ")
    });
    Some(format!("{}: {}", example.name, told.unwrap_or_default()))
}

#[test]
fn every_field_is_on_the_page() {
    let crds = conjur_operator::api::crds();
    let crd = crds.iter().find(|crd| crd.spec.names.kind == "ConjurSecret").unwrap();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    let mut fields = Vec::new();
    for part in ["spec", "status"] {
        collect(&schema["openAPIV3Schema"]["properties"][part]["properties"], &mut fields);
    }
    assert!(fields.len() > 40, "{fields:?}");
    // Those of a condition are Kubernetes' own.
    let known = ["lastTransitionTime", "message", "status", "reason", "type", "uid", "resourceVersion"];
    for field in fields.iter().filter(|field| !known.contains(&field.as_str())) {
        let named = ["`", " ", "{"]
            .iter()
            .any(|before| [":", "`"].iter().any(|after| PAGE.contains(&format!("{before}{field}{after}"))));
        assert!(named, "docs/conjursecret.md does not tell of {field}");
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
