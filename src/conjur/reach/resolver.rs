//! Names become addresses here, and only those are given on that may be connected to.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::AcquireError;
use url::Url;

use super::{Area, plain, port_of};
use crate::limits::{self, Limit};

/// Resolves the host of one client.
pub(crate) struct Resolver {
    party: Area,
    host: Option<String>,
    port: u16,
    /// What the host was last resolved to, for when the name's servers, or the turn to ask them, take too long.
    last: Arc<Mutex<Vec<IpAddr>>>,
}

/// A name whose addresses may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the host may not be connected to")]
struct Denied;

/// A name that could not be looked up in time.
#[derive(Debug, thiserror::Error)]
#[error("the name was not resolved in time")]
struct TooSlow;

/// A name for which no turn came in time, for others took them all.
#[derive(Debug, thiserror::Error)]
#[error("no turn to look up the name came in time")]
struct NoTurn;

impl Resolver {
    /// For a client of this server.
    pub(crate) fn new(party: Area, url: &Url) -> Self {
        let host = url.domain().map(plain);
        Self { party, host, port: port_of(url), last: Arc::default() }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (party, port, last) = (self.party.clone(), self.port, self.last.clone());
        // Nothing else is named but a proxy, by the operator's own environment.
        let is_proxy = self.host.as_deref() != Some(&plain(name.as_str()));
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = look_up(&party, &name, limits::LOOKUP_DEADLINE).await;
            let mut kept = last.lock().unwrap_or_else(PoisonError::into_inner);
            let found = match found {
                Ok(found) => {
                    if !is_proxy {
                        kept.clone_from(&found);
                    }
                    found
                }
                Err(error) if is_late(&*error) && !is_proxy && !kept.is_empty() => kept.clone(),
                Err(error) => return Err(error),
            };
            let permitted =
                |address: &IpAddr| is_proxy || party.reach.permits(Some(&plain(&name)), *address, port);
            let permitted: Vec<_> =
                found.into_iter().filter(permitted).map(|ip| SocketAddr::new(ip, 0)).collect();
            if permitted.is_empty() {
                return Err(Denied.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// Asks the system, which holds a thread for as long as it takes: a namespace has two of them, whatever it names.
async fn look_up(
    party: &Area,
    name: &str,
    deadline: Duration,
) -> Result<Vec<IpAddr>, Box<dyn StdError + Send + Sync>> {
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
        Ok::<_, Box<dyn StdError + Send + Sync>>(looked.await??)
    };
    match tokio::time::timeout_at(until, work).await {
        Ok(found) => found,
        Err(_) => Err(TooSlow.into()),
    }
}

fn is_late(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    error.is::<TooSlow>() || error.is::<NoTurn>()
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
    use crate::conjur::reach::Reach;

    async fn resolve(
        allow: &str,
        url: &str,
        name: &str,
    ) -> Result<Vec<IpAddr>, Box<dyn StdError + Send + Sync>> {
        let reach = Reach::new(vec![allow.parse().unwrap()], Vec::new());
        let resolver = Resolver::new(reach.of_party("a"), &Url::parse(url).unwrap());
        Ok(resolver.resolve(name.parse().unwrap()).await?.map(|at| at.ip()).collect())
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
