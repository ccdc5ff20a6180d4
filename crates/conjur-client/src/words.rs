//! What a server says, as it may stand in a message: one line, without control characters, and not long.
//!
//! A server may be a tenant's own. What it says ends up in errors that are kept, cloned for each object, logged and
//! written into statuses, so it is cut where it enters, and nowhere else.

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::limits::{ID_BYTES, Limit, WORDS_BYTES, hit};

/// A text of a server, already cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words(String);

impl Words {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// `text` on one line, cut to [`WORDS_BYTES`].
pub(crate) fn words(text: &str) -> String {
    let words = cut(text, WORDS_BYTES);
    if words.ends_with('…') {
        hit(Limit::WordsBytes);
    }
    words
}

/// `text` on one line, cut to `most` bytes (at least 3), which an ellipsis tells. Control characters and line breaks become one space,
/// the escape sequences of terminals and what turns the direction of writing go.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let mut cut = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        let next = match next {
            '\u{1b}' => {
                skip_escape(&mut rest);
                continue;
            }
            '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' => continue,
            '\u{2028}' | '\u{2029}' => ' ',
            c if c.is_control() => ' ',
            c => c,
        };
        if next == ' ' && (cut.is_empty() || cut.ends_with(' ')) {
            continue;
        }
        if cut.len() + next.len_utf8() + '…'.len_utf8() > most {
            cut.push('…');
            return cut;
        }
        cut.push(next);
    }
    cut.truncate(cut.trim_end().len());
    cut
}

/// After an escape character: `[`, parameters, and a letter that ends them.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    if ahead.next() != Some('[') {
        return;
    }
    for c in ahead.by_ref() {
        if !matches!(c, ' '..='?') {
            break;
        }
    }
    *rest = ahead;
}

struct WordsVisitor;

impl Visitor<'_> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Words, E> {
        Ok(Words(words(text)))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(WordsVisitor)
    }
}

/// For `deserialize_with`: a text that is only for people.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Words::deserialize(deserializer).map(Words::into_string)
}

/// The same where it may be missing.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::<Words>::deserialize(deserializer).map(|words| words.map(Words::into_string))
}

/// For `deserialize_with`: an id. A cut one would be another, so one that is too long makes the answer unreadable.
pub(crate) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    if id.len() > ID_BYTES {
        return Err(D::Error::custom("an id is too long"));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_server_says_is_one_line_without_what_a_terminal_obeys() {
        for (said, expected) in [
            ("CONJ00076E Variable demo:variable:x is empty", "CONJ00076E Variable demo:variable:x is empty"),
            ("  two\r\nlines\n\n\tand a tab ", "two lines and a tab"),
            ("\u{1b}[2J\u{1b}[31;1mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}x", "]0;title x"),
            ("a\u{202e}b\u{200b}c\u{feff}d\u{2028}e\0f\u{9b}g", "abcd e f g"),
            ("\u{1b}[", ""),
            ("", ""),
        ] {
            assert_eq!(words(said), expected, "{said:?}");
        }
    }

    #[test]
    fn what_is_long_is_cut_between_characters_and_says_so() {
        let cut = words(&"é".repeat(10_000));
        assert!(
            cut.len() <= WORDS_BYTES && cut.len() > WORDS_BYTES - 4 && cut.ends_with("é…"),
            "{}",
            cut.len()
        );
        assert_eq!(words(&"x".repeat(WORDS_BYTES - 3)).len(), WORDS_BYTES - 3);
        let read: Words = serde_json::from_str(&format!("\"{}\"", "\\u001b\\n".repeat(100_000))).unwrap();
        assert_eq!(read.as_str(), "");
    }

    proptest! {
        #[test]
        fn words_never_hold_a_control_character_and_are_never_long(text in "\\PC*|(?s).*", most in 3_usize..600) {
            let cut = cut(&text, most);
            prop_assert!(cut.len() <= most);
            prop_assert!(!cut.contains(char::is_control));
        }
    }
}
