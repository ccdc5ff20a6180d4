//! One segment of an id, a path or a host: [`is_dots`], which none may be, and what [`matches`] a pattern.
//!
//! ```
//! use conjur_client::segments::{is_dots, matches};
//!
//! assert!(is_dots("%2e%2E") && !is_dots("..."));
//! assert!(matches("db-*", "db-main") && !matches("db-*", "web"));
//! ```

use percent_encoding::percent_decode_str;

/// Whether a text could be taken for `.` or `..`, however often it is decoded on its way.
pub fn is_dots(segment: &str) -> bool {
    let mut text = segment.to_owned();
    // Each round makes it shorter, or is the last.
    loop {
        if matches!(text.as_str(), "." | "..") {
            return true;
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded.len() >= text.len() {
            return false;
        }
        text = decoded;
    }
}

/// Whether one segment of an id, or one label of a host, matches a pattern in which each `*` stands for any text.
pub fn matches(pattern: &str, segment: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == segment };
    let Some(mut left) = segment.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_seen_through_every_layer_of_encoding() {
        for dots in [".", "..", "%2e", "%2E.", ".%2e", "%252e", "%25252E%2e"] {
            assert!(is_dots(dots), "{dots}");
        }
        for other in ["", "...", "a", "a.", ".a", "%", "%2", "%2e%2e%2e", "%ff", "%2e%ff", "%zz"] {
            assert!(!is_dots(other), "{other}");
        }
    }

    #[test]
    fn each_star_stands_for_any_text_and_all_else_for_itself() {
        for (pattern, segment, expected) in [
            ("db", "db", true),
            ("db", "dbx", false),
            ("*", "", true),
            ("db-*", "db-", true),
            ("db-*", "d", false),
            ("*-db", "x-db", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, segment), expected, "{pattern} {segment}");
        }
    }
}
