//! The access token: fetched once for all who wait, renewed before it ends, and never asked for in a storm.

pub(crate) mod methods;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::header::HeaderValue;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::config::Credentials;
use super::error::Error;
use super::http::{Call, Transport};
use super::response::{self, HttpAnswer};
use super::words::Words;
use crate::gate::Priority;
use crate::sensitive::Sensitive;

const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// What Conjur gives a token (recordings 14 and following), assumed where it can't be read.
const USUAL_LIFE: Duration = Duration::from_secs(480);

/// How long a failure is remembered: doubling, for a refused credential, and fixed for a connection that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub first: Duration,
    pub longest: Duration,
    pub connection: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            connection: Duration::from_secs(1),
        }
    }
}

/// A token as it is sent. The header's copy is not wiped: `http` owns its bytes.
pub(crate) struct Token {
    pub header: HeaderValue,
    made: Instant,
    life: Duration,
    /// When it was made by the server's clock.
    issued: Option<Timestamp>,
    /// Whether a call was let in with it.
    proved: AtomicBool,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    failure: Option<LoginFailure>,
    /// How often in a row the credentials were refused.
    strikes: u32,
}

struct LoginFailure {
    error: Error,
    at: Instant,
    until: Instant,
}

impl Token {
    /// What time it is by the clock of the server that made it, in whole seconds.
    pub(crate) fn servers_time(&self) -> Option<Timestamp> {
        let now = self.issued?.checked_add(self.made.elapsed()).ok()?;
        Timestamp::from_second(now.as_second()).ok()
    }
}

pub(crate) struct Tokens {
    credentials: Credentials,
    account: String,
    refresh_interval: Duration,
    timeout: Duration,
    backoff: Backoff,
    who: String,
    /// Who the tokens say it is, where the credentials don't.
    subject: OnceLock<String>,
    /// The API key that a password gave.
    key: Mutex<Option<Sensitive<String>>>,
    state: Mutex<State>,
}

impl Tokens {
    /// `who` is whom messages name until the server has said whose the tokens are.
    pub(crate) fn new(
        (credentials, who): (Credentials, String),
        account: String,
        refresh_interval: Duration,
        timeout: Duration,
        backoff: Backoff,
    ) -> Self {
        Self {
            who,
            subject: OnceLock::new(),
            key: Mutex::default(),
            state: Mutex::default(),
            credentials,
            account,
            refresh_interval,
            timeout,
            backoff,
        }
    }

    /// Who asks, for messages.
    pub(crate) fn login(&self) -> &str {
        self.subject.get().unwrap_or(&self.who)
    }

    /// A token that is young enough. One caller fetches it, the others wait for that; so does a failure go to all
    /// who waited for it, and, while it is backed off, to those who come later.
    pub(crate) async fn get(&self, transport: &Transport, priority: Priority) -> Result<Arc<Token>, Error> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let current = state.token.clone();
        if let Some(token) = &current
            && now < token.made + self.refresh_interval.min(token.life * 3 / 4)
        {
            return Ok(Arc::clone(token));
        }
        // A token that is due for renewal still works while renewing doesn't: nearly to its end where no one can be asked, and to its
        // very end where the credentials are refused, as in a rotation of their key, which the token outlives (recording 785).
        let spare = |error: &Error| {
            current.clone().filter(|token| {
                let refused = matches!(error, Error::Unauthenticated { .. });
                now < token.made + if refused { token.life } else { token.life * 9 / 10 }
            })
        };
        if let Some(failure) = &state.failure
            && (now < failure.until || asked < failure.at)
        {
            return spare(&failure.error).ok_or_else(|| failure.error.clone());
        }
        match self.authenticate(transport, priority).await {
            Ok(token) => {
                let token = Arc::new(token);
                state.failure = None;
                state.token = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(error) => {
                self.fail(&mut state, error.clone());
                spare(&error).ok_or(error)
            }
        }
    }

    /// A call was let in with `token`: the credentials are good.
    pub(crate) async fn accept(&self, token: &Token) {
        if !token.proved.swap(true, Ordering::Relaxed) {
            self.state.lock().await.strikes = 0;
        }
    }

