//! What can go wrong, by meaning, and the one function that makes a meaning of an answer.

use std::time::Duration;

use serde::Deserialize;

use super::http::Answer;
use super::observe::Endpoint;
use super::words::Words;
use crate::limits::RETRY_AFTER_LOAD;

/// Why a call failed. Messages say what happened to what; nothing in them comes from a body that may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration can't work: the URL, the account, the CA bundle, the credentials' form.
    #[error("{message}")]
    Config {
        /// What is wrong with which field.
        message: String,
    },
    /// The host is one that the connections of a namespace may not lead to. Says the same whatever is there.
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
    },
    /// The operator itself has no room for the call now: no memory for its answer, or no connection or look-up free. Says
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
    },
    /// The answer is larger than the client reads.
    #[error("{message}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// Whose answer it was.
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

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config { message: message.into() }
    }
}

/// Why a policy load is not known to have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Certainly nothing was loaded.
    #[error("{0}")]
    Refused(Error),
    /// It may have been loaded: the answer never came, was cut off, or is a 5xx.
    #[error("whether the policy was loaded is not known: {0}")]
    Unknown(Error),
}

/// What a call was about, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    /// The server's URL.
    pub url: &'a str,
    /// Who asks.
    pub login: &'a str,
    /// The thing, as in `variable apps/db/password`.
    pub target: &'a str,
    /// What is missing when it is forbidden, as in `the execute privilege`; what to check when credentials are refused.
    pub privilege: &'a str,
}

impl About<'_> {
    /// The 404 that a stream told of.
    pub(crate) fn missing(&self) -> Error {
        let Self { login, target, .. } = self;
        Error::NotFound {
            target: (*target).to_owned(),
            message: format!("{target} is missing, or not visible to {login}"),
        }
    }
}

/// Conjur's error body; its shape varies with the status, and everything but `error` is optional.
#[derive(Debug, Default, Deserialize)]
struct Body {
    error: Said,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    code: Words,
    message: Words,
    innererror: Option<Position>,
}

#[derive(Debug, Deserialize)]
struct Position {
    line: Option<u32>,
    column: Option<u32>,
}

/// The code and message of an error body, if it is one. Only for deciding; [`from_answer`] makes errors.
pub(crate) fn message_of(answer: &Answer) -> Option<String> {
    let body = serde_json::from_slice::<Body>(answer.body.expose()).ok()?;
    Some(body.error.message.into_string())
}

/// The code of an error body, as in `argument_error`.
pub(crate) fn code_of(answer: &Answer) -> Option<String> {
    let said = serde_json::from_slice::<Body>(answer.body.expose()).ok()?.error;
    let known = matches!(said.code.as_str(), "argument_error" | "unprocessable_entity" | "validation_failed");
    (if answer.endpoint.is_secret() { known } else { plain(&said.code) }).then(|| said.code.into_string())
}

