//! What goes back into Conjur: values that are pushed, and hosts, with their keys and their factories' tokens.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conjur_client::{Client, Config, Credentials, sensitive::Sensitive};
use conjur_operator::api::{ConjurHost, ConjurPush, condition::is_true};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    super::{
        Bench, SOON, Told,
        setup::{connection, edit, put},
        test,
    },
    AT_ONCE, BINARY, Canaries, SHAPES, cases, in_turn, look, secret,
    server::Server,
    shaped, texts, told,
};

/// The branches of the host that the connection is. In one somebody else filled a variable, in the other is a host factory.
const POLICY: &str = "\
- !host loader
- !policy
  id: pushed
  owner: !host loader
  body:
  - !variable foreign
- !policy
  id: hosts
  owner: !host loader
  body:
  - !layer all
  - !host-factory {id: factory, layers: [!layer all]}
";

fn object(kind: &str, name: &str, connection: &str, more: &Value) -> Value {
    let mut spec = json!({ "connectionRef": { "name": connection } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn push(name: &str, more: &Value) -> Value {
    object("ConjurPush", name, "conjur", more)
}

fn host(name: &str, more: &Value) -> Value {
    let mut host = object("ConjurHost", name, "conjur", more);
    host["spec"]["id"] = format!("hosts/{name}").into();
    host
}

fn from(secret: &str) -> Value {
    json!({ "secretRef": { "name": secret } })
}

/// Values of each shape, pushed where they can be and where they can't, and Secrets of which nothing is pushed.
async fn pushed(bench: &Bench, canaries: &mut Canaries) -> Vec<Value> {
    let foreign = canaries.put("a value that another writer gave a variable");
    assert!(bench.conjur.set_variable("pushed/foreign", foreign.as_bytes()));
    let create = json!({ "branch": "pushed" });
    let mut objects = Vec::new();
    for (at, shape) in SHAPES.iter().enumerate() {
        let name = format!("pushed-{at}");
        let mut value = |key: &str| shaped(shape, &canaries.put(format!("a value {key} as {shape:?}")));
        secret(bench, &name, &[("v", value("v")), ("w", value("w"))]).await;
        edit(bench, &name, json!({ "metadata": { "labels": { "push": "canary" } } })).await;
        let twice = json!([{ "pattern": "^.*$", "replacement": "x" }]);
        let ways = [
            ("whole", json!({ "prefix": format!("pushed/{at}/"), "createVariables": create })),
            ("missing", json!({ "prefix": format!("pushed/none-{at}/") })),
            (
                "twice",
                json!({ "prefix": format!("pushed/{at}-"), "rewrite": twice, "createVariables": create }),
            ),
            ("foreign", json!({ "data": [{ "key": "v", "variable": "pushed/foreign" }] })),
            ("outside", json!({ "prefix": format!("hosts/{at}/"), "createVariables": create })),
        ];
        for (way, mut more) in ways {
            more["source"] = from(&name);
            objects.push(push(&format!("{name}-{way}"), &more));
        }
    }
    secret(
        bench,
        "blank",
        &[("blank", b" \n".to_vec()), ("v", canaries.put("a value beside a blank one").into())],
    )
    .await;
    objects.push(push(
        "blank",
        &json!({ "source": from("blank"), "prefix": "pushed/blank/", "createVariables": create }),
    ));
    let release = json!({
        "metadata": { "name": "release", "labels": { "push": "canary" } }, "type": "helm.sh/release.v1",
        "stringData": { "release": canaries.put("a release of Helm") },
    });
    let release = serde_json::from_value(release).unwrap();
    bench.api::<Secret>().create(&PostParams::default(), &release).await.unwrap();
    objects.push(push("release", &json!({ "source": from("release"), "prefix": "pushed/" })));
    let selector = json!({ "selector": { "matchLabels": { "push": "canary" } } });
    let lacking = json!([{ "key": "absent", "variable": "{secret}" }]);
    for (name, mut more) in [
        ("all", json!({ "prefix": "pushed/all/{secret}/", "createVariables": create })),
        ("lacking", json!({ "prefix": "pushed/lacking/", "data": lacking, "createVariables": create })),
    ] {
        more["source"] = selector.clone();
        objects.push(push(name, &more));
    }
    for (at, shape) in [texts::VALUES[0], texts::VALUES[1], BINARY].into_iter().enumerate() {
        let name = format!("used-{at}");
        let value = shaped(shape, &canaries.put(format!("a value that a push's template uses as {shape:?}")));
        secret(bench, &name, &[("v", value)]).await;
        for (way, text) in texts::USES.into_iter().enumerate() {
            let data = json!([{ "template": text, "variable": format!("pushed/{name}-{way}") }]);
            let more = json!({ "source": from(&name), "data": data, "createVariables": create });
            objects.push(push(&format!("{name}-{way}"), &more));
        }
    }
    objects
}

/// A token of the host factory, as an administrator gives one.
async fn factory_token(bench: &Bench) -> String {
    let api_key = Sensitive::new(bench.conjur.admin_key());
    let credentials = Credentials::ApiKey { login: "admin".into(), api_key };
    let client = Client::new(Config::new(bench.conjur.url().parse().unwrap(), "demo", credentials)).unwrap();
    let later = Timestamp::now() + Duration::from_secs(3600);
    let made = client.create_host_factory_tokens("hosts/factory", later, &[], 1).await.unwrap();
    made[0].token.expose().clone()
}

/// Hosts whose factory's token lies in a Secret, in each shape and as it works, and hosts whose templates lie there.
async fn enrolled(bench: &Bench, canaries: &mut Canaries) -> Vec<Value> {
    let mut given = Vec::new();
    for shape in SHAPES {
        given.push(shaped(shape, &canaries.put(format!("a host factory's token as {shape:?}"))));
    }
    let works = factory_token(bench).await;
    canaries.known("a host factory's token that works", works.clone());
    given.push(works.into_bytes());
    let mut objects = Vec::new();
    for (at, token) in given.into_iter().enumerate() {
        let name = format!("given-{at}");
        secret(bench, &name, &[("token", token)]).await;
        let via = json!({ "hostFactoryTokenSecretRef": { "name": name, "key": "token" } });
        objects.push(host(&format!("by-{name}"), &json!({ "via": via, "conflictPolicy": "Adopt" })));
    }
    for (kind, name) in texts::templates(bench, canaries).await {
        let template = json!({ "dataFrom": [{ "kind": kind, "name": name, "key": "t" }] });
        let name = format!("{}-{name}", kind.to_lowercase());
        objects.push(host(&name, &json!({ "target": { "template": template } })));
    }
    objects
}

fn is_ready(host: &ConjurHost) -> bool {
    is_true(&host.told().1, "Ready")
}

/// Hosts that have their keys when templates are given that fail on them, or another writes something else into the Secret.
async fn kept(bench: &Bench, canaries: &mut Canaries) {
    let templated: Vec<String> = (0..texts::USES.len()).map(|at| format!("kept-{at}")).collect();
    let edited: Vec<String> = (0..SHAPES.len()).map(|at| format!("edited-{at}")).collect();
    for name in templated.iter().chain(&edited) {
        put(bench, &host(name, &json!({}))).await;
    }
    for name in templated.iter().chain(&edited) {
        bench.ready::<ConjurHost>(name).await;
        let key = bench.conjur.api_key_of(&format!("host/hosts/{name}")).unwrap();
        canaries.known(format!("the key of host {name}"), key);
    }
    let api = bench.api::<ConjurHost>();
    for (name, text) in templated.iter().zip(texts::USES) {
        let template = json!({ "data": { "t": text.replace('v', "api_key") } });
        let change = json!({ "spec": { "target": { "template": template } } });
        api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }
    for (at, (name, shape)) in edited.iter().zip(SHAPES).enumerate() {
        let mut other = |key: &str| {
            let canary = canaries.put(format!("{key} of a host's Secret as {shape:?}"));
            STANDARD.encode(shaped(shape, &canary))
        };
        let mut data = json!({ "api-key": other("api-key") });
        if at % 2 == 0 {
            data["login"] = other("login").into();
        }
        edit(bench, name, json!({ "data": data })).await;
    }
    for name in &templated {
        let is_looked_at = |host: &ConjurHost| host.told().0 == host.metadata.generation || !is_ready(host);
        bench.until("its template is looked at", name, is_looked_at).await;
    }
    for name in &edited {
        bench.until("its key is gone or refused", name, |host: &ConjurHost| !is_ready(host)).await;
    }
}

/// A variable that somebody else fills, too, is filled again.
async fn overwritten(bench: &Bench, canaries: &mut Canaries) {
    bench.ready::<ConjurPush>("pushed-0-whole").await;
    let theirs = canaries.put("a value that another writer gave a pushed variable");
    assert!(bench.conjur.set_variable("pushed/0/v", theirs.as_bytes()));
    let value = canaries.put("a value that replaces another");
    edit(bench, "pushed-0", json!({ "data": { "v": STANDARD.encode(&value) } })).await;
    let is_there = || async { (bench.conjur.variable("pushed/0/v")? == value.as_bytes()).then_some(()) };
    wait_for("the new value", SOON, is_there).await.unwrap();
}

/// An object that asks the server of a case for what it says.
fn by_way(way: &str, case: &str) -> Value {
    let name = format!("{case}-{way}");
    let entry = |variable: &str| json!([{ "key": "v", "variable": variable }]);
    let token = json!({ "hostFactoryTokenSecretRef": { "name": "served", "key": "token" } });
    let (kind, more) = match way {
        "fill" => ("ConjurPush", json!({ "source": from("served"), "data": entry("apps/declared") })),
        "make" => {
            let create = json!({ "branch": "apps" });
            let data = entry("apps/missing");
            ("ConjurPush", json!({ "source": from("served"), "data": data, "createVariables": create }))
        }
        "branch" => ("ConjurHost", json!({ "id": "apps/made" })),
        "adopt" => {
            let layers = ["layer/apps/all"];
            ("ConjurHost", json!({ "id": "apps/old", "conflictPolicy": "Adopt", "memberOf": layers }))
        }
        "existing" => {
            let via = json!({ "existing": {} });
            ("ConjurHost", json!({ "id": "apps/old", "conflictPolicy": "Adopt", "via": via }))
        }
        "factory" => {
            let via = json!({ "hostFactory": { "id": "apps/f" } });
            ("ConjurHost", json!({ "id": "apps/new", "via": via }))
        }
        _ => ("ConjurHost", json!({ "id": "apps/given", "conflictPolicy": "Adopt", "via": token })),
    };
    object(kind, &name, case, &more)
}

/// Pushes and hosts on a server that says canaries wherever it can; what was to be seen of them.
async fn served(bench: &Bench, canaries: &mut Canaries) -> Vec<(String, String)> {
    let value = canaries.put("a value that is pushed to a hostile server");
    let token = canaries.put("a token that a hostile server is given");
    bench.put_secret("served", &[("v", &value), ("token", &token)]).await;
    let all = cases::cases(canaries);
    let users: Vec<_> = all.iter().map(|(case, ways, _)| (case.clone(), *ways)).collect();
    let said = all.into_iter().map(|(case, _, said)| (case, said)).collect();
    let server = Server::start(said, canaries.put("a key that a hostile server gives")).await;
    let mut seen = Vec::new();
    for some in users.chunks(AT_ONCE) {
        let names: Vec<String> = some.iter().map(|(case, _)| case.clone()).collect();
        let connections =
            names.iter().map(|case| connection(bench, case, &json!({ "url": server.url(case) })));
        let users = some.iter().flat_map(|(case, ways)| ways.iter().map(move |way| by_way(way, case)));
        let objects: Vec<Value> = connections.chain(users).collect();
        seen.extend(in_turn(bench, &objects, || server.unsaid(&names)).await);
    }
    seen
}

#[test]
fn no_canary_that_a_push_or_a_host_meets_is_seen_anywhere() {
    test(|bench| async move {
        let mut canaries = Canaries::default();
        bench.root(POLICY).await;
        bench.connect("host/loader").await;
        let seen = served(&bench, &mut canaries).await;
        let mut objects = pushed(&bench, &mut canaries).await;
        objects.extend(enrolled(&bench, &mut canaries).await);
        for object in &objects {
            put(&bench, object).await;
        }
        kept(&bench, &mut canaries).await;
        overwritten(&bench, &mut canaries).await;
        told(&bench, &objects).await;
        for kind in ["conjurpushes", "conjurhosts", "conjurconnections"] {
            let text = format!("conjur-operator.io/sync-now={}", rand::random::<u32>());
            bench.kubectl(&["annotate", "--overwrite", "--all", kind, &text]).await;
        }
        told(&bench, &objects).await;
        for host in objects.iter().filter(|object| object["kind"] == "ConjurHost") {
            let login = format!("host/{}", host["spec"]["id"].as_str().unwrap());
            if let Some(key) = bench.conjur.api_key_of(&login) {
                canaries.known(format!("the key of {login}"), key);
            }
        }
        look::for_them(&bench, &canaries.0, seen).await;
    });
}
