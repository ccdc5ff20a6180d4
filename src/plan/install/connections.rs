//! Connections that a release of the chart keeps.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{HookScope, ObjectName, resource};
use crate::api::{APPLIED_BY_LABEL, GROUP, VERSION};

/// The kinds that a release may keep; the second is in no namespace.
pub const CONNECTION_KINDS: [&str; 2] = ["ConjurConnection", "ClusterConjurConnection"];

/// A connection to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedConnection {
    /// Which it is.
    pub name: ObjectName,
    /// The manifest, with the label that says whose it is.
    pub manifest: Value,
}

/// A connection that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingConnection {
    /// Which it is.
    pub name: ObjectName,
    /// Its uid, so that no other is taken away.
    pub uid: String,
    /// Whose it is, by its label.
    pub owner: Option<String>,
    /// Whether a release has applied it, whatever its label says.
    pub applied: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl StandingConnection {
    /// Whether the owner applies it or may have to take it away.
    pub fn concerns(&self, wanted: &[WantedConnection], owner: &str) -> bool {
        self.is_of(owner) || self.is_wanted(wanted)
    }

    fn is_of(&self, owner: &str) -> bool {
        self.owner.as_deref() == Some(owner)
    }

    fn is_wanted(&self, wanted: &[WantedConnection]) -> bool {
        wanted.iter().any(|other| other.name == self.name)
    }
}

/// Reads manifests (JSON, one after the other), marks them as `owner`'s and tells what is wrong with them.
///
/// # Errors
/// A sentence for the first that can't be applied.
pub fn wanted(text: &str, owner: &str, scope: &HookScope) -> Result<Vec<WantedConnection>, String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let mut document =
            document.map_err(|error| format!("the manifests are not readable as JSON: {error}"))?;
        let text =
            |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let name = ObjectName { kind, namespace, name };
        if version != format!("{GROUP}/{VERSION}") || !CONNECTION_KINDS.contains(&name.kind.as_str()) {
            return Err(format!(
                "only ConjurConnections and ClusterConjurConnections of {GROUP}/{VERSION} are applied, and not {} of {}",
                if name.kind.is_empty() { "an object without a kind" } else { &name.kind },
                if version.is_empty() { "no version" } else { &version },
            ));
        }
        if name.name.is_empty() {
            return Err(format!("a {} has no metadata.name", name.kind));
        }
        refuse_place(&name, scope)?;
        if !seen.insert(name.clone()) {
            return Err(format!("{name} stands there twice; remove one of the two"));
        }
        let Some(metadata) = document["metadata"].as_object_mut() else {
            return Err(format!("{name} has no metadata"));
        };
        match metadata.entry("labels").or_insert_with(|| Value::Object(serde_json::Map::new())) {
            Value::Object(labels) => labels.insert(APPLIED_BY_LABEL.to_owned(), owner.into()),
            _ => return Err(format!("metadata.labels of {name} is no map")),
        };
        found.push(WantedConnection { name, manifest: document });
    }
    Ok(found)
}

fn refuse_place(name: &ObjectName, scope: &HookScope) -> Result<(), String> {
    let clusterwide = name.kind == CONNECTION_KINDS[1];
    match (clusterwide, name.namespace.is_empty()) {
        (true, false) => {
            Err(format!("{name} is in a namespace, and its kind in none; remove metadata.namespace"))
        }
        (true, true) if !scope.cluster_connections => {
            Err(format!("{name} is not applied, for ClusterConjurConnections are switched off"))
        }
        (false, true) => Err(format!("{name} has no metadata.namespace")),
        (false, false) if !scope.namespaces.is_empty() && !scope.namespaces.contains(&name.namespace) => {
            Err(format!(
                "{name} is in a namespace that the operator does not watch; it watches {}",
                scope.namespaces.join(", ")
            ))
        }
        _ => Ok(()),
    }
}

/// What stands, was applied and is the owner's, and is wanted no more. One that only has the label is someone else's.
///
/// # Errors
/// A sentence for each wanted connection that is another's.
pub fn superfluous<'a>(
    wanted: &[WantedConnection],
    standing: &'a [StandingConnection],
    owner: &str,
) -> Result<Vec<&'a StandingConnection>, Vec<String>> {
    let others = standing.iter().filter(|one| one.is_wanted(wanted) && !one.is_of(owner));
    let others: Vec<String> = others.map(|one| foreign(one, owner)).collect();
    if !others.is_empty() {
        return Err(others);
    }
    let gone = |one: &&StandingConnection| {
        one.is_of(owner) && one.applied && !one.is_wanted(wanted) && !one.deleting
    };
    Ok(standing.iter().filter(gone).collect())
}

/// Why a connection is not Ready, by its status and its generation; `None` where it is.
pub fn why_not_ready(status: &Value, generation: Option<i64>) -> Option<String> {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let Some(ready) = conditions.find(|condition| condition["type"] == "Ready") else {
        return Some("the operator has not looked at it yet".to_owned());
    };
    let text = |field: &str| ready[field].as_str().unwrap_or_default();
    if text("status") != "True" {
        return Some(format!("{}: {}", text("reason"), text("message")));
    }
    let is_current = status["observedGeneration"].as_i64() == generation;
    (!is_current).then(|| "the operator has not looked at its last change yet".to_owned())
}

