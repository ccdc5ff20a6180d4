//! A call with a token: one renewal and one repeat on a 401.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;

use super::authn::{Backoff, Token, Tokens};
use super::capabilities::SaidVersion;
use super::config::{Config, Limits};
use super::error::Error;
use super::http::{Call, Fault, Handed, Opened, Transport};
use super::memory_budget::Sum;
use super::observe::Endpoint;
use super::response::{self, About, HttpAnswer};
use super::stream;
use crate::budget::Party;
use crate::gate::{Parties, Permit, Priority};

pub(crate) use crate::limits::ANSWER_BYTES as BODY_LIMIT;

/// Cheap to clone; all clones share the transport and the token, and differ in whom they call for.
#[derive(Clone)]
pub(crate) struct Session {
    pub transport: Arc<Transport>,
    pub tokens: Arc<Tokens>,
    pub account: String,
    pub limits: Limits,
    pub parties: Parties,
    pub version: Arc<SaidVersion>,
}

impl Session {
    pub(crate) fn new(config: Config, handed: Handed, backoff: Backoff) -> Result<Self, Error> {
        let transport = Transport::new(&config, handed)?;
        let Config { account, credentials, shown_login, token_refresh_interval, limits, .. } = config;
        let who = shown_login.unwrap_or_else(|| credentials.who());
        let tokens =
            Tokens::new((credentials, who), account.clone(), token_refresh_interval, limits.timeout, backoff);
        let (transport, tokens) = (Arc::new(transport), Arc::new(tokens));
        Ok(Self {
            transport,
            tokens,
            account,
            limits,
            parties: Parties::everybody(),
            version: Arc::default(),
        })
    }

    /// The same, on behalf of others.
    pub(crate) fn on_behalf_of(&self, parties: Parties) -> Self {
        Self { parties, ..self.clone() }
    }

    /// Who pays for what is kept of answers.
    pub(crate) fn payer(&self) -> Party {
        self.transport.payer(&self.parties)
    }

    /// What the values that a party asks for come to, for the work that runs now.
    pub(crate) fn sum(&self, parties: &Parties) -> Sum {
        Sum::from(self.transport.memory().answers(), self.transport.payer(parties))
    }

    /// A GET of `path` in the foreground, with the usual limits.
    pub(crate) fn get(&self, endpoint: Endpoint, path: String) -> Call {
        Call {
            endpoint,
            method: Method::GET,
            path,
            headers: Vec::new(),
            body: Bytes::new(),
            priority: Priority::Foreground,
            parties: self.parties.clone(),
            timeout: self.limits.timeout,
            limit: BODY_LIMIT,
            repeatable: true,
        }
    }

    pub(crate) fn about<'a>(&'a self, target: &'a str, privilege: &'a str) -> About<'a> {
        About { url: self.transport.url(), login: self.tokens.login(), target, privilege }
    }

    /// Sends `call` with a token. A 401 renews the token and repeats, whatever the call: it was not carried out.
    pub(crate) async fn call(&self, call: &Call) -> Result<HttpAnswer, Fault> {
        let token = self.token(call.priority).await?;
        let answer = self.transport.send(call, Some(&token.header)).await?;
        if answer.status != 401 {
            self.accept(&token, answer.status).await;
            return Ok(answer);
        }
        self.tokens.invalidate(&token).await;
        let token = self.token(call.priority).await?;
        let answer = self.transport.send(call, Some(&token.header)).await?;
        if answer.status == 401 {
            return Err(self.rejected(&token, &answer).await);
        }
        self.accept(&token, answer.status).await;
        Ok(answer)
    }

    /// A server error may come from a proxy, and says nothing about the token.
    async fn accept(&self, token: &Token, status: u16) {
        if status < 500 {
            self.tokens.accept(token).await;
        }
    }

    /// Sends `call` with a token and reads a success as `T` while it comes in, so that what `T` leaves out is never
    /// held in memory. `None` is a 404 of Conjur's. Not repeated, but for a 401.
    pub(crate) async fn stream<T>(&self, call: &Call, about: About<'_>) -> Result<Option<T>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let token = self.token(call.priority).await.map_err(|fault| fault.error)?;
        let (mut opened, mut permit) = self.open(call, &token).await?;
        if opened.response.status.as_u16() == 401 {
            self.transport.done(call, 401, opened.start);
            drop((opened, permit));
            self.tokens.invalidate(&token).await;
            let token = self.token(call.priority).await.map_err(|fault| fault.error)?;
            (opened, permit) = self.open(call, &token).await?;
            if opened.response.status.as_u16() == 401 {
                let answer =
                    self.transport.read(call, opened, &mut permit).await.map_err(|fault| fault.error)?;
                return Err(self.rejected(&token, &answer).await.error);
            }
        } else {
            self.accept(&token, opened.response.status.as_u16()).await;
        }
        if opened.response.status.is_success() {
            let read = stream::read_json(&self.transport, call, opened, about).await;
            drop(permit);
            return read.map(Some);
        }
        let answer = self.transport.read(call, opened, &mut permit).await.map_err(|fault| fault.error)?;
        drop(permit);
        match response::from_answer(&answer, about) {
            Error::NotFound { .. } => Ok(None),
            error => Err(error),
        }
    }

    async fn open(&self, call: &Call, token: &Token) -> Result<(Opened, Permit), Error> {
        self.transport.stream(call, Some(&token.header)).await.map_err(|fault| fault.error)
    }

    async fn token(&self, priority: Priority) -> Result<Arc<Token>, Fault> {
        self.tokens.get(&self.transport, priority).await.map_err(Fault::before_sending)
    }

    async fn rejected(&self, token: &Arc<Token>, answer: &HttpAnswer) -> Fault {
        let error = response::from_answer(answer, self.about("the call", "it"));
        self.tokens.reject(token, error.clone()).await;
        Fault::before_sending(error)
    }
}

/// Reads a success as JSON, or says why it isn't one. Nothing of the body goes into the error.
pub(crate) fn json<T: DeserializeOwned>(answer: &HttpAnswer, about: About<'_>) -> Result<T, Error> {
    if !answer.is_success() {
        return Err(response::from_answer(answer, about));
    }
    serde_json::from_slice(answer.body.expose()).map_err(|error| unreadable(answer, about, &error))
}

/// The body of a success is not the JSON that was expected; serde's own text could quote it.
pub(crate) fn unreadable(answer: &HttpAnswer, about: About<'_>, error: &serde_json::Error) -> Error {
    let message = if answer.is_html() || answer.encoding().is_some() || error.is_syntax() {
        response::not_an_api(answer, about)
    } else {
        format!(
            "{} answered with JSON that could not be read as {} (line {}, column {})",
            about.url,
            about.target,
            error.line(),
            error.column()
        )
    };
    Error::Unexpected { status: Some(answer.status), message }
}

/// How long a policy call may take at least: the policy timeout is for loads, and this for reading about them.
pub(crate) fn longer(limits: &Limits) -> Duration {
    limits.policy_timeout.max(limits.timeout)
}
