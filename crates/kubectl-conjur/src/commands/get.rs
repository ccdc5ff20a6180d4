//! `get`: objects of all kinds with their state.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Ended, Error,
    cli::{Form, GetArgs},
    cluster::{Cluster, Kind, Reference, Seen},
    show::{Shown, Table, Tone},
};

pub async fn run(cluster: &Cluster, args: &GetArgs, form: Option<Form>) -> Result<Ended, Error> {
    let references = args.objects.iter().map(|text| Reference::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let namespace = (!args.all_namespaces).then_some(cluster.namespace.as_str());
    let mut found = cluster.list(&wanted_kinds(&references), namespace).await?;
    for reference in &references {
        if let Some(name) = named(reference)
            && !found.iter().any(|seen| is_meant(seen, reference))
        {
            return Err(Error::new(format!("there is no {name}; kubectl conjur get -A lists what there is")));
        }
    }
    found.retain(|seen| references.is_empty() || references.iter().any(|one| is_meant(seen, one)));
    found.retain(|seen| !args.not_ready || !seen.is_ready());
    let shown = shown(&found, args.all_namespaces, form, Timestamp::now());
    shown.print(form)?;
    Ok(if args.not_ready && !found.is_empty() { Ended::Differs } else { Ended::Well })
}

/// The kinds that have to be listed.
fn wanted_kinds(references: &[Reference]) -> Vec<Kind> {
    let of_any = references.iter().any(|reference| matches!(reference, Reference::Name(_)));
    let is_wanted = |kind: &Kind| {
        of_any
            || references.is_empty()
            || references.iter().any(|reference| match reference {
                Reference::Kind(of) | Reference::Object(of, _) => of == kind,
                Reference::Name(_) => true,
            })
    };
    Kind::ALL.into_iter().filter(is_wanted).collect()
}

fn named(reference: &Reference) -> Option<String> {
    match reference {
        Reference::Kind(_) => None,
        Reference::Object(kind, name) => Some(format!("{}/{name}", kind.short())),
        Reference::Name(name) => Some(name.clone()),
    }
}

fn is_meant(seen: &Seen, reference: &Reference) -> bool {
    match reference {
        Reference::Kind(kind) => seen.kind == *kind,
        Reference::Object(kind, name) => seen.kind == *kind && seen.name() == name,
        Reference::Name(name) => seen.name() == name,
    }
}

fn shown(found: &[Seen], namespaces: bool, form: Option<Form>, now: Timestamp) -> Shown {
    let mut header = vec!["NAME", "READY", "REASON", "CHANGED", "MESSAGE"];
    if namespaces {
        header.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&header);
    for seen in found {
        table.row(row(seen, namespaces, now));
    }
    let text = if found.is_empty() { "No objects found.\n".to_owned() } else { table.in_form(form) };
    let items: Vec<Value> = found.iter().map(Seen::plain).collect();
    Shown {
        text,
        data: json!({ "apiVersion": "v1", "kind": "List", "items": items }),
        names: found.iter().map(Seen::full_name).collect(),
    }
}

fn row(seen: &Seen, namespaces: bool, now: Timestamp) -> Vec<(Tone, String)> {
    let (ready, reason, message) = seen.condition("Ready").unwrap_or(("", "", "not looked at yet"));
    let suspended = seen.spec()["suspend"] == true;
    let stalled = seen.condition("Stalled").is_some_and(|(status, ..)| status == "True");
    let tone = match ready {
        "True" if suspended => Tone::Faint,
        "True" => Tone::Good,
        _ if stalled => Tone::Bad,
        _ => Tone::Waiting,
    };
    let reason = if suspended { "Suspended" } else { reason };
    let mut cells = Vec::new();
    if namespaces {
        cells.push((Tone::Plain, seen.namespace().to_owned()));
    }
    cells.extend([
        (Tone::Plain, seen.short_name()),
        (tone, if ready.is_empty() { "-" } else { ready }.to_owned()),
        (tone, if reason.is_empty() { "-" } else { reason }.to_owned()),
        (Tone::Plain, changed(seen).map_or_else(|| "-".to_owned(), |at| age(now, at))),
        (Tone::Plain, message.to_owned()),
    ]);
    cells
}

/// When what the object keeps in step last changed; of one that is not Ready, since when it has not been.
fn changed(seen: &Seen) -> Option<Timestamp> {
    let done = ["lastSyncTime", "lastLoadTime", "lastPushTime", "lastRotationTime"];
    let told = done.iter().find_map(|field| seen.status()[field].as_str()).filter(|_| seen.is_ready());
    let conditions = seen.status()["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|one| one["type"] == "Ready");
    told.or_else(|| ready?["lastTransitionTime"].as_str()).and_then(|text| text.parse().ok())
}

/// How long ago, as kubectl writes it: in the largest unit that says enough.
pub fn age(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(at.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kind: Kind, object: Value) -> Seen {
        let mut object = object;
        object["apiVersion"] = "conjur-operator.io/v1alpha1".into();
        object["kind"] = kind.name().into();
        Seen { kind, object: serde_json::from_value(object).unwrap() }
    }

    #[test]
    fn each_state_is_told_in_a_line() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let condition = |type_: &str, status: &str, reason: &str| {
            json!({ "type": type_, "status": status, "reason": reason, "message": "a message",
                "lastTransitionTime": "2026-01-01T11:59:00Z" })
        };
        let all = [
            seen(
                Kind::Secret,
                json!({ "metadata": { "name": "db", "namespace": "billing" }, "status": {
                    "lastSyncTime": "2026-01-01T11:00:00Z", "conditions": [condition("Ready", "True", "Synced")] } }),
            ),
            seen(
                Kind::Policy,
                json!({ "metadata": { "name": "p", "namespace": "billing" }, "status": { "conditions": [
                    condition("Ready", "False", "PolicyInvalid"), condition("Stalled", "True", "PolicyInvalid")] } }),
            ),
            seen(Kind::Push, json!({ "metadata": { "name": "new", "namespace": "billing" }, "status": {} })),
        ];
        let told = shown(&all, true, None, now);
        let text = anstream::adapter::strip_str(&told.text).to_string();
        let lines: Vec<_> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "NAMESPACE NAME READY REASON CHANGED MESSAGE",
                "billing cjs/db True Synced 60m a message",
                "billing cjp/p False PolicyInvalid 60s a message",
                "billing cjpush/new - - - not looked at yet",
            ]
        );
        assert_eq!(told.names[0], "conjursecret.conjur-operator.io/db");
    }

    #[test]
    fn what_is_meant_is_listed_and_no_more() {
        let parse = |text: &str| Reference::parse(text).unwrap();
        assert_eq!(wanted_kinds(&[]), Kind::ALL);
        assert_eq!(wanted_kinds(&[parse("cjs/db"), parse("cjh")]), [Kind::Secret, Kind::Host]);
        assert_eq!(wanted_kinds(&[parse("cjs/db"), parse("db")]), Kind::ALL);
    }
}
