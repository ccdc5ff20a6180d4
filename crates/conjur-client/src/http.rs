//! The transport: few connections, deadlines, bounded bodies, and repeats only where repeating is safe.

mod client;
mod connector;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use tokio::time::Instant;
use tracing::Instrument as _;
use zeroize::Zeroize;

use self::client::{Failure, HttpClient, Response};
use self::connector::Connector;
use super::config::Config;
use super::error::Error;
use super::memory_budget::{MemoryBudget, Reading};
use super::observe::{Endpoint, Observer, Outcome};
use super::rate_limit::Pace;
use super::reach::{self, Area, BoxError, Names};
use super::response::HttpAnswer;
use super::sockets::{Socket, Sockets};
use super::{scan, tls, words};
use crate::budget::Party;
use crate::gate::{Gate, Parties, Permit, Priority, Pull};
use crate::limits;
use crate::request_id::{self, RequestId};
use crate::sensitive::Sensitive;

/// A `Retry-After` up to this is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const RETRIES: u32 = 2;
/// How often an answer that is slow looks whether others wait for it.
const LOOK_ROUND: Duration = Duration::from_secs(1);

/// One request. No `Debug`: the body may be an API key.
#[derive(Clone)]
pub(crate) struct Call {
    pub endpoint: Endpoint,
    pub method: Method,
    /// Encoded, below the base URL, with the query.
    pub path: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    pub priority: Priority,
    /// On whose behalf.
    pub parties: Parties,
    pub timeout: Duration,
    /// How many bytes of the answer are read.
    pub limit: usize,
    /// Whether sending it twice does no harm.
    pub repeatable: bool,
}

impl Call {
    /// Whether its answer may wait for room, with its permit: what can't be asked for again is always worth it, for the keys
    /// of what a load made are in its answer alone.
    fn may_wait(&self, permit: &mut Permit) -> bool {
        !self.repeatable || (!self.parties.is_hasty() && permit.slow_down())
    }
}

/// An answer whose body is still to come.
pub(crate) struct Opened {
    pub response: Response,
    pub start: Instant,
    /// The connection that it comes on.
    pub socket: Socket,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub error: Error,
    /// Whether the request may have reached the server.
    pub maybe_sent: bool,
    again: bool,
}

impl Fault {
    pub(crate) fn before_sending(error: Error) -> Self {
        Self { error, maybe_sent: false, again: false }
    }
}

pub(crate) struct Transport {
    pooled: HttpClient,
    /// Never takes a connection from the pool: what must not be repeated must not meet one that the server just closed.
    fresh: HttpClient,
    base: String,
    own_roots: bool,
    reach: Option<Area>,
    gate: Arc<Gate>,
    pace: Pace,
    sockets: Sockets,
    /// What may take longer than this is slow.
    usual: Duration,
    party: Party,
    memory: MemoryBudget,
    observer: Arc<dyn Observer>,
}

/// What is handed to a client beside its configuration.
pub(crate) struct Handed {
    pub observer: Arc<dyn Observer>,
    pub memory: MemoryBudget,
    /// How it names itself to servers and proxies.
    pub user_agent: HeaderValue,
}

impl Transport {
    pub(crate) fn new(config: &Config, handed: Handed) -> Result<Self, Error> {
        let Handed { observer, memory, user_agent } = handed;
        let tls = tls::settings(tls::Roots::of(config), config.identity()?)?;
        let connector = Connector::new(Names::of(config), tls, user_agent.clone());
        let connections = config.limits.max_connections.max(1);
        Ok(Self {
            pooled: HttpClient::new(connector.clone(), connections, user_agent.clone()),
            fresh: HttpClient::new(connector, 0, user_agent),
            own_roots: config.ca_bundle.is_some(),
            reach: config.reach.clone(),
            gate: Gate::new(connections),
            pace: Pace::new(config.limits.requests_per_second),
            sockets: Sockets::of(memory.connections()),
            usual: config.limits.timeout,
            party: Arc::clone(&config.party),
            memory,
            observer,
            base: config.url.as_str().trim_end_matches('/').to_owned(),
        })
    }

    /// The server's URL, without a slash at its end.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// What its answers, lists and connections are paid from.
    pub(crate) fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// Tells that a request asks for so many variables.
    pub(crate) fn asks_for(&self, variables: usize) {
        self.observer.batch(variables);
    }

