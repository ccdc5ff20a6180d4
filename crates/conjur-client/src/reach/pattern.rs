//! What may be allowed and denied: networks, addresses and names.

use std::net::IpAddr;
use std::str::FromStr;

use url::Host;

use super::{address, plain};
use crate::segments;

/// A network (`10.0.0.0/8`), an address, a host name, or a host name with `*`: as the first label for one or more labels,
/// else for any text within a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Net(IpAddr, u8),
    Name(String),
}

impl Pattern {
    /// Whether an address lies in the network that it is.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        matches!(self.0, Kind::Net(net, prefix) if address::contains(net, prefix, address))
    }

    /// Whether a name is the one that it is.
    pub(super) fn has_name(&self, name: &str) -> bool {
        let Kind::Name(pattern) = &self.0 else { return false };
        let (pattern, name): (Vec<&str>, String) = (pattern.split('.').collect(), plain(name));
        let name: Vec<&str> = name.split('.').collect();
        let (pattern, name) = match (pattern.split_first(), name.len().checked_sub(pattern.len())) {
            (Some((&"*", rest)), Some(more)) => (rest, &name[more + 1..]),
            (_, Some(0)) => (&pattern[..], &name[..]),
            _ => return false,
        };
        pattern.iter().zip(name).all(|(pattern, label)| segments::matches(pattern, label))
    }
}

/// A text that is no [`Pattern`]; the message shows the forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no host: write a network as 10.0.0.0/8, an address, or a name as *.corp.example")]
pub struct InvalidPattern {
    text: String,
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let wrong = || InvalidPattern { text: text.to_owned() };
        if let Some((net, prefix)) = text.split_once('/') {
            let (net, prefix) = (net.parse::<IpAddr>().ok(), prefix.parse::<u8>().ok());
            return network(net.ok_or_else(wrong)?, prefix.ok_or_else(wrong)?).ok_or_else(wrong);
        }
        if let Ok(address) = unbracketed(text).parse::<IpAddr>() {
            return network(address, if address.is_ipv4() { 32 } else { 128 }).ok_or_else(wrong);
        }
        if !text.contains('*') {
            return match Host::parse(text).map_err(|_| wrong())? {
                Host::Domain(name) if plain(&name).is_empty() => Err(wrong()),
                Host::Domain(name) => Ok(Self(Kind::Name(plain(&name)))),
                Host::Ipv4(address) => Ok(Self(Kind::Net(address.into(), 32))),
                Host::Ipv6(address) => Ok(Self(Kind::Net(address.into(), 128))),
            };
        }
        let name = plain(text);
        let of_names = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '*');
        let labels = || name.split('.').all(|label| !label.is_empty() && label.chars().all(of_names));
        // `10.0.*` would look like a network and be none.
        let looks_like_a_network =
            name.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '*')) && name != "*";
        if !labels() || looks_like_a_network {
            return Err(wrong());
        }
        Ok(Self(Kind::Name(name)))
    }
}

/// An IPv6 address as it stands in a URL, without its brackets.
fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text)
}

/// A network; one of IPv4 addresses written as IPv6 is one of IPv4.
fn network(net: IpAddr, prefix: u8) -> Option<Pattern> {
    match (net, net.to_canonical()) {
        (IpAddr::V6(_), v4 @ IpAddr::V4(_)) => prefix.checked_sub(96).and_then(|prefix| network(v4, prefix)),
        (IpAddr::V4(_), _) if prefix > 32 => None,
        (IpAddr::V6(_), _) if prefix > 128 => None,
        _ => Some(Pattern(Kind::Net(net, prefix))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_is_refused_with_an_example() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "/8",
            "10.0.*",
            "10.*.*.*",
            "a b",
            "https://h",
            "h:443",
            "a/b",
            "*.a..b",
            "*/8",
            "::ffff:10.0.0.0/8",
            "[::1",
            "ä*",
            "*.exa mple",
            ".",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains("10.0.0.0/8") && error.contains("*.corp.example"), "{text}: {error}");
        }
        for text in [
            "*",
            "*.corp.example",
            "db-*.corp.example",
            "10.0.0.0/8",
            "::/0",
            "0.0.0.0/0",
            "[::1]",
            "conjur",
            "h.",
        ] {
            assert!(text.parse::<Pattern>().is_ok(), "{text}");
        }
    }

    #[test]
    fn names_match_by_label() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*", "a.b.c", true),
            ("*.b.c", "a.b.c", true),
            ("*.b.c", "x.a.b.c", true),
            ("*.b.c", "b.c", false),
            ("*.b.c", "ab.c", false),
            ("a*.b.c", "ax.b.c", true),
            ("a*.b.c", "ax.y.b.c", false),
            ("a*.b.c", "x.ax.b.c", false),
            ("a.*.c", "a.x.c", true),
            ("a.*.c", "a.x.y.c", false),
            ("a", "A.", true),
            ("a", "a.b", false),
            ("10.0.0.1", "10.0.0.1", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().has_name(name), expected, "{pattern} {name}");
        }
    }
}
