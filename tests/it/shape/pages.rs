//! What pages say of the code is so: the bounds of `docs/limits.md`, the tests of `docs/security.md`.

use std::{collections::BTreeMap, fs, path::Path};

use conjur_operator::seams::Limit;

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Sums, products and quotients of numbers and constants: the value, and whether it counts bytes.
fn product(text: &str, known: &BTreeMap<String, (u64, bool)>) -> (u64, bool) {
    if let Some((one, other)) = text.split_once('+') {
        let (one, other) = (product(one, known), product(other, known));
        return (one.0 + other.0, one.1 || other.1);
    }
    if let Some((of, by)) = text.split_once('/') {
        let of = product(of, known);
        return (of.0 / by.trim().parse::<u64>().unwrap(), of.1);
    }
    text.split('*').map(str::trim).fold((1, false), |(value, bytes), factor| {
        let (next, of_bytes) = match factor {
            "KIB" => (1024, true),
            "MIB" => (1024 * 1024, true),
            _ => {
                let number = factor.replace('_', "").parse().map(|number| (number, false));
                number.unwrap_or_else(|_| *known.get(factor).unwrap_or_else(|| panic!("what is {factor}?")))
            }
        };
        (value * next, bytes || of_bytes)
    })
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|part| str::from_utf8(part).unwrap()).collect();
    parts.join(",")
}

/// The largest unit that it is a whole number of.
fn in_units(number: u64, units: &[(u64, &str)], smallest: &str) -> String {
    let unit = units.iter().find(|(size, _)| number >= *size && number.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{} {smallest}", thousands(number)),
        |(size, name)| format!("{} {name}", thousands(number / size)),
    )
}

/// A constant's value as the page writes it.
fn written(name: &str, value: &str, known: &mut BTreeMap<String, (u64, bool)>) -> String {
    if let Some(both) = value.strip_prefix('(').and_then(|value| value.strip_suffix(')')) {
        // The comma between the two is not within the parentheses of either.
        let at = both.match_indices(", ").map(|(at, _)| at).find(|at| {
            let before = &both[..*at];
            before.matches('(').count() == before.matches(')').count()
        });
        let (least, most) = both.split_at(at.unwrap());
        let most = most.trim_start_matches(", ");
        return format!("{} to {}", written("", least, known), written("", most, known));
    }
    let within = |of: &str| value.strip_prefix(of).and_then(|value| value.strip_suffix(')'));
    if let Some(seconds) = within("Duration::from_secs(") {
        return in_units(product(seconds, known).0, &[(3600, "h"), (60, "min")], "s");
    }
    if let Some(millis) = within("Duration::from_millis(") {
        return in_units(product(millis, known).0, &[(3_600_000, "h"), (60_000, "min"), (1000, "s")], "ms");
    }
    let (number, bytes) = product(value, known);
    known.insert(name.to_owned(), (number, bytes));
    if bytes || name.ends_with("BYTES") {
        in_units(number, &[(1024 * 1024, "MiB"), (1024, "KiB")], "B")
    } else {
        thousands(number)
    }
}

fn metric(name: &str) -> &'static str {
    match Limit::ALL.iter().find(|limit| limit.as_str() == name.to_lowercase()) {
        Some(limit) if limit.is_metered() => "hits, in use",
        Some(_) => "hits",
        None => "–",
    }
}