    /// Whose connection it is.
    pub(crate) fn party(&self) -> &Party {
        &self.party
    }

    /// Who pays for a call's answer: for whom it is made, where that is one of many who share the connection.
    pub(crate) fn payer(&self, parties: &Parties) -> Party {
        let first = parties.first();
        if first.is_empty() { Arc::clone(&self.party) } else { first }
    }

    /// Sends `call` and reads the answer, whatever its status.
    pub(crate) async fn send(&self, call: &Call, token: Option<&HeaderValue>) -> Result<HttpAnswer, Fault> {
        let mut started = None;
        let mut attempt = 0;
        loop {
            let mut permit = self.enter(call).await;
            let deadline = *started.get_or_insert_with(Instant::now) + call.timeout;
            let left = deadline.saturating_duration_since(Instant::now());
            let span = tracing::info_span!(
                target: "conjur_client::trace",
                "Conjur request",
                otel.kind = "client",
                endpoint = call.endpoint.as_str(),
                request_id = request_id::current().map(tracing::field::display),
            );
            let asked = async {
                let opened = self.open(call, token, left).await?;
                self.read(call, opened, &mut permit).await
            };
            let result = asked.instrument(span).await;
            drop(permit);
            let pause = match &result {
                Ok(answer) => self.pause_after(answer, attempt),
                Err(fault) => fault.again.then(|| jittered(attempt)),
            };
            match pause {
                Some(pause) if call.repeatable && attempt < RETRIES && Instant::now() + pause < deadline => {
                    attempt += 1;
                    tokio::time::sleep(pause).await;
                }
                _ => return result,
            }
        }
    }

    /// Sends `call` once and hands over the answer as it comes. The permit is held until the caller drops it.
    pub(crate) async fn stream(
        &self,
        call: &Call,
        token: Option<&HeaderValue>,
    ) -> Result<(Opened, Permit), Fault> {
        let permit = self.enter(call).await;
        Ok((self.open(call, token, call.timeout).await?, permit))
    }

    /// Reads the rest of an answer up to the call's limit. Of what is not a success the beginning will do. One that waits
    /// for room leaves half of the permits to those that don't: they would all wait for what large answers hold.
    pub(crate) async fn read(
        &self,
        call: &Call,
        opened: Opened,
        permit: &mut Permit,
    ) -> Result<HttpAnswer, Fault> {
        let Opened { mut response, start, socket: _socket } = opened;
        let (status, headers) = (response.status.as_u16(), std::mem::take(&mut response.headers));
        let success = response.status.is_success();
        let most = if success { call.limit } else { call.limit.min(limits::REFUSAL_BYTES) };
        let expected = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
        if success && expected > most {
            return Err(self.too_large(call, start));
        }
        // What can't be asked for again is worth waiting for: a load's answer has the keys of what it made.
        let patience = if call.repeatable { limits::ANSWERS_PATIENCE } else { call.timeout };
        let mut reading = Reading::new(&self.memory, &self.payer(&call.parties), patience);
        let full = |_| self.crowded(call, start);
        let mut may_wait = || call.may_wait(permit);
        reading.up_to(expected.min(most), most, &mut may_wait).await.map_err(full)?;
        let mut body = Sensitive::new(Vec::with_capacity(expected.min(most)));
        // The chunks themselves belong to hyper's read buffer and are not wiped.
        loop {
            let wanted = || call.repeatable && reading.is_wanted();
            let chunk = self.chunk(call, &mut response, start, wanted).await;
            let chunk = if reading.has_waited() { chunk.map_err(|_| self.no_room(call))? } else { chunk? };
            let Some(chunk) = chunk else { break };
            let length = body.expose().len() + chunk.len();
            if length > most && success {
                return Err(self.too_large(call, start));
            }
            reading.up_to(length.min(most), most, &mut may_wait).await.map_err(full)?;
            let rest = most - body.expose().len();
            append(body.expose_mut(), &chunk[..chunk.len().min(rest)]);
            if length > most {
                break;
            }
        }
        if success && call.endpoint.is_json() && body.expose().len() > limits::ANSWER_SMALL {
            let weight = scan::weight(body.expose());
            if weight > limits::ANSWER_WEIGHT {
                return Err(self.too_large(call, start));
            }
            reading.up_to(weight, limits::ANSWER_WEIGHT, &mut may_wait).await.map_err(full)?;
        }
        self.done(call, status, start);
        Ok(HttpAnswer { endpoint: call.endpoint, status, headers, body, share: reading.done() })
    }

