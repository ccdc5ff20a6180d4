//! What names and keys in references look like: for the schema, and for objects that came past it.
//!
//! ```
//! use conjur_operator_api::names::{is_key, is_label, is_name};
//!
//! assert!(is_name("conjur.example") && !is_label("conjur.example"));
//! assert!(is_key("tls.crt") && !is_key("../tls.crt"));
//! ```

/// Of most objects: a DNS subdomain, of at most 253 characters.
pub const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Of namespaces: a DNS label, of at most 63 characters.
pub const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Of keys in Secrets and ConfigMaps, of at most 253 characters: not `.`, and not with `..` at the beginning.
pub const KEY: &str = r"^([-_a-zA-Z0-9]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$";

/// Whether a text can be an object's name.
pub fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

/// Whether a text can be a namespace's name.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Whether a text can be a key of a Secret or ConfigMap.
pub fn is_key(text: &str) -> bool {
    let of_keys = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=253).contains(&text.len()) && text.chars().all(of_keys) && text != "." && !text.starts_with("..")
}

fn is_part(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    proptest! {
        #[test]
        fn the_code_takes_what_the_schema_takes(text in "[-._a-bA-B0/ ]{0,9}|(?s).{0,4}") {
            for (pattern, is) in [(NAME, is_name as fn(&str) -> bool), (LABEL, is_label), (KEY, is_key)] {
                prop_assert_eq!(Regex::new(pattern).unwrap().is_match(&text), is(&text), "{}", pattern);
            }
        }
    }

    #[test]
    fn names_end_where_kubernetes_ends_them() {
        assert!(is_name(&"a".repeat(253)) && !is_name(&"a".repeat(254)));
        assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)));
        assert!(is_key(&"A".repeat(253)) && !is_key(&"A".repeat(254)));
        for bad in
            ["../../kube-system/secrets/x", "a/b", "A", "", ".", "..", "a..b", "-a", "a\n", "a%2fb", "a,b=c"]
        {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
