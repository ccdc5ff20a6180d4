//! The program from outside: exit codes and what it says.

use std::net::TcpListener;
use std::process::{Command, Output};

fn program(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conjur-operator"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn crds_are_printed_as_yaml() {
    let output = program(&["crds"], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let yaml = String::from_utf8(output.stdout).unwrap();
    assert!(
        yaml.contains("kind: CustomResourceDefinition") && yaml.contains("conjursecrets.conjur-operator.io")
    );
}

#[test]
fn a_failure_is_one_clear_line_and_a_failing_exit_code() {
    let addresses = ["run", "--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0"];
    let output = program(&addresses, &[("KUBECONFIG", "/nonexistent/kubeconfig")]);
    let message = stderr(&output);
    assert_eq!((output.status.code(), message.lines().count()), (Some(1), 1), "{message}");
    assert!(message.starts_with("conjur-operator: ") && message.contains("KUBECONFIG"), "{message}");
}

#[test]
fn flags_are_read_from_the_environment() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment =
        [("CONJUR_OPERATOR_HEALTH_ADDR", address.as_str()), ("CONJUR_OPERATOR_LEADER_ELECT", "true")];
    let output = program(&["run"], &environment);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address), "{}", stderr(&output));

    for (name, value) in [
        ("CONJUR_OPERATOR_LEADER_ELECT", "perhaps"),
        ("CONJUR_OPERATOR_LOG_LEVEL", "loud"),
        ("CONJUR_OPERATOR_MAX_CONCURRENT", "0"),
    ] {
        let output = program(&["run"], &[(name, value)]);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(value), "{}", stderr(&output));
    }
}

#[test]
fn a_scope_and_times_that_can_not_be_are_refused_at_the_start_with_a_sentence() {
    let many: Vec<String> = (0..51).map(|at| format!("n-{at}")).collect();
    let many = many.join(",");
    for (name, value, words) in [
        ("CONJUR_OPERATOR_WATCH_NAMESPACE", many.as_str(), "51 namespaces, of at most 50"),
        ("CONJUR_OPERATOR_WATCH_NAMESPACE", "a/b", "'a/b' is not the name of a namespace"),
        ("CONJUR_OPERATOR_LEASE_DURATION", "10s", "must be shorter than --lease-duration 10s"),
        ("CONJUR_OPERATOR_LEASE_RETRY_PERIOD", "6s", "at most half of --lease-renew-deadline 10s"),
    ] {
        let output = program(&["run"], &[(name, value), ("KUBECONFIG", "/nonexistent/kubeconfig")]);
        let message = stderr(&output);
        assert_eq!((output.status.code(), message.lines().count()), (Some(1), 1), "{message}");
        assert!(message.contains(words), "{message}");
    }
}
