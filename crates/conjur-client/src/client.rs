//! One identity on one server.

use std::sync::Arc;

use super::authn::Backoff;
use super::catalogue::Catalogues;
use super::config::Config;
use super::error::Error;
use super::observe::{Observer, Unobserved};
use super::session::Session;
use super::variables::{Collector, Timing};
use crate::gate::Parties;

/// A client of one server as one identity. Clones share everything but whom they call for.
#[derive(Clone)]
pub struct Client {
    pub(super) session: Arc<Session>,
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) collector: Collector,
    pub(super) catalogues: Catalogues,
}

impl Client {
    /// Makes a client; sends nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] with what is wrong: the URL, the account, the login, an empty key, a CA bundle without a
    /// certificate.
    pub fn new(config: Config) -> Result<Self, Error> {
        Self::with_observer(config, Arc::new(Unobserved))
    }

    /// The same, with every request on the wire told to `observer`.
    pub fn with_observer(config: Config, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        Self::with_timing(config, observer, Backoff::default(), Timing::default())
    }

    pub(super) fn with_timing(
        config: Config,
        observer: Arc<dyn Observer>,
        backoff: Backoff,
        timing: Timing,
    ) -> Result<Self, Error> {
        config.check()?;
        let session = Arc::new(Session::new(config, observer, backoff)?);
        let collector = Collector::new(&session.limits, timing);
        let catalogues = Catalogues::new(timing.catalogue);
        Ok(Self { session, inner: Arc::new(Inner { collector, catalogues }) })
    }

    /// The same client, for calls on behalf of `party`: where several parties wait for the same server, each has its
    /// turn, however much another one asks for.
    #[must_use]
    pub fn on_behalf_of(&self, party: &str) -> Self {
        let session = Arc::new(self.session.on_behalf_of(Parties::of([party.into()])));
        Self { session, inner: Arc::clone(&self.inner) }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let session = self.session();
        f.debug_struct("Client")
            .field("url", &session.transport.url())
            .field("account", &session.account)
            .field("login", &session.tokens.login())
            .finish_non_exhaustive()
    }
}