    /// The next part of a body. An answer that is slow while others wait for what it holds (`wanted`) is given up.
    pub(crate) async fn chunk(
        &self,
        call: &Call,
        response: &mut Response,
        start: Instant,
        wanted: impl Fn() -> bool,
    ) -> Result<Option<Bytes>, Fault> {
        loop {
            // What can't be asked for again is read as far as it is there: the keys of a load are in it.
            if call.repeatable && response.is_late() {
                return Err(self.fault(call, Failure::Late, start));
            }
            if start.elapsed() > limits::ANSWERS_WANTED && wanted() {
                return Err(self.crowded(call, start));
            }
            if let Ok(chunk) = tokio::time::timeout(LOOK_ROUND, response.chunk()).await {
                return chunk.map_err(|failure| self.fault(call, failure, start));
            }
        }
    }

    /// A large answer found no room, or was too slow to keep it.
    pub(crate) fn crowded(&self, call: &Call, start: Instant) -> Fault {
        self.observer.request(call.endpoint, Outcome::TooLarge, start.elapsed());
        self.no_room(call)
    }

    /// The same, where the request itself was counted.
    pub(crate) fn no_room(&self, call: &Call) -> Fault {
        let message = format!(
            "a large answer of {} ({}) was given up, for other large answers wait or fill the memory for them",
            self.base,
            call.endpoint.as_str()
        );
        Fault { error: Error::NoRoom { message }, maybe_sent: true, again: false }
    }

    /// Counts an answer that was read to its end.
    pub(crate) fn done(&self, call: &Call, status: u16, start: Instant) {
        self.observer.request(call.endpoint, Outcome::of_status(status), start.elapsed());
        tracing::debug!(endpoint = call.endpoint.as_str(), status, took = ?start.elapsed(), "Conjur answered");
    }

    async fn enter(&self, call: &Call) -> Permit {
        let pull = if call.timeout > self.usual { Pull::Slow } else { Pull::Quick };
        let start = Instant::now();
        let permit = self.gate.enter(call.priority, pull, &call.parties).await;
        self.pace.wait().await;
        self.observer.waited(call.priority, start.elapsed());
        permit
    }

    async fn open(
        &self,
        call: &Call,
        token: Option<&HeaderValue>,
        timeout: Duration,
    ) -> Result<Opened, Fault> {
        // Not quoted: it may hold a token.
        let url = super::address::below(&self.base, &call.path).ok_or_else(|| {
            Fault::before_sending(Error::config(format!(
                "nothing was sent to {}: an account, kind, id, login or service in the request is empty, or is `.` or `..`",
                self.base
            )))
        })?;
        // An address is never resolved, and a name not where there is a proxy.
        if let Some(reach) = &self.reach {
            reach.check(&url, &self.base).map_err(Fault::before_sending)?;
        }
        let url = Uri::try_from(url.as_str()).map_err(|error| {
            let message = format!("a request to {} could not be made: {error}", self.base);
            Fault::before_sending(Error::config(message).because(error))
        })?;
        let client = if call.repeatable { &self.pooled } else { &self.fresh };
        let token = token.map(|token| (AUTHORIZATION, token.clone()));
        let id = request_id::current().unwrap_or_else(RequestId::new);
        let id = id.header().map(|id| (request_id::HEADER, id));
        let headers: HeaderMap = call.headers.iter().cloned().chain(token).chain(id).collect();
        let socket = tokio::time::timeout(timeout, self.sockets.enter()).await.map_err(|_| {
            let message = format!(
                "no connection was free for {} within {} s: there may be {} in all, and others use them",
                self.base,
                timeout.as_secs(),
                self.sockets.most()
            );
            Fault::before_sending(Error::NoRoom { message })
        })?;
        let start = Instant::now();
        let sent = client.send(call.method.clone(), url, headers, call.body.clone(), start + timeout);
        let response = sent.await.map_err(|failure| self.fault(call, failure, start))?;
        Ok(Opened { response, start, socket })
    }

