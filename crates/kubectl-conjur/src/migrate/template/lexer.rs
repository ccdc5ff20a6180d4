//! Texts and actions of a Go template.

use super::{Fault, fault};

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'t> {
    /// Text, without what the actions beside it trim.
    Text(&'t str),
    /// What stands between `{{` and `}}`, and where it begins.
    Action(&'t str, usize),
}

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Takes a template apart. Comments are gone.
pub fn parts(text: &str) -> Result<Vec<Part<'_>>, Fault> {
    let (mut parts, mut at, mut trims) = (Vec::new(), 0, false);
    while let Some(open) = text[at..].find("{{").map(|found| at + found) {
        let start = open + 2;
        let trims_before = text[start..].starts_with('-') && text[start + 1..].starts_with(SPACE);
        let start = if trims_before { start + 2 } else { start };
        push_text(&mut parts, &text[at..open], trims, trims_before);
        let body = &text[start..];
        let (length, end) = if body.starts_with("/*") { comment(body) } else { action(body) }
            .ok_or_else(|| fault(open, "this action is not closed", "Close it with }}"))?;
        if !body.starts_with("/*") {
            parts.push(Part::Action(&body[..length], start));
        }
        trims = end > 2;
        at = start + length + end;
    }
    push_text(&mut parts, &text[at..], trims, false);
    Ok(parts)
}

fn push_text<'t>(parts: &mut Vec<Part<'t>>, text: &'t str, trims_start: bool, trims_end: bool) {
    let text = if trims_start { text.trim_start_matches(SPACE) } else { text };
    let text = if trims_end { text.trim_end_matches(SPACE) } else { text };
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

/// The length of a closing delimiter that begins here, with the white space before its trim marker.
fn close(rest: &str) -> Option<usize> {
    if rest.starts_with("}}") {
        return Some(2);
    }
    let marked = rest.starts_with(SPACE) && rest[1..].starts_with("-}}");
    marked.then_some(4)
}

/// How long the comment is, and its end.
fn comment(body: &str) -> Option<(usize, usize)> {
    let length = body.find("*/")? + 2;
    close(&body[length..]).map(|end| (length, end))
}

/// How long the action is, and its end.
fn action(body: &str) -> Option<(usize, usize)> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in body.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(open) if c == '\\' && open != '`' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => {
                if let Some(end) = close(&body[at..]) {
                    return Some((at, end));
                }
                if matches!(c, '"' | '`' | '\'') {
                    quote = Some(c);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_where_it_is_marked() {
        use Part::{Action, Text};
        for (text, expected) in [
            ("a {{ .x }} b", vec![Text("a "), Action(" .x ", 4), Text(" b")]),
            ("a \n{{- .x -}}\n b", vec![Text("a"), Action(".x", 7), Text("b")]),
            ("a {{- /* no */ -}} b", vec![Text("a"), Text("b")]),
            ("a{{/* no */}}b", vec![Text("a"), Text("b")]),
            ("{{ \"}}\" }}", vec![Action(" \"}}\" ", 2)]),
            ("{{ `}} \\` }}", vec![Action(" `}} \\` ", 2)]),
            ("{{-3}}", vec![Action("-3", 2)]),
        ] {
            assert_eq!(parts(text), Ok(expected), "{text}");
        }
        assert_eq!(parts("ab {{ .x").unwrap_err().at, 3);
    }
}
