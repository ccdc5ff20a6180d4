//! The access token: fetched once for all who wait, renewed before it ends, and never asked for in a storm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::error::{self, Error};
use super::http::{Answer, Call, Transport};
use super::observe::Endpoint;
use super::pace::Lane;
use super::{Credentials, id};
use crate::sensitive::Sensitive;

const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// What Conjur gives a token (recordings 14 and following), assumed where it can't be read.
const USUAL_LIFE: Duration = Duration::from_secs(480);
const LIMIT: usize = 64 * 1024;

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
    /// Whether a call was let in with it.
    proved: AtomicBool,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    failure: Option<Failure>,
    /// How often in a row the credentials were refused.
    strikes: u32,
}

struct Failure {
    error: Error,
    at: Instant,
    until: Instant,
}

pub(crate) struct Tokens {
    credentials: Credentials,
    account: String,
    refresh_interval: Duration,
    timeout: Duration,
    backoff: Backoff,
    state: Mutex<State>,
}

impl Tokens {
    pub(crate) fn new(
        credentials: Credentials,
        account: String,
        refresh_interval: Duration,
        timeout: Duration,
        backoff: Backoff,
    ) -> Self {
        Self { credentials, account, refresh_interval, timeout, backoff, state: Mutex::default() }
    }

    /// Who asks, for messages.
    pub(crate) fn login(&self) -> &str {
        match &self.credentials {
            Credentials::ApiKey { login, .. } => login,
        }
    }

    /// A token that is young enough. One caller fetches it, the others wait for that; so does a failure go to all
    /// who waited for it, and, while it is backed off, to those who come later.
    pub(crate) async fn get(&self, transport: &Transport, lane: Lane) -> Result<Arc<Token>, Error> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let current = state.token.clone();
        if let Some(token) = &current
            && now < token.made + self.refresh_interval.min(token.life * 3 / 4)
        {
            return Ok(Arc::clone(token));
        }
        // A token that is due for renewal but not at its end still works while renewing doesn't.
        let spare = current.filter(|token| now < token.made + token.life * 9 / 10);
        if let Some(failure) = &state.failure
            && (now < failure.until || asked < failure.at)
        {
            return match spare {
                Some(token) if !matches!(failure.error, Error::Unauthenticated { .. }) => Ok(token),
                _ => Err(failure.error.clone()),
            };
        }
        match self.authenticate(transport, lane).await {
            Ok(token) => {
                let token = Arc::new(token);
                state.failure = None;
                state.token = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(error) => {
                self.fail(&mut state, error.clone());
                match spare {
                    Some(token) if !matches!(error, Error::Unauthenticated { .. }) => Ok(token),
                    _ => Err(error),
                }
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
            Error::RateLimited { retry_after: Some(wait), .. } => *wait,
            error if error.is_connection() && !matches!(error, Error::Unauthenticated { .. }) => {
                self.backoff.connection
            }
            _ => {
                state.strikes = state.strikes.saturating_add(1);
                self.backoff.first.saturating_mul(1 << (state.strikes - 1).min(20)).min(self.backoff.longest)
            }
        };
        let at = Instant::now();
        state.failure = Some(Failure { error, at, until: at + pause });
    }

    async fn authenticate(&self, transport: &Transport, lane: Lane) -> Result<Token, Error> {
        let Credentials::ApiKey { login, api_key } = &self.credentials;
        let call = Call {
            endpoint: Endpoint::Authenticate,
            method: Method::POST,
            path: format!("authn/{}/{}/authenticate", id::segment(&self.account), id::segment(login)),
            headers: Vec::new(),
            // Wiped when the request is done; hyper's write buffer is not ours.
            body: Bytes::from_owner(Zeroizing::new(api_key.expose().clone().into_bytes())),
            lane,
            timeout: self.timeout,
            limit: LIMIT,
            repeatable: true,
        };
        let answer = transport.send(&call, None).await.map_err(|fault| fault.error)?;
        let about = error::About { url: transport.url(), login, target: "an access token", privilege: "it" };
        if answer.status == 200 {
            token_of(&answer).ok_or_else(|| Error::Unexpected {
                status: Some(200),
                message: error::not_an_api(&answer, about),
            })
        } else {
            Err(error::from_answer(&answer, about))
        }
    }
}

/// The token of an answer. Its life is counted from now, by its own `exp - iat`: the server's clock is not ours.
fn token_of(answer: &Answer) -> Option<Token> {
    #[derive(Deserialize)]
    struct Parts {
        payload: Sensitive<String>,
    }
    #[derive(Deserialize)]
    struct Payload {
        iat: i64,
        exp: i64,
    }
    let body = answer.body.expose();
    let parts: Parts = serde_json::from_slice(body).ok()?;
    let life = URL_SAFE
        .decode(parts.payload.expose())
        .map(Zeroizing::new)
        .ok()
        .and_then(|payload| serde_json::from_slice::<Payload>(&payload).ok())
        .and_then(|payload| u64::try_from(payload.exp.checked_sub(payload.iat)?).ok())
        .filter(|seconds| (1..=86_400).contains(seconds))
        .map_or(USUAL_LIFE, Duration::from_secs);
    let text = Zeroizing::new(format!("Token token=\"{}\"", Zeroizing::new(STANDARD.encode(body)).as_str()));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(Token { header, made: Instant::now(), life, proved: AtomicBool::new(false) })
}