    fn pause_after(&self, answer: &HttpAnswer, attempt: u32) -> Option<Duration> {
        match (answer.status, answer.retry_after()) {
            (429 | 503, Some(wait)) if wait <= LONGEST_WAIT => {
                self.pace.hold(wait);
                Some(wait)
            }
            (502..=504, None) | (502 | 504, Some(_)) => Some(jittered(attempt)),
            _ => None,
        }
    }

    fn too_large(&self, call: &Call, start: Instant) -> Fault {
        self.observer.request(call.endpoint, Outcome::TooLarge, start.elapsed());
        limits::hit(limits::Limit::AnswerBytes);
        let message =
            format!("the answer of {} is over {} bytes, which is all that is read", self.base, call.limit);
        Fault { error: Error::TooLarge { limit: call.limit, message }, maybe_sent: true, again: false }
    }

    /// What a failure means for the caller.
    pub(crate) fn fault(&self, call: &Call, failure: Failure, start: Instant) -> Fault {
        let url = &self.base;
        let maybe_sent = !matches!(failure, Failure::Connect(_));
        let (outcome, error, again) = match failure {
            Failure::Late => {
                let message = format!("{url} did not answer within {} s", call.timeout.as_secs());
                (Outcome::Timeout, Error::unavailable(message), false)
            }
            Failure::Connect(cause) => self.meaning(cause, "can't be reached"),
            Failure::Broken(cause) => self.meaning(cause, "broke the connection"),
        };
        self.observer.request(call.endpoint, outcome, start.elapsed());
        tracing::debug!(endpoint = call.endpoint.as_str(), %error, "a request to Conjur failed");
        Fault { error, maybe_sent, again }
    }

    /// What it means that there is no connection, or none any more, and whether it is worth another try.
    fn meaning(&self, cause: BoxError, what: &str) -> (Outcome, Error, bool) {
        let url = &self.base;
        if let Some(reach) = self.reach.as_ref().filter(|_| reach::is_denied(&*cause)) {
            return (Outcome::Unreachable, reach.denied(url), false);
        }
        if reach::found_no_turn(&*cause) {
            let message = format!(
                "the name of {url} was not looked up: the names of other connections take too long, and all turns with them"
            );
            return (Outcome::Unreachable, Error::NoRoom { message }, false);
        }
        let innermost = root_cause(&*cause);
        if let Some(tls) = tls::find(&*cause).cloned().or_else(|| tls::alert_in(&innermost)) {
            return (
                Outcome::Tls,
                Error::Tls { message: tls::explain(url, &tls, self.own_roots), source: None }.because(cause),
                false,
            );
        }
        (Outcome::Unreachable, Error::unavailable(format!("{url} {what}: {innermost}")).because(cause), true)
    }
}

/// 100 to 200 ms, then twice that.
fn jittered(attempt: u32) -> Duration {
    Duration::from_millis(100 << attempt.min(4)).mul_f64(1.0 + rand::random::<f64>())
}

/// The innermost text of an error, which says what happened; the outer ones say only where.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    // Some quote the server: what a connection over HTTP/2 was closed with, say.
    words::words(&cause.to_string())
}

/// Appends without leaving the old content behind in freed memory when the buffer grows.
fn append(buffer: &mut Vec<u8>, chunk: &[u8]) {
    if buffer.capacity() - buffer.len() < chunk.len() {
        let mut larger = Vec::with_capacity((buffer.len() + chunk.len()).max(buffer.capacity() * 2));
        larger.extend_from_slice(buffer);
        buffer.zeroize();
        *buffer = larger;
    }
    buffer.extend_from_slice(chunk);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_asked_for_again_waits_for_room_whatever_waits_already() {
        let call = |repeatable: bool, parties: Parties| Call {
            endpoint: Endpoint::PolicyLoad,
            method: Method::PATCH,
            path: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            priority: Priority::Foreground,
            parties,
            timeout: Duration::from_secs(1),
            limit: 0,
            repeatable,
        };
        let parties = || Parties::of(["a".into()]);
        let gate = Gate::new(2);
        let mut permit = gate.enter(Priority::Foreground, Pull::Quick, &parties()).await;
        let slow = gate.enter(Priority::Foreground, Pull::Slow, &parties()).await;
        assert!(!call(true, parties()).may_wait(&mut permit));
        assert!(call(false, parties()).may_wait(&mut permit));
        drop(slow);
        assert!(!call(true, parties().in_haste()).may_wait(&mut permit));
        assert!(call(true, parties()).may_wait(&mut permit));
    }
}
