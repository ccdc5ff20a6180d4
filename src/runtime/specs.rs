//! Which specs stay in memory: short ones, and longer ones while there is room for them. Of every other the store keeps the
//! head, by which others find it, and the rest is read when the object has its turn.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use serde::Serialize;

use super::{Key, Object, compact};
use crate::{
    budget::{Budget, Taken},
    limits::{
        Limit, SPEC_HEAD_BYTES, SPEC_SMALL_BYTES, SPECS_KEPT_BYTES, SPECS_PATIENCE, SPECS_READ_BYTES, hit,
    },
    lock::lock,
    metrics::Kind,
};

/// A spec is lists of many small texts: decoded it takes several times what it takes as JSON.
const DECODED: usize = 4;

/// What is kept of the specs.
pub struct Specs {
    kept: Arc<Budget>,
    read: Arc<Budget>,
    held: Mutex<HashMap<(Kind, Key), Taken>>,
}

impl Default for Specs {
    fn default() -> Self {
        Self {
            kept: Budget::new(Limit::SpecsKeptBytes, SPECS_KEPT_BYTES),
            read: Budget::new(Limit::SpecsReadBytes, SPECS_READ_BYTES),
            held: Mutex::default(),
        }
    }
}

/// What the store may take of an object.
#[derive(Debug, PartialEq, Eq)]
pub enum Fits {
    /// The object, as it is now: whole, or its head.
    Yes,
    /// Nothing: even its head is longer than the schema lets it be.
    No,
}

impl Specs {
    /// Leaves the spec of an object that goes into the store as it is, or shortens it to its head.
    pub fn keep<K: Object>(&self, object: &mut K) -> Fits {
        let length = json_length(object.spec());
        let at = (K::KIND, Key::of(object));
        if length <= SPEC_SMALL_BYTES {
            lock(&self.held).remove(&at);
            return Fits::Yes;
        }
        let mut held = lock(&self.held);
        let weight = length.saturating_mul(DECODED);
        if held.get(&at).is_some_and(|taken| taken.amount() == weight) {
            return Fits::Yes;
        }
        held.remove(&at);
        let party = at.1.namespace.as_str().into();
        if let Some(taken) = self.kept.try_take(&party, weight).filter(|_| weight <= SPECS_KEPT_BYTES) {
            held.insert(at, taken);
            return Fits::Yes;
        }
        drop(held);
        hit(Limit::SpecsKeptBytes);
        K::shorten(object.spec_mut());
        compact::mark_shortened(object.meta_mut(), length);
        // Of administrators: their rules are looked at for every object.
        let bounded = !K::is_of_administrators();
        if bounded && json_length(object.spec()) > SPEC_HEAD_BYTES { Fits::No } else { Fits::Yes }
    }

    /// Room for a spec of that length that is read whole; none where the wait was too long.
    pub(crate) async fn room(&self, namespace: &str, length: usize) -> Option<Taken> {
        self.read.take(&namespace.into(), length.saturating_mul(DECODED), SPECS_PATIENCE).await
    }

    /// An object is gone.
    pub fn forget(&self, kind: Kind, key: &Key) {
        lock(&self.held).remove(&(kind, key.clone()));
    }
}