fn foreign(one: &StandingConnection, owner: &str) -> String {
    let ObjectName { kind, namespace, name } = &one.name;
    let whose = match &one.owner {
        Some(other) => format!("was applied by the release {other}"),
        None => "was not applied by a release".to_owned(),
    };
    let place = if namespace.is_empty() { String::new() } else { format!(" --namespace {namespace}") };
    format!(
        "{} {whose}. Give the connection another name, or let this release take it over: kubectl label {} {name}{place} \
         --overwrite {APPLIED_BY_LABEL}={owner}",
        one.name,
        resource(kind),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OWNER: &str = "conjur-system.conjur";

    fn scope(namespaces: &[&str], cluster_connections: bool) -> HookScope {
        HookScope {
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            cluster_connections,
        }
    }

    fn manifest(kind: &str, namespace: &str, name: &str) -> String {
        let mut metadata = json!({ "name": name });
        if !namespace.is_empty() {
            metadata["namespace"] = namespace.into();
        }
        let version = "conjur-operator.io/v1alpha1";
        json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": {} }).to_string() + "\n"
    }

    fn standing(kind: &str, namespace: &str, name: &str, owner: Option<&str>) -> StandingConnection {
        let name = ObjectName { kind: kind.into(), namespace: namespace.into(), name: name.into() };
        let (uid, owner) = (name.to_string(), owner.map(str::to_owned));
        StandingConnection { uid, name, owner, applied: true, deleting: false }
    }

    #[test]
    fn manifests_get_the_label_and_nothing_is_nothing() {
        let text = manifest("ConjurConnection", "a", "x") + &manifest("ClusterConjurConnection", "", "y");
        let found = wanted(&text, OWNER, &scope(&[], true)).unwrap();
        let names: Vec<String> = found.iter().map(|one| one.name.to_string()).collect();
        assert_eq!(names, ["ConjurConnection a/x", "ClusterConjurConnection y"]);
        for one in &found {
            assert_eq!(one.manifest["metadata"]["labels"][APPLIED_BY_LABEL], OWNER);
        }
        for empty in ["", "\n"] {
            assert_eq!(wanted(empty, OWNER, &scope(&[], true)), Ok(vec![]), "{empty:?}");
        }
    }

    #[test]
    fn what_can_not_be_applied_is_told_in_a_sentence() {
        let twice = manifest("ConjurConnection", "a", "x").repeat(2);
        for (text, namespaces, cluster, expected) in [
            (manifest("ConjurSecret", "a", "x"), vec![], true, "and not ConjurSecret"),
            (manifest("ConjurConnection", "a", "x").replace("v1alpha1", "v9"), vec![], true, "/v9"),
            (manifest("ConjurConnection", "", "x"), vec![], true, "has no metadata.namespace"),
            (manifest("ClusterConjurConnection", "a", "x"), vec![], true, "remove metadata.namespace"),
            (manifest("ClusterConjurConnection", "", "x"), vec![], false, "switched off"),
            (manifest("ConjurConnection", "b", "x"), vec!["a"], true, "it watches a"),
            (manifest("ConjurConnection", "a", ""), vec![], true, "has no metadata.name"),
            (twice, vec![], true, "twice"),
            ("a: [".to_owned(), vec![], true, "not readable as JSON"),
        ] {
            let error = wanted(&text, OWNER, &scope(&namespaces, cluster)).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn only_the_owners_own_goes_and_what_is_anothers_is_not_touched() {
        let text = manifest("ConjurConnection", "a", "kept");
        let wanted = wanted(&text, OWNER, &scope(&[], true)).unwrap();
        let all = [
            standing("ConjurConnection", "a", "kept", Some(OWNER)),
            standing("ConjurConnection", "a", "gone", Some(OWNER)),
            standing("ClusterConjurConnection", "", "gone", Some(OWNER)),
            standing("ConjurConnection", "b", "kept", Some("other.release")),
            standing("ConjurConnection", "b", "by-hand", None),
            StandingConnection { deleting: true, ..standing("ConjurConnection", "c", "x", Some(OWNER)) },
            // Someone copied the label.
            StandingConnection { applied: false, ..standing("ConjurConnection", "d", "x", Some(OWNER)) },
        ];
        let concerned = all.iter().filter(|one| one.concerns(&wanted, OWNER)).count();
        assert_eq!(concerned, 5, "what is another's and not wanted");
        let gone = superfluous(&wanted, &all, OWNER).unwrap();
        let names: Vec<String> = gone.iter().map(|one| one.name.to_string()).collect();
        assert_eq!(names, ["ConjurConnection a/gone", "ClusterConjurConnection gone"]);

        for (owner, expected) in [(None, "was not applied by a release"), (Some("x.y"), "by the release x.y")]
        {
            let foreign = [standing("ConjurConnection", "a", "kept", owner)];
            let told = superfluous(&wanted, &foreign, OWNER).unwrap_err().join("\n");
            assert!(told.contains(expected) && told.contains("kubectl label conjurconnection."), "{told}");
        }
    }

    #[test]
    fn a_connection_is_ready_only_where_its_condition_says_so_of_its_last_change() {
        let status = |observed: i64, ready: &str, reason: &str| {
            let condition = json!({ "type": "Ready", "status": ready, "reason": reason, "message": "See." });
            json!({ "observedGeneration": observed, "conditions": [{ "type": "Stalled" }, condition] })
        };
        let unseen = Some("the operator has not looked at it yet");
        for (status, expected) in [
            (json!(null), unseen),
            (json!({ "observedGeneration": 2 }), unseen),
            (json!({ "observedGeneration": 2, "conditions": [] }), unseen),
            (status(2, "True", "LoggedIn"), None),
            (status(1, "True", "LoggedIn"), Some("the operator has not looked at its last change yet")),
            (status(1, "False", "Refused"), Some("Refused: See.")),
            (status(2, "Unknown", "Trying"), Some("Trying: See.")),
        ] {
            assert_eq!(why_not_ready(&status, Some(2)).as_deref(), expected, "{status}");
        }
    }
}
