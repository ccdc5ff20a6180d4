//! What can go wrong, by meaning.
//!
//! ```
//! use conjur_client::Error;
//!
//! /// Whether to ask again soon, by itself.
//! fn may_pass(error: &Error) -> bool {
//!     matches!(error, Error::Unavailable { .. } | Error::RateLimited { .. } | Error::NoRoom { .. })
//! }
//!
//! let error = Error::unavailable("no answer within 30 s");
//! assert!(may_pass(&error) && error.is_connection());
//! ```

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::capabilities::Capability;
use super::words::words;

/// Why a call failed. Messages say what happened to what; nothing in them comes from a body that may hold a secret. What the
/// network, TLS or a parser said is the [source](StdError::source), where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration can't work: the URL, the account, the CA bundle, the credentials' form.
    #[error("{message}")]
    Config {
        /// What is wrong with which field.
        message: String,
        /// What reads such a field says.
        source: Option<Cause>,
    },
    /// The host is one that the connections of a party may not lead to ([`reach`](crate::reach)). Says the same whatever is
    /// there.
    #[error("{message}")]
    HostDenied {
        /// Which, and who decides that.
        message: String,
    },
    /// 401: the credentials, or a token made of them a moment ago, are not accepted. Or 403 where one logs in: they are
    /// right, and the authenticator does not let them in.
    #[error("{message}")]
    Unauthenticated {
        /// Who was refused where.
        message: String,
    },
    /// 403: visible, but the privilege is missing. In a batch the server says so of what is invisible too; such an
    /// id was asked for once more, alone.
    #[error("{message}")]
    Forbidden {
        /// Who lacks which privilege on what.
        message: String,
    },
    /// 404: missing, without a value, or not visible to the caller; the server doesn't tell these apart.
    #[error("{message}")]
    NotFound {
        /// What wasn't found, as in `variable apps/db/password`.
        target: String,
        /// The same as a sentence.
        message: String,
    },
    /// 422 and other refusals of what was sent.
    #[error("{message}")]
    Invalid {
        /// Conjur's code, as in `policy_invalid`.
        code: String,
        /// What it said.
        message: String,
        /// The line of a policy document, from 1, where the server gave one.
        line: Option<u32>,
        /// Its column.
        column: Option<u32>,
        /// The record that a policy document refers to and that isn't there, as a full id.
        missing: Option<String>,
    },
    /// 409: another load of the same branch is going on.
    #[error("{message}")]
    Conflict {
        /// What collided.
        message: String,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// 429, or 503 with a `Retry-After` too long to wait for.
    #[error("{message}")]
    RateLimited {
        /// Who limits.
        message: String,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// No connection, no answer in time, a broken answer, 502, 503, 504, or 500 to everything that was tried.
    #[error("{message}")]
    Unavailable {
        /// What was tried and what came of it.
        message: String,
        /// What the network said.
        source: Option<Cause>,
    },
    /// The client itself has no room for the call now: no memory for its answer, or no connection or look-up free. Says
    /// nothing of the server, and holds for this call alone.
    #[error("{message}")]
    NoRoom {
        /// What found no room.
        message: String,
    },
    /// The TLS handshake failed.
    #[error("{message}")]
    Tls {
        /// Why, and what to look at.
        message: String,
        /// What failed.
        source: Option<Cause>,
    },
    /// The answer is larger than the client reads.
    #[error("{message}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// Whose answer it was.
        message: String,
    },
    /// 404 without Conjur's JSON: the server has no route for such a call, or is no Conjur.
    #[error("{message}")]
    NoRoute {
        /// What was asked for where.
        message: String,
    },
    /// The server lacks what the call needs, by its version, or since it has no route for it.
    #[error("{message}")]
    Unsupported {
        /// What it lacks.
        what: Capability,
        /// Which server lacks what, why, and what to do.
        message: String,
    },
    /// 426 with `Upgrade`: the server wants to be spoken to by another version of the API than this client knows.
    #[error("{message}")]
    ContractVersion {
        /// The version it wants, where it can be one.
        wanted: Option<String>,
        /// Which server wants what.
        message: String,
    },
    /// An answer that Conjur would not give: HTML, a redirect, a 500, a missing id.
    #[error("{message}")]
    Unexpected {
        /// The status, where there was an answer.
        status: Option<u16>,
        /// What came instead of what.
        message: String,
    },
}

impl Error {
    /// Whether the connection is at fault rather than what was asked for: every other call would fail as well.
    pub fn is_connection(&self) -> bool {
        match self {
            Self::HostDenied { .. }
            | Self::Unauthenticated { .. }
            | Self::RateLimited { .. }
            | Self::Unavailable { .. }
            | Self::Tls { .. } => true,
            Self::Config { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Invalid { .. }
            | Self::Conflict { .. }
            | Self::NoRoom { .. }
            | Self::TooLarge { .. }
            | Self::NoRoute { .. }
            | Self::Unsupported { .. }
            | Self::ContractVersion { .. }
            | Self::Unexpected { .. } => false,
        }
    }

    /// Whether nothing was learnt of what was asked for: another try may bring it, however soon.
    pub(crate) fn tells_nothing(&self) -> bool {
        self.is_connection() || self.is_no_room()
    }

    /// Whether only the operator itself was short of something.
    pub(crate) fn is_no_room(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
    }

    /// The status of an answer that Conjur would not give, where there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unexpected { status, .. } => *status,
            Self::NoRoute { .. } => Some(404),
            _ => None,
        }
    }

    /// When the server wants to be asked again, where it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Conflict { retry_after, .. } | Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the id itself is bad for this caller, and worth remembering.
    pub(crate) fn is_bad_id(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Forbidden { .. })
    }

    /// [`Error::Config`]: a person has to act. `message` says what is wrong with which field.
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config { message: message.into(), source: None }
    }

    /// [`Error::Unavailable`]: it may pass. `message` says what was tried and what came of it.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), source: None }
    }

    /// The same error with what lies beneath it; those that have no place for it stay as they are.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        if let Self::Config { source, .. } | Self::Unavailable { source, .. } | Self::Tls { source, .. } =
            &mut self
        {
            *source = Some(Cause(Arc::from(cause.into())));
        }
        self
    }
}

/// What lies beneath an [`Error`], as text on one line; its own [source](StdError::source) goes on from there. Two are the
/// same if they say the same.
#[derive(Clone)]
pub struct Cause(Arc<dyn StdError + Send + Sync>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some quote the server: what a connection over HTTP/2 was closed with, say.
        f.write_str(&words(&self.0.to_string()))
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cause({:?})", self.to_string())
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for Cause {}

/// Why a policy load is not known to have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Certainly nothing was loaded.
    #[error(transparent)]
    Refused(Error),
    /// It may have been loaded: the answer never came, was cut off, or is a 5xx.
    #[error("whether the policy was loaded is not known: {0}")]
    Unknown(#[source] Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beneath_an_error_can_be_asked_for_and_does_not_stand_in_its_message() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = Error::unavailable("the connection broke").because(reset);
        let said = error.source().map(ToString::to_string);
        assert_eq!(
            (error.to_string().as_str(), said.as_deref()),
            ("the connection broke", Some("connection reset"))
        );
        assert_eq!(error, error.clone());
        assert_ne!(error, Error::unavailable("the connection broke"));
        let load = LoadError::Unknown(error.clone());
        assert_eq!(load.source().and_then(|source| source.downcast_ref()), Some(&error));
        let none = Error::NoRoom { message: "full".to_owned() }.because("x");
        assert!(none.source().is_none());
    }
}
