//! The ways to log in: what is sent for a token, and what a refusal is likely to mean.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use zeroize::Zeroizing;

use crate::config::Credentials;
use crate::config::host_login;
use crate::error::Error;
use crate::gate::{Parties, Priority};
use crate::http::{Call, Transport};
use crate::id;
use crate::limits::TOKEN_BYTES;
use crate::observe::Endpoint;
use crate::response::{self, About, HttpAnswer};
use crate::sensitive::Sensitive;

pub(super) const KEY_HINT: &str = "login, API key, account and the host's CIDRs";
pub(super) const PASSWORD_HINT: &str = "login, password and account";
pub(super) const JWT_HINT: &str = "that the authenticator is enabled, its issuer, audience and claims, and that the \
                                   host exists with the annotations it asks for";
pub(super) const CERTIFICATE_HINT: &str =
    "that the authenticator is enabled and trusts the certificate's issuer, and the certificate's names";

fn post(path: String, priority: Priority, timeout: Duration, body: Bytes) -> Call {
    Call {
        endpoint: Endpoint::Authenticate,
        method: Method::POST,
        path,
        headers: Vec::new(),
        body,
        priority,
        parties: Parties::everybody(),
        timeout,
        limit: TOKEN_BYTES,
        repeatable: true,
    }
}

/// `POST authn/{account}/{login}/authenticate`; the login is one segment (recordings 37 to 41).
pub(super) fn with_key(
    account: &str,
    login: &str,
    key: &Sensitive<String>,
    priority: Priority,
    timeout: Duration,
) -> Call {
    let path = format!("authn/{}/{}/authenticate", id::segment(account), id::segment(login));
    post(path, priority, timeout, secret_body(key.expose().clone().into_bytes()))
}

fn service(kind: &str, service: &str, account: &str, host: Option<&str>) -> String {
    let host = host.map(|host| format!("/{}", id::segment(&host_login(host)))).unwrap_or_default();
    format!("{kind}/{}/{}{host}/authenticate", id::segment(service), id::segment(account))
}

/// `POST authn-jwt/{service}/{account}[/{host}]/authenticate`.
pub(super) fn with_jwt(
    path: (&str, &str, Option<&str>),
    jwt: &Sensitive<String>,
    priority: Priority,
    timeout: Duration,
) -> Call {
    let (service_id, account, host) = path;
    let body = format!("jwt={}", id::segment(jwt.expose()));
    let mut call = post(
        service("authn-jwt", service_id, account, host),
        priority,
        timeout,
        secret_body(body.into_bytes()),
    );
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    call.headers.push((CONTENT_TYPE, form));
    call
}

/// `POST authn-cert/{service}/{account}[/{host}]/authenticate`, with an empty body.
pub(super) fn with_certificate(
    path: (&str, &str, Option<&str>),
    priority: Priority,
    timeout: Duration,
) -> Call {
    let (service_id, account, host) = path;
    post(service("authn-cert", service_id, account, host), priority, timeout, Bytes::new())
}

/// Bytes that are wiped when the request is done; hyper's write buffer is not the operator's.
pub(crate) fn secret_body(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Zeroizing::new(bytes))
}

/// The same of a value that is given away, without a copy.
pub(crate) fn sensitive_body(value: Sensitive<Vec<u8>>) -> Bytes {
    struct Owner(Sensitive<Vec<u8>>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.expose()
        }
    }
    Bytes::from_owner(Owner(value))
}

/// `Authorization: Basic`. A login with a colon can't be told from its password there.
///
/// # Errors
/// [`Error::Config`] for such a login.
pub(crate) fn basic(login: &str, secret: &Sensitive<String>) -> Result<HeaderValue, Error> {
    if login.contains(':') {
        return Err(Error::config(format!("{login:?} has a colon, which Basic authentication can't carry")));
    }
    let pair = Zeroizing::new(format!("{login}:{}", secret.expose()));
    let text = Zeroizing::new(format!("Basic {}", Zeroizing::new(STANDARD.encode(pair.as_bytes())).as_str()));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Error::config(format!("the credentials of {login} can't be written into a header")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `GET authn/{account}/login`: the API key for a password, or for the key itself (recordings 10 to 13, 43, 544).
///
/// # Errors
/// [`Error::Config`] for a login with a colon.
pub(crate) fn login(
    account: &str,
    login: &str,
    password: &Sensitive<String>,
    priority: Priority,
    timeout: Duration,
) -> Result<Call, Error> {
    Ok(Call {
        endpoint: Endpoint::Login,
        method: Method::GET,
        path: format!("authn/{}/login", id::segment(account)),
        headers: vec![(AUTHORIZATION, basic(login, password)?)],
        body: Bytes::new(),
        priority,
        parties: Parties::everybody(),
        timeout,
        limit: TOKEN_BYTES,
        repeatable: true,
    })
}

/// The API key that a login brings.
pub(crate) async fn fetch_key(
    transport: &Transport,
    who: &str,
    call: &Call,
) -> Result<Sensitive<String>, Error> {
    let answer = transport.send(call, None).await.map_err(|fault| fault.error)?;
    let about = About { url: transport.url(), login: who, target: "the API key", privilege: PASSWORD_HINT };
    read_key(&answer, about)
}

/// The API key that an answer is.
pub(crate) fn read_key(answer: &HttpAnswer, about: About<'_>) -> Result<Sensitive<String>, Error> {
    if !answer.is_success() {
        return Err(response::from_answer(answer, about));
    }
    let key = std::str::from_utf8(answer.body.expose()).map(str::trim).unwrap_or_default();
    if key.is_empty() || key.starts_with(['<', '{']) || key.contains(char::is_whitespace) {
        let message = response::not_an_api(answer, about);
        return Err(Error::Unexpected { status: Some(answer.status), message });
    }
    Ok(Sensitive::new(key.to_owned()))
}

/// What to look at when these are refused.
pub(super) fn hint(credentials: &Credentials) -> &'static str {
    match credentials {
        Credentials::ApiKey { .. } | Credentials::Password { .. } => KEY_HINT,
        Credentials::Jwt { .. } => JWT_HINT,
        Credentials::Certificate { .. } => CERTIFICATE_HINT,
        Credentials::Anonymous => "the credentials",
    }
}