/// Whether it has the form of Conjur's codes, and so is one word of its own rather than somebody's text.
fn plain(code: &Words) -> bool {
    let code = code.as_str();
    (1..=64).contains(&code.len()) && code.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The meaning of an answer that is not a success.
pub(crate) fn from_answer(answer: &Answer, about: About<'_>) -> Error {
    let About { url, login, target, privilege } = about;
    let endpoint = answer.endpoint;
    let said =
        serde_json::from_slice::<Body>(answer.body.expose()).ok().map(|body| body.error).unwrap_or_default();
    // Elsewhere there is no more to say than the status does, and a server's words could be anything.
    let words = if !endpoint.says_why() || said.message.as_str().is_empty() {
        String::new()
    } else {
        format!(": {}", said.message.as_str())
    };
    let status = answer.status;
    let retry_after = answer.retry_after();
    match status {
        401 => Error::Unauthenticated { message: unauthenticated(answer, &said, about) },
        403 if endpoint == Endpoint::Authenticate => Error::Unauthenticated { message: not_let_in(about) },
        403 => Error::Forbidden { message: format!("{login} may see {target} but lacks {privilege}") },
        404 if !answer.is_conjur_404() => {
            Error::Unexpected { status: Some(404), message: not_an_api(answer, about) }
        }
        404 => Error::NotFound { target: target.to_owned(), message: not_found(endpoint, about) },
        407 => Error::Unavailable {
            message: format!("the proxy in front of {url} wants credentials of its own (status 407)"),
        },
        409 => Error::Conflict {
            message: format!("{target} is busy{words}"),
            retry_after: retry_after.map(|wait| wait.min(RETRY_AFTER_LOAD)),
        },
        429 => Error::RateLimited { message: limited(url, 429, retry_after), retry_after },
        503 if retry_after.is_some() => {
            Error::RateLimited { message: limited(url, 503, retry_after), retry_after }
        }
        502..=504 => Error::Unavailable {
            message: format!("{url} answered {status} for {target}{words}{}", gateway(answer)),
        },
        400 | 405..=428 | 430..=499 => {
            let position = said.innererror;
            let missing = missing_record(said.message.as_str()).filter(|_| position.is_none());
            Error::Invalid {
                message: format!("{url} refused {target} with {status}{words}{}", gateway(answer)),
                code: code_of(answer).unwrap_or_else(|| status.to_string()),
                line: position.as_ref().and_then(|at| at.line),
                column: position.as_ref().and_then(|at| at.column),
                missing,
            }
        }
        300..=399 => Error::Unexpected {
            status: Some(status),
            message: format!("{url} redirects (status {status}); give the URL of the Conjur API itself"),
        },
        _ => Error::Unexpected {
            status: Some(status),
            message: format!("{url} answered {status} for {target}{words}"),
        },
    }
}

/// `Group 'app/later' not found in account 'demo'` is `demo:group:app/later` (recordings 70 to 73).
pub(crate) fn missing_record(words: &str) -> Option<String> {
    let (record, account) = words.rsplit_once("' not found in account '")?;
    let (account, _) = account.split_once('\'')?;
    let (kind, id) = record.split_once(" '")?;
    let kind = kind.to_ascii_lowercase().replace([' ', '-'], "_");
    let is_word =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    (is_word(&kind) && is_word(account) && !id.is_empty()).then(|| format!("{account}:{kind}:{id}"))
}

fn unauthenticated(answer: &Answer, said: &Said, About { url, login, privilege, .. }: About<'_>) -> String {
    match answer.endpoint {
        Endpoint::Authenticate => {
            // The only refusal that says why (recording 584). No more than its code is taken from such a body.
            let why =
                if said.message.as_str().starts_with("CONJ00016E") { " (its token has expired)" } else { "" };
            format!("{url} refused the credentials of {login}{why}: check {privilege}")
        }
        Endpoint::Login | Endpoint::ChangePassword | Endpoint::RotateOwnApiKey => {
            format!("{url} refused the credentials of {login}: check {privilege}")
        }
        Endpoint::CreateHost => format!(
            "{url} refused the host factory token: it is unknown, revoked, expired, or not for this address"
        ),
        _ => format!("{url} does not accept an access token that it made for {login} a moment ago"),
    }
}

/// 403 to somebody who logs in: the key or token is good, and the authenticator does not let its owner in.
fn not_let_in(About { url, login, .. }: About<'_>) -> String {
    format!(
        "{url} knows {login}, but does not let it log in (status 403): the authenticator's webservice, \
         conjur/<authenticator>/<service id>, must be enabled and permit it `authenticate` (a member of its group of \
         apps, say), and the caller's address must be in the `restricted_to` of the host"
    )
}

/// Whose page it is that came instead of Conjur's JSON.
fn gateway(answer: &Answer) -> &'static str {
    if answer.is_html() && !answer.body.expose().is_empty() {
        ", as a page of HTML: it comes from a gateway or a proxy in front of it"
    } else {
        ""
    }
}

fn not_found(endpoint: Endpoint, About { login, target, .. }: About<'_>) -> String {
    match endpoint {
        Endpoint::Secret | Endpoint::SecretBatch => {
            format!("{target} is missing, has no value, or is not visible to {login}")
        }
        _ => format!("{target} is missing, or not visible to {login}"),
    }
}

fn limited(url: &str, status: u16, retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => {
            format!("{url} limits its callers (status {status}) and asks to wait {} s", wait.as_secs())
        }
        None => format!("{url} limits its callers (status {status})"),
    }
}

/// An answer that is not Conjur's: says what came, and where to look.
pub(crate) fn not_an_api(answer: &Answer, About { url, target, .. }: About<'_>) -> String {
    if answer.status == 404 && answer.body.expose().is_empty() {
        return format!(
            "{url} has no route for {target}: is it of a kind that this server knows, and is it the URL of a Conjur \
             API? (the hosted service's ends in /api)"
        );
    }
    let what = if answer.is_html() { "an HTML page" } else { "something that is not Conjur's JSON" };
    format!(
        "{url} answered {} with {what} for {target}: is it the URL of a Conjur API? (the hosted service's ends in /api)",
        answer.status
    )
}
