//! Addresses: the base that a connection gives, and the URL of a request below it.
//!
//! What is put into a path is checked behind the URL's own parser: whatever that would take apart, join or drop makes the
//! request fail before it is sent.
//!
//! ```
//! use conjur_client::address;
//!
//! # fn example() -> Result<(), conjur_client::Error> {
//! let url = address::base("https://conjur.example.com/api")?;
//! assert_eq!(url.path(), "/api");
//! assert!(address::base("conjur.example.com").is_err(), "the scheme is missing");
//! # Ok(())
//! # }
//! # example().unwrap();
//! ```

use url::Url;

use super::error::Error;
use crate::segments::is_dots;

/// Reads the base address of a server.
///
/// # Errors
/// [`Error::Config`], without the address: it could hold a password.
pub fn base(text: &str) -> Result<Url, Error> {
    let wrong = |why: &str| Err(Error::config(format!("the URL {why}")));
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return wrong("contains white space, a control character or a backslash");
    }
    let lower = text.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")) else {
        return wrong("must begin with https:// or http://");
    };
    let url = Url::parse(text)
        .map_err(|error| Error::config(format!("the URL is no address: {error}")).because(error))?;
    check_base(&url)?;
    // The parser resolves dot segments: what is left of the path would not be what was written.
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.split('/').any(is_dots) {
        return wrong("has a segment `.` or `..`");
    }
    let path = path.trim_end_matches('/');
    let has_gap = !path.is_empty() && path.split('/').any(str::is_empty);
    if authority.is_empty() || authority.ends_with(':') || has_gap {
        return wrong("has an empty host, port or path segment");
    }
    Ok(url)
}

/// What every base address must be, however it was made.
pub(crate) fn check_base(url: &Url) -> Result<(), Error> {
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Error::config(format!(
            "the URL must begin with https:// or http://, not {}:",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::config("the URL must not hold a user or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::config("the URL must not have a query or a fragment"));
    }
    Ok(())
}

/// The URL of a request: `path`, encoded and with its query, below `base`, if the parser leaves every segment of it as it
/// was put in. An empty path is the base itself.
pub(crate) fn below(base: &str, path: &str) -> Option<Url> {
    let segments = path.split_once('?').map_or(path, |(segments, _)| segments);
    if !path.is_empty() && segments.split('/').any(|segment| segment.is_empty() || is_dots(segment)) {
        return None;
    }
    let text = format!("{base}/{path}");
    Url::parse(&text).ok().filter(|url| url.fragment().is_none() && url.as_str() == text)
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;
    use crate::id::{query, segment};

    #[test]
    fn an_address_keeps_its_path_and_holds_nothing_else() {
        for (text, expected) in [
            ("https://conjur.example.com", "https://conjur.example.com/"),
            ("HTTPS://Conjur.Example.com:443/", "https://conjur.example.com/"),
            ("http://conjur:8080/api", "http://conjur:8080/api"),
            ("https://h/a%2Fb/c/", "https://h/a%2Fb/c/"),
            ("https://[::1]:8443/api", "https://[::1]:8443/api"),
        ] {
            assert_eq!(base(text).unwrap().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn an_address_that_leads_elsewhere_is_refused_and_not_quoted() {
        for text in [
            "",
            "conjur",
            "ftp://h",
            "https:h",
            "https:/h/hunter2",
            "https://",
            "https:///hunter2",
            "https://h:/x",
            "https://u:hunter2@h",
            "https://hunter2@h",
            "https://h?hunter2",
            "https://h/#hunter2",
            "https://h/?",
            "https://h/hunter2/..",
            "https://h/./x",
            "https://h/a/%2e%2E/b",
            "https://h/.%2e/b",
            "https://h/%252e%252e/b",
            "https://h/a//b",
            "https://h\\hunter2",
            "https://h/a\\..\\b",
            "https://h/a b",
            "https://h/\thunter2",
            "https://h\n/hunter2",
            " https://h",
            "https://h:99999/hunter2",
            "https://h/%2e",
            "javascript:hunter2",
            "https://a b/hunter2",
            "file:///etc/hunter2",
        ] {
            let error = base(text).unwrap_err().to_string();
            assert!(error.starts_with("the URL ") && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_segment_that_the_parser_or_a_proxy_would_resolve_is_refused() {
        for bad in ["", ".", "..", "%2e", "%2E%2e", ".%2e", "%252e%252E", "%25252e."] {
            for path in [
                format!("resources/{}/variable/{}", segment("demo"), segment(bad)),
                format!("resources/{}/variable/x", segment(bad)),
                format!("{}/x?check=true", segment(bad)),
                // As it would be if something were put in without being encoded.
                format!("resources/{bad}/x"),
            ] {
                assert_eq!(below("https://h/api", &path), None, "{path}");
            }
        }
        for raw in ["a\\..\\b", "a/../b", "a\tb", "a b", "a#b", "a\n", "é"] {
            assert_eq!(below("https://h/api", &format!("resources/{raw}")), None, "{raw:?}");
        }
        assert_eq!(below("https://h/api", "").unwrap().as_str(), "https://h/api/");
        assert_eq!(below("https://h", "whoami").unwrap().as_str(), "https://h/whoami");
    }

    proptest! {
        /// Whatever is put in, a URL that comes out has exactly the segments that were put in, below the base.
        #[test]
        fn every_part_is_one_segment_behind_the_base(parts in prop::collection::vec("(?s).{0,12}|[.%2eE/\\\\]{0,8}", 1..5), asked in "(?s).{0,12}") {
            let path: Vec<_> = parts.iter().map(|part| segment(part).to_string()).collect();
            let path = format!("{}?q={}", path.join("/"), query(&asked));
            let Some(url) = below("https://h/p/q", &path) else {
                prop_assert!(parts.iter().any(|part| part.is_empty() || is_dots(part)), "{path}");
                return Ok(());
            };
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!(&segments[..2], ["p", "q"]);
            let back: Vec<_> = segments[2..].iter().map(|s| percent_decode_str(s).decode_utf8().unwrap()).collect();
            prop_assert_eq!(back, parts);
            prop_assert_eq!(url.fragment(), None);
            prop_assert_eq!(url.host_str(), Some("h"));
        }
    }
}
