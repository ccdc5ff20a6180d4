//! A policy as JSON, and as the YAML that Ruby writes.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::tree::{Part, place_of};

/// Statements as they are, in the order of their ids.
pub(super) fn json(policy: &[Part]) -> Value {
    policy.iter().map(json_of).collect()
}

fn json_of(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!(text),
        Part::List(parts) => json(parts),
        Part::Line(items) => items
            .iter()
            .map(|(tag, text)| tag.map_or_else(|| json!(text), |tag| json!({tag: text})))
            .collect(),
        Part::Map(pairs) => {
            Value::Object(pairs.iter().map(|(name, part)| (name.clone(), json_of(part))).collect())
        }
        Part::Tagged(kind, part) => json!({kind.as_str(): json_of(part)}),
    }
}

/// Statements ordered by kind.
pub(super) fn yaml(policy: &[Part]) -> String {
    let mut out = "---".to_owned();
    list(&mut out, policy, 0);
    out
}

fn list(out: &mut String, parts: &[Part], indent: usize) {
    if parts.is_empty() {
        out.push_str(" []\n");
        return;
    }
    out.push('\n');
    for part in parts {
        // Writing to a string can't fail.
        let _infallible = write!(out, "{:indent$}-", "");
        value(out, part, indent + 2);
    }
}

/// What stands after `-` or `:`, to the end of its last line.
fn value(out: &mut String, part: &Part, indent: usize) {
    match part {
        Part::Tagged(kind, part) => {
            let _infallible = write!(out, " !{kind}");
            match part.as_ref() {
                Part::Map(pairs) => match pairs.as_slice() {
                    // With nothing but an id, the id is all of it.
                    [(_, Part::Text(id))] => {
                        let _infallible = writeln!(out, " {}", scalar(id, false, false));
                    }
                    pairs => {
                        out.push('\n');
                        map(out, pairs, indent, kind == "policy");
                    }
                },
                Part::Text(text) => {
                    let _infallible = writeln!(out, " {}", scalar(text, false, false));
                }
                other => value(out, other, indent),
            }
        }
        Part::Text(text) => {
            let _infallible = writeln!(out, " {}", scalar(text, true, false));
        }
        Part::List(parts) => list(out, parts, indent.saturating_sub(2)),
        Part::Line(items) => {
            let _infallible = writeln!(out, " [{}]", line(items));
        }
        Part::Map(pairs) => {
            out.push('\n');
            map(out, pairs, indent, false);
        }
    }
}

fn map(out: &mut String, pairs: &[(String, Part)], indent: usize, is_policy: bool) {
    for (name, part) in pairs {
        let _infallible = write!(out, "{:indent$}{}:", "", scalar(name, true, false));
        match part {
            Part::List(body) if is_policy && name == "body" => {
                let mut body = body.clone();
                body.sort_by_key(place_of);
                value(out, &Part::List(body), indent + 2);
            }
            part => value(out, part, indent + 2),
        }
    }
}

fn line(items: &[(Option<&str>, String)]) -> String {
    let items = items.iter().map(|(tag, text)| match tag {
        Some(tag) => format!("!{tag} {}", scalar(text, false, true)),
        None => scalar(text, true, true),
    });
    items.collect::<Vec<_>>().join(", ")
}

/// Plain where that reads back as the same text. What has a tag is text anyway; what has none must not look
/// like a number or a truth.
fn scalar(text: &str, untagged: bool, in_line: bool) -> String {
    if text.chars().any(char::is_control) {
        return json!(text).to_string();
    }
    if untagged && matches!(text, "y" | "Y" | "n" | "N") {
        return format!("\"{text}\"");
    }
    let symbolic = text.chars().next().is_some_and(|first| !first.is_alphanumeric() && first != '_');
    if untagged && symbolic && !text.chars().skip(1).any(|letter| letter == '"') {
        return json!(text).to_string();
    }
    let ambiguous = untagged && looks_otherwise(text);
    let special = text.is_empty()
        || text.starts_with(|first| "#,[]{}&*!|>'\"%@` ".contains(first))
        || ["- ", "? ", ": ", "---", "..."].iter().any(|start| text.starts_with(start))
        || matches!(text, "-" | "?")
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
        || in_line && text.contains([',', '?', '[', ']', '{', '}', ':']);
    if ambiguous || special { format!("'{}'", text.replace('\'', "''")) } else { text.to_owned() }
}

/// Null, a truth, a number or a date to a YAML reader.
fn looks_otherwise(text: &str) -> bool {
    const WORDS: [&str; 8] = ["null", "~", "true", "false", "yes", "no", "on", "off"];
    let digits = text.replace(['_', ','], "");
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        && (digits.parse::<f64>().is_ok() || digits.starts_with("0x") || digits.starts_with("0o"));
    let is_date = text.len() >= 10
        && text.is_char_boundary(10)
        && text[..10].bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    text.is_empty() || WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) || is_number || is_date
}
