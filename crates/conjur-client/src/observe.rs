//! What a metric may count: each request on the wire, by endpoint and outcome, both closed lists.
//!
//! ```
//! use std::time::Duration;
//!
//! use conjur_client::{Endpoint, Observer, Outcome};
//!
//! /// Writes each request to the log.
//! struct Log;
//!
//! impl Observer for Log {
//!     fn request(&self, endpoint: Endpoint, outcome: Outcome, took: Duration) {
//!         println!("{} {} {took:?}", endpoint.as_str(), outcome.as_str());
//!     }
//! }
//! ```

use std::time::Duration;

use crate::gate::Priority;

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
    /// `PUT authn/{account}/api_key?role=`
    RotateApiKey,
    /// `GET authn/{account}/login`
    Login,
    /// `PUT authn/{account}/password`
    ChangePassword,
    /// `PUT authn/{account}/api_key` with Basic
    RotateOwnApiKey,
    /// `POST secrets/{account}/{kind}/{id}`
    SetSecret,
    /// `POST`, `PATCH`, `PUT policies/…?dryRun=true`
    PolicyDryRun,
    /// `GET policies/…`
    EffectivePolicy,
    /// `GET roles/{account}/{kind}/{id}`
    ShowRole,
    /// `GET roles/…?members`
    RoleMembers,
    /// `GET roles/…?memberships` and `?all`
    RoleMemberships,
    /// `GET resources/…?permitted_roles=true`
    PermittedRoles,
    /// `POST host_factory_tokens`
    CreateHostFactoryTokens,
    /// `DELETE host_factory_tokens/{token}`
    RevokeHostFactoryToken,
    /// `POST host_factories/hosts`
    CreateHost,
    /// `GET public_keys/{account}/{kind}/{id}`
    PublicKeys,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 24] = [
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
        Self::Login,
        Self::ChangePassword,
        Self::RotateOwnApiKey,
        Self::SetSecret,
        Self::PolicyDryRun,
        Self::EffectivePolicy,
        Self::ShowRole,
        Self::RoleMembers,
        Self::RoleMemberships,
        Self::PermittedRoles,
        Self::CreateHostFactoryTokens,
        Self::RevokeHostFactoryToken,
        Self::CreateHost,
        Self::PublicKeys,
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
            Self::Login => "login",
            Self::ChangePassword => "change_password",
            Self::RotateOwnApiKey => "rotate_own_api_key",
            Self::SetSecret => "set_secret",
            Self::PolicyDryRun => "policy_dry_run",
            Self::EffectivePolicy => "effective_policy",
            Self::ShowRole => "show_role",
            Self::RoleMembers => "role_members",
            Self::RoleMemberships => "role_memberships",
            Self::PermittedRoles => "permitted_roles",
            Self::CreateHostFactoryTokens => "create_host_factory_tokens",
            Self::RevokeHostFactoryToken => "revoke_host_factory_token",
            Self::CreateHost => "create_host",
            Self::PublicKeys => "public_keys",
        }
    }

    /// Whether a success is JSON of many records.
    pub(crate) const fn is_json(self) -> bool {
        !matches!(
            self,
            Self::Secret
                | Self::EffectivePolicy
                | Self::PublicKeys
                | Self::Authenticate
                | Self::Login
                | Self::RotateApiKey
                | Self::RotateOwnApiKey
        )
    }

    /// Whether a refusal says more than its status does: what is wrong with a document and where, or what a password
    /// must have.
    pub(crate) const fn says_why(self) -> bool {
        matches!(self, Self::PolicyLoad | Self::PolicyDryRun | Self::EffectivePolicy | Self::ChangePassword)
    }

    /// Whether the text of a refusal could quote a value, a token or a key. Nothing of such a body goes into an error.
    pub(crate) const fn is_secret(self) -> bool {
        matches!(
            self,
            Self::Authenticate
                | Self::Login
                | Self::Secret
                | Self::SecretBatch
                | Self::SetSecret
                | Self::RotateApiKey
                | Self::RotateOwnApiKey
                | Self::RevokeHostFactoryToken
        )
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

    /// One request for so many variables is about to be sent.
    fn batch(&self, variables: usize) {
        let _ = variables;
    }

    /// A request had its turn after this long: it waited for others, and for the pace.
    fn waited(&self, priority: Priority, wait: Duration) {
        let _ = (priority, wait);
    }
}

/// Looks away.
pub(crate) struct Unobserved;

impl Observer for Unobserved {
    fn request(&self, _: Endpoint, _: Outcome, _: Duration) {}
}
