//! A little of `make fuzz`: the whole corpus, and some seconds of what is made of it.

use std::process::Command;

#[test]
fn the_corpus_and_some_seconds_of_changes_harm_nothing() {
    let seconds = std::env::var("FUZZ_SECONDS").unwrap_or_else(|_| "10".to_owned());
    let output = Command::new(env!("CARGO_BIN_EXE_fuzz")).args(["--seconds", &seconds]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), 12, "{said}");
    println!("{said}");
}