/// How long something is as JSON.
fn json_length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What can't be written as JSON did not come as JSON.
    serde_json::to_writer(&mut count, value).map_or(usize::MAX, |()| count.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ConjurConnection, ConjurPolicy, ConjurSecret};

    fn secret(namespace: &str, name: &str, entries: usize) -> ConjurSecret {
        let entry = |n: usize| json!({ "key": format!("k{n}"), "variable": format!("apps/billing/{n}") });
        serde_json::from_value(json!({
            "metadata": { "namespace": namespace, "name": name, "generation": 1 },
            "spec": {
                "connectionRef": { "name": "conjur" }, "suspend": false, "target": { "name": "into" },
                "data": (0..entries).map(entry).collect::<Vec<_>>(),
            },
        }))
        .unwrap()
    }

    #[test]
    fn short_specs_stay_whatever_there_is_and_long_ones_while_there_is_room() {
        let specs = Specs::default();
        let (mut long, mut whole) = (0, 0);
        for n in 0..2_000 {
            let mut object = secret("a", &format!("o{n}"), 250);
            assert_eq!(specs.keep(&mut object), Fits::Yes);
            long += json_length(&object.spec);
            whole += usize::from(object.spec.data.is_some());
        }
        assert!(whole > 100 && whole < 1_000 && long < SPECS_KEPT_BYTES, "{whole} {long}");
        let mut short = secret("a", "short", 5);
        specs.keep(&mut short);
        assert_eq!(short, secret("a", "short", 5));
        let mut others = secret("b", "long", 250);
        specs.keep(&mut others);
        assert!(others.spec.data.is_some(), "another namespace is sure of a part");
        // The same again, another that is shorter, and gone.
        let mut again = secret("b", "long", 250);
        specs.keep(&mut again);
        assert!(again.spec.data.is_some());
        let held = |specs: &Specs| specs.kept.held_by("b");
        let before = held(&specs);
        specs.keep(&mut secret("b", "long", 200));
        assert!(held(&specs) > 0 && held(&specs) < before);
        specs.forget(Kind::Secret, &Key { namespace: "b".into(), name: "long".into() });
        assert_eq!(held(&specs), 0);
    }

    #[test]
    fn of_a_long_spec_the_head_stays_by_which_others_find_it() {
        let specs = Specs::default();
        let _all = specs.kept.try_take(&"x".into(), SPECS_KEPT_BYTES).unwrap();
        let _theirs = specs.kept.try_take(&"n".into(), SPECS_KEPT_BYTES / 4).unwrap();
        let mut object = secret("n", "o", 250);
        let length = json_length(&object.spec);
        assert_eq!(specs.keep(&mut object), Fits::Yes);
        assert_eq!(compact::shortened(&object.metadata), Some(length));
        assert_eq!((&*object.spec.connection_ref.name, object.spec.suspend), ("conjur", Some(false)));
        assert_eq!(object.spec.target.as_ref().and_then(|target| target.name.as_deref()), Some("into"));
        assert!(json_length(&object.spec) < 100);

        let from: Vec<_> = (0..64)
            .map(|n| json!({ "kind": "ConfigMap", "name": format!("some-name-{n}"), "key": "policy" }))
            .collect();
        let spec = json!({
            "connectionRef": { "name": "conjur" }, "branch": "apps", "documentFrom": from,
            "createdRoles": { "secretName": "keys" }, "deletionPolicy": "Delete",
        });
        let object = json!({ "metadata": { "namespace": "n", "name": "p" }, "spec": spec });
        let mut policy: ConjurPolicy = serde_json::from_value(object).unwrap();
        assert_eq!(specs.keep(&mut policy), Fits::Yes);
        assert_eq!((&*policy.spec.branch, policy.spec.created_roles.is_some()), ("apps", true));
        assert!(policy.spec.deletion_policy.is_some() && policy.spec.document_from.is_none());

        let bundle = "x".repeat(100_000);
        let spec = json!({
            "url": "https://conjur", "account": "a", "tls": { "caBundle": bundle },
            "auth": { "apiKey": { "login": "host/x", "apiKeySecretRef": { "name": "s", "key": "k" } } },
        });
        let object = json!({ "metadata": { "namespace": "n", "name": "c" }, "spec": spec });
        let mut connection: ConjurConnection = serde_json::from_value(object).unwrap();
        assert_eq!(specs.keep(&mut connection), Fits::Yes);
        assert_eq!(connection.spec.url, "https://conjur");
        assert!(json_length(&connection.spec) < 300);
    }

    #[test]
    fn nothing_is_kept_of_what_is_too_long_where_the_schema_has_it_short() {
        let specs = Specs::default();
        let spec = json!({ "connectionRef": { "name": "c" }, "branch": "x/".repeat(4_000_000), "document": "- !host a" });
        let object = json!({ "metadata": { "namespace": "n", "name": "p" }, "spec": spec });
        let mut policy: ConjurPolicy = serde_json::from_value(object).unwrap();
        assert_eq!(specs.keep(&mut policy), Fits::No);
    }
}
