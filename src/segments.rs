//! [`is_dots`]: what a path must not have as a segment.

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
}