    /// A call was refused with `token`: it is not used again.
    pub(crate) async fn invalidate(&self, token: &Arc<Token>) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|current| Arc::ptr_eq(current, token)) {
            state.token = None;
        }
    }

    /// A token made a moment ago was refused too: as bad as a wrong key, or every call would cost an authentication.
    pub(crate) async fn reject(&self, token: &Arc<Token>, error: Error) {
        self.invalidate(token).await;
        self.fail(&mut *self.state.lock().await, error);
    }

    fn fail(&self, state: &mut State, error: Error) {
        let pause = match &error {
            Error::RateLimited { retry_after: Some(wait), .. } => (*wait).min(self.backoff.longest),
            Error::Unauthenticated { .. } => {
                state.strikes = state.strikes.saturating_add(1);
                self.backoff.first.saturating_mul(1 << (state.strikes - 1).min(20)).min(self.backoff.longest)
            }
            // Only for those who waited for it: the next one may find room.
            Error::NoRoom { .. } => Duration::ZERO,
            _ => self.backoff.connection,
        };
        let at = Instant::now();
        state.failure = Some(LoginFailure { error, at, until: at + pause });
    }

    async fn authenticate(&self, transport: &Transport, priority: Priority) -> Result<Token, Error> {
        let timeout = self.timeout;
        let account = self.account.as_str();
        let call = match &self.credentials {
            Credentials::ApiKey { login, api_key } => {
                methods::with_key(account, login, api_key, priority, timeout)
            }
            Credentials::Password { login, password } => {
                return self.authenticate_by_password(transport, login, password, priority).await;
            }
            Credentials::Jwt { service_id, host_id, source } => {
                let jwt = tokio::time::timeout(timeout, source.jwt()).await.map_err(|_| {
                    let message = format!("no JWT came within {} s", timeout.as_secs());
                    Error::unavailable(message)
                })??;
                methods::with_jwt((service_id, account, host_id.as_deref()), &jwt, priority, timeout)
            }
            Credentials::Certificate { service_id, host_id, .. } => {
                methods::with_certificate((service_id, account, host_id.as_deref()), priority, timeout)
            }
            Credentials::Anonymous => {
                return Err(Error::config("this call needs a token, and the client has no credentials"));
            }
        };
        self.exchange(transport, &call).await
    }

    /// With the key that the password gave before; where that is refused, with the one that it gives now.
    async fn authenticate_by_password(
        &self,
        transport: &Transport,
        login: &str,
        password: &Sensitive<String>,
        priority: Priority,
    ) -> Result<Token, Error> {
        let mut key = self.key.lock().await;
        let with_key =
            |key: &Sensitive<String>| methods::with_key(&self.account, login, key, priority, self.timeout);
        if let Some(known) = &*key {
            match self.exchange(transport, &with_key(known)).await {
                Err(Error::Unauthenticated { .. }) => *key = None,
                result => return result,
            }
        }
        let call = methods::login(&self.account, login, password, priority, self.timeout)?;
        let fetched = methods::fetch_key(transport, login, &call).await;
        let fetched = key.insert(fetched.map_err(as_connection)?);
        self.exchange(transport, &with_key(fetched)).await
    }

    async fn exchange(&self, transport: &Transport, call: &Call) -> Result<Token, Error> {
        let answer = transport.send(call, None).await.map_err(|fault| fault.error)?;
        let about = response::About {
            url: transport.url(),
            login: self.login(),
            target: "an access token",
            privilege: methods::hint(&self.credentials),
        };
        if answer.status == 200 {
            let (token, subject) = token_of(&answer).ok_or_else(|| Error::Unexpected {
                status: Some(200),
                message: response::not_an_api(&answer, about),
            })?;
            if let Some(subject) = subject {
                self.subject.set(subject).ok();
            }
            Ok(token)
        } else {
            Err(as_connection(response::from_answer(&answer, about)))
        }
    }
}

/// Without a token nothing works: it is the connection's fault, whatever 5xx it is.
fn as_connection(error: Error) -> Error {
    match error {
        Error::Unexpected { status: Some(500..), message } => Error::unavailable(message),
        error => error,
    }
}

/// The token of an answer, and whose it is. Its life is counted from now, by its own `exp - iat`: the server's clock is not the operator's.
fn token_of(answer: &HttpAnswer) -> Option<(Token, Option<String>)> {
    #[derive(Deserialize)]
    struct Parts {
        payload: Sensitive<String>,
    }
    #[derive(Deserialize)]
    struct Payload {
        iat: i64,
        exp: i64,
        sub: Option<Words>,
    }
    let body = answer.body.expose();
    let parts: Parts = serde_json::from_slice(body).ok()?;
    let payload = URL_SAFE
        .decode(parts.payload.expose())
        .map(Zeroizing::new)
        .ok()
        .and_then(|payload| serde_json::from_slice::<Payload>(&payload).ok());
    let life = payload
        .as_ref()
        .and_then(|payload| u64::try_from(payload.exp.checked_sub(payload.iat)?).ok())
        .filter(|seconds| (1..=86_400).contains(seconds))
        .map_or(USUAL_LIFE, Duration::from_secs);
    let issued = payload.as_ref().and_then(|payload| Timestamp::from_second(payload.iat).ok());
    let subject = payload.and_then(|payload| payload.sub).map(Words::into_string);
    let text = Zeroizing::new(format!("Token token=\"{}\"", Zeroizing::new(STANDARD.encode(body)).as_str()));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    let token = Token { header, made: Instant::now(), life, issued, proved: AtomicBool::new(false) };
    Some((token, subject))
}
