//! Names in Conjur, and how they are written into a URL.
//!
//! A full id is `account:kind:id`. In a path the id is **one** segment, its slashes as `%2F`; in a query `:` and
//! `/` stay raw, which saves a quarter of a batch (recordings 312, 39 and `05-batch`).
//!
//! ```
//! use conjur_client::{PolicyBranch, RoleId, VariableId};
//!
//! let id = VariableId::new("apps/db/password")?;
//! assert_eq!(id.as_str(), "apps/db/password");
//! assert_eq!(RoleId::from_login("demo", "host/apps/web")?.to_string(), "demo:host:apps/web");
//! assert!(PolicyBranch::new("apps//web").is_err());
//! # Ok::<(), conjur_client::InvalidId>(())
//! ```

use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::segments::is_dots;

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const QUERY: &AsciiSet = &SEGMENT.remove(b':').remove(b'/');

/// One path segment: everything but unreserved characters percent-encoded, the slash too.
pub(crate) fn segment(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}

/// A query value: like [`segment`], with `:` and `/` raw. A plus and a comma are encoded.
pub(crate) fn query(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, QUERY)
}

/// Whether `text` can be an account: one segment of a path, and what stands before the first colon of a full id.
pub(crate) fn is_account(text: &str) -> bool {
    is_segment(text) && !text.contains(':')
}

/// Whether `text` can be an account, a kind or a service: one segment of a path, also for who decodes it twice.
pub(crate) fn is_segment(text: &str) -> bool {
    let splits = |c: char| matches!(c, '/' | '\\' | '?' | '#' | '%') || c.is_control();
    !text.is_empty() && !text.contains(splits) && !is_dots(text)
}

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{id:?} is not an id: {why}")]
pub struct InvalidId {
    id: String,
    why: &'static str,
}

/// Checks an id by the rules of [`VariableId::new`].
pub(crate) fn check(id: &str) -> Result<(), InvalidId> {
    let why = if id.is_empty() {
        "it is empty"
    } else if id.chars().any(char::is_control) {
        "it contains a control character"
    } else if id.starts_with('/') {
        "it starts with a slash; write it as below the account, without one"
    } else if id.split('/').any(str::is_empty) {
        "it has an empty segment (a doubled slash, or one at the end)"
    } else if id.split(['/', '\\']).any(is_dots) {
        "it has a segment `.` or `..`"
    } else {
        return Ok(());
    };
    Err(InvalidId { id: id.to_owned(), why })
}

/// The id of a variable below the account, as in `apps/billing/db/password`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VariableId(Arc<str>);

impl VariableId {
    /// Takes the id without account and kind.
    ///
    /// # Errors
    /// Empty, control characters, a leading slash, or a segment that is empty, `.` or `..`: the server collapses
    /// slashes (recording 12 of `04-secrets`), so two spellings would name one variable.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        check(id).map(|()| Self(id.into()))
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can travel with others: a comma splits a batch even when encoded.
    pub(crate) fn fits_a_batch(&self) -> bool {
        !self.0.contains(',')
    }
}

/// The id of a policy below the account; `root` is the root policy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyBranch(Arc<str>);

impl PolicyBranch {
    /// Takes the branch without account and kind, by the same rules as [`VariableId::new`].
    pub fn new(branch: &str) -> Result<Self, InvalidId> {
        check(branch).map(|()| Self(branch.into()))
    }

    /// The branch as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! prints_as_its_text {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    )*};
}
prints_as_its_text!(VariableId, PolicyBranch);

/// A role, `account:kind:id`; parsed from and printed as that.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleId {
    /// The account.
    pub account: String,
    /// `user`, `host`, `group`, `policy`, …
    pub kind: String,
    /// The id below account and kind; it may contain colons.
    pub id: String,
}

