//! `explain`: set-ups that are broken, told from its output alone.

use crate::setup::test;

#[test]
fn a_missing_permit_is_written_out() {
    test(|bench| async move {
        bench
            .conjur
            .load_root("- !host ops\n- !policy\n  id: apps\n  body:\n  - !variable seen\n  - !variable hidden\n- !permit\n  role: !host ops\n  privileges: [ read ]\n  resource: !variable apps/seen\n")
            .await
            .unwrap();
        bench.connect("conjur", "host/ops").await;
        bench.secret("db", &[("a", "seen"), ("b", "hidden")]).await;
        bench.is("cjs/db", "VariableNotFound").await;
        let told = bench.plugin(&["explain", "cjs/db"]).await.ends(1);
        let told = told.says("host/ops sees the variable, and lacks execute on it");
        let permit = told.out.lines().skip_while(|line| !line.contains("- !permit")).take(4);
        let permit: Vec<_> = permit.map(str::trim_end).collect();
        let indent = permit[0].len() - "- !permit".len();
        let policy: String = permit.iter().map(|line| format!("{}\n", &line[indent..])).collect();
        assert!(policy.contains("!variable apps/seen"), "{policy}");
        told.says("Conjur does not tell these apart");

        // What it says, loaded as it is.
        bench.conjur.load_root(&policy).await.unwrap();
        bench.conjur.load_root(&policy.replace("apps/seen", "apps/hidden")).await.unwrap();
        bench.plugin(&["explain", "cjs/db"]).await.ends(1).says("holds no value");
        assert!(bench.conjur.set_variable("apps/seen", b"1"));
        assert!(bench.conjur.set_variable("apps/hidden", b"2"));
        bench.plugin(&["sync", "cjs/db"]).await.ends(0);
        bench.plugin(&["explain", "cjs/db"]).await.ends(0).says("may be read; version 1");
        let one = bench.plugin(&["explain", "--variable", "apps/none"]).await.ends(1);
        one.says("there is no such variable");
        let one = bench.plugin(&["explain", "--variable", "apps/sene"]).await.ends(1);
        one.says("There is a variable apps/seen");
    });
}

#[test]
fn a_rule_that_does_not_match_is_told_segment_by_segment() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        let shared = format!("shared-{}", bench.namespace);
        let (url, namespace) = (bench.conjur.url(), &bench.namespace);
        bench
            .apply(&format!(
                "apiVersion: conjur-operator.io/v1alpha1\nkind: ClusterConjurConnection\nmetadata: {{name: {shared}}}\nspec:\n  url: {url}\n  account: \
                 demo\n  auth: {{apiKey: {{login: host/ops, apiKeySecretRef: {{namespace: {namespace}, name: conjur-login, key: api-key}}}}}}\n  access:\n  - \
                 namespaces: {{names: [{namespace}]}}\n    read: [\"apps/{{namespace}}/*\"]\n---\napiVersion: conjur-operator.io/v1alpha1\nkind: \
                 ConjurSecret\nmetadata: {{name: db}}\nspec:\n  connectionRef: {{kind: ClusterConjurConnection, name: {shared}}}\n  data:\n  - {{key: a, \
                 variable: apps/a/b}}\n"
            ))
            .await;
        bench.is("cjs/db", "AccessDenied").await;
        let told = bench.plugin(&["explain", "cjs/db"]).await.ends(1);
        told.says(&format!("segment 2 is a, and not {namespace}"));
    });
}

#[test]
fn a_permit_holds_in_a_branch_as_in_root() {
    test(|bench| async move {
        bench
            .conjur
            .load_root("- !host ops\n- !policy\n  id: apps\n  body:\n  - !variable \"a b\"\n")
            .await
            .unwrap();
        bench.connect("conjur", "host/ops").await;
        bench.is("cjc/conjur", "Connected").await;
        let told = bench.plugin(&["explain", "--variable", "apps/a b"]).await.ends(1);
        let permit: Vec<_> =
            told.out.lines().skip_while(|line| !line.contains("- !permit")).take(4).collect();
        let indent = permit[0].find('-').unwrap();
        let policy: String = permit.iter().map(|line| format!("{}\n", line[indent..].trim_end())).collect();
        bench.conjur.load("apps", &policy.replace("apps/a b", "a b")).await.unwrap();
        assert!(bench.conjur.set_variable("apps/a b", b"1"));
        bench.plugin(&["explain", "--variable", "apps/a b"]).await.ends(0).says("may be read");
    });
}

