//! CHANGELOG.md in the form of "Keep a Changelog" 1.1.0.

use std::collections::BTreeSet;

use super::read;

const SECTIONS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

/// What is wrong with a changelog; nothing where it has the form.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut versions, mut links) = (Vec::<Heading>::new(), BTreeSet::new());
    for (number, line) in text.lines().enumerate() {
        let mut fault = |what: &str| faults.push(format!("line {}: {what}: {line}", number + 1));
        if number == 0 {
            if line != "# Changelog" {
                fault("the title is not \"# Changelog\"");
            }
        } else if let Some(heading) = line.strip_prefix("## ") {
            match Heading::of(heading) {
                Some(heading) => versions.push(heading),
                None => fault("neither [Unreleased] nor [version] - date"),
            }
        } else if let Some(section) = line.strip_prefix("### ") {
            match versions.last_mut() {
                None => fault("a section of no version"),
                Some(_) if !SECTIONS.contains(&section) => fault("no section of that name is known"),
                Some(version) if version.sections.iter().any(|(name, _)| name == section) => {
                    fault("the version has this section twice");
                }
                Some(version) => version.sections.push((section.to_owned(), 0)),
            }
        } else if line.starts_with("- ") {
            match versions.last_mut().and_then(|version| version.sections.last_mut()) {
                Some((_, entries)) => *entries += 1,
                None => fault("an entry of no section"),
            }
        } else if let Some((name, url)) = line.strip_prefix('[').and_then(|line| line.split_once("]: ")) {
            if !url.starts_with("https://") {
                fault("no link");
            }
            links.insert(name.to_owned());
        } else if line.starts_with('#') {
            fault("no heading that is known");
        } else if !versions.is_empty() && !line.is_empty() && !line.starts_with("  ") {
            fault("text outside of an entry");
        }
    }
    for version in &versions {
        let name = &version.name;
        if !links.contains(name) {
            faults.push(format!("[{name}] has no link at the end"));
        }
        for (section, _) in version.sections.iter().filter(|(_, entries)| *entries == 0) {
            faults.push(format!("[{name}]: {section} is empty"));
        }
        if version.number.is_some() && version.sections.is_empty() {
            faults.push(format!("[{name}] is empty"));
        }
    }
    if versions.first().is_none_or(|first| first.number.is_some()) {
        faults.push("[Unreleased] does not come first".into());
    }
    for pair in versions.windows(2) {
        let (newer, older) = (&pair[0], &pair[1]);
        match (newer.number, older.number) {
            (_, None) => faults.push("[Unreleased] does not come first".into()),
            (Some(new), Some(old)) if new <= old || newer.date < older.date => {
                faults.push(format!("[{}] comes after [{}]", older.name, newer.name));
            }
            _ => {}
        }
    }
    faults
}

struct Heading {
    name: String,
    /// None: unreleased.
    number: Option<[u32; 3]>,
    date: Option<jiff::civil::Date>,
    /// Each with the number of its entries.
    sections: Vec<(String, usize)>,
}

impl Heading {
    fn of(text: &str) -> Option<Self> {
        let (name, rest) = text.strip_prefix('[')?.split_once(']')?;
        let (number, date) = if name == "Unreleased" {
            (None, rest.is_empty().then_some(None)?)
        } else {
            let mut parts = name.split('.').map(|part| part.parse::<u32>().ok());
            let number = [parts.next()??, parts.next()??, parts.next()??];
            let date = rest.strip_prefix(" - ")?;
            // The library reads other forms, too.
            (date.len() == 10 && parts.next().is_none()).then_some(())?;
            (Some(number), Some(date.parse().ok()?))
        };
        Some(Self { name: name.to_owned(), number, date, sections: Vec::new() })
    }
}

#[test]
fn the_changelog_has_the_form_of_keep_a_changelog() {
    let faults = faults(&read("CHANGELOG.md"));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn an_entry_that_breaks_something_says_so_in_one_way() {
    for line in read("CHANGELOG.md").lines() {
        if line.to_lowercase().contains("breaking") && line.starts_with("- ") {
            assert!(line.starts_with("- **Breaking:** "), "{line}");
        }
    }
}

#[test]
fn what_is_not_of_that_form_is_found() {
    let good = "# Changelog\n\nAll of it.\n\n## [Unreleased]\n\n### Added\n\n- One\n  and more.\n\n## [0.2.0] - 2026-12-02\n\n\
        ### Security\n\n- Two.\n\n## [0.1.0] - 2026-12-01\n\n### Fixed\n\n- Three.\n\n[Unreleased]: https://a\n\
        [0.2.0]: https://b\n[0.1.0]: https://c\n";
    assert_eq!(faults(good), Vec::<String>::new());
    for (from, to, says) in [
        ("# Changelog", "# Changes", "title"),
        ("## [Unreleased]", "## Unreleased", "neither"),
        ("## [0.2.0] - 2026-12-02", "## [0.2.0]", "neither"),
        ("2026-12-02", "2026-13-02", "neither"),
        ("2026-12-02", "20261202", "neither"),
        ("## [0.2.0]", "## [0.2]", "neither"),
        ("### Security", "### Improved", "no section of that name"),
        ("### Added\n\n", "", "an entry of no section"),
        ("- Two.\n", "", "Security is empty"),
        ("### Fixed\n\n- Three.\n\n", "", "[0.1.0] is empty"),
        ("- Two.\n", "- Two.\n\n### Security\n\n- More.\n", "twice"),
        ("[0.2.0]: https://b\n", "", "[0.2.0] has no link"),
        ("2026-12-02", "2026-11-30", "comes after"),
        ("## [0.1.0]", "## [0.3.0]", "comes after"),
        ("## [Unreleased]\n\n### Added\n\n- One\n  and more.\n\n", "", "does not come first"),
        ("- Two.\n", "- Two.\n#### More\n", "no heading"),
        ("- Two.\n", "Two.\n", "outside of an entry"),
    ] {
        let text = good.replacen(from, to, 1);
        assert!(
            text != good && faults(&text).iter().any(|fault| fault.contains(says)),
            "{to}: {:?}",
            faults(&text)
        );
    }
}
