//! Regular expressions and rewritten keys. Those of Go and those of this operator are one dialect but for a few signs; `\d`,
//! `\w`, `\s` and `\b` are of ASCII there and of Unicode here, which ids and keys don't show.

use serde_json::{Value, json};

use super::{
    fields::Fields,
    note::Notes,
    template::{self, Expression, ExpressionNode},
};

/// What is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Fields of JSON.
    Fields,
    /// Ids: rules there see them whole, and here with `/` as `_`, or what stands behind the last `/`.
    Ids,
}

/// How keys are made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// `rewrite`.
    pub rules: Vec<Value>,
    /// `keyFrom: LastSegment`.
    pub last_segment: bool,
    /// `prefix`, where all that is found begins with it.
    pub prefix: Option<String>,
}

/// Reads the rules of `rewrite`.
pub fn rewrite(rules: &[Fields], names: KeyOrigin, notes: &mut Notes) -> Rewritten {
    let mut made = Rewritten::default();
    // While ids still have slashes, a rule has to be one that is known to deal with them.
    let mut whole = names == KeyOrigin::Ids;
    for rule in rules {
        if let Some(regexp) = rule.inner("regexp") {
            let (source, target) =
                (regexp.text("source").unwrap_or_default(), regexp.text("target").unwrap_or_default());
            match (check(source), targeted(source, target)) {
                (Err(why), _) => notes.blocks(
                    regexp.path("source"),
                    format!("the expression can't be said here: {why}"),
                    "Write another",
                ),
                (Ok(()), target) if whole => whole = !of_ids(source, &target, &mut made, regexp.at(), notes),
                (Ok(()), target) => made.rules.push(json!({ "pattern": source, "replacement": target })),
            }
            regexp.rest(notes);
        } else if let Some(transform) = rule.inner("transform") {
            let text = transform.text("template").unwrap_or_default();
            match transformed(text, whole) {
                Ok(Transformed { rules, last_segment }) => {
                    made.rules.extend(rules);
                    made.last_segment |= last_segment;
                    whole = false;
                }
                Err(why) => {
                    let todo = "Rename the keys with rewrite rules, or name them in data";
                    notes.blocks(
                        transform.path("template"),
                        format!("no rewrite here makes the same: {why}"),
                        todo,
                    );
                }
            }
            transform.rest(notes);
        } else if let Some(merge) = rule.inner("merge") {
            let what = "values of several keys are not merged";
            notes.blocks(merge.at(), what, "Name the keys in data, with property");
        }
        rule.irrelevant(&["merge"]);
        rule.rest(notes);
    }
    if names == KeyOrigin::Ids && whole && !rules.is_empty() && !notes.is_blocked() {
        notes.blocks(
            "spec.dataFrom",
            "rules that leave a slash in a key have no counterpart",
            "Write rewrite by hand",
        );
    }
    made
}

/// A rule for whole ids, by what it does to the slashes. Whether they are gone after it.
fn of_ids(source: &str, target: &str, made: &mut Rewritten, field: &str, notes: &mut Notes) -> bool {
    let is_group = matches!(target, "$1" | "${1}");
    let takes_last = matches!(
        source,
        "^.*/([^/]+)$"
            | "^.*/([^/]*)$"
            | "^.*/(.*)$"
            | "^.*/(.+)$"
            | ".*/(.*)"
            | ".*/(.+)"
            | ".*/([^/]+)"
            | ".*/([^/]*)"
            | "^.+/(.+)$"
            | ".+/(.+)"
            | ".+/(.*)"
    );
    if is_group && takes_last || target.is_empty() && matches!(source, "^.*/" | ".*/" | "^.+/" | ".+/") {
        made.last_segment = true;
        return true;
    }
    if source == "/" && target == "_" {
        return true;
    }
    // `^apps/billing/(.*)$` → `$1`, or `^apps/billing/` → nothing: what stands behind a prefix, if all have it.
    let prefix = source.strip_prefix('^').and_then(|rest| {
        let rest = ["(.*)$", "(.+)$", "(.*)", "(.+)"]
            .iter()
            .find_map(|tail| rest.strip_suffix(tail).filter(|_| is_group));
        rest.or_else(|| source.strip_prefix('^').filter(|_| target.is_empty()))
    });
    if let Some(prefix) = prefix.and_then(unescaped).filter(|prefix| prefix.ends_with('/')) {
        notes.info(
            field,
            format!("keys are what stands behind {prefix} in the id, with / as _; what does not begin with it is not found"),
            "",
        );
        made.prefix = Some(prefix);
        return true;
    }
    let what = "rules there see the whole id; here they see it with / as _ behind find.prefix, or its last segment, and for this rule it can't be told that both give the same keys";
    notes.blocks(field, what, "Write find.prefix, keyFrom and rewrite by hand");
    true
}

/// What a regular expression begins with for certain, bound to the beginning.
pub fn literal_prefix(source: &str) -> Option<String> {
    let rest = source.strip_prefix('^')?;
    if rest.contains('|') {
        return None;
    }
    let mut prefix = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some(escaped) if !escaped.is_ascii_alphanumeric() => escaped,
                _ => break,
            },
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '$' | '^' => break,
            c => c,
        };
        // What is repeated may be absent.
        if chars.peek().is_some_and(|next| matches!(next, '*' | '?' | '{')) {
            break;
        }
        prefix.push(c);
    }
    (!prefix.is_empty()).then_some(prefix)
}

/// The text that an expression without anything special stands for.
fn unescaped(source: &str) -> Option<String> {
    let literal = literal_prefix(&format!("^{source}"))?;
    (escape(&literal) == source || literal == source).then_some(literal)
}