#[test]
fn who_may_not_see_all_kinds_sees_the_others_and_who_may_not_push_is_told() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        bench.secret("db", &[("a", "a")]).await;
        bench.is("cjs/db", "Synced").await;
        bench
            .apply(
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: tenant}\nrules:\n- {apiGroups: [conjur-operator.io], resources: \
                 [conjursecrets], verbs: [get, list]}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: \
                 tenant}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}\nsubjects: [{kind: User, name: tenant}]\n",
            )
            .await;
        let seen = bench.plugin(&["get", "--as", "tenant"]).await.ends(0);
        seen.says("cjs/db").says("Not seen: cannot list clusterconjurconnections");
        bench.plugin(&["get", "cjs", "--as", "tenant"]).await.ends(0).says("cjs/db");
        bench.plugin(&["get", "cjc", "--as", "tenant"]).await.ends(2).says("forbidden");
        bench.plugin(&["explain", "cjs/db", "--as", "tenant"]).await.ends(0).says("forbidden");
        bench
            .apply("apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurHost\nmetadata: {name: web}\nspec: {connectionRef: {name: reads}, id: apps/web}\n")
            .await;
        bench.connect("reads", "host/ops").await;
        bench
            .kubectl(&[
                "patch",
                "cjc",
                "reads",
                "--type",
                "merge",
                "-p",
                r#"{"spec":{"accessMode":"ReadOnly"}}"#,
            ])
            .await;
        bench.plugin(&["explain", "cjh/web"]).await.ends(1).says("is ReadOnly, which refuses this");
    });
}

#[test]
fn what_is_not_there_is_named() {
    test(|bench| async move {
        bench.secret("db", &[("a", "a")]).await;
        bench.is("cjs/db", "ConnectionNotFound").await;
        bench.plugin(&["explain", "db"]).await.ends(1).says("there is no ConjurConnection conjur");
        bench.plugin(&["explain"]).await.ends(1).says("there is no ConjurConnection conjur");
        bench.plugin(&["explain", "cjs/none"]).await.ends(2).says("has no cjs/none");
        let told = bench.plugin(&["explain", "db", "-o", "json"]).await.ends(1).json();
        assert_eq!((&told["well"], &told["object"]), (&false.into(), &"cjs/db".into()));
    });
}

#[test]
fn each_kind_is_explained() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        bench
            .apply(
                "apiVersion: v1\nkind: Secret\nmetadata: {name: generated}\nstringData: {key: v}\n---\napiVersion: conjur-operator.io/v1alpha1\nkind: \
                 ConjurPush\nmetadata: {name: push}\nspec:\n  connectionRef: {name: conjur}\n  source: {secretRef: {name: generated}}\n  prefix: apps/\n  \
                 createVariables: {branch: apps}\n---\napiVersion: conjur-operator.io/v1alpha1\nkind: ConjurPolicy\nmetadata: {name: policy}\nspec:\n  \
                 connectionRef: {name: conjur}\n  branch: apps\n  document: |\n    - !variable more\n---\napiVersion: \
                 conjur-operator.io/v1alpha1\nkind: ConjurHost\nmetadata: {name: web}\nspec:\n  connectionRef: {name: conjur}\n  id: apps/web\n",
            )
            .await;
        for (object, reason) in [("cjpush/push", "Pushed"), ("cjp/policy", "Loaded"), ("cjh/web", "Enrolled")]
        {
            bench.is(object, reason).await;
            bench.plugin(&["explain", object]).await.ends(0).says("host/ops");
        }
        bench.plugin(&["explain"]).await.ends(0).says("All objects of the namespace are Ready");
        bench
            .plugin(&["explain", "cjc/conjur"])
            .await
            .ends(0)
            .says(&format!("kubectl conjur doctor -n {} cjc/conjur", bench.namespace));
    });
}
