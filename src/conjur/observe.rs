//! What a metric may count: each request on the wire, by endpoint and outcome, both closed lists.

use std::time::Duration;

/// Which of Conjur's routes a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `POST authn/…/authenticate`
    Authenticate,
    /// `GET whoami`
    WhoAmI,
    /// `GET /`
    Version,
    /// `GET secrets/{account}/variable/{id}`
    Secret,
    /// `GET secrets?variable_ids=`
    SecretBatch,
    /// `POST`, `PATCH`, `PUT policies/…`
    PolicyLoad,
    /// `GET resources/…?check=true`
    Check,
    /// `GET resources/{account}/{kind}/{id}`
    ShowResource,
    /// `GET resources/{account}/{kind}`
    ListResources,
    /// `PUT authn/{account}/api_key`
    RotateApiKey,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Authenticate,
        Self::WhoAmI,
        Self::Version,
        Self::Secret,
        Self::SecretBatch,
        Self::PolicyLoad,
        Self::Check,
        Self::ShowResource,
        Self::ListResources,
        Self::RotateApiKey,
    ];

    /// A short name, for a label or a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::WhoAmI => "whoami",
            Self::Version => "version",
            Self::Secret => "secret",
            Self::SecretBatch => "secret_batch",
            Self::PolicyLoad => "policy_load",
            Self::Check => "check",
            Self::ShowResource => "show_resource",
            Self::ListResources => "list_resources",
            Self::RotateApiKey => "rotate_api_key",
        }
    }

    /// Whether an answer may hold a value, a token or a key. Nothing of such a body goes into an error.
    pub(crate) const fn is_secret(self) -> bool {
        matches!(self, Self::Authenticate | Self::Secret | Self::SecretBatch | Self::RotateApiKey)
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// 2xx
    Ok,
    /// 401
    Unauthenticated,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 409
    Conflict,
    /// 429
    RateLimited,
    /// any other 4xx, and 3xx
    Refused,
    /// 5xx
    ServerError,
    /// no connection, or it broke
    Unreachable,
    /// no answer within the deadline
    Timeout,
    /// the TLS handshake failed
    Tls,
    /// the answer was over its limit
    TooLarge,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::RateLimited,
        Self::Refused,
        Self::ServerError,
        Self::Unreachable,
        Self::Timeout,
        Self::Tls,
        Self::TooLarge,
    ];

    /// A short name, for a label or a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::TooLarge => "too_large",
        }
    }

    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            429 => Self::RateLimited,
            500.. => Self::ServerError,
            _ => Self::Refused,
        }
    }
}

/// Told of every request on the wire, retries included. Must not block.
pub trait Observer: Send + Sync {
    /// One request to `endpoint` ended with `outcome`, `took` after it was sent.
    fn request(&self, endpoint: Endpoint, outcome: Outcome, took: Duration);
}

/// Looks away.
pub(crate) struct Unobserved;

impl Observer for Unobserved {
    fn request(&self, _: Endpoint, _: Outcome, _: Duration) {}
}