/// A text as an expression that matches it.
fn escape(text: &str) -> String {
    let mut made = String::new();
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            made.push('\\');
        }
        made.push(c);
    }
    made
}

/// Whether an expression of Go's is the same here.
///
/// # Errors
/// What is not.
pub fn check(source: &str) -> Result<(), String> {
    if source.len() > 1024 {
        return Err("it is longer than 1024 bytes".to_owned());
    }
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            continue;
        }
        match chars.next() {
            Some('Q' | 'E') => return Err(r"\Q is not known".to_owned()),
            Some('C') => return Err(r"\C is not known".to_owned()),
            Some('0'..='9') => return Err("octal escapes are not known".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// A replacement without the groups that the expression does not have, which are empty there and refused here.
fn targeted(source: &str, target: &str) -> String {
    let (count, names) = groups(source);
    let mut made = String::new();
    let mut rest = target;
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            made.push_str("$$");
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|braced| braced.split_once('}'));
        let plain = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, end) = braced.map_or((&after[..plain], plain), |(name, _)| (name, name.len() + 2));
        if name.is_empty() {
            // It stands for itself in both.
            made.push_str("$$");
        } else if name.parse::<usize>().map_or_else(|_| names.contains(&name), |n| n <= count) {
            made.extend(["${", name, "}"]);
        }
        rest = &after[end..];
    }
    made.push_str(rest);
    made
}

/// How many groups an expression has, and their names.
fn groups(source: &str) -> (usize, Vec<&str>) {
    let (mut count, mut known, mut in_class) = (0, Vec::new(), false);
    let mut chars = source.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                let rest = &source[at + 1..];
                let named = rest.strip_prefix("?P<").or_else(|| rest.strip_prefix("?<"));
                known.extend(named.and_then(|named| named.split_once('>')).map(|(name, _)| name));
                count += usize::from(named.is_some() || !rest.starts_with('?'));
            }
            _ => {}
        }
    }
    (count, known)
}

#[derive(Default)]
struct Transformed {
    rules: Vec<Value>,
    last_segment: bool,
}

/// A key that a template makes of `.value`, as rules.
fn transformed(text: &str, mut whole: bool) -> Result<Transformed, String> {
    let (before, expression, after) =
        template::one_action(text).ok_or("it is more than one action with text around it")?;
    let mut made = Transformed::default();
    chain(&expression, &mut whole, &mut made)?;
    if whole {
        return Err("it leaves the slashes of the id".to_owned());
    }
    if !before.is_empty() || !after.is_empty() {
        let replacement = format!("{}${{1}}{}", before.replace('$', "$$"), after.replace('$', "$$"));
        made.rules.push(json!({ "pattern": "^(.*)$", "replacement": replacement }));
    }
    Ok(made)
}

fn chain(expression: &Expression, whole: &mut bool, made: &mut Transformed) -> Result<(), String> {
    let (name, arguments) = match &expression.node {
        ExpressionNode::Fields(of, names) if of.node == ExpressionNode::Dot && *names == ["value"] => {
            return Ok(());
        }
        ExpressionNode::Call(name, arguments) => (name.as_str(), arguments.as_slice()),
        _ => return Err("it uses more than .value".to_owned()),
    };
    let (value, constants) = arguments.split_last().ok_or("it uses more than .value")?;
    chain(value, whole, made)?;
    let text = |n: usize| match constants.get(n).map(|constant| &constant.node) {
        Some(ExpressionNode::Text(text)) => Ok(text.as_str()),
        _ => Err(format!("the arguments of '{name}' do not stand in the template")),
    };
    match name {
        "toString" => Ok(()),
        "base" | "osBase" if *whole => {
            (*whole, made.last_segment) = (false, true);
            Ok(())
        }
        "replace" if *whole && text(0)? == "/" && text(1)? == "_" => {
            *whole = false;
            Ok(())
        }
        _ if *whole => Err(format!("'{name}' sees the slashes of the id")),
        _ => {
            let (pattern, replacement) = match name {
                "replace" if !text(0)?.is_empty() => (escape(text(0)?), text(1)?),
                "trimPrefix" => (format!("^{}", escape(text(0)?)), ""),
                "trimSuffix" => (format!("{}$", escape(text(0)?)), ""),
                _ => return Err(format!("'{name}' has no counterpart")),
            };
            made.rules.push(json!({ "pattern": pattern, "replacement": replacement.replace('$', "$$") }));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_told_from_expressions() {
        for (source, prefix) in [
            ("^apps/billing/", Some("apps/billing/")),
            ("^apps/billing/.*$", Some("apps/billing/")),
            (r"^apps/v1\.2/x", Some("apps/v1.2/x")),
            ("^apps/x?", Some("apps/")),
            ("^(apps|web)/", None),
            ("^apps/|web", None),
            ("apps/", None),
        ] {
            assert_eq!(literal_prefix(source).as_deref(), prefix, "{source}");
        }
    }

    #[test]
    fn groups_that_are_not_there_are_taken_out() {
        for (source, target, expected) in [
            ("^db_(.*)$", "$1", "${1}"),
            ("^db_(.*)$", "x_$1", "x_${1}"),
            ("^db_(.*)$", "$1_x", ""),
            ("(a)(?:b)", "${2}$1", "${1}"),
            ("(?P<n>a)", "${n}$n", "${n}${n}"),
            ("[(]x", "$1", ""),
            ("a", "$$5 $", "$$5 $$"),
        ] {
            assert_eq!(targeted(source, target), expected, "{source} {target}");
        }
    }
}
