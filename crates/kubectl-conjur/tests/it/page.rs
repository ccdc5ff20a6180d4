//! docs/kubectl-conjur.md has all there is, and what is packed is what krew takes.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use clap::CommandFactory as _;
use kubectl_conjur::cli::Cli;

fn repository() -> PathBuf {
    testbed::repository().to_owned()
}

#[test]
fn the_page_has_each_command_and_flag_and_no_other() {
    let page = std::fs::read_to_string(repository().join("docs/kubectl-conjur.md")).unwrap();
    let mut cli = Cli::command();
    cli.build();
    let mut flags = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
    for command in cli.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        let name = command.get_name();
        assert!(
            page.contains(&format!("kubectl conjur {name}"))
                || page.contains(&format!("`kubectl conjur\n{name}")),
            "{name}"
        );
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            flags.insert(format!("--{flag}"));
            let known = ["help", "version", "output", "all-namespaces", "file"].contains(&flag);
            assert!(known || page.contains(&format!("--{flag}")), "--{flag} of {name}");
        }
    }
    let named = page
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with("--") && word.contains(char::is_alphabetic));
    for word in named {
        assert!(flags.contains(word), "there is no {word}");
    }
    // Each line of a block of commands is one that the program takes.
    for line in page.lines().filter_map(|line| line.strip_prefix("    kubectl conjur ")) {
        let line = line.split(" #").next().unwrap().split(" >").next().unwrap();
        let words = ["kubectl-conjur"].into_iter().chain(line.split_whitespace());
        cli.clone().try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn the_archive_is_the_same_twice_and_the_manifest_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let pack = |name: &str| {
        let out = folder.path().join(name);
        let args = ["0.1.0", "linux-amd64", env!("CARGO_BIN_EXE_kubectl-conjur"), out.to_str().unwrap()];
        let output = Command::new(repository().join("release/plugin/pack.sh")).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    };
    let (one, two) = (pack("one"), pack("two"));
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(), "two archives differ");
    let listed = Command::new("tar").arg("-tzf").arg(&one).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for file in [
        "./kubectl-conjur\n",
        "./kubectl_complete-conjur\n",
        "./LICENSE\n",
        "./man/kubectl-conjur-explain.1\n",
    ] {
        assert!(listed.contains(file), "{file} is not in\n{listed}");
    }
    let address = "https://example.com/conjur-operator/releases/download/v0.1.0";
    let manifest = Command::new(repository().join("release/plugin/krew.sh"))
        .args(["0.1.0", address])
        .arg(&one)
        .output()
        .unwrap();
    assert!(manifest.status.success(), "{manifest:?}");
    let manifest: serde_json::Value =
        serde_saphyr::from_str(&String::from_utf8(manifest.stdout).unwrap()).unwrap();
    let sum = Command::new("sha256sum").arg(&one).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let platform = &manifest["spec"]["platforms"][0];
    assert_eq!(platform["sha256"].as_str(), sum.split_whitespace().next());
    assert_eq!(platform["selector"]["matchLabels"], serde_json::json!({ "os": "linux", "arch": "amd64" }));
    assert_eq!(
        platform["uri"].as_str().unwrap(),
        format!("{address}/kubectl-conjur-0.1.0-linux-amd64.tar.gz")
    );
    assert_eq!(manifest["spec"]["homepage"], "https://example.com/conjur-operator");
    // krew: one line of at most 50 characters.
    assert!(manifest["spec"]["shortDescription"].as_str().unwrap().len() <= 50);
}
