//! `explain`: why an object is not Ready, along the chain connection, access rule, identity, permission.

pub mod conjur;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use anstream::eprintln;
use conjur_operator::seams::{
    access::{Consumer, Verb, check_use},
    document,
};
use conjur_operator_api::connection::AccessRule;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use self::conjur::Need;
use crate::{
    Ended, Error,
    cli::{ExplainArgs, Form},
    cluster::{Cluster, Kind, Seen},
    connect::{self, Conjur},
    links,
    show::Shown,
    steps::Steps,
};

/// So many objects that are not Ready are looked at.
const OBJECTS: usize = 20;
/// So many ids of an object are asked about.
const IDS: usize = 50;

/// What an object needs of Conjur: ids, and what for.
struct Needs {
    verb: Verb,
    need: Need,
    ids: Vec<String>,
    /// Whether they are branches that the identity has to own.
    owned: bool,
}

impl Needs {
    fn of(verb: Verb, need: Need, ids: Vec<String>) -> Self {
        Self { verb, need, ids, owned: false }
    }

    fn owned(self, owned: bool) -> Self {
        Self { owned, ..self }
    }
}

pub async fn run(cluster: &Cluster, args: &ExplainArgs, form: Option<Form>) -> Result<Ended, Error> {
    if let Some(id) = &args.variable {
        let mut steps = Steps::default();
        let connection = connect::connection(cluster, args.connection.as_deref()).await?;
        let needs = [Needs::of(Verb::Read, Need::Read, vec![id.clone()])];
        look(cluster, &connection, &cluster.namespace, &needs, &mut steps).await;
        let about = format!("variable {id} through {}", connection.short_name());
        steps.shown(&about, &connection.full_name()).print(form)?;
        return Ok(steps.ended());
    }
    let objects = match &args.object {
        Some(text) => vec![cluster.find(text).await?],
        None => not_ready(cluster).await?,
    };
    let (mut all, mut ended) = (Vec::new(), Ended::Well);
    for seen in &objects {
        let mut steps = Steps::default();
        explain(cluster, seen, &mut steps).await;
        if steps.ended() == Ended::Differs {
            ended = Ended::Differs;
        }
        all.push(steps.shown(&seen.short_name(), &seen.full_name()));
    }
    Shown::joined(all, "All objects of the namespace are Ready.\n").print(form)?;
    Ok(ended)
}

/// The objects of the namespace that are not as they should be; connections first, for others wait for them.
async fn not_ready(cluster: &Cluster) -> Result<Vec<Seen>, Error> {
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::ClusterConnection).collect();
    let mut all = cluster.list(&kinds, Some(&cluster.namespace)).await?;
    all.retain(|seen| !seen.is_ready());
    if all.len() > OBJECTS {
        eprintln!("{} objects are not Ready; the first {OBJECTS} are looked at", all.len());
        all.truncate(OBJECTS);
    }
    Ok(all)
}

async fn explain(cluster: &Cluster, seen: &Seen, steps: &mut Steps) {
    state(seen, steps);
    if seen.kind.is_connection() {
        steps.skipped("the rest", format!("{} looks at the connection itself", seen.command("doctor")));
    } else if let Some(connection) = connection_of(cluster, seen, steps).await {
        look(cluster, &connection, seen.namespace(), &needs(seen), steps).await;
    }
}

/// What the operator says of an object.
fn state(seen: &Seen, steps: &mut Steps) {
    let Some((ready, reason, message)) = seen.condition("Ready") else {
        let fix = "See whether the operator runs and leads: kubectl get pods -A -l app.kubernetes.io/name=conjur-operator. With \
                   watchNamespaces it looks at those namespaces alone";
        return steps.bad("state", "the operator has not looked at it yet", fix);
    };
    if seen.spec()["suspend"] == true {
        let fix = seen.command("resume");
        return steps.bad("state", "it is suspended: nothing is read, written or repaired", fix);
    }
    if seen.is_ready() {
        return steps.good("state", format!("Ready ({reason}): {message}"));
    }
    if ready == "True" {
        return steps
            .unknown("state", format!("its newest spec was not looked at to the end: {reason}: {message}"));
    }
    let stalled = seen.condition("Stalled").is_some_and(|(status, ..)| status == "True");
    if reason == "ConnectionNotReady" {
        return steps.bad(
            "state",
            "its connection is not Ready",
            "It goes on by itself when the connection does; see below",
        );
    }
    let fix = if stalled {
        "It waits for a change of what is wrong; nothing is tried again before that"
    } else {
        "It is tried again by itself"
    };
    steps.bad("state", format!("{reason}: {message}"), fix);
}

