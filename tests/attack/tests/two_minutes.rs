//! Two minutes of every attack at once. `make test` gives it the release build of the operator, by
//! `CONJUR_OPERATOR_RELEASE`; without that it takes the one beside it.

use std::path::Path;
use std::process::Command;

#[test]
fn two_minutes_of_every_attack_at_once_leave_honest_tenants_alone() {
    let attack = Path::new(env!("CARGO_BIN_EXE_attack"));
    let json = std::env::temp_dir().join(format!("attack-{}.json", std::process::id()));
    let mut command = Command::new(attack);
    command.args(["--for", "120", "--quiet", "30", "--json"]).arg(&json);
    if let Some(operator) = std::env::var_os("CONJUR_OPERATOR_RELEASE") {
        command.arg("--operator").arg(operator);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}\n{}", said[0], said[1]);
    println!("{}", said[0]);
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    std::fs::remove_file(&json).unwrap();
    assert_eq!(report["held"], true);
    // It was an attack, and it was looked at.
    assert_eq!(report["kinds"].as_array().unwrap().len(), 16, "{report:#}");
    assert!(report["figures"]["attacked"]["probes"].as_u64().unwrap() > 60, "{report:#}");
    for (what, times) in report["figures"]["attacked"]["seconds"].as_object().unwrap() {
        assert!(times.as_array().unwrap().len() > 100, "{what}: {times}");
    }
}