impl RoleId {
    /// The role that logs in with `login`: `alice` is a user, `host/apps/web` a host.
    ///
    /// # Errors
    /// An id that [`VariableId::new`] would refuse.
    pub fn from_login(account: &str, login: &str) -> Result<Self, InvalidId> {
        let (kind, id) = login.split_once('/').unwrap_or(("user", login));
        check(kind)?;
        check(id)?;
        Ok(Self { account: account.to_owned(), kind: kind.to_owned(), id: id.to_owned() })
    }

    /// The name to log in with: `alice` for a user, `kind/id` for everything else.
    pub fn login(&self) -> String {
        if self.kind == "user" { self.id.clone() } else { format!("{}/{}", self.kind, self.id) }
    }
}

impl std::str::FromStr for RoleId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut parts = text.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(account), Some(kind), Some(id))
                if !account.is_empty() && !kind.is_empty() && !id.is_empty() =>
            {
                Ok(Self { account: account.to_owned(), kind: kind.to_owned(), id: id.to_owned() })
            }
            _ => Err(InvalidId { id: text.to_owned(), why: "a full id is written account:kind:id" }),
        }
    }
}

impl<'de> serde::Deserialize<'de> for RoleId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for RoleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.account, self.kind, self.id)
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn ids_that_the_server_would_read_differently_are_refused() {
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "a/../b",
            "a/.",
            "a\0b",
            "a\nb",
            "a\u{85}b",
            "a/%2e%2E/b",
            ".%2e",
            "a\\..\\b",
            "%252e",
        ] {
            assert!(VariableId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", "a.b/..c", "a,b", "a b+%/é", "a:b", "...", "a\\b", "%2e%2e%2e"] {
            assert!(VariableId::new(good).is_ok(), "{good:?}");
        }
        assert!(VariableId::new("a//b").unwrap_err().to_string().contains("doubled slash"));
    }

    #[test]
    fn accounts_and_services_are_one_segment() {
        for bad in ["", ".", "..", "a/b", "a\\b", "a?b", "a#b", "%2e%2e", "a%2fb", "a\nb", "\u{7f}"] {
            assert!(!is_segment(bad) && !is_account(bad), "{bad:?}");
        }
        assert!(is_segment("a:b") && !is_account("a:b"));
        for good in ["demo", "my org", "...", "a.b-c_d", "é"] {
            assert!(is_account(good), "{good:?}");
        }
    }

    #[test]
    fn roles_are_parsed_printed_and_turned_into_logins() {
        let host: RoleId = "demo:host:apps/web:1".parse().unwrap();
        assert_eq!(
            (host.login().as_str(), host.to_string().as_str()),
            ("host/apps/web:1", "demo:host:apps/web:1")
        );
        let user: RoleId = "demo:user:alice@apps".parse().unwrap();
        assert_eq!(user.login(), "alice@apps");
        assert!("demo:user".parse::<RoleId>().is_err());
        assert_eq!(RoleId::from_login("demo", "host/apps/web:1").unwrap(), host);
        assert_eq!(RoleId::from_login("demo", "alice@apps").unwrap(), user);
    }

    proptest! {
        #[test]
        fn an_id_comes_back_as_it_went(id in "[^\\p{Cc}]{1,40}") {
            prop_assume!(VariableId::new(&id).is_ok());
            let url = Url::parse(&format!("http://h/p/{}?ids=a:variable:{},x", segment(&id), query(&id))).unwrap();
            let last = url.path_segments().unwrap().next_back().unwrap();
            prop_assert_eq!(percent_decode_str(last).decode_utf8().unwrap(), id.as_str());
            prop_assert_eq!(url.path_segments().unwrap().count(), 2);
            let sent = url.query().unwrap().strip_prefix("ids=a:variable:").unwrap();
            let sent = sent.strip_suffix(",x").unwrap();
            prop_assert!(!sent.contains([',', '+', '&']));
            prop_assert_eq!(percent_decode_str(sent).decode_utf8().unwrap(), id.as_str());
        }
    }
}
