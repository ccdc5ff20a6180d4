//! Names become addresses here, and only those are given on that may be connected to.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tokio::sync::AcquireError;
use tower_service::Service;
use url::Url;

use super::{Area, plain, port_of};
use crate::config::Config;
use crate::limits::{self, Limit};
use crate::lock::lock;

type Addresses = std::vec::IntoIter<SocketAddr>;
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// What names mean to one client.
#[derive(Clone)]
pub(crate) enum Names {
    /// What the system says: for connections that may lead anywhere.
    Any(GaiResolver),
    /// What may be connected to of it.
    Permitted(Arc<Resolver>),
}

/// Resolves the host of one client.
pub(crate) struct Resolver {
    party: Area,
    host: Option<String>,
    port: u16,
    /// What the host was last resolved to, for when the name's servers, or the turn to ask them, take too long.
    last: Mutex<Vec<IpAddr>>,
}

/// A name whose addresses may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the host may not be connected to")]
struct Denied;

/// A name that could not be looked up in time.
#[derive(Debug, thiserror::Error)]
#[error("the name was not resolved in time")]
struct SlowLookup;

/// A name for which no turn came in time, for others took them all.
#[derive(Debug, thiserror::Error)]
#[error("no turn to look up the name came in time")]
struct NoTurn;

impl Names {
    /// To a client with this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        match &config.reach {
            Some(area) => Self::Permitted(Arc::new(Resolver::new(area.clone(), &config.url))),
            None => Self::Any(GaiResolver::new()),
        }
    }
}

impl Service<Name> for Names {
    type Response = Addresses;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        match self {
            Self::Permitted(resolver) => {
                let resolver = Arc::clone(resolver);
                Box::pin(async move { resolver.resolve(name.as_str()).await })
            }
            Self::Any(system) => {
                let found = system.call(name);
                Box::pin(async move { Ok(found.await?.collect::<Vec<_>>().into_iter()) })
            }
        }
    }
}

impl Resolver {
    /// For a client of this server.
    fn new(party: Area, url: &Url) -> Self {
        Self { party, host: url.domain().map(plain), port: port_of(url), last: Mutex::default() }
    }

    async fn resolve(&self, name: &str) -> Result<Addresses, BoxError> {
        // Nothing else is named but a proxy, by the operator's own environment.
        let is_proxy = self.host.as_deref() != Some(&plain(name));
        let found = match look_up(&self.party, name, limits::LOOKUP_DEADLINE).await {
            Ok(found) => {
                if !is_proxy {
                    lock(&self.last).clone_from(&found);
                }
                found
            }
            Err(error) => {
                let last = lock(&self.last).clone();
                if is_proxy || last.is_empty() || !is_late(&*error) {
                    return Err(error);
                }
                last
            }
        };
        let permitted =
            |at: &IpAddr| is_proxy || self.party.reach.permits(Some(&plain(name)), *at, self.port);
        let permitted: Vec<_> =
            found.into_iter().filter(permitted).map(|ip| SocketAddr::new(ip, 0)).collect();
        if permitted.is_empty() {
            return Err(Denied.into());
        }
        Ok(permitted.into_iter())
    }
}

/// Asks the system, which holds a thread for as long as it takes: a namespace has two of them, whatever it names.
async fn look_up(party: &Area, name: &str, deadline: Duration) -> Result<Vec<IpAddr>, BoxError> {
    let (own, all, name) = (party.turns.clone(), party.reach.lookups.clone(), name.to_owned());
    for (turns, limit) in [(&own, Limit::LookupsPerNamespace), (&all, Limit::Lookups)] {
        if turns.available_permits() == 0 {
            limits::hit(limit);
        }
    }
    let until = tokio::time::Instant::now() + deadline;
    let turn = async { Ok::<_, AcquireError>((own.acquire_owned().await?, all.acquire_owned().await?)) };
    let turn = tokio::time::timeout_at(until, turn).await.map_err(|_| NoTurn)??;
    let work = async move {
        // A task of its own: the thread is not free before the system has answered, whoever still waits for that.
        let looked = tokio::spawn(async move {
            let found =
                tokio::net::lookup_host((name, 0)).await.map(|all| all.map(|at| at.ip()).collect::<Vec<_>>());
            drop(turn);
            found
        });
        Ok::<_, BoxError>(looked.await??)
    };
    match tokio::time::timeout_at(until, work).await {
        Ok(found) => found,
        Err(_) => Err(SlowLookup.into()),
    }
}

fn is_late(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    error.is::<SlowLookup>() || error.is::<NoTurn>()
}

/// Whether a request failed since its host may not be connected to.
pub(crate) fn is_denied(error: &(dyn StdError + 'static)) -> bool {
    is_of::<Denied>(error)
}

/// Whether a request failed since other look-ups took all turns.
pub(crate) fn found_no_turn(error: &(dyn StdError + 'static)) -> bool {
    is_of::<NoTurn>(error)
}

fn is_of<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Reach;

    async fn resolve(allow: &str, url: &str, name: &str) -> Result<Vec<IpAddr>, BoxError> {
        let reach = Reach::new(vec![allow.parse().unwrap()], Vec::new());
        let resolver = Resolver::new(reach.of_party("a"), &Url::parse(url).unwrap());
        Ok(resolver.resolve(name).await?.map(|at| at.ip()).collect())
    }

    #[tokio::test]
    async fn only_permitted_addresses_of_the_host_are_given_on_and_a_proxy_is_the_operators_own() {
        let url = "https://localhost:8443/";
        let denied = resolve("10.0.0.0/8", url, "localhost").await.unwrap_err();
        assert!(is_denied(&*denied), "{denied}");
        let found = resolve("127.0.0.0/8", url, "LocalHost").await.unwrap();
        assert_eq!(found, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(!resolve("10.0.0.0/8", "https://conjur.example/", "localhost").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_namespace_whose_names_take_for_ever_holds_up_only_itself() {
        let reach = Reach::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new());
        let (slow, other) = (reach.of_party("slow"), reach.of_party("other"));
        let _held =
            slow.turns.acquire_many(u32::try_from(limits::LOOKUPS_PER_NAMESPACE).unwrap()).await.unwrap();
        let soon = Duration::from_millis(50);
        let late = look_up(&slow, "localhost", soon).await.unwrap_err();
        assert!(found_no_turn(&*late), "not the fault of the name that waits: {late}");
        assert!(!look_up(&other, "localhost", limits::LOOKUP_DEADLINE).await.unwrap().is_empty());
        let again = look_up(&reach.of_party("slow"), "localhost", soon).await;
        assert!(again.is_err(), "a namespace has its turns once");
    }
}
