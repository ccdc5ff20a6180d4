//! What is released: the form of CHANGELOG.md, one version in all places, and workflows with no more rights than they need.

mod changelog;
mod workflows;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use testbed::repository;

fn read(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a script of `release/` on the files of a folder.
fn script(name: &str, args: &[&str], tree: &Path) -> Output {
    let mut command = Command::new(repository().join("release").join(name));
    command.args(args).env("RELEASE_TREE", tree).output().unwrap()
}

/// A copy of what the scripts read, with a section of the changelog for the version that there is.
struct Tree {
    folder: tempfile::TempDir,
    version: String,
}

impl Tree {
    fn new() -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let tree = Self { folder: tempfile::tempdir().unwrap(), version };
        fs::create_dir_all(tree.path("charts/conjur-operator")).unwrap();
        for file in ["Cargo.toml", "charts/conjur-operator/Chart.yaml"] {
            fs::write(tree.path(file), read(file)).unwrap();
        }
        let v = &tree.version;
        let changelog = format!(
            "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Not yet.\n\n## [{v}] - 2026-12-01\n\n### Fixed\n\n- A fault.\n\n\
             ## [0.0.1] - 2026-11-01\n\n### Added\n\n- All.\n\n[Unreleased]: https://example.com\n[{v}]: https://example.com\n"
        );
        fs::write(tree.path("CHANGELOG.md"), changelog).unwrap();
        tree
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} lacks {from}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
    }
}

#[test]
fn all_places_name_one_version() {
    let told = script("check.sh", &[], repository());
    assert!(told.status.success(), "{told:?}");
    assert_eq!(String::from_utf8(told.stdout).unwrap().trim_end(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_tag_is_released_only_where_all_places_agree_with_it() {
    let tag = format!("v{}", env!("CARGO_PKG_VERSION"));
    let told = script("check.sh", &[&tag], Tree::new().folder.path());
    assert!(told.status.success(), "{told:?}");

    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    let heading = format!("## [{}] - 2026-12-01", env!("CARGO_PKG_VERSION"));
    let (chart, changelog) = ("charts/conjur-operator/Chart.yaml", "CHANGELOG.md");
    let link = format!("[{}]: https://", env!("CARGO_PKG_VERSION"));
    for (file, from, to, says) in [
        ("Cargo.toml", version.as_str(), "version = \"9.9.9\"", "Cargo.toml"),
        ("Cargo.toml", version.as_str(), "version = \"next\"", "is no version"),
        (
            "Cargo.toml",
            "path = \"crates/conjur-client\", version = \"",
            "path = \"crates/conjur-client\", version = \"9.",
            "conjur-client is named",
        ),
        (chart, "\nversion: ", "\nversion: 9.", "version is \"9."),
        (chart, "\nappVersion: \"", "\nappVersion: \"9.", "appVersion is \"9."),
        (changelog, heading.as_str(), "## [9.9.9] - 2026-12-01", "has no section"),
        (changelog, heading.as_str(), &heading.replace("-12-", "-"), "has no section"),
        (changelog, link.as_str(), "[other]: https://", "has no link"),
    ] {
        let tree = Tree::new();
        tree.edit(file, from, to);
        let told = script("check.sh", &[&tag], tree.folder.path());
        let error = String::from_utf8(told.stderr).unwrap();
        assert!(!told.status.success() && error.contains(says), "{file} with {to}: {error}");
    }
    for tag in [env!("CARGO_PKG_VERSION"), "v9.9.9", ""] {
        assert!(!script("check.sh", &[tag], Tree::new().folder.path()).status.success(), "{tag}");
    }
}

#[test]
fn the_notes_of_a_release_are_its_section_and_no_other() {
    let tree = Tree::new();
    let notes = |version: &str| script("notes.sh", &[version], tree.folder.path());
    let told = notes(&tree.version);
    assert_eq!(String::from_utf8(told.stdout).unwrap().trim(), "### Fixed\n\n- A fault.");
    assert_eq!(String::from_utf8(notes("0.0.1").stdout).unwrap().trim(), "### Added\n\n- All.");
    assert!(!notes("0.0.2").status.success());
}

#[test]
fn the_page_of_supported_versions_has_those_that_tests_run_on() {
    let page = read("docs/compatibility.md");
    let minors =
        [("oldest", "oldest"), ("go", "tested with"), ("newest", "newest seen")].map(|(module, row)| {
            let module = read(&format!("tests/control-plane/{module}.mod"));
            let version = module.split("k8s.io/kubernetes v").nth(1).unwrap();
            let minor = version.split('.').nth(1).unwrap().to_owned();
            assert!(page.contains(&format!("| {row} | 1.{minor} |")), "{row}: tests run on 1.{minor}");
            minor
        });
    let readme = read("README.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let [oldest, tested, newest] = minors;
    let least = format!("Kubernetes 1.{oldest} or newer");
    for claim in [least, format!("Kubernetes 1.{tested}, in part 1.{oldest} and 1.{newest}")] {
        assert!(readme.contains(&claim), "README.md does not say: {claim}");
    }
    let rust = read("Cargo.toml");
    let rust = rust.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    for page in ["docs/compatibility.md", "CONTRIBUTING.md"] {
        assert!(read(page).contains(rust), "{page} lacks Rust {rust}");
    }
}
