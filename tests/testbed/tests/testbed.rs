//! The test bed itself: what cluster tests take for granted.

use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::process::{Folder, Process, Program};
use testbed::{ControlPlane, wait_for};

fn shell(script: &str) -> Program {
    Program {
        name: "program".to_owned(),
        path: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![],
        last_signal: "TERM",
    }
}

#[tokio::test]
async fn a_control_plane_serves_under_rbac_and_audits_and_survives_an_outage_and_leaves_nothing() {
    let cluster = ControlPlane::start().await.unwrap();
    let folder = cluster.folder().path().to_owned();

    cluster
        .apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: nobody, namespace: default}}")
        .await
        .unwrap();
    let token = cluster.service_account_token("default", "nobody").await.unwrap();
    let nobody = cluster.client_for(&token).await.unwrap();
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::namespaced(nobody, "default");
    let refused = secrets.get("any").await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.is_forbidden()), "{refused}");

    let seen = wait_for("the request is in the audit log", Duration::from_secs(5), async || {
        let all = cluster.api_requests_by("system:serviceaccount:default:nobody").unwrap();
        all.into_iter().find(|one| one.verb == "get" && one.resource == "secrets" && one.name == "any")
    });
    assert_eq!(seen.await.unwrap().code, 403);

    cluster.stop_api_server().await.unwrap();
    assert!(cluster.kubectl(&["get", "namespaces"]).await.is_err(), "the API server answers after its end");
    cluster.start_api_server().await.unwrap();
    cluster.kubectl(&["get", "serviceaccount", "nobody"]).await.unwrap();

    cluster.stop().await.unwrap();
    assert!(!folder.exists(), "{} is still there", folder.display());
}

#[tokio::test]
async fn signals_reach_the_program_and_its_end_is_told() {
    let folder = Folder::new().unwrap();
    let script = "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let process = Process::start(&folder, &shell(script)).unwrap();
    process.ready(Duration::from_secs(5), async || process.log().contains("up")).await.unwrap();
    process.signal("TERM").unwrap();
    let status = process.wait(Duration::from_secs(5)).await.unwrap();
    assert_eq!((status.code(), process.log().as_str()), (Some(7), "up\nasked\n"));
    folder.remove().await.unwrap();
}

#[tokio::test]
async fn a_program_that_ends_too_early_is_reported_with_its_last_words() {
    let folder = Folder::new().unwrap();
    let process = Process::start(&folder, &shell("echo no such flag; exit 3")).unwrap();
    let error = process.ready(Duration::from_secs(5), async || false).await.unwrap_err().to_string();
    assert!(error.contains("code 3") && error.contains("no such flag"), "{error}");
    folder.remove().await.unwrap();
}

/// Not a test of its own: the next one runs it as a program, and kills it.
#[tokio::test]
#[ignore = "run by programs_end_with_a_parent_that_is_killed"]
async fn parent() {
    let folder = Folder::new().unwrap();
    let stubborn = "trap '' TERM; echo $$ > \"$0\"; while :; do sleep 0.05; done";
    let mut program = shell(stubborn);
    program.args.push(folder.path().join("pid").display().to_string());
    let _process = Process::start(&folder, &program).unwrap();
    std::fs::write(std::env::var("TESTBED_TELL").unwrap(), folder.path().display().to_string()).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn programs_end_with_a_parent_that_is_killed_and_their_folder_goes() {
    let told = tempfile::NamedTempFile::new().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "parent"])
        .env("TESTBED_TELL", told.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let folder = wait_for("the parent has a program", Duration::from_secs(10), async || {
        let folder = std::path::PathBuf::from(std::fs::read_to_string(told.path()).unwrap());
        std::fs::read_to_string(folder.join("pid")).is_ok_and(|pid| pid.ends_with('\n')).then_some(folder)
    });
    let folder = folder.await.unwrap();
    let pid = std::fs::read_to_string(folder.join("pid")).unwrap().trim().to_owned();
    parent.kill().unwrap();
    parent.wait().unwrap();
    let gone =
        wait_for("the folder is gone", Duration::from_secs(30), async || (!folder.exists()).then_some(()));
    gone.await.unwrap();
    let alive = Command::new("sh").args(["-c", "kill -0 \"$0\" 2>/dev/null", &pid]).status().unwrap();
    assert!(!alive.success(), "process {pid} is still there");
}
