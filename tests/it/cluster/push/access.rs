//! What rules, modes and forms of a spec let an object do.

use conjur_operator::api::ClusterConjurConnection;

use super::super::{
    access::{end, shared},
    setup::{eventually, try_put},
    test,
};
use super::*;

/// A connection of the whole cluster as the host that owns the branches, with these rules for the namespace.
async fn through(bench: &Bench, rules: &Value) -> String {
    owned(bench).await;
    let login = json!({ "namespace": bench.namespace, "name": "conjur-login", "key": "api-key" });
    let auth = json!({ "apiKey": { "login": "host/ops", "apiKeySecretRef": login } });
    shared(bench, &auth, &access(bench, rules)).await
}

fn access(bench: &Bench, rules: &Value) -> Value {
    let mut rule = json!({ "namespaces": { "names": [bench.namespace] } });
    rule.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    json!([rule])
}

async fn grant(bench: &Bench, connection: &str, rules: &Value) {
    let api = Api::<ClusterConjurConnection>::all(bench.client.clone());
    let spec = json!({ "spec": { "access": access(bench, rules) } });
    api.patch(connection, &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
}

fn by(connection: &str, more: &Value) -> Value {
    let mut all = json!({ "connectionRef": { "name": connection, "kind": "ClusterConjurConnection" } });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    push("p", "keys", &all)
}

#[test]
fn ids_must_match_write_and_the_branch_branches() {
    test(|bench| async move {
        let name = through(&bench, &json!({ "read": ["**"] })).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        bench.conjur.clear_requests();
        put(&bench, &by(&name, &json!({}))).await;
        let message = told(&bench, "p", "AccessDenied", "litellm/a").await;
        assert!(message.contains("write"), "{message}");
        assert_eq!((loads(&bench), sent(&bench), bench.conjur.count(Kind::List)), (0, 0, 0));

        grant(&bench, &name, &json!({ "write": ["litellm/a"] })).await;
        let message = told(&bench, "p", "AccessDenied", "load policy branch litellm").await;
        assert!(message.contains("litellm/b"), "{message}");
        assert_eq!((loads(&bench), sent(&bench)), (0, 0));

        grant(&bench, &name, &json!({ "write": ["litellm/a"], "branches": ["litellm"] })).await;
        filled(&bench, "litellm/a", &values[0]).await;
        told(&bench, "p", "AccessDenied", "litellm/b").await;
        assert!(!bench.conjur.exists("variable", "litellm/b"));

        grant(&bench, &name, &json!({ "write": ["litellm/**"], "branches": ["litellm"] })).await;
        filled(&bench, "litellm/b", &values[1]).await;
        pushed(&bench, "p").await;
        // What is withdrawn is pushed no more.
        grant(&bench, &name, &json!({ "write": ["litellm/b"], "branches": ["litellm"] })).await;
        told(&bench, "p", "AccessDenied", "litellm/a").await;
        let others = secret(&bench, "keys", &["a", "b"]).await;
        filled(&bench, "litellm/b", &others[1]).await;
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(values[0].as_bytes()));
        end(&bench, &name).await;
    });
}

#[test]
fn a_deletion_waits_where_its_branch_is_not_granted_any_more() {
    test(|bench| async move {
        let all = json!({ "write": ["litellm/**"], "branches": ["litellm"] });
        let name = through(&bench, &all).await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &by(&name, &json!({ "deletionPolicy": "Delete" }))).await;
        pushed(&bench, "p").await;
        grant(&bench, &name, &json!({ "write": ["litellm/**"] })).await;
        let before = loads(&bench);
        bench.api::<ConjurPush>().delete("p", &DeleteParams::default()).await.unwrap();
        let message = told(&bench, "p", "AccessDenied", "it is being deleted").await;
        assert!(message.contains("Retain"), "{message}");
        assert_eq!(loads(&bench), before);
        grant(&bench, &name, &all).await;
        gone(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "litellm/a"));
        end(&bench, &name).await;
    });
}

