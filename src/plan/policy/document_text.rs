//! The text of a policy document: inline, or joined of several sources, so that what is wrong with it can be told by
//! the source and the line within that.

use std::sync::Arc;

use crate::plan::Failure;
use crate::{
    api::Reason,
    limits::{self, DOCUMENT_BYTES, Limit},
    sensitive::Sensitive,
};

/// One source, as it was read.
pub struct Part {
    /// What it is: `ConfigMap a, key b`.
    pub what: String,
    /// Whether it is a Secret's, so that nothing may quote it.
    pub secret: bool,
    /// Its bytes.
    pub bytes: Arc<Sensitive<Vec<u8>>>,
}

/// A document, ready to be read and sent.
#[derive(Debug)]
pub struct PolicyText {
    text: Sensitive<String>,
    /// Where it came from; empty for an inline one.
    sources: Vec<TextSource>,
    secret: bool,
}

#[derive(Debug)]
struct TextSource {
    /// `spec.documentFrom[1] (ConfigMap a, key b)`.
    name: String,
    /// The line of the whole that it begins at, from 1.
    first_line: u32,
}

impl PolicyText {
    /// The document of `spec.document`.
    pub fn inline(document: &str) -> Self {
        Self { text: Sensitive::new(document.to_owned()), sources: Vec::new(), secret: false }
    }

    /// Joins sources in their order, with a newline where one lacks it.
    ///
    /// # Errors
    /// `PolicyInvalid` where they are over 10 MiB in all, or one is not UTF-8, naming the source and the place in it.
    pub fn join(parts: &[Part]) -> Result<Self, Failure> {
        let lacks = |part: &Part| part.bytes.expose().last().is_some_and(|last| *last != b'\n');
        let size: usize = parts.iter().map(|part| part.bytes.expose().len() + usize::from(lacks(part))).sum();
        if size > DOCUMENT_BYTES {
            limits::hit(Limit::DocumentBytes);
            let message = format!(
                "the sources of spec.documentFrom have over {DOCUMENT_BYTES} bytes (10 MiB) in all, which Conjur does not take at once: split \
                 the document over several ConjurPolicies"
            );
            return Err(Failure::stalled(Reason::PolicyInvalid, message));
        }
        // Of its full size from the start: a buffer that grows leaves copies behind.
        let mut text = Sensitive::new(String::with_capacity(size));
        let mut sources = Vec::with_capacity(parts.len());
        let mut line = 1_u32;
        for (index, part) in parts.iter().enumerate() {
            let name = format!("spec.documentFrom[{index}] ({})", part.what);
            let piece = std::str::from_utf8(part.bytes.expose()).map_err(|error| {
                let (line, column) = place_of(part.bytes.expose(), error.valid_up_to());
                let message = format!("{name}, line {line}, column {column}: this is not UTF-8");
                Failure::stalled(Reason::PolicyInvalid, message)
            })?;
            sources.push(TextSource { name, first_line: line });
            text.expose_mut().push_str(piece);
            if lacks(part) {
                text.expose_mut().push('\n');
            }
            line = line.saturating_add(breaks(piece.as_bytes())).saturating_add(u32::from(lacks(part)));
        }
        Ok(Self { text, sources, secret: parts.iter().any(|part| part.secret) })
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        self.text.expose()
    }

    /// Whether some of it is a Secret's, so that a server's message, which may quote it, must not be repeated.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// A place of the whole, for a message: `spec.document, line 3`, or the source and the line within it.
    pub fn at(&self, line: u32, column: Option<u32>) -> String {
        let place = self.place(line, column);
        if self.sources.is_empty() { format!("spec.document, {place}") } else { place }
    }

    /// The same where it is clear that a document is spoken of: `line 3`, or the source and the line within it.
    pub fn place(&self, line: u32, column: Option<u32>) -> String {
        let source = self.sources.iter().rev().find(|source| source.first_line <= line);
        let column = column.map_or_else(String::new, |column| format!(", column {column}"));
        match source.or(self.sources.first()) {
            None => format!("line {line}{column}"),
            Some(TextSource { name, first_line }) => {
                format!("{name}, line {}{column}", line.saturating_sub(*first_line).saturating_add(1))
            }
        }
    }
}

