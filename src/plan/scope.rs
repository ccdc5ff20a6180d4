//! Which namespaces the operator watches and touches, and whether it serves ClusterConjurConnections.

use std::collections::BTreeSet;

use super::Failure;
use crate::{
    api::{Reason, connection::Settings, names},
    limits::WATCHED_NAMESPACES,
};

/// Which namespaces the operator watches and touches, and whether it serves ClusterConjurConnections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchScope {
    /// None: all of them.
    namespaces: Option<BTreeSet<String>>,
    cluster_connections: bool,
}

/// What can't be a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchScopeError {
    /// A name that can't be a namespace's.
    #[error(
        "--watch-namespace: '{0}' is not the name of a namespace: lower-case letters, digits and '-', at most 63 of them"
    )]
    Name(String),
    /// More than can be watched one by one.
    #[error(
        "--watch-namespace names {0} namespaces, of at most {WATCHED_NAMESPACES}: each has watches of its own, a connection to \
         the API server each. Leave the flag out to watch the whole cluster by one watch for each kind, or install the operator \
         several times, each with a part of them and a Lease of its own"
    )]
    TooMany(usize),
}

impl Default for WatchScope {
    /// The whole cluster.
    fn default() -> Self {
        Self { namespaces: None, cluster_connections: true }
    }
}

impl WatchScope {
    /// Of the namespaces that were named, where any was; else the whole cluster. Empty texts name none.
    ///
    /// # Errors
    /// In a sentence, what can't be.
    pub fn new(named: &[String], cluster_connections: bool) -> Result<Self, WatchScopeError> {
        let named: BTreeSet<String> = named.iter().filter(|name| !name.is_empty()).cloned().collect();
        if let Some(bad) = named.iter().find(|name| !names::is_label(name)) {
            return Err(WatchScopeError::Name(bad.clone()));
        }
        if named.len() > WATCHED_NAMESPACES {
            return Err(WatchScopeError::TooMany(named.len()));
        }
        Ok(Self { namespaces: (!named.is_empty()).then_some(named), cluster_connections })
    }

    /// Whether ClusterConjurConnections and Namespaces are watched.
    pub fn has_cluster_connections(&self) -> bool {
        self.cluster_connections
    }

    /// The parts that are watched one by one: namespaces, or an empty text for the whole cluster.
    pub fn parts(&self) -> Vec<String> {
        match &self.namespaces {
            None => vec![String::new()],
            Some(namespaces) => namespaces.iter().cloned().collect(),
        }
    }