#[test]
fn a_forged_status_grants_nothing_and_removes_nothing_of_others() {
    test(|bench| async move {
        let all = json!({ "write": ["litellm/**"], "branches": ["litellm"] });
        let name = through(&bench, &all).await;
        let other = "11111111-2222-3333-4444-555555555555/team/ConjurPush/keys";
        let annotated = format!("annotations: {{{OWNER}: {other}, {CREATED}: \"true\"}}");
        bench.conjur.load("litellm", &format!("- !variable {{id: theirs, {annotated}}}\n")).await.unwrap();
        bench.conjur.load("second", "- !variable v\n- !variable w\n").await.unwrap();
        let theirs = bench.set("litellm/theirs");
        let outside = bench.set("second/v");
        secret(&bench, "keys", &["theirs"]).await;
        put(&bench, &by(&name, &json!({ "deletionPolicy": "Delete" }))).await;
        told(&bench, "p", "ForeignVariable", "litellm/theirs").await;
        let variable = |id: &str| json!({ "id": id, "created": true, "version": 7 });
        let forged = json!({ "status": {
            "variables": [variable("litellm/theirs"), variable("second/v"), variable("second/w")],
            "applied": { "server": "x", "branch": "second" },
        } });
        for (server, text) in [(false, "elsewhere"), (true, "here")] {
            let mut forged = forged.clone();
            if server {
                let is = status(&bench.api::<ConjurPush>().get("p").await.unwrap()).applied.unwrap().server;
                forged["status"]["applied"]["server"] = is.into();
            }
            bench
                .api::<ConjurPush>()
                .patch_status("p", &PatchParams::default(), &Patch::Merge(&forged))
                .await
                .unwrap();
            secret(&bench, "keys", &["theirs"]).await;
            synced(&bench, "p", text).await;
            told(&bench, "p", "ForeignVariable", "litellm/theirs").await;
            bench
                .api::<ConjurPush>()
                .patch_status("p", &PatchParams::default(), &Patch::Merge(&forged))
                .await
                .unwrap();
        }
        bench.api::<ConjurPush>().delete("p", &DeleteParams::default()).await.unwrap();
        wait_for("it is gone or refused", SOON, || async {
            let Some(p) = bench.api::<ConjurPush>().get_opt("p").await.unwrap() else { return Some(()) };
            let conditions = status(&p).conditions.unwrap_or_default();
            find(&conditions, "Ready").filter(|c| c.reason == "AccessDenied").map(|_| ())
        })
        .await
        .unwrap();
        let retain = Patch::Merge(json!({ "spec": { "deletionPolicy": "Retain" } }));
        drop(bench.api::<ConjurPush>().patch("p", &PatchParams::default(), &retain).await);
        gone(&bench, "p").await;
        for (id, value) in [("litellm/theirs", &theirs), ("second/v", &outside)] {
            assert_eq!(bench.conjur.variable(id).as_deref(), Some(value.as_bytes()), "{id}");
        }
        assert!(bench.conjur.exists("variable", "second/w"));
        end(&bench, &name).await;
    });
}

#[test]
fn the_access_mode_of_the_connection_says_what_may_go_which_way() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a"]).await;
        bench.apply(&(bench.connection("conjur", "host/ops") + "  accessMode: ReadOnly\n")).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        told(&bench, "p", "AccessDenied", "ReadOnly").await;
        assert_eq!((loads(&bench), sent(&bench)), (0, 0));
        for mode in ["WriteOnly", "ReadAndWrite"] {
            bench.apply(&(bench.connection("conjur", "host/ops") + &format!("  accessMode: {mode}\n"))).await;
            pushed(&bench, "p").await;
            let values = secret(&bench, "keys", &["a"]).await;
            filled(&bench, "litellm/a", &values[0]).await;
        }
        drop(values);
        assert_eq!(bench.conjur.count(Kind::Batch) + bench.conjur.count(Kind::Single), 0, "no value is read");
    });
}

#[test]
fn update_alone_is_enough_to_fill() {
    test(|bench| async move {
        bench
            .root(
                "- !host ops\n- !policy\n  id: litellm\n  body:\n  - !variable a\n\
                 - !permit {role: !host ops, privileges: [update], resource: !variable litellm/a}\n",
            )
            .await;
        bench.connect("host/ops").await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({ "createVariables": null }))).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
        let document = "- !variable litellm/b\n- !permit {role: !host ops, privileges: [read], resource: !variable litellm/b}\n";
        bench.root(document).await;
        secret(&bench, "keys", &["a", "b"]).await;
        let message = told(&bench, "p", "VariableForbidden", "litellm/b").await;
        assert!(message.contains("`update`"), "{message}");
    });
}

