//! The commands of `docs/install.md` and `docs/gitops.md`, but for those that end what other tests use, or that need Pods.

use std::path::Path;

use super::super::test;
use super::walk::{Step, Walk, flat, steps};

const INSTALL: &str = include_str!("../../../../docs/install.md");
const GITOPS: &str = include_str!("../../../../docs/gitops.md");

/// The commands of a page.
fn commands(page: &str) -> impl Iterator<Item = String> {
    // What is YAML there is of other tools.
    let page = flat(&page.replace("```yaml\n", "```text\n"));
    steps(page).into_iter().filter_map(|step| match step {
        Step::Command(command) => Some(command),
        Step::Policy(_) | Step::Manifest(_) => None,
    })
}

#[test]
fn the_commands_of_installing_are_taken_by_the_chart() {
    test(|bench| async move {
        let mut walk = Walk::of(bench.clone());
        let (mut installs, mut listed) = (0, String::new());
        for command in commands(INSTALL) {
            if command.starts_with("helm upgrade ") {
                walk.step(&Step::Command(command)).await;
                installs += 1;
            } else if let Some((list, "kubectl delete")) = command.split_once(" | xargs ") {
                listed = walk.shell(list).await.unwrap();
            }
        }
        assert_eq!(installs, 2);
        for crd in conjur_operator::api::crds() {
            let name = crd.metadata.name.unwrap();
            assert!(listed.lines().any(|line| line.ends_with(&format!("/{name}"))), "{name}: {listed}");
        }
        assert_eq!(listed.lines().count(), conjur_operator::api::crds().len(), "{listed}");
    });
}

#[test]
fn argo_cd_is_told_of_the_kinds_by_the_command_of_the_page() {
    test(|bench| async move {
        let file = "gitops/argocd/argocd-cm.yaml";
        // The file names the namespace, too.
        let bench = bench.in_namespace("argocd").await;
        let walk = Walk::of(bench.clone());
        let there = walk.folder.path().join(file);
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), there).unwrap();
        bench.kubectl(&["create", "configmap", "argocd-cm"]).await;
        let mut ran = 0;
        for command in commands(GITOPS) {
            walk.shell(&command).await.unwrap();
            ran += 1;
        }
        assert_eq!(ran, 1);
        let told = bench.kubectl(&["get", "configmap", "argocd-cm", "-o", "jsonpath={.data}"]).await;
        for crd in conjur_operator::api::crds() {
            assert!(told.contains(&format!("_{}", crd.spec.names.kind)), "{}", crd.spec.names.kind);
        }
        walk.shell("kubectl delete namespace argocd --wait=false").await.unwrap();
    });
}
