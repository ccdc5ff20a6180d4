//! Two minutes of ten attacks at once. `make test` gives it the release build of the operator, by
//! `CONJUR_OPERATOR_RELEASE`; without that it takes the one beside it.

use std::path::Path;
use std::process::Command;

/// Those that no other test makes end to end, but for those of pushes and hosts. `make attack` is all nineteen at once, of which
/// the sixteen without these fit into the memory that the chart gives for some four minutes on two cores.
const TOGETHER: [&str; 10] = [
    "sources",
    "missing",
    "loops",
    "connections",
    "searches",
    "policies",
    "values",
    "labelled",
    "many",
    "spread",
];

#[test]
fn two_minutes_of_ten_attacks_at_once_leave_honest_tenants_alone() {
    let attack = Path::new(env!("CARGO_BIN_EXE_attack"));
    let json = std::env::temp_dir().join(format!("attack-{}.json", std::process::id()));
    let mut command = Command::new(attack);
    command.args(TOGETHER).args(["--for", "120", "--quiet", "30", "--json"]).arg(&json);
    if let Some(operator) = std::env::var_os("CONJUR_OPERATOR_RELEASE") {
        command.arg("--operator").arg(operator);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    println!("{}", said[0]);
    let report =
        std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("no report:\n{}\n{}", said[0], said[1]));
    std::fs::remove_file(&json).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    // How long honest tenants wait is judged by `make attack`: what shares this machine must not decide here.
    for row in report["rows"].as_array().unwrap() {
        let is_time = row["what"].as_str().unwrap().ends_with(", p95");
        assert!(is_time || row["held"] == true, "{row:#}\n{}\n{}", said[0], said[1]);
    }
    // It was an attack, and it was looked at.
    assert_eq!(report["kinds"].as_array().unwrap().len(), TOGETHER.len(), "{report:#}");
    assert!(report["figures"]["attacked"]["probes"].as_u64().unwrap() > 60, "{report:#}");
    for (what, times) in report["figures"]["attacked"]["seconds"].as_object().unwrap() {
        assert!(times.as_array().unwrap().len() > 30, "{what}: {times}");
    }
}