    /// The part whose watch shows what lies in a namespace; none where nothing of it is watched.
    pub fn part_of<'n>(&self, namespace: &'n str) -> Option<&'n str> {
        match &self.namespaces {
            None => Some(""),
            Some(namespaces) => namespaces.contains(namespace).then_some(namespace),
        }
    }

    /// Refuses a ClusterConjurConnection where none is served.
    ///
    /// # Errors
    /// `AccessDenied`, which names the value: not that there is none, for what was made through it would be left in Conjur.
    pub fn check_cluster_connections(&self, name: &str) -> Result<(), Failure> {
        if self.cluster_connections {
            return Ok(());
        }
        let message = format!(
            "ClusterConjurConnection {name} can't be used: this operator serves none (--cluster-connections=false, \
             clusterConnections.enabled in the chart's values). Use a ConjurConnection of this namespace, or have them served"
        );
        Err(Failure::stalled(Reason::AccessDenied, message))
    }

    /// Refuses a reference of a ClusterConjurConnection to what lies in no watched namespace, before it is read.
    ///
    /// # Errors
    /// `InvalidSpec`, naming the field.
    pub fn check_references(&self, settings: &Settings) -> Result<(), Failure> {
        for reference in settings.references() {
            let Some(namespace) = reference.namespace else { continue };
            if self.part_of(namespace).is_none() {
                let message = format!(
                    "{}.namespace: namespace {namespace} is not among those that this operator watches. Refer to one of them, \
                     or have it added (--watch-namespace, watchNamespaces in the chart's values)",
                    reference.field
                );
                return Err(Failure::stalled(Reason::InvalidSpec, message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ClusterConjurConnectionSpec;

    fn of(named: &[&str], cluster_connections: bool) -> Result<WatchScope, WatchScopeError> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        WatchScope::new(&named, cluster_connections)
    }

    #[test]
    fn what_is_watched_is_the_whole_cluster_or_what_was_named() {
        for named in [&[][..], &[""]] {
            let whole = of(named, true).unwrap();
            assert_eq!((&whole, whole.parts()), (&WatchScope::default(), vec![String::new()]));
            assert_eq!(whole.part_of("any"), Some(""));
        }
        let some = of(&["b", "a", "b", ""], true).unwrap();
        assert_eq!(some.parts(), ["a", "b"]);
        assert_eq!((some.part_of("a"), some.part_of("c"), some.part_of("")), (Some("a"), None, None));
    }

    #[test]
    fn what_can_not_be_watched_is_refused_with_a_sentence() {
        let many: Vec<String> = (0..=WATCHED_NAMESPACES).map(|at| format!("n-{at}")).collect();
        assert!(WatchScope::new(&many[1..], true).is_ok());
        for (refused, words) in [
            (WatchScope::new(&many, true), ["51 namespaces", "at most 50"]),
            (of(&["a", "a/b"], true), ["'a/b'", "--watch-namespace"]),
            (of(&["a.b"], true), ["'a.b'", "name of a namespace"]),
        ] {
            let message = refused.unwrap_err().to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
    }

    #[test]
    fn cluster_connections_that_are_off_are_refused_by_the_name_of_the_value() {
        let off = of(&["a"], false).unwrap();
        let refused = off.check_cluster_connections("shared").unwrap_err();
        assert_eq!(refused.reason, Reason::AccessDenied);
        for word in ["shared", "clusterConnections.enabled", "--cluster-connections=false"] {
            assert!(refused.message.contains(word), "{}", refused.message);
        }
        assert_eq!(of(&["a"], true).unwrap().check_cluster_connections("shared"), Ok(()));
    }

    #[test]
    fn what_a_connection_refers_to_lies_in_a_watched_namespace() {
        let key = |namespace: &str| json!({ "namespace": namespace, "name": "n", "key": "k" });
        let spec = |namespace: &str| -> ClusterConjurConnectionSpec {
            let auth = json!({ "apiKey": { "login": "a", "apiKeySecretRef": key("in") } });
            let bundle = json!({ "kind": "ConfigMap", "namespace": namespace, "name": "n", "key": "k" });
            let tls = json!({ "caBundleFrom": bundle });
            serde_json::from_value(
                json!({ "url": "https://h", "account": "demo", "auth": auth, "tls": tls, "access": [] }),
            )
            .unwrap()
        };
        let scope = of(&["in", "too"], true).unwrap();
        assert_eq!(scope.check_references(&Settings::from(&spec("too"))), Ok(()));
        let refused = scope.check_references(&Settings::from(&spec("out"))).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidSpec);
        for word in ["spec.tls.caBundleFrom.namespace", "namespace out", "watchNamespaces"] {
            assert!(refused.message.contains(word), "{}", refused.message);
        }
        assert_eq!(WatchScope::default().check_references(&Settings::from(&spec("out"))), Ok(()));
        let tenants =
            json!({ "serviceID": "s", "serviceAccountRef": { "name": "n", "audiences": ["conjur"] } });
        let tenants: ClusterConjurConnectionSpec = serde_json::from_value(
            json!({ "url": "https://h", "account": "demo", "auth": { "jwt": tenants }, "access": [] }),
        )
        .unwrap();
        assert_eq!(scope.check_references(&Settings::from(&tenants)), Ok(()));
    }
}
