//! How keys of a Secret are made of the names of variables and fields.

use super::pattern::{Budget, Pattern};
use crate::api::{
    condition::clip,
    secret::{KeyFrom, Rewrite},
};

/// Longest key of a Secret.
const KEY_LIMIT: usize = 253;
/// A key that a rule made longer than this is given up, before the next rule multiplies it.
const GROWN: usize = 4096;
/// How much of a key a message shows.
const SHOWN: usize = 100;

/// Rules that rename keys, in order, compiled.
#[derive(Debug, Default)]
pub struct Renaming<'a>(Vec<(Pattern, &'a str)>);

impl<'a> Renaming<'a> {
    /// Compiles rules.
    ///
    /// # Errors
    /// The number of the rule that can't be, its field, and what is wrong with it.
    pub fn of(rules: &'a [Rewrite], budget: &mut Budget) -> Result<Self, (usize, &'static str, String)> {
        let read = |(at, rule): (usize, &'a Rewrite)| {
            let pattern = Pattern::compile(&rule.pattern, budget).map_err(|why| (at, "pattern", why))?;
            check_groups(&pattern, &rule.replacement).map_err(|why| (at, "replacement", why))?;
            Ok((pattern, rule.replacement.as_str()))
        };
        rules.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// A key with each rule applied to it.
    ///
    /// # Errors
    /// The number of the rule that makes it longer than any key may be.
    pub fn apply(&self, key: String) -> Result<String, usize> {
        self.0.iter().enumerate().try_fold(key, |key, (at, (pattern, replacement))| {
            pattern.replace_all(&key, replacement, GROWN).ok_or(at)
        })
    }
}

/// A group that is not there would silently be nothing: `$1_x` names the group `1_x`.
fn check_groups(pattern: &Pattern, replacement: &str) -> Result<(), String> {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = if let Some(braced) = rest.strip_prefix('{') {
            braced.split_once('}').map(|(name, _)| name)
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            Some(&rest[..end])
        };
        // What names no group stands for itself.
        let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
        let known = match name.parse::<usize>() {
            Ok(number) => number < pattern.groups(),
            Err(_) => pattern.has_group(name),
        };
        if !known {
            return Err(format!(
                "the pattern has no group '{name}'; write ${{1}}x where text follows a group, and $$ for a dollar sign"
            ));
        }
    }
    Ok(())
}

/// The key of a variable that was found below a prefix.
pub fn key_of(id: &str, prefix: &str, from: KeyFrom) -> String {
    match from {
        KeyFrom::Path => id.strip_prefix(prefix).unwrap_or(id).replace('/', "_"),
        KeyFrom::LastSegment => id.rsplit('/').next().unwrap_or(id).to_owned(),
    }
}

/// Longest name of a value for templates.
const NAME_LIMIT: usize = 1024;

/// Why a text can't be the name of a value for templates; it need not be a key of a Secret.
pub fn unfit_as_name(name: &str) -> Option<&'static str> {
    match name.len() {
        0 => Some("it is empty"),
        1..=NAME_LIMIT => None,
        _ => Some("it is longer than 1024 bytes"),
    }
}

/// Why a text can't be a key of a Secret (the API server's `IsConfigMapKey`).
pub fn unfit(key: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.is_empty() {
        Some("it is empty")
    } else if key.len() > KEY_LIMIT {
        Some("it is longer than 253 characters")
    } else if !key.chars().all(allowed) {
        Some("a key is made of letters, digits, '-', '_' and '.'")
    } else if key == "." || key.starts_with("..") {
        Some("a key is not '.' nor begins with '..'")
    } else {
        None
    }
}

/// A key for a message: not all of one that is endless.
pub fn shown(key: &str) -> String {
    let start = clip(key, SHOWN);
    if start.len() < key.len() { format!("'{start}…'") } else { format!("'{key}'") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(pattern: &str, replacement: &str) -> Rewrite {
        Rewrite { pattern: pattern.into(), replacement: replacement.into() }
    }

    fn renaming(rules: &[Rewrite]) -> Result<Renaming<'_>, (usize, &'static str, String)> {
        Renaming::of(rules, &mut Budget::default())
    }

    #[test]
    fn rules_are_applied_in_order() {
        for (rules, key, expected) in [
            (vec![], "db_user", "db_user"),
            (vec![rule("^db_(.*)$", "$1")], "db_user", "user"),
            (vec![rule("^db_(.*)$", "$1")], "web_user", "web_user"),
            (vec![rule("_", "-"), rule("^a-", "")], "a_b_c", "b-c"),
            (vec![rule("(?P<x>[a-z]+)_(.*)", "${2}_${x}")], "db_user", "user_db"),
            (vec![rule("$", "$$")], "a", "a$"),
            (vec![rule("(?i)USER", "u")], "db_user", "db_u"),
            (vec![rule("^.*$", "")], "a", ""),
            (vec![rule("x", "${")], "x", "${"),
        ] {
            assert_eq!(renaming(&rules).unwrap().apply(key.into()).unwrap(), expected, "{rules:?}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_is_refused() {
        for (bad, field, why) in [
            (rule("(", ""), "pattern", "unclosed group"),
            (rule("(?=x)", ""), "pattern", "look-around"),
            (rule("((a{1000}){1000}){1000}", ""), "pattern", "too much memory"),
            (rule("(a)", "$1_x"), "replacement", "no group '1_x'"),
            (rule("(a)", "$2"), "replacement", "no group '2'"),
            (rule("a", "${name}"), "replacement", "no group 'name'"),
        ] {
            let rules = [rule("fine", "f"), bad];
            let (at, named, said) = renaming(&rules).unwrap_err();
            assert_eq!((at, named), (1, field), "{rules:?}");
            assert!(said.contains(why) && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn keys_grow_no_further_than_the_next_rule() {
        let rules: Vec<_> = (0..16).map(|_| rule("(.)", &"$1".repeat(100))).collect();
        let renaming = renaming(&rules).unwrap();
        assert_eq!(renaming.apply("ab".into()), Err(1));
        assert!(shown(&"k".repeat(5_000)).len() < 120);
    }

    #[test]
    fn a_found_variable_is_named_by_its_path_or_its_last_segment() {
        for (id, prefix, path, last) in [
            ("apps/billing/db/user", "apps/billing/", "db_user", "user"),
            ("apps/billing/db/user", "", "apps_billing_db_user", "user"),
            ("user", "", "user", "user"),
            ("apps/x", "apps/x", "", "x"),
        ] {
            assert_eq!(key_of(id, prefix, KeyFrom::Path), path);
            assert_eq!(key_of(id, prefix, KeyFrom::LastSegment), last);
        }
    }

    #[test]
    fn keys_are_what_the_api_server_takes() {
        for key in ["a", "A-b_c.9", ".a", "-", "_", "a..b", &"k".repeat(253)] {
            assert_eq!(unfit(key), None, "{key}");
        }
        for key in ["", ".", "..", "..a", "a b", "a/b", "é", "a@b", &"k".repeat(254)] {
            assert!(unfit(key).is_some(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_rule_is_read_or_refused(rule_text in ".{0,30}", replacement in ".{0,20}", key in "[a-z_]{0,20}") {
            let rules = [rule(&rule_text, &replacement)];
            if let Ok(renaming) = renaming(&rules) {
                renaming.apply(key).ok();
            }
        }
    }
}