#[test]
fn every_bound_stands_on_its_page_with_its_value_and_metric() {
    let code = page("crates/conjur-client/src/limits.rs") + &page("src/limits.rs");
    let (page, mut known) = (page("docs/limits.md"), BTreeMap::new());
    let (mut wrong, mut names) = (Vec::new(), Vec::new());
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let name = line.split('`').next().unwrap();
        if rows.insert(name, line.split(" | ").collect()).is_some() {
            wrong.push(format!("{name} has two rows"));
        }
    }
    for item in code.split("\npub const ").skip(1) {
        let (head, rest) = item.split_once(" = ").unwrap();
        let (name, value) = (head.split(':').next().unwrap(), rest.split(';').next().unwrap());
        let value = written(name, value, &mut known);
        names.push(name);
        match rows.get(name).map(Vec::as_slice) {
            None => wrong.push(format!(
                "{name} has no row: | `{name}` | for whom | {value} | – | what happens there | {} |",
                metric(name)
            )),
            Some(row) if row.len() != 6 => wrong.push(format!("{name}: {} columns, not 6", row.len())),
            Some(row) if row[2] != value => wrong.push(format!("{name} is {value}, not {}", row[2])),
            Some(row) if row[5].trim_end_matches(" |") != metric(name) => {
                wrong.push(format!("{name}: the last column is {}, not {}", metric(name), row[5]));
            }
            Some(_) => {}
        }
    }
    wrong.extend(
        rows.keys()
            .filter(|name| !names.contains(name))
            .map(|name| format!("{name} is no constant of a limits.rs")),
    );
    assert!(names.len() > 50, "the constants of limits.rs are not found");
    assert!(wrong.is_empty(), "docs/limits.md:\n{}", wrong.join("\n"));
}

#[test]
fn values_are_written_as_a_person_would() {
    let mut known = BTreeMap::new();
    for (value, expected) in [
        ("48 * MIB", "48 MiB"),
        ("MIB + MIB / 8", "1,152 KiB"),
        ("1_000_000", "1,000,000"),
        ("Duration::from_secs(600)", "10 min"),
        ("Duration::from_secs(90)", "90 s"),
        ("Duration::from_millis(250)", "250 ms"),
        ("(Duration::from_secs(10), Duration::from_secs(3600))", "10 s to 1 h"),
        ("(1, 10_000)", "1 to 10,000"),
    ] {
        assert_eq!(written("X", value, &mut known), expected);
    }
    assert_eq!(written("X_BYTES", "512", &mut known), "512 B");
}

/// Every test that pages name is there.
#[test]
fn every_test_that_the_pages_of_security_and_architecture_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    let mut folders = vec![root.join("src"), root.join("crates"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code += &fs::read_to_string(path).unwrap();
            }
        }
    }
    for name in ["docs/security.md", "docs/threat-model.md", "docs/architecture.md"] {
        let page = page(name);
        // A test's name is a sentence.
        let named = page.split('`').skip(1).step_by(2).filter(|word| {
            word.matches('_').count() > 2
                && word.bytes().all(|sign| sign == b'_' || sign.is_ascii_lowercase() || sign.is_ascii_digit())
        });
        let named: Vec<&str> = named.collect();
        for test in &named {
            assert!(
                code.contains(&format!("fn {test}(")),
                "{name} names the test {test}, which is not there"
            );
        }
        assert!(named.len() > 20, "{name} names {} tests", named.len());
    }
}

/// The rows of tables whose last column has this name, and the last cell of each.
fn last_cells<'p>(page: &'p str, column: &str) -> Vec<(&'p str, &'p str)> {
    let (mut rows, mut is_of_it) = (Vec::new(), false);
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let last = line.trim_end().strip_suffix('|').and_then(|line| line.rsplit('|').next()).map(str::trim);
        let Some(last) = last.filter(|_| line.starts_with('|')) else {
            is_of_it = false;
            continue;
        };
        if lines.peek().is_some_and(|next| next.starts_with("|---")) {
            is_of_it = last.split(' ').next() == Some(column);
        } else if is_of_it && !line.starts_with("|---") {
            rows.push((line, last));
        }
    }
    rows
}

/// Where nothing shows it, the page says that, and nobody takes an empty cell for a test that is still to come.
#[test]
fn no_attempt_is_without_a_test_or_a_word_of_it() {
    let example = "| a | test |\n|---|---|\n| b | |\n| c | `t` |\n\n| a | here |\n|---|---|\n| d | |\n";
    assert_eq!(last_cells(example, "test"), [("| b | |", ""), ("| c | `t` |", "`t`")]);
    for name in ["docs/security.md", "docs/threat-model.md", "docs/architecture.md"] {
        let page = page(name);
        let rows = last_cells(&page, "test");
        assert!(rows.len() > 20, "{name} has {} rows", rows.len());
        for (row, test) in rows {
            assert!(!test.is_empty(), "{name} has a row without a test: {row}");
        }
    }
}
