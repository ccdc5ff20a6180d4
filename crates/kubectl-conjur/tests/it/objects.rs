//! `get`, `sync`, `suspend`, `resume`, `rotate`, `tree`, `events`.

use crate::setup::test;

#[test]
fn objects_are_listed_synced_suspended_and_resumed() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        bench.secret("db", &[("password", "a")]).await;
        bench.secret("lacks", &[("password", "missing")]).await;
        bench.is("cjs/db", "Synced").await;
        bench.is("cjs/lacks", "VariableNotFound").await;

        let all = bench.plugin(&["get"]).await.ends(0);
        let all = all.says("cjc/conjur").says("cjs/db").says("VariableNotFound");
        assert!(!all.out.contains('\u{1b}'), "colours without a terminal: {}", all.out);
        let one = bench.plugin(&["get", "cjs/db", "-o", "name"]).await.ends(0);
        assert_eq!(one.out, "conjursecret.conjur-operator.io/db\n");
        let bad = bench.plugin(&["get", "--not-ready", "-o", "json"]).await.ends(1).json();
        assert_eq!(bad["items"].as_array().unwrap().len(), 1);
        assert_eq!(bad["items"][0]["metadata"]["name"], "lacks");
        bench.plugin(&["get", "cjs/none"]).await.ends(2).says("there is no cjs/none");
        let everywhere = bench.plugin(&["get", "-A", "--color", "always"]).await.ends(0);
        assert!(everywhere.out.contains(&bench.namespace) && everywhere.out.contains('\u{1b}'));

        assert!(bench.conjur.set_variable("apps/a", b"changed"));
        bench.plugin(&["sync", "db"]).await.ends(0).says("cjs/db").says("Synced");
        let value = bench.kubectl(&["get", "secret", "db", "-o", "jsonpath={.data.password}"]).await;
        assert_eq!(value, "Y2hhbmdlZA==");
        bench.plugin(&["sync", "--connection", "cjc/conjur"]).await.ends(1).says("VariableNotFound");
        bench
            .plugin(&["sync", "cjc/conjur", "-o", "name"])
            .await
            .ends(0)
            .says("conjurconnection.conjur-operator.io/conjur");

        // A connection that rests after a refused login is tried first.
        let key = bench.conjur.api_key_of("host/ops").unwrap();
        let with = |key: &str| {
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: conjur-login}}\nstringData: {{api-key: {key}}}\n"
            )
        };
        bench.apply(&with("wrong")).await;
        bench.plugin(&["sync", "cjc/conjur"]).await.ends(0);
        bench.is("cjc/conjur", "AuthenticationFailed").await;
        assert!(bench.conjur.set_api_key("host/ops", "wrong"));
        bench.plugin(&["sync", "cjs/db"]).await.ends(0).says("Synced");
        assert!(bench.conjur.set_api_key("host/ops", &key));
        bench.apply(&with(&key)).await;
        bench.is("cjc/conjur", "Connected").await;

        bench.plugin(&["suspend", "cjs/db"]).await.ends(0).says("cjs/db suspended");
        bench
            .plugin(&["explain", "cjs/db"])
            .await
            .ends(1)
            .says(&format!("kubectl conjur resume -n {} cjs/db", bench.namespace));
        bench.plugin(&["get", "cjs/db"]).await.ends(0).says("Suspended");
        bench.plugin(&["resume", "cjs/db"]).await.ends(0).says("cjs/db resumed");
        let spec = bench.kubectl(&["get", "cjs/db", "-o", "jsonpath={.spec.suspend}"]).await;
        assert_eq!(spec, "", "nothing of it stays");
        bench.plugin(&["suspend", "cjc/conjur"]).await.ends(2).says("suspend the objects that use it");
        bench.plugin(&["suspend", "conjur"]).await.ends(2);

        bench.plugin(&["events"]).await.ends(0).says("cjs/lacks").says("VariableNotFound");
        let comes = bench.secret("lacks-too", &[("password", "missing")]);
        let watched = bench.plugin_until(&["events", "--watch"], "cjs/lacks-too", comes).await;
        assert!(watched.contains("LAST SEEN") && watched.contains("VariableNotFound"), "{watched}");
        let told = bench.plugin(&["events", "cjs/lacks", "-o", "json"]).await.ends(0).json();
        assert!(told.as_array().unwrap().iter().all(|event| event["object"] == "cjs/lacks"), "{told}");
    });
}

#[test]
fn a_variable_leads_to_the_workloads_that_mount_its_secret() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        bench.secret("db", &[("password", "a")]).await;
        bench.is("cjs/db", "Synced").await;
        bench
            .apply(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    \
                 metadata: {labels: {app: web}}\n    spec:\n      containers:\n      - name: c\n        image: example.com/none\n        env:\n        - name: \
                 PASSWORD\n          valueFrom: {secretKeyRef: {name: db, key: password}}\n",
            )
            .await;
        let tree = bench.plugin(&["tree", "apps/a"]).await.ends(0);
        assert_eq!(
            tree.out,
            "apps/a\n└─ cjs/db Ready  as key password\n   └─ secret/db\n      └─ deployment/web  env PASSWORD\n"
        );
        bench.plugin(&["tree", "deploy/web"]).await.ends(0).says("cjs/db").says("apps/a");
        bench.plugin(&["tree", "secret/db", "-A"]).await.ends(0).says(&bench.namespace);
        bench.plugin(&["tree", "apps/none"]).await.ends(1).says("Nothing that conjur-operator keeps uses it");
    });
}

#[test]
fn a_key_is_rotated_and_the_command_waits_for_it() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        bench
            .apply(
                "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurHost\nmetadata: {name: web}\nspec:\n  connectionRef: {name: conjur}\n  id: \
                 apps/web\n",
            )
            .await;
        bench.is("cjh/web", "Enrolled").await;
        assert_eq!(bench.conjur.key_generation("host/apps/web"), Some(0));
        bench.plugin(&["rotate", "web"]).await.ends(0).says("rotated; Secret web holds the new key");
        assert_eq!(bench.conjur.key_generation("host/apps/web"), Some(1));
        bench.plugin(&["rotate", "cjs/web"]).await.ends(2).says("name a ConjurHost");
        bench.plugin(&["rotate", "none"]).await.ends(2).says("has no ConjurHost none");
        bench.plugin(&["suspend", "cjh/web"]).await.ends(0);
        bench.plugin(&["rotate", "web"]).await.ends(2).says("it is suspended");
    });
}

#[test]
fn completion_and_man_pages_come_from_the_arguments() {
    test(|bench| async move {
        for shell in ["bash", "fish", "powershell", "zsh"] {
            let script = bench.plugin(&["completion", shell]).await.ends(0);
            assert!(script.out.contains("not-ready"), "{shell}");
        }
        bench.connected(&["a"]).await;
        let offered = bench.plugin(&["__complete", "doctor", "cj"]).await.ends(0);
        assert_eq!(offered.out, "cjc/conjur\n:4\n");
        let folder = tempfile::tempdir().unwrap();
        bench.plugin(&["man", folder.path().to_str().unwrap()]).await.ends(0);
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().any(|name| name == "kubectl-conjur-explain.1"), "{names:?}");
    });
}
