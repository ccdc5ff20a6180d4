//! Base64, as manifests have it.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const ANY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The bytes that a text stands for: the standard or the URL-safe alphabet, with or without padding, on any number of
/// lines. None where it is not base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let standard = text.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| match c {
        '-' => '+',
        '_' => '/',
        other => other,
    });
    ANY.decode(standard.collect::<String>()).ok()
}

/// The text that base64 stands for.
pub fn decode_text(text: &str) -> Option<String> {
    String::from_utf8(decode(text)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_kind_is_undone() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("aGk=", Some(b"hi")),
            ("aGk", Some(b"hi")),
            ("aA==", Some(b"h")),
            ("aGlo\nYQ==\n", Some(b"hiha")),
            ("+/-_", Some(b"\xfb\xff\xbf")),
            ("a", None),
            ("aGk*", None),
            ("aGk===", None),
        ] {
            assert_eq!(decode(text).as_deref(), bytes, "{text}");
        }
    }
}
