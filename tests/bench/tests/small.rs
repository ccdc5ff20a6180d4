//! The benchmark itself works: a tiny run of all cases with the binaries at hand. No figure is looked at.

use std::path::Path;
use std::process::Command;

#[test]
fn a_small_run_of_every_case_gives_every_figure() {
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    let json = std::env::temp_dir().join(format!("bench-{}.json", std::process::id()));
    let output = Command::new(bench).arg("--small").arg("--json").arg(&json).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    std::fs::remove_file(&json).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 26, "{report:#}");
    for row in rows {
        assert!(row["runs"][0].is_number(), "{row:#}");
    }
    // What no busy machine changes.
    let exact =
        |case: &str| rows.iter().find(|row| row["case"] == case).unwrap()["reached"].as_bool().unwrap();
    for case in [
        "20 objects cold, at Conjur",
        "20 objects cold, logins",
        "unchanged refresh of 20, at the API server",
        "restart with 40 in place, fetches",
        "restart with 40 in place, writes",
        "20 pushes cold, loads",
        "unchanged look at 20 pushes, at the API server",
        "unchanged look at 20 pushes, values sent",
    ] {
        assert!(exact(case), "{case}: {report:#}");
    }
}
