//! How deep a template may go. The engine follows chains of filters, brackets and branches by recursion, on the stack of
//! the thread that all objects share: what is deeper than anybody writes is refused before the engine sees it.

use crate::limits::{TEMPLATE_BLOCKS, TEMPLATE_DEPTH, TEMPLATE_STEPS, TEMPLATE_TAG_BYTES};

/// Looks through the text for what is too deep.
///
/// # Errors
/// The line, and what is wrong there.
pub(super) fn check(text: &str) -> Result<(), (usize, String)> {
    let (mut rest, mut line, mut blocks) = (text, 1, 0);
    // Each byte is looked at once: a text may hold nothing but beginnings of tags.
    while let Some(start) = rest.find('{') {
        line += breaks(&rest[..start]);
        rest = &rest[start + 1..];
        let end = match rest.as_bytes().first() {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            _ => continue,
        };
        blocks += usize::from(end == "%}");
        if blocks > TEMPLATE_BLOCKS {
            return Err((line, format!("it has more than {TEMPLATE_BLOCKS} {{% … %}}")));
        }
        let (length, result) = tag(&rest[1..], end);
        result.map_err(|what| (line, what))?;
        line += breaks(&rest[..=length]);
        rest = &rest[1 + length..];
    }
    Ok(())
}

fn breaks(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// The length of a tag that begins here, and whether it is too deep.
fn tag(text: &str, end: &str) -> (usize, Result<(), String>) {
    let (mut quote, mut escaped, mut depth, mut steps) = (None, false, 0_usize, 0);
    let mut deepest = 0;
    let mut length = text.len();
    for (at, c) in text.char_indices() {
        if let Some(open) = quote {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == open {
                quote = None;
            }
            continue;
        }
        if depth == 0 && text[at..].starts_with(end) {
            length = at;
            break;
        }
        match c {
            '"' | '\'' => quote = Some(c),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        steps += usize::from("|.([~+-*/%<>=!".contains(c));
    }
    // Words such as `not` and `and` are operators, too: the length bounds them.
    let result = if length > TEMPLATE_TAG_BYTES {
        Err(format!(
            "a {{{{ … }}}} or {{% … %}} is longer than {TEMPLATE_TAG_BYTES} bytes; set names for its parts"
        ))
    } else if deepest > TEMPLATE_DEPTH || steps > TEMPLATE_STEPS {
        Err(format!(
            "a {{{{ … }}}} or {{% … %}} has more than {TEMPLATE_DEPTH} brackets in each other, or more than {TEMPLATE_STEPS} steps"
        ))
    } else {
        Ok(())
    };
    (length, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_taken_and_what_nobody_writes_is_not() {
        let chain = |n: usize| format!("{{{{ user{} }}}}", "|trim".repeat(n));
        for (text, taken) in [
            ("plain {text}, and { more".to_owned(), true),
            ("a\n{{ data['x'] | default(\"}}\") }} {% if a %}b{% endif %}".to_owned(), true),
            ("{{ {'a': {'b': [1]}}['a'] }}".to_owned(), true),
            ("{{ user }}\n".repeat(10_000), true),
            ("{{ never closed".to_owned(), true),
            (chain(100), true),
            (chain(300), false),
            (format!("{{{{ {} }}}}", "(".repeat(50)), false),
            (format!("{{{{ {}1 }}}}", "-".repeat(300)), false),
            (format!("{{{{ {}1 }}}}", "not ".repeat(600)), false),
            ("{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(300) + "{% endif %}", false),
        ] {
            assert_eq!(check(&text).is_ok(), taken, "{}", &text[..text.len().min(60)]);
        }
        let (line, what) = check(&format!("a\nb{{\n x \n}}{{{{ x\n}}}}\n{}", chain(300))).unwrap_err();
        assert_eq!(line, 6);
        assert!(what.contains("steps"), "{what}");
    }

    #[test]
    fn a_text_of_nothing_but_tags_takes_time_linear_in_it() {
        let took = |text: &str| {
            let start = std::time::Instant::now();
            check(text).ok();
            start.elapsed()
        };
        for piece in ["{{a}}", "{", "{{", "{ {\n", "{{'", "{{a}}\n"] {
            let text = piece.repeat(crate::limits::TEMPLATE_BYTES / piece.len());
            // Quadratic, it took seconds.
            assert!(took(&text) < std::time::Duration::from_millis(300), "{piece}");
        }
    }
}
