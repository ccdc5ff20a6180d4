//! A template of this operator, as it is put together.

/// Longest tag, and most steps in one, that the operator takes.
const TAG: usize = 2_000;
const STEPS: usize = 200;
/// Most `{% … %}`.
const BLOCKS: usize = 200;
/// Longest template in an object.
const TEMPLATE: usize = 65_536;

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that comes out as it is.
    Text(String),
    /// A tag.
    Tag(String),
}

impl Piece {
    /// `{{ … }}`
    pub fn print(expression: &str) -> Self {
        Self::Tag(format!("{{{{ {expression} }}}}"))
    }

    /// `{% … %}`
    pub fn block(statement: &str) -> Self {
        Self::Tag(format!("{{% {statement} %}}"))
    }
}

/// The template. A brace of the text that would begin a tag is written as a tag itself, and the line break that this language
/// drops at the end is doubled.
pub fn join(pieces: &[Piece]) -> String {
    let mut made = String::new();
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(more) => text.push_str(more),
            Piece::Tag(tag) => {
                push_text(&mut made, &std::mem::take(&mut text), true);
                made.push_str(tag);
            }
        }
    }
    push_text(&mut made, &text, false);
    if made.ends_with('\n') {
        made.push('\n');
    } else if made.ends_with('\r') {
        made.push_str("\r\n");
    }
    made
}

fn push_text(made: &mut String, text: &str, tag_follows: bool) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let begins = match chars.peek() {
            Some(next) => matches!(next, '{' | '%' | '#'),
            None => tag_follows,
        };
        if c == '{' && begins {
            made.push_str("{{ \"{\" }}");
        } else {
            made.push(c);
        }
    }
}

/// Whether the operator takes it.
///
/// # Errors
/// What is too much.
pub fn check(pieces: &[Piece]) -> Result<(), String> {
    let tags = || {
        pieces.iter().filter_map(|piece| if let Piece::Tag(tag) = piece { Some(tag.as_str()) } else { None })
    };
    let steps = |tag: &str| tag.chars().filter(|c| "|.([~+-*/%<>=!".contains(*c)).count();
    if tags().any(|tag| tag.len() > TAG || steps(tag) > STEPS) {
        return Err(format!(
            "translated, one action is longer than {TAG} bytes or has more than {STEPS} steps"
        ));
    }
    if tags().filter(|tag| tag.starts_with("{%")).count() > BLOCKS {
        return Err(format!("translated, it has more than {BLOCKS} blocks"));
    }
    if join(pieces).len() > TEMPLATE {
        return Err(format!("translated, it is longer than {TEMPLATE} bytes"));
    }
    Ok(())
}
