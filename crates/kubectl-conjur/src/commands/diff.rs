//! `diff`: what a policy would change in Conjur, by a dry run.

use std::collections::BTreeMap;

use conjur_client::{Changes, DryRun, Item, LoadMode, PolicyBranch};
use conjur_operator::seams::{Part, PolicyText, document, document_hash};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::{Value, json};

use crate::{
    Ended, Error,
    cli::{DiffArgs, Form},
    cluster::{Cluster, Kind, Reference, Seen, api_error},
    connect::Conjur,
    files,
    show::{Shown, Tone, toned},
};

pub async fn run(cluster: &Cluster, args: &DiffArgs, form: Option<Form>) -> Result<Ended, Error> {
    let policy = match (&args.policy, &args.file) {
        (_, Some(file)) => from_file(cluster, file)?,
        (Some(text), None) => from_cluster(cluster, text).await?,
        (None, None) => return Err(Error::new("name a ConjurPolicy")),
    };
    let namespace = policy.namespace().to_owned();
    let (kind, name) = policy.connection().ok_or_else(|| Error::new("it has no spec.connectionRef"))?;
    let here = Cluster { client: cluster.client.clone(), namespace: namespace.clone() };
    let connection = here.get(kind, name).await?;
    let connection = connection.ok_or_else(|| Error::new(format!("there is no {} {name}", kind.name())))?;
    let conjur = Conjur::of_connection(&here, &connection, &namespace).await?;
    let branch = policy.spec()["branch"].as_str().unwrap_or_default().to_owned();
    let mode = mode(policy.spec());
    let text = text(&here, policy.spec()).await?;
    if let Err(error) = document::read(text.as_str(), &branch, &conjur.config.account) {
        let place = text.place(error.line, Some(error.column));
        return Err(Error::new(format!("the document can't be read, {place}: {}", error.message)));
    }
    let of = PolicyBranch::new(&branch).map_err(|error| Error::new(format!("spec.branch: {error}")))?;
    let answer = conjur.client.dry_run_policy(&of, mode, text.as_str().as_bytes()).await;
    match answer.map_err(|error| Error::new(error.to_string()))? {
        DryRun::Valid(changes) => {
            let hash = document_hash(text.as_str().as_bytes());
            let shown = shown(&policy, mode, &changes, &hash, !text.is_secret());
            shown.print(form)?;
            let differs =
                !(changes.created.is_empty() && changes.after.is_empty() && changes.deleted.is_empty());
            Ok(if differs { Ended::Differs } else { Ended::Well })
        }
        DryRun::Invalid(flaws) => {
            let told = flaws.iter().map(|flaw| {
                // The server's words may quote the document.
                let message =
                    if text.is_secret() { "refused; its text is a Secret's" } else { &flaw.message };
                match flaw.line.filter(|line| *line > 0) {
                    Some(line) => format!("{}: {message}", text.place(line, flaw.column)),
                    None => message.to_owned(),
                }
            });
            Err(Error::new(format!(
                "Conjur would refuse the document:\n  {}",
                told.collect::<Vec<_>>().join("\n  ")
            )))
        }
    }
}

async fn from_cluster(cluster: &Cluster, text: &str) -> Result<Seen, Error> {
    let name = match Reference::parse(text)? {
        Reference::Name(name) | Reference::Object(Kind::Policy, name) => name,
        Reference::Kind(_) | Reference::Object(..) => {
            return Err(Error::new(format!("{text}: name a ConjurPolicy, as in cjp/<name>")));
        }
    };
    let found = cluster.get(Kind::Policy, &name).await?;
    found.ok_or_else(|| Error::new(format!("namespace {} has no ConjurPolicy {name}", cluster.namespace)))
}

