//! An answer that was read, what its headers say, and the one function that makes a meaning of it.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER, UPGRADE};
use jiff::Timestamp;
use serde::Deserialize;

use super::error::Error;
use super::memory_budget::Share;
use super::observe::Endpoint;
use super::words::Words;
use crate::limits;
use crate::sensitive::Sensitive;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub endpoint: Endpoint,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Sensitive<Vec<u8>>,
    /// Of the budget of bytes in flight, where it is large.
    pub share: Option<Share>,
}

impl HttpAnswer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn is_html(&self) -> bool {
        self.header(&CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
    }

    pub(crate) fn encoding(&self) -> Option<&str> {
        self.header(&CONTENT_ENCODING).filter(|encoding| *encoding != "identity")
    }

    /// A 404 of Conjur has a JSON body; one without is a route, or a server, that isn't Conjur's.
    pub(crate) fn is_conjur_404(&self) -> bool {
        message_of(self).is_some()
    }

    /// `Retry-After`, in seconds or as a date, which is compared with the server's own clock; never longer than
    /// [`RETRY_AFTER`](limits::RETRY_AFTER).
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = self.header(&RETRY_AFTER)?.trim();
        retry_after(text, self.header(&DATE))
    }
}

/// What a `Retry-After` asks for, given the answer's `Date`.
pub(crate) fn retry_after(text: &str, now: Option<&str>) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        // More digits than a number has room for are only a longer pause.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(limits::RETRY_AFTER));
    }
    let pause = date(text)?.duration_since(now.and_then(date)?);
    Duration::try_from(pause).ok().map(|pause| pause.min(limits::RETRY_AFTER))
}

/// A date of a header, as in `Sun, 29 Nov 2026 01:39:24 GMT`.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
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
pub(crate) fn message_of(answer: &HttpAnswer) -> Option<String> {
    let body = serde_json::from_slice::<Body>(answer.body.expose()).ok()?;
    Some(body.error.message.into_string())
}

/// The code of an error body, as in `argument_error`.
pub(crate) fn code_of(answer: &HttpAnswer) -> Option<String> {
    let said = serde_json::from_slice::<Body>(answer.body.expose()).ok()?.error;
    let known = matches!(said.code.as_str(), "argument_error" | "unprocessable_entity" | "validation_failed");
    (if answer.endpoint.is_secret() { known } else { plain(&said.code) }).then(|| said.code.into_string())
}

/// Whether it has the form of Conjur's codes, and so is one word of its own rather than someone's text.
fn plain(code: &Words) -> bool {
    let code = code.as_str();
    (1..=64).contains(&code.len()) && code.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The meaning of an answer that is not a success.
pub(crate) fn from_answer(answer: &HttpAnswer, about: About<'_>) -> Error {
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
        404 if !answer.is_conjur_404() => Error::NoRoute { message: not_an_api(answer, about) },
        404 => Error::NotFound { target: target.to_owned(), message: not_found(endpoint, about) },
        407 => Error::unavailable(format!(
            "the proxy in front of {url} wants credentials of its own (status 407)"
        )),
        409 => Error::Conflict {
            message: format!("{target} is busy{words}"),
            retry_after: retry_after.map(|wait| wait.min(limits::RETRY_AFTER_LOAD)),
        },
        426 if answer.header(&UPGRADE).is_some() => contract(answer, about),
        429 => Error::RateLimited { message: limited(url, 429, retry_after), retry_after },
        503 if retry_after.is_some() => {
            Error::RateLimited { message: limited(url, 503, retry_after), retry_after }
        }
        502..=504 => {
            Error::unavailable(format!("{url} answered {status} for {target}{words}{}", gateway(answer)))
        }
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

/// The version that an `Upgrade` names stands in the message only where it looks like one.
fn contract(answer: &HttpAnswer, About { url, target, .. }: About<'_>) -> Error {
    let is_plain = |text: &&str| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b'/'))
    };
    let wanted = answer.header(&UPGRADE).map(str::trim).filter(is_plain).map(str::to_owned);
    let version =
        wanted.as_deref().map_or_else(|| "another version".to_owned(), |it| format!("version {it}"));
    let message = format!(
        "the server at {url} wants {version} of the API (status 426 for {target}), which this client does not speak: use \
         a release that does, or a server that still speaks the former one"
    );
    Error::ContractVersion { wanted, message }
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

fn unauthenticated(
    answer: &HttpAnswer,
    said: &Said,
    About { url, login, privilege, .. }: About<'_>,
) -> String {
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

/// 403 to someone who logs in: the key or token is good, and the authenticator does not let its owner in.
fn not_let_in(About { url, login, .. }: About<'_>) -> String {
    format!(
        "{url} knows {login}, but does not let it log in (status 403): the authenticator's webservice, \
         conjur/<authenticator>/<service id>, must be enabled and permit it `authenticate` (a member of its group of \
         apps, say), and the caller's address must be in the `restricted_to` of the host"
    )
}

/// Whose page it is that came instead of Conjur's JSON.
fn gateway(answer: &HttpAnswer) -> &'static str {
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
pub(crate) fn not_an_api(answer: &HttpAnswer, About { url, target, .. }: About<'_>) -> String {
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
