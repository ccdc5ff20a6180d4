//! Two minutes of all attacks at once. `make test` gives it the release build of the operator, by
//! `CONJUR_OPERATOR_RELEASE`; without that it takes the one beside it.

use std::path::Path;
use std::process::Command;

/// As many kinds as there are.
const KINDS: usize = 16;
/// No honest tenant waits longer, in seconds, at the 95th percentile of the whole run. How it compares with a quiet run is
/// judged by `make attack`: what shares this machine must not decide here.
const LONGEST: f64 = 30.0;

#[test]
fn two_minutes_of_all_attacks_at_once_leave_honest_tenants_alone() {
    let attack = Path::new(env!("CARGO_BIN_EXE_attack"));
    let json = std::env::temp_dir().join(format!("attack-{}.json", std::process::id()));
    let mut command = Command::new(attack);
    command.args(["--for", "120", "--quiet", "30", "--json"]).arg(&json);
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
    for row in report["rows"].as_array().unwrap() {
        let is_time = row["what"].as_str().unwrap().ends_with(", p95");
        assert!(is_time || row["held"] == true, "{row:#}\n{}\n{}", said[0], said[1]);
    }
    // It was an attack, and it was looked at.
    assert_eq!(report["kinds"].as_array().unwrap().len(), KINDS, "{report:#}");
    assert!(report["figures"]["attacked"]["probes"].as_u64().unwrap() > 60, "{report:#}");
    for (what, times) in report["figures"]["attacked"]["seconds"].as_object().unwrap() {
        let mut times: Vec<f64> =
            times.as_array().unwrap().iter().filter_map(serde_json::Value::as_f64).collect();
        assert!(times.len() > 30, "{what}: {times:?}");
        times.sort_by(f64::total_cmp);
        assert!(times[times.len() * 95 / 100] < LONGEST, "{what}: {times:?}");
    }
}
