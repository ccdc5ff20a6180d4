//! The shape of the source: imports point one way, names are told apart, and what is generated is current.

mod circles;
mod links;
mod names;
mod pages;
mod reasons;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The operator's own package, the crates that stand alone, and the plugin; each has a folder `src`.
const PACKAGES: [&str; 4] =
    ["", "crates/conjur-client", "crates/conjur-operator-api", "crates/kubectl-conjur"];

/// Where the sources of a package lie.
fn source_folder(package: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("src")
}

/// The files of a package below a module, or all of them where none is named, and what stands in each.
fn sources(package: &str, under: &str) -> Vec<(PathBuf, String)> {
    let root = source_folder(package);
    let mut found = Vec::new();
    let mut folders = vec![root.join(under)];
    found.extend(
        fs::read_to_string(root.join(format!("{under}.rs"))).map(|t| (root.join(format!("{under}.rs")), t)),
    );
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "nothing under {package}/src/{under}");
    found
}

/// The crates know what their manifests name, and the compiler sees to it; within the operator's package this does.
#[test]
fn imports_point_one_way() {
    for word in [
        "kube::Client",
        "kube::Api",
        "hyper",
        "tokio",
        "conjur_client",
        "crate::cluster",
        "crate::conjur",
        "crate::controllers",
    ] {
        for (path, text) in sources("", "plan") {
            let found = text.lines().find(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(
                found.is_none(),
                "{} must not know {word}: {}",
                path.display(),
                found.unwrap_or_default()
            );
        }
    }
}

#[test]
fn what_kinds_share_names_none_of_those_that_use_a_connection() {
    // A new kind would have to be named there, too.
    let shared = ["context", "dependencies", "handle", "namespaces", "owned", "watches", "connection"];
    let shared = shared.map(|name| format!("controllers/{name}"));
    for (path, text) in shared.iter().map(String::as_str).chain(["app"]).flat_map(|under| sources("", under))
    {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        if path.ends_with("tests.rs") {
            continue;
        }
        let kinds = ["ConjurSecret", "ConjurPolic", "ConjurHost", "ConjurPush"];
        let stores = ["kinds.secrets", "kinds.policies", "kinds.hosts", "kinds.pushes"];
        for kind in kinds.into_iter().chain(stores) {
            let line = code.lines().find(|line| !line.trim_start().starts_with("//") && line.contains(kind));
            assert!(line.is_none(), "{} must not know {kind}: {}", path.display(), line.unwrap_or_default());
        }
    }
}

#[test]
fn the_crates_know_neither_kubernetes_client_nor_the_operator() {
    for (package, forbidden) in [
        ("crates/conjur-client", &["kube", "k8s-openapi", "conjur-operator"][..]),
        ("crates/conjur-operator-api", &["conjur-client", "conjur-operator", "tokio", "hyper"]),
    ] {
        let manifest = source_folder(package).with_file_name("Cargo.toml");
        let manifest = fs::read_to_string(manifest).unwrap();
        let named = manifest.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
        let found: Vec<&str> = named.filter(|name| forbidden.contains(name)).collect();
        assert!(found.is_empty(), "{package} must not depend on {found:?}");
        assert!(
            !manifest.contains("kube = ")
                || manifest.contains(r#"default-features = false, features = ["derive"]"#)
        );
    }
}

/// The compiler asks for no arm: to others the client's errors are a list that may grow.
#[test]
fn every_error_of_the_client_is_thought_about() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let errors = fs::read_to_string(root.join("crates/conjur-client/src/error.rs")).unwrap();
    let (_, errors) = errors.split_once("pub enum Error {").unwrap();
    let variants = errors.split("\n}\n").next().unwrap().lines().filter_map(|line| line.strip_prefix("    "));
    let variants = variants.filter_map(|line| line.split_once(" {")).map(|(name, _)| name);
    let variants: Vec<&str> =
        variants.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase())).collect();
    let thought_about = fs::read_to_string(root.join("src/runtime/failure.rs")).unwrap();
    for name in &variants {
        assert!(thought_about.contains(&format!("conjur::Error::{name} {{")), "{name} is not thought about");
    }
    assert!(variants.len() >= 14, "{variants:?}");
}

#[test]
fn statuses_are_written_in_their_types() {
    // The API server drops a field whose name it does not know, and says nothing.
    for (path, text) in ["controllers", "runtime"].into_iter().flat_map(|under| sources("", under)) {
        for untyped in ["fields.insert(\"", "Map<String, Value>"] {
            assert!(!text.contains(untyped), "{} has {untyped}", path.display());
        }
    }
}

#[test]
fn the_crds_in_the_tree_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crds = conjur_operator::api::crds();
    for folder in ["crds", "charts/conjur-operator/files/crds"] {
        let files = fs::read_dir(root.join(folder)).unwrap().count();
        assert_eq!(files, crds.len(), "{folder}: run `make crds`");
        for crd in &crds {
            let path = root.join(folder).join(format!("{}.yaml", crd.metadata.name.as_ref().unwrap()));
            let text = fs::read_to_string(&path).unwrap_or_default();
            let yaml = serde_saphyr::to_string(crd).unwrap();
            assert!(text == yaml, "{} is not current: run `make crds`", path.display());
        }
    }
}

#[test]
fn every_limit_that_is_counted_is_met_somewhere() {
    let all = PACKAGES.into_iter().flat_map(|package| sources(package, ""));
    let uses = all.filter(|(path, _)| !path.ends_with("limits/hits.rs"));
    let text: String = uses.map(|(_, text)| text).collect();
    for limit in conjur_operator::seams::Limit::ALL {
        assert!(text.contains(&format!("Limit::{limit:?}")), "nothing counts {limit:?}");
    }
}
