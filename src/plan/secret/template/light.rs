//! Which templates are rendered where they are asked for: those in which nothing can repeat, be kept or grow, by their
//! text alone. What is not surely such is not.

use crate::{
    limits::{LIGHT_BYTES, TEMPLATE_LIGHT_BYTES},
    sensitive::Sensitive,
};

/// Most bytes that replacing parts of all values by the longest text that the template can hold makes.
const GROWN: usize = 4 << 20;

/// Filters that make no more of a value than a small multiple of it and of the template's own text.
const FILTERS: [&str; 27] = [
    "b64decode",
    "b64encode",
    "capitalize",
    "d",
    "default",
    "first",
    "float",
    "fromjson",
    "int",
    "join",
    "last",
    "length",
    "lines",
    "lower",
    "pem_certificates",
    "pem_chain",
    "pem_leaf",
    "pem_private_key",
    "quote_dotenv",
    "quote_shell",
    "replace",
    "split",
    "string",
    "tojson",
    "trim",
    "upper",
    "urlencode",
];

/// Whether a template costs little, with values of so many bytes.
pub fn is_light(text: &Sensitive<String>, bytes: usize) -> bool {
    let text = text.expose();
    text.len() <= TEMPLATE_LIGHT_BYTES
        && bytes <= LIGHT_BYTES
        && text.len().saturating_mul(bytes) <= GROWN
        && has_only_branches(text)
        && has_only_light_words(text)
}

/// Of statements only `if`: no loop, no name that is set.
fn has_only_branches(text: &str) -> bool {
    text.split("{%").skip(1).all(|tag| {
        let tag = tag.trim_start_matches(['-', '+']).trim_start();
        let end = tag.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tag.len());
        matches!(&tag[..end], "if" | "elif" | "else" | "endif")
    })
}

/// No repetition, no function that makes lists or maps, and of filters only those of the list: wherever the words stand,
/// for where a tag ends is for the engine to say.
fn has_only_light_words(text: &str) -> bool {
    let Some(start) = text.find('{') else { return true };
    let mut rest = &text[start..];
    if rest.contains('*') {
        return false;
    }
    let mut after_pipe = false;
    while let Some(c) = rest.chars().next() {
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if length == 0 {
            after_pipe = c == '|' || after_pipe && c.is_whitespace();
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let word = &rest[..length];
        if after_pipe && !FILTERS.contains(&word) || matches!(word, "range" | "dict" | "namespace") {
            return false;
        }
        after_pipe = false;
        rest = &rest[length..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_mostly_write_is_light_and_what_can_grow_is_not() {
        for (text, light) in [
            ("plain", true),
            ("postgres://{{ user }}:{{ password | urlencode }}@db/billing", true),
            (
                "{{ data[\"tls.crt\"] }}{% if x is defined %}{{ x|trim }}{% elif y %}-{%- else -%}{% endif %}",
                true,
            ),
            ("{{ (json | fromjson).a.b | default('x') }}", true),
            ("a | b * c, and no tag", true),
            ("{\"auths\": {\"r\": {\"auth\": {{ (user ~ ':' ~ password) | b64encode | tojson }}}}}", true),
            ("{% for x in y %}{% endfor %}", false),
            ("{% set x = y %}", false),
            ("{% if a %}{%set x = y %}{% endif %}", false),
            ("{%+ with a = b %}", false),
            ("{{ x * 3 }}", false),
            ("{{ range(3) }}", false),
            ("{{ namespace(a=1) }}", false),
            ("{{ x | batch(3) }}", false),
            ("{{ x |\n\tindent(3) }}", false),
            ("{{ x | trim|map('upper') }}", false),
            ("{% filter upper %}{% endfilter %}", false),
            ("{% raw %}{{ x }}{% endraw %}", false),
        ] {
            assert_eq!(is_light(&Sensitive::new(text.to_owned()), 1_000), light, "{text}");
        }
        let text = |length: usize| Sensitive::new("x".repeat(length));
        assert!(is_light(&text(4_096), 1_024));
        assert!(!is_light(&text(4_097), 1));
        assert!(!is_light(&text(4_096), 2_000));
        assert!(!is_light(&text(10), 70_000));
    }
}