#[test]
fn while_it_is_suspended_nothing_is_read_or_pushed() {
    test(|bench| async move {
        owned(&bench).await;
        let first = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &first[0]).await;
        put(&bench, &push("p", "keys", &json!({ "suspend": true, "deletionPolicy": "Delete" }))).await;
        bench
            .until("seen", "p", |p: &ConjurPush| status(p).observed_generation == p.metadata.generation)
            .await;
        let (sent, loads) = (sent(&bench), loads(&bench));
        let values = secret(&bench, "keys", &["a", "b"]).await;
        // Another object that came later is done.
        secret(&bench, "barrier", &["barrier"]).await;
        put(&bench, &push("barrier", "barrier", &json!({}))).await;
        pushed(&bench, "barrier").await;
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(first[0].as_bytes()));
        assert_eq!((self::sent(&bench), self::loads(&bench)), (sent + 1, loads + 1));
        put(&bench, &push("p", "keys", &json!({}))).await;
        filled(&bench, "litellm/a", &values[0]).await;
        filled(&bench, "litellm/b", &values[1]).await;
        pushed(&bench, "p").await;
    });
}

#[test]
fn the_api_server_refuses_a_bad_push_and_says_what_to_write() {
    test(|bench| async move {
        let source = |more: Value| json!({ "source": more });
        let data = |entry: Value| json!({ "data": [entry] });
        let many: Vec<Value> = (0..257).map(|n| json!({ "key": "a", "variable": format!("v{n}") })).collect();
        let make = |more: Value| {
            let mut create = json!({ "branch": "litellm" });
            create.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "createVariables": create })
        };
        let permit = |more: Value| make(json!({ "permit": more }));
        for (spec, expected) in [
            (source(json!({})), "give exactly one of secretRef and selector"),
            (
                source(json!({ "secretRef": { "name": "a" }, "selector": { "matchLabels": { "a": "b" } } })),
                "give exactly one of secretRef and selector",
            ),
            (source(json!({ "selector": {} })), "name labels"),
            (source(json!({ "selector": { "matchLabels": { "a": "b" } } })), "write {secret} into prefix"),
            (source(json!({ "secretRef": { "name": "Not_A_Name" } })), "spec.source.secretRef.name"),
            (json!({ "source": null }), "spec.source: Required value"),
            (json!({ "connectionRef": null }), "spec.connectionRef: Required value"),
            (json!({ "prefix": "/litellm/" }), "without a leading or doubled slash"),
            (json!({ "prefix": "a//b" }), "without a leading or doubled slash"),
            (json!({ "prefix": "a".repeat(1025) }), "Too long"),
            (json!({ "data": [] }), "should have at least 1 items"),
            (json!({ "data": many }), "must have at most 256 items"),
            (data(json!({ "variable": "v" })), "give exactly one of key and template"),
            (
                data(json!({ "key": "a", "template": "b", "variable": "v" })),
                "give exactly one of key and template",
            ),
            (data(json!({ "key": "a" })), "variable: Required value"),
            (data(json!({ "key": "a", "variable": "/v" })), "without a leading, trailing or doubled slash"),
            (data(json!({ "key": "a b", "variable": "v" })), "spec.data[0].key"),
            (
                json!({ "data": [{ "key": "a", "variable": "v" }], "rewrite": [{ "pattern": "a", "replacement": "b" }] }),
                "name the variables in data, or leave data out",
            ),
            (json!({ "rewrite": [] }), "should have at least 1 items"),
            (make(json!({ "branch": "litellm/" })), "without a leading, trailing or doubled slash"),
            (json!({ "createVariables": {} }), "branch: Required value"),
            (make(json!({ "annotations": { "conjur-operator.io/owner": "x" } })), "the operator's own"),
            (permit(json!([])), "should have at least 1 items"),
            (permit(json!([{ "role": "host/a", "privileges": [] }])), "should have at least 1 items"),
            (permit(json!([{ "role": "policy/a", "privileges": ["read"] }])), "role"),
            (permit(json!([{ "role": "a", "privileges": ["read"] }])), "role"),
            (permit(json!([{ "role": "host/a", "privileges": ["Read]"] }])), "privileges"),
            (json!({ "conflictPolicy": "Take" }), "supported values: \"Refuse\", \"Adopt\""),
            (json!({ "updatePolicy": "Never" }), "supported values: \"Replace\", \"IfNotExists\""),
            (json!({ "deletionPolicy": "Keep" }), "supported values:"),
            (json!({ "driftCheckInterval": "9s" }), "write 10s or more"),
            (json!({ "driftCheckInterval": "soon" }), "spec.driftCheckInterval"),
        ] {
            let error = try_put(&bench, &push("bad", "keys", &spec)).await.unwrap_err();
            assert!(error.contains(expected), "{spec}: {error}");
        }
        eventually("nothing was asked", || loads(&bench) == 0).await;
    });
}