/// How many line breaks there are, as YAML counts them: `\r\n` is one, and so is a lone `\r`.
fn breaks(bytes: &[u8]) -> u32 {
    let is_break = |(at, byte): &(usize, &u8)| match byte {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    u32::try_from(bytes.iter().enumerate().filter(is_break).count()).unwrap_or(u32::MAX)
}

/// Line and column, from 1, of a byte that follows valid text.
fn place_of(bytes: &[u8], at: usize) -> (u32, u32) {
    let before = bytes.get(..at).unwrap_or_default();
    let start = before.iter().rposition(|b| matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
    let line = before.get(start..).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let column = u32::try_from(line.chars().count()).unwrap_or(u32::MAX);
    (breaks(before).saturating_add(1), column.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(what: &str, bytes: &[u8]) -> Part {
        Part {
            what: what.into(),
            secret: what.starts_with("Secret"),
            bytes: Arc::new(Sensitive::new(bytes.to_vec())),
        }
    }

    #[test]
    fn sources_are_joined_with_a_newline_where_one_lacks_it() {
        for (parts, whole) in [
            (vec!["- a", "- b\n", "- c"], "- a\n- b\n- c\n"),
            (vec!["- a\n"], "- a\n"),
            (vec!["", "- a\n", ""], "- a\n"),
            (vec!["- a\r", "- b\r\n"], "- a\r\n- b\r\n"),
        ] {
            let parts: Vec<_> =
                parts.iter().map(|text| part("ConfigMap a, key b", text.as_bytes())).collect();
            assert_eq!(PolicyText::join(&parts).unwrap().as_str(), whole);
        }
    }

    #[test]
    fn a_place_is_told_by_its_source_and_the_line_within_it() {
        let parts = [
            part("ConfigMap a, key x", b"one\r\ntwo\rthree"),
            part("ConfigMap e, key x", b""),
            part("Secret b, key y", b"four\nfive\n"),
        ];
        let text = PolicyText::join(&parts).unwrap();
        for (line, column, place) in [
            (1, None, "spec.documentFrom[0] (ConfigMap a, key x), line 1"),
            (3, Some(2), "spec.documentFrom[0] (ConfigMap a, key x), line 3, column 2"),
            (4, None, "spec.documentFrom[2] (Secret b, key y), line 1"),
            (5, Some(1), "spec.documentFrom[2] (Secret b, key y), line 2, column 1"),
            (6, None, "spec.documentFrom[2] (Secret b, key y), line 3"),
        ] {
            assert_eq!(text.at(line, column), place);
        }
        assert!(text.is_secret());
        let inline = PolicyText::inline("- a\n");
        assert_eq!(inline.at(7, Some(2)), "spec.document, line 7, column 2");
        assert_eq!(inline.place(7, Some(2)), "line 7, column 2");
        assert!(!inline.is_secret());
    }

    #[test]
    fn ten_mebibytes_in_all_are_the_most_there_may_be() {
        let half = vec![b'#'; DOCUMENT_BYTES / 2];
        let most = [part("ConfigMap a, key x", &half), part("ConfigMap b, key x", &half[2..])];
        assert_eq!(PolicyText::join(&most).unwrap().as_str().len(), DOCUMENT_BYTES);
        let more = [part("ConfigMap a, key x", &half), part("ConfigMap b, key x", &half[1..])];
        let failure = PolicyText::join(&more).unwrap_err();
        assert_eq!(failure.reason, Reason::PolicyInvalid);
        assert!(failure.message.contains("10 MiB"), "the newlines count: {failure}");
    }

    #[test]
    fn what_is_no_utf8_is_told_by_its_place_and_never_quoted() {
        let parts =
            [part("ConfigMap a, key x", b"- a\n"), part("Secret b, key y", "ok\n\u{e9}\u{e9}x".as_bytes())];
        assert!(PolicyText::join(&parts).is_ok());
        let parts = [part("ConfigMap a, key x", b"- a\n"), part("Secret b, key y", b"ok\n\xc3\xa9x\xff")];
        let failure = PolicyText::join(&parts).unwrap_err();
        assert_eq!(
            failure.message,
            "spec.documentFrom[1] (Secret b, key y), line 2, column 3: this is not UTF-8"
        );
    }
}