fn from_file(cluster: &Cluster, file: &std::path::Path) -> Result<Seen, Error> {
    let shown = file.display();
    let mut found = Vec::new();
    for document in files::read(&[file.to_owned()])? {
        let value =
            document.value().map_err(|(line, error)| Error::new(format!("{shown}, line {line}: {error}")))?;
        if value["kind"] == Kind::Policy.name() {
            found.push(value);
        }
    }
    let (Some(mut policy), true) = (found.pop(), found.is_empty()) else {
        return Err(Error::new(format!("{shown} must hold one ConjurPolicy")));
    };
    if !policy["metadata"]["namespace"].is_string() {
        policy["metadata"]["namespace"] = cluster.namespace.clone().into();
    }
    let object = serde_json::from_value(policy).map_err(|error| Error::new(format!("{shown}: {error}")))?;
    Ok(Seen { kind: Kind::Policy, object })
}

fn mode(spec: &Value) -> LoadMode {
    match spec["mode"].as_str() {
        Some("Append") => LoadMode::Append,
        Some("Replace") => LoadMode::Replace,
        _ => LoadMode::Update,
    }
}

/// The document, inline or joined of its sources.
async fn text(cluster: &Cluster, spec: &Value) -> Result<PolicyText, Error> {
    if let Some(document) = spec["document"].as_str() {
        return Ok(PolicyText::inline(document));
    }
    let mut parts = Vec::new();
    for source in spec["documentFrom"].as_array().into_iter().flatten() {
        parts.push(part(cluster, source).await?);
    }
    PolicyText::join(&parts).map_err(|failure| Error::new(failure.message))
}

async fn part(cluster: &Cluster, source: &Value) -> Result<Part, Error> {
    let text = |field: &str| source[field].as_str().unwrap_or_default().to_owned();
    let (name, key, secret) = (text("name"), text("key"), source["kind"] == "Secret");
    let what = format!("{} {name}, key {key}", if secret { "Secret" } else { "ConfigMap" });
    let failed = |error: kube::Error| api_error(&format!("read {what}"), &error);
    let found = if secret {
        let api = Api::<Secret>::namespaced(cluster.client.clone(), &cluster.namespace);
        let read = api.get_opt(&name).await.map_err(failed)?;
        read.and_then(|read| read.data?.remove(&key)).map(|bytes| bytes.0)
    } else {
        let api = Api::<ConfigMap>::namespaced(cluster.client.clone(), &cluster.namespace);
        let read = api.get_opt(&name).await.map_err(failed)?;
        read.and_then(|read| {
            let text = read.data.unwrap_or_default().remove(&key).map(String::into_bytes);
            text.or_else(|| read.binary_data.unwrap_or_default().remove(&key).map(|bytes| bytes.0))
        })
    };
    let bytes = found.ok_or_else(|| Error::new(format!("{what} does not exist")))?;
    Ok(Part { what, secret, bytes: std::sync::Arc::new(conjur_client::sensitive::Sensitive::new(bytes)) })
}

/// Of a document that comes from a Secret only ids are shown.
fn shown(policy: &Seen, mode: LoadMode, changes: &Changes, hash: &str, in_detail: bool) -> Shown {
    let before: BTreeMap<_, _> = changes.before.iter().map(|item| (&item.identifier, item)).collect();
    let mut text = String::new();
    for item in &changes.created {
        text += &format!("{}\n", toned(Tone::Good, &format!("+ {}", named(item))));
    }
    for item in &changes.after {
        text += &format!("{}\n", toned(Tone::Waiting, &format!("~ {}", named(item))));
        if in_detail {
            text += &details(before.get(&item.identifier).copied(), item);
        }
    }
    for item in &changes.deleted {
        text += &format!("{}\n", toned(Tone::Bad, &format!("- {}", named(item))));
    }
    let (created, updated, deleted) = (changes.created.len(), changes.after.len(), changes.deleted.len());
    text += &if created + updated + deleted == 0 {
        format!("{} in mode {mode:?}: Conjur holds what the document says.\n", policy.short_name())
    } else {
        format!(
            "{} in mode {mode:?} would create {created}, update {updated}, delete {deleted}.\n",
            policy.short_name()
        )
    };
    if deleted > 0 && mode == LoadMode::Replace {
        text += &format!(
            "Where that loses values or API keys, the load waits for an annotation:\nkubectl annotate {} --overwrite \\\n\
             conjur-operator.io/allow-deletions={hash}\n",
            policy.short_name()
        );
    }
    let ids = |items: &[Item]| items.iter().map(|item| item.identifier.clone()).collect::<Vec<_>>();
    let data = json!({
        "object": policy.full_name(), "mode": format!("{mode:?}"), "documentHash": hash,
        "created": ids(&changes.created), "updated": ids(&changes.after), "deleted": ids(&changes.deleted),
    });
    Shown { text, data, names: [ids(&changes.created), ids(&changes.after), ids(&changes.deleted)].concat() }
}

