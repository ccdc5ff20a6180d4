//! The manifests of `examples/gitops`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use conjur_operator::api::ConjurPolicy;
use serde_json::Value;

use super::super::{setup::eventually, test};

fn manifests(under: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gitops").join(under)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_manifests_of_the_gitops_example_become_ready() {
    test(|bench| async move {
        let (_, root) = manifests("root").pop().unwrap();
        let keys = bench.root(&root).await;
        bench.put_secret("conjur-api-key", &[("api-key", &keys["demo:host:gitops"])]).await;
        let (mut names, mut apps) = (Vec::new(), String::new());
        for (path, text) in manifests("policies") {
            let url = bench.conjur.url();
            let here = [
                ("namespace: conjur-policies", format!("namespace: {}", bench.namespace)),
                ("url: https://conjur.example.com", format!("url: {url}")),
                ("account: myorg", "account: demo".to_owned()),
            ];
            let text = here.iter().fold(text, |text, (from, to)| text.replace(from, to));
            let object: Value =
                serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(object["apiVersion"], "conjur-operator.io/v1alpha1", "{}", path.display());
            if object["kind"] == "ConjurPolicy" {
                names.push(object["metadata"]["name"].as_str().unwrap().to_owned());
            }
            bench.apply(&text).await;
            if path.ends_with("apps.yaml") {
                apps = text;
            }
        }
        assert_eq!(names.len(), 4);
        for name in &names {
            bench.ready::<ConjurPolicy>(name).await;
        }
        for (secret, login, name) in [
            ("billing-roles", "host/apps/billing/web", "host.apps_2fbilling_2fweb"),
            ("shop-roles", "host/apps/shop/web", "host.apps_2fshop_2fweb"),
        ] {
            let key = bench.conjur.api_key_of(login).unwrap();
            bench.keep_secret(key.clone());
            assert_eq!(bench.data(secret).await.unwrap()[&format!("{name}.api-key")], key);
        }
        assert!(bench.conjur.exists("variable", "apps/billing/db/password"));

        // To take a team away: its file first, and its statement after.
        for name in ["billing-for-shop", "billing"] {
            bench.kubectl(&["delete", "conjurpolicy", name]).await;
        }
        eventually("its records go", || !bench.conjur.exists("variable", "apps/billing/db/password")).await;
        assert!(!bench.conjur.exists("host", "apps/billing/web"));
        let (before, rest) = apps.split_once("    - !policy\n      id: billing\n").unwrap();
        let (_, after) = rest.split_once("    - !policy\n").unwrap();
        bench.apply(&format!("{before}    - !policy\n{after}")).await;
        eventually("its branch goes", || !bench.conjur.exists("policy", "apps/billing")).await;
        bench.ready::<ConjurPolicy>("apps").await;
        bench.ready::<ConjurPolicy>("shop").await;
        assert!(bench.conjur.exists("host", "apps/shop/web"));

        // A statement that is taken out while the team still has something is not loaded.
        bench.apply(&format!("{before}    []\n")).await;
        let message = bench.says::<ConjurPolicy>("apps", "DeletionsNotAllowed").await;
        assert!(message.contains("demo:host:apps/shop/web"), "{message}");
        assert!(bench.conjur.exists("host", "apps/shop/web"));
    });
}

#[test]
fn the_manifests_for_argo_cd_and_flux_name_the_folder_that_there_is() {
    let mut seen = Vec::new();
    for (path, text) in manifests("argocd").into_iter().chain(manifests("flux")) {
        for part in text.split("\n---\n") {
            let object: Value =
                serde_saphyr::from_str(part).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            seen.push(object["kind"].as_str().unwrap().to_owned());
            let folder = match object["kind"].as_str() {
                Some("Application") => &object["spec"]["source"]["path"],
                Some("Kustomization") => &object["spec"]["path"],
                _ => continue,
            };
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder.as_str().unwrap());
            assert!(folder.join("apps.yaml").is_file(), "{}", folder.display());
        }
    }
    assert_eq!(seen, ["Application", "GitRepository", "Kustomization"]);
}
