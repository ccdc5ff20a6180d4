//! The workflows have the least rights, use actions by the hash of a commit, and build for ARM as it must be.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;
use testbed::repository;

use super::read;

fn workflows() -> Vec<(String, Value)> {
    let files = fs::read_dir(repository().join(".github/workflows")).unwrap();
    let mut all: Vec<_> = files
        .map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            let text = read(&format!(".github/workflows/{name}"));
            let workflow = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, workflow)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(all.len() >= 2);
    all
}

fn jobs(workflow: &Value) -> impl Iterator<Item = (&String, &Value)> {
    workflow["jobs"].as_object().unwrap().iter()
}

fn steps(job: &Value) -> impl Iterator<Item = &Value> {
    job["steps"].as_array().unwrap().iter()
}

#[test]
fn a_workflow_has_no_right_and_each_job_those_that_it_needs() {
    let mut granted = BTreeSet::new();
    for (file, workflow) in workflows() {
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{file}");
        for (name, job) in jobs(&workflow) {
            assert!(job["timeout-minutes"].is_number(), "{file}: {name} has no end");
            for (right, level) in job["permissions"].as_object().unwrap_or_else(|| panic!("{file}: {name}")) {
                match level.as_str().unwrap() {
                    "read" => assert_eq!(right, "contents", "{file}: {name}"),
                    level => {
                        granted.insert(format!("{file} {name} {right}: {level}"));
                    }
                }
            }
            for step in steps(job) {
                if step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/checkout@")) {
                    assert_eq!(step["with"]["persist-credentials"], false, "{file}: {name}");
                }
                // A text of others in the place of a command.
                if let Some(run) = step["run"].as_str() {
                    assert!(!run.contains("${{"), "{file}: {name}: {run}");
                }
            }
        }
    }
    let expected = ["notes contents", "publish attestations", "publish id-token", "publish packages"];
    let expected: BTreeSet<_> = expected.iter().map(|right| format!("release.yml {right}: write")).collect();
    assert_eq!(granted, expected);
}

#[test]
fn actions_are_named_by_the_hash_of_a_commit_with_the_version_beside_it() {
    for (file, _) in workflows() {
        for line in read(&format!(".github/workflows/{file}")).lines() {
            let Some((_, uses)) = line.split_once("uses: ") else { continue };
            let (action, version) = uses.split_once(" # v").unwrap_or_else(|| panic!("{file}: {line}"));
            let (_, hash) = action.split_once('@').unwrap_or_else(|| panic!("{file}: {line}"));
            let is_hash = hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_hash && version.split('.').count() == 3, "{file}: {line}");
        }
    }
}

#[test]
fn nothing_is_pushed_before_the_versions_agree_and_the_tests_pass() {
    let (_, release) = workflows().pop().unwrap();
    assert_eq!(release["on"], serde_json::json!({ "push": { "tags": ["v*"] } }));
    let (mut open, mut before) = (vec!["publish"], BTreeSet::new());
    while let Some(job) = open.pop() {
        let needs = &release["jobs"][job]["needs"];
        let needs =
            needs.as_array().cloned().unwrap_or_else(|| needs.as_str().map(Into::into).into_iter().collect());
        for need in needs {
            let (name, _) =
                release["jobs"].as_object().unwrap().get_key_value(need.as_str().unwrap()).unwrap();
            before.insert(name.as_str());
            open.push(name);
        }
    }
    assert_eq!(before.into_iter().collect::<Vec<_>>(), ["image", "plugin", "test", "version"]);
    let runs =
        |job: &str| steps(&release["jobs"][job]).filter_map(|step| step["run"].as_str()).collect::<String>();
    assert!(runs("version").contains("release/check.sh \"$GITHUB_REF_NAME\""));
    // What is on no branch that is looked at is not signed either.
    assert!(runs("version").contains("git merge-base --is-ancestor HEAD FETCH_HEAD"));
    assert_eq!(steps(&release["jobs"]["version"]).next().unwrap()["with"]["fetch-depth"], 0);
    assert!(runs("test").contains(".ci/run"));
    assert_eq!(release["jobs"]["notes"]["needs"], "publish");
    // What is built on a machine that others could have filled is not released.
    assert!(!release.to_string().contains("actions/cache"));
}

#[test]
fn an_image_for_arm_runs_on_pages_of_4_16_and_64_kib() {
    let (_, release) = workflows().pop().unwrap();
    let image = &release["jobs"]["image"];
    assert_eq!(image["runs-on"], "${{ matrix.runner }}");
    assert_eq!(image["env"]["JEMALLOC_SYS_WITH_LG_PAGE"], "${{ matrix.lg_page }}");
    let mut built: Vec<(&str, &str, u32)> = image["strategy"]["matrix"]["include"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let lg_page = row["lg_page"].as_str().unwrap().parse().unwrap();
            (row["arch"].as_str().unwrap(), row["runner"].as_str().unwrap(), lg_page)
        })
        .collect();
    built.sort_unstable();
    assert_eq!(built.iter().map(|row| row.0).collect::<Vec<_>>(), ["amd64", "arm64"]);
    for (arch, runner, lg_page) in built {
        assert_eq!(runner.ends_with("-arm"), arch == "arm64", "{runner}");
        let largest = if arch == "arm64" { 64 * 1024 } else { 4 * 1024 };
        assert_eq!(1_u64 << lg_page, largest, "{arch}");
    }
    assert!(steps(image).any(|step| step["run"] == "make image"));
}

#[test]
fn a_tag_that_is_published_as_something_else_is_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (built, other) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
    fs::write(path("index.json"), format!(r#"{{"manifests":[{{"digest":"{built}"}}]}}"#)).unwrap();
    let archive = path("conjur-operator-1.2.3-amd64.oci.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(folder.path()).arg("-cf").arg(&archive).arg("index.json");
    assert!(tar.status().unwrap().success());
    let unknown = "MANIFEST_UNKNOWN: manifest unknown";
    for (published, refusal, pushed, says) in [
        ("", unknown, "push\nindex\n", ""),
        (built.as_str(), unknown, "push\n", ""),
        (other.as_str(), unknown, "", "is published already"),
        ("", "DENIED: denied", "", "can't see whether"),
    ] {
        let log = path("pushed");
        fs::write(&log, "").unwrap();
        let mut command = Command::new(repository().join("release/push-image.sh"));
        command.args(["registry.invalid/conjur-operator", "1.2.3"]).arg(&archive);
        command.env("CRANE", repository().join("tests/it/release/crane.sh"));
        command.env("PUBLISHED", published).env("REFUSAL", refusal).env("BUILT", &built).env("PUSHED", &log);
        let told = command.output().unwrap();
        let error = String::from_utf8(told.stderr).unwrap();
        assert_eq!(told.status.success(), says.is_empty(), "{published} {refusal}: {error}");
        assert!(error.contains(says), "{error}");
        assert_eq!(fs::read_to_string(&log).unwrap(), pushed, "{published} {refusal}");
    }
}