/// `variable apps/db/password`.
fn named(item: &Item) -> String {
    let mut parts = item.identifier.splitn(3, ':').skip(1);
    let (kind, id) = (parts.next(), parts.next());
    match (kind, id) {
        (Some(kind), Some(id)) => format!("{kind} {id}"),
        // Who does not own the branch does not see it.
        _ => item.kind.clone().unwrap_or_else(|| item.identifier.clone()),
    }
}

/// What differs between two states of a record, a line each.
fn details(before: Option<&Item>, after: &Item) -> String {
    let lines = |item: &Item| -> Vec<String> {
        let mut all: Vec<_> =
            item.annotations.iter().map(|(name, value)| format!("annotation {name}: {value}")).collect();
        all.extend(item.owner.iter().map(|owner| format!("owner {owner}")));
        for (privilege, roles) in &item.permitted {
            all.extend(roles.iter().map(|role| format!("permits {privilege} to {role}")));
        }
        for (privilege, on) in &item.permissions {
            all.extend(on.iter().map(|on| format!("may {privilege} {on}")));
        }
        all.extend(item.members.iter().map(|member| format!("member {member}")));
        all.extend(item.memberships.iter().map(|of| format!("member of {of}")));
        all.extend(item.restricted_to.iter().map(|cidr| format!("restricted to {cidr}")));
        all
    };
    let Some(before) = before else { return String::new() };
    let (old, new) = (lines(before), lines(after));
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| (Tone::Bad, '-', line));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| (Tone::Good, '+', line));
    let both = gone.chain(come);
    both.map(|(tone, sign, line)| format!("    {}\n", toned(tone, &format!("{sign} {line}")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(json: Value) -> Item {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_plan_reads_like_a_diff() {
        let changes = Changes {
            created: vec![item(json!({ "identifier": "demo:variable:apps/db", "type": "variable" }))],
            before: vec![item(
                json!({ "identifier": "demo:host:apps/web", "annotations": { "a": "1" }, "members": ["demo:user:x"] }),
            )],
            after: vec![item(
                json!({ "identifier": "demo:host:apps/web", "annotations": { "a": "2" }, "members": ["demo:user:x"] }),
            )],
            deleted: vec![item(json!({ "identifier": "[REDACTED]", "type": "policy" }))],
        };
        let object = serde_json::from_value(json!({ "metadata": { "name": "p" } })).unwrap();
        let policy = Seen { kind: Kind::Policy, object };
        let told = shown(&policy, LoadMode::Replace, &changes, "abc", true);
        let text = anstream::adapter::strip_str(&told.text).to_string();
        assert_eq!(
            text,
            "+ variable apps/db\n~ host apps/web\n    - annotation a: 1\n    + annotation a: 2\n- policy\n\
             cjp/p in mode Replace would create 1, update 1, delete 1.\n\
             Where that loses values or API keys, the load waits for an annotation:\nkubectl annotate cjp/p --overwrite \\\n\
             conjur-operator.io/allow-deletions=abc\n"
        );
    }
}
