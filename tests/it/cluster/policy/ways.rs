//! What the operator did, run by run, compared with what the model does.

/// What runs of the model do from begin to end, by the names of their effects.
const WAYS: &str = include_str!("../../../../src/plan/effect/model/ways.txt");

/// The effects of each run that a log tells of, in lines of text. A run that was cut off has the first of them.
fn runs(log: &str) -> Vec<String> {
    let effects = log.lines().filter_map(|line| line.split_once(" effect effect=\"")?.1.split_once('"'));
    let mut runs: Vec<String> = Vec::new();
    for (name, _) in effects {
        match (name, runs.last_mut()) {
            ("begin", _) | (_, None) => runs.push(String::new()),
            (name, Some(run)) => *run = format!("{run} {name}"),
        }
    }
    runs
}

/// Several keys that are rotated one after the other count as one, also where the last of them was cut off.
fn in_short(run: &str) -> String {
    let mut short = format!("{run} ");
    while short.contains(" rotate store rotate store ") {
        short = short.replace(" rotate store rotate store ", " rotate store ");
    }
    let short = short.trim();
    short.strip_suffix("store rotate").map_or(short.to_owned(), |start| format!("{start}store"))
}

/// Sees that each run did what one of the model did, as far as it came. Gives how many there were.
pub fn are_the_models(log: &str) -> usize {
    let runs = runs(log);
    for run in &runs {
        let short = in_short(run);
        assert!(WAYS.lines().any(|way| way.starts_with(&short)), "no run of the model does this: {run}");
    }
    runs.len()
}

#[test]
fn a_run_that_is_cut_off_is_found_in_the_models() {
    let line =
        |name: &str| format!("TRACE conjur_operator::effect::run: effect effect=\"{name}\" document=\"d\"\n");
    let log = |names: &[&str]| names.iter().map(|name| line(name)).collect::<String>();
    let cut_off = ["begin", "announce", "say-roles", "load"];
    let resumed = ["begin", "rotate", "store", "rotate", "store", "rotate"];
    assert_eq!(are_the_models(&log(&[&cut_off[..], &resumed].concat())), 2);
    let wrong = std::panic::catch_unwind(|| are_the_models(&log(&["begin", "load", "announce"])));
    assert!(wrong.is_err(), "nothing is loaded before it is announced");
}