async fn connection_of(cluster: &Cluster, seen: &Seen, steps: &mut Steps) -> Option<Seen> {
    let (kind, name) = seen.connection()?;
    let found = match cluster.get(kind, name).await {
        Ok(found) => found,
        Err(error) => {
            steps.unknown("connection", error.to_string());
            return None;
        }
    };
    if found.is_none() {
        let (kind, short) = (kind.name(), kind.short());
        let fix = format!("Create {short}/{name}, or correct spec.connectionRef of {}", seen.short_name());
        steps.bad("connection", format!("there is no {kind} {name}"), fix);
    }
    found
}

/// What an object needs of Conjur.
fn needs(seen: &Seen) -> Vec<Needs> {
    let spec = seen.spec();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let ids = || links::of(seen).into_iter().flat_map(|link| link.variables).map(|(id, _)| id).collect();
    let load = |branch: Option<String>, privilege| {
        Needs::of(Verb::Load, Need::Load(privilege), branch.into_iter().collect())
    };
    match seen.kind {
        Kind::Secret => vec![Needs::of(Verb::Read, Need::Read, ids())],
        Kind::Push => vec![
            load(text(&spec["createVariables"]["branch"]), "create"),
            Needs::of(Verb::Push, Need::Write, ids()),
        ],
        Kind::Policy => {
            let privilege = if spec["mode"] == "Append" { "create" } else { "update" };
            let branch = text(&spec["branch"]).unwrap_or_default();
            let made =
                spec["document"].as_str().and_then(|text| document::read(text, &branch, "account").ok());
            let makes_roles =
                made.is_some_and(|made| !made.roles.is_empty()) || spec["createdRoles"].is_object();
            vec![load(Some(branch), privilege).owned(makes_roles)]
        }
        Kind::Host => {
            let parent =
                text(&spec["id"]).and_then(|id| id.rsplit_once('/').map(|(parent, _)| parent.to_owned()));
            let branch = text(&spec["via"]["branch"])
                .or(parent)
                .filter(|_| spec["via"].is_null() || spec["via"]["branch"].is_string());
            vec![load(branch, "update").owned(true)]
        }
        Kind::Connection | Kind::ClusterConnection => Vec::new(),
    }
}

/// Looks along the chain.
async fn look(cluster: &Cluster, connection: &Seen, namespace: &str, needs: &[Needs], steps: &mut Steps) {
    match connection.condition("Ready") {
        Some(("True", _, message)) => {
            steps.good("connection", format!("{}: {message}", connection.short_name()));
        }
        Some((_, reason, message)) => steps.bad(
            "connection",
            format!("{}: {reason}: {message}", connection.short_name()),
            format!("{} looks at it step by step", connection.command("doctor")),
        ),
        None => steps.unknown("connection", format!("{} was not looked at yet", connection.short_name())),
    }
    access_mode(connection, needs, steps);
    let mut refused = BTreeSet::new();
    if connection.kind == Kind::ClusterConnection {
        refused = access(cluster, connection, namespace, needs, steps).await;
    }
    let conjur = match Conjur::of_connection(cluster, connection, namespace).await {
        Ok(conjur) => conjur,
        Err(error) => {
            let message = format!("can't be looked at as {} logs in: {error}", connection.short_name());
            return steps.unknown("permissions", message);
        }
    };
    let Some(identity) = conjur::identity(&conjur.client, &connection.command("doctor"), steps).await else {
        return;
    };
    if !connection.is_ready() {
        let fix = format!("{} has the operator try it at once", connection.command("sync"));
        steps.bad("operator", "what it says of the connection is older: from here the login works now", fix);
    }
    let asked = needs.iter().flat_map(|need| need.ids.iter().map(|id| (need.need, id)));
    // What the namespace may not reach says nothing by what the identity may.
    let asked: Vec<_> = asked.filter(|(_, id)| !refused.contains(*id)).collect();
    for (need, id) in asked.iter().take(IDS) {
        conjur::look(&conjur.client, &identity, *need, id, steps).await;
    }
    if asked.len() > IDS {
        steps.skipped("more", format!("{} more ids were not looked at", asked.len() - IDS));
    }
    for need in needs.iter().filter(|need| need.owned) {
        for branch in &need.ids {
            conjur::owns(&conjur.client, &identity, branch, steps).await;
        }
    }
}

/// What the connection itself does not let anybody do.
fn access_mode(connection: &Seen, needs: &[Needs], steps: &mut Steps) {
    let mode = connection.spec()["accessMode"].as_str().unwrap_or_default();
    let refuses = |needs: &Needs| match needs.need {
        Need::Read => mode == "WriteOnly",
        Need::Write | Need::Load(_) => mode == "ReadOnly",
    };
    if needs.iter().any(|needs| !needs.ids.is_empty() && refuses(needs)) {
        let message = format!("spec.accessMode of {} is {mode}, which refuses this", connection.short_name());
        steps.bad("accessMode", message, "Use another connection, or change its accessMode");
    }
}

