//! `diff` and `lint`.

use crate::setup::test;

fn policy(document: &str, mode: &str) -> String {
    let document: String = document.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurPolicy\nmetadata: {{name: p}}\nspec:\n  connectionRef: {{name: conjur}}\n  branch: apps\n  \
         mode: {mode}\n  document: |\n{document}"
    )
}

#[test]
fn a_plan_is_shown_as_kubectl_diff_would() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("p.yaml");
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let path = file(&policy("- !variable b\n- !variable c\n", "Update"));
        let told = bench.plugin(&["diff", "-f", &path]).await.ends(1);
        told.says("+ variable apps/b").says("would create 2");
        bench.apply(&policy("- !variable b\n- !variable c\n", "Update")).await;
        bench.is("cjp/p", "Loaded").await;
        bench.plugin(&["diff", "p"]).await.ends(0).says("Conjur holds what the document says");
        let path = file(&policy("- !variable b\n", "Replace"));
        let told = bench.plugin(&["diff", "-f", &path, "-o", "json"]).await.ends(1).json();
        assert_eq!(told["deleted"][0], "demo:variable:apps/c");
        bench.plugin(&["diff", "-f", &path]).await.ends(1).says("conjur-operator.io/allow-deletions");
        let path =
            file(&policy("- !variable b\n- !grant {role: !group none, member: !host ops}\n", "Update"));
        bench.plugin(&["diff", "-f", &path]).await.ends(2).says("Conjur would refuse the document");
        let path = file(&policy("- !variable b\n- {]\n", "Update"));
        bench.plugin(&["diff", "-f", &path]).await.ends(2).says("line 2");
        bench.plugin(&["diff", "none"]).await.ends(2).says("has no ConjurPolicy none");
    });
}

#[test]
fn a_folder_is_checked_without_a_cluster() {
    test(|bench| async move {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("good.yaml"), policy("- !variable a\n", "Update")).unwrap();
        let path = folder.path().display().to_string();
        bench
            .plugin(&["lint", "-f", &path])
            .await
            .ends(0)
            .says("1 objects and documents looked at, 0 findings");
        std::fs::write(folder.path().join("bad.yaml"), policy("- {]\n", "Change")).unwrap();
        let told = bench.plugin(&["lint", "-f", &path]).await.ends(1);
        told.says("spec.mode");
        let sarif = bench.plugin(&["lint", "--sarif", "-f", &path]).await.ends(1).json();
        assert_eq!(sarif["version"], "2.1.0");
        bench.plugin(&["lint", "-f", "/no/such/folder"]).await.ends(2).says("can't be read");
    });
}