/// Whether the rules are for the namespace, and grant the ids; gives those that they do not.
async fn access(
    cluster: &Cluster,
    connection: &Seen,
    namespace: &str,
    needs: &[Needs],
    steps: &mut Steps,
) -> BTreeSet<String> {
    let rules = connection.spec()["access"].clone();
    let rules: Vec<AccessRule> = serde_json::from_value(rules).unwrap_or_default();
    let found = Api::<Namespace>::all(cluster.client.clone()).get_metadata(namespace).await;
    let labels: BTreeMap<String, String> = match found {
        Ok(found) => found.metadata.labels.unwrap_or_default(),
        Err(error) => {
            let asks = rules.iter().any(|rule| rule.namespaces.selector.is_some());
            if asks {
                let message = format!(
                    "the labels of namespace {namespace} can't be read, by which rules select: {error}"
                );
                steps.unknown("access", message);
                return BTreeSet::new();
            }
            BTreeMap::new()
        }
    };
    let fix = format!("kubectl edit {} adds it", connection.full_name());
    let who = Consumer { namespace, labels: &labels };
    if let Err(failure) = check_use(&rules, who, connection.name()) {
        steps.bad("access", failure.message, fix);
        return needs.iter().flat_map(|need| need.ids.iter().cloned()).collect();
    }
    let (mut granted, mut refused) = (0, BTreeSet::new());
    for need in needs {
        for id in &need.ids {
            match rules::judge(&rules, (namespace, &labels), need.verb, id, connection.name()) {
                Ok(()) => granted += 1,
                Err((message, closest)) => {
                    if refused.len() < IDS {
                        let closest = closest.map(|closest| format!(". {closest}")).unwrap_or_default();
                        steps.bad("access", format!("{message}{closest}"), fix.clone());
                    }
                    refused.insert(id.clone());
                }
            }
        }
    }
    if refused.is_empty() {
        let of = connection.short_name();
        let what = match granted {
            0 => "are for this namespace; they are judged by the ids that are found".to_owned(),
            1 => "grant its id".to_owned(),
            many => format!("grant all {many} ids"),
        };
        steps.good("access", format!("the rules of {of} {what}"));
    }
    refused
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::State;

    fn seen(kind: Kind, object: serde_json::Value) -> Seen {
        Seen { kind, object: serde_json::from_value(object).unwrap() }
    }

    #[test]
    fn each_state_of_an_object_is_told() {
        let of = |object: serde_json::Value| {
            let mut steps = Steps::default();
            state(&seen(Kind::Secret, object), &mut steps);
            let step = steps.all.remove(0);
            (step.state, step.message, step.fix.unwrap_or_default())
        };
        let condition =
            |status: &str| json!([{ "type": "Ready", "status": status, "reason": "R", "message": "m" }]);
        let new = of(
            json!({ "metadata": { "name": "a", "generation": 1 }, "status": { "observedGeneration": -1 } }),
        );
        assert!(new.0 == State::Bad && new.2.contains("watchNamespaces"), "{new:?}");
        let suspended = of(json!({ "metadata": { "name": "a" }, "spec": { "suspend": true },
            "status": { "conditions": condition("True") } }));
        assert!(suspended.2.contains("kubectl conjur resume cjs/a"), "{suspended:?}");
        let good = of(json!({ "metadata": { "generation": 1 },
            "status": { "observedGeneration": 1, "conditions": condition("True") } }));
        assert_eq!(good.0, State::Good);
        let behind = of(json!({ "metadata": { "generation": 2 },
            "status": { "observedGeneration": 1, "conditions": condition("True") } }));
        assert_eq!(behind.0, State::Unknown);
        let bad = of(json!({ "metadata": {}, "status": { "conditions": condition("False") } }));
        assert_eq!((bad.0, bad.1.as_str()), (State::Bad, "R: m"));
    }

    #[test]
    fn what_each_kind_needs_of_conjur() {
        let of = |kind, spec: serde_json::Value| {
            let object = json!({ "metadata": { "name": "a", "namespace": "n" }, "spec": spec });
            let all = needs(&seen(kind, object)).into_iter();
            all.flat_map(|need| need.ids.into_iter().map(move |id| (need.need, id))).collect::<Vec<_>>()
        };
        assert_eq!(
            of(Kind::Secret, json!({ "data": [{ "key": "k", "variable": "a/b" }] })),
            [(Need::Read, "a/b".to_owned())]
        );
        assert_eq!(
            of(Kind::Policy, json!({ "branch": "b", "mode": "Append" })),
            [(Need::Load("create"), "b".to_owned())]
        );
        assert_eq!(
            of(
                Kind::Push,
                json!({ "prefix": "p/", "createVariables": { "branch": "p" }, "data": [{ "key": "k", "variable": "v" }] })
            ),
            [(Need::Load("create"), "p".to_owned()), (Need::Write, "p/v".to_owned())]
        );
        assert_eq!(of(Kind::Host, json!({ "id": "apps/web" })), [(Need::Load("update"), "apps".to_owned())]);
        assert_eq!(of(Kind::Host, json!({ "id": "apps/web", "via": { "existing": {} } })), []);
    }
}
