//! `events`: what the operator told of objects, the newest last.

use std::{collections::HashSet, io::Write as _};

use anstream::eprintln;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

use super::get::age;
use crate::{
    Ended, Error,
    cli::{EventsArgs, Form},
    cluster::{Cluster, Kind, Seen, api_error},
    show::{Shown, Table, Tone, toned},
};

pub async fn run(cluster: &Cluster, args: &EventsArgs, form: Option<Form>) -> Result<Ended, Error> {
    let mut objects = Vec::new();
    for text in &args.objects {
        objects.push(cluster.find(text).await?);
    }
    // Events of what is in no namespace are in this one.
    let of_cluster = objects.iter().any(|seen| seen.kind == Kind::ClusterConnection);
    let api: Api<Event> = if args.all_namespaces {
        Api::all(cluster.client.clone())
    } else {
        let namespace = if of_cluster { "default" } else { cluster.namespace.as_str() };
        Api::namespaced(cluster.client.clone(), namespace)
    };
    let all = api.list(&ListParams::default()).await.map_err(|error| api_error("list Events", &error))?;
    let mut told: Vec<_> = all.items.into_iter().filter(|event| is_meant(event, &objects)).collect();
    told.sort_by_key(last_seen);
    shown(&told, args.all_namespaces, form, Timestamp::now()).print(form)?;
    if args.watch {
        let known = told.iter().map(version).collect();
        follow(api, &objects, known, args.all_namespaces, form).await?;
    }
    Ok(Ended::Well)
}

/// What an Event is known by, as it is now.
fn version(event: &Event) -> (Option<String>, Option<String>) {
    (event.metadata.uid.clone(), event.metadata.resource_version.clone())
}

/// Goes on with what is not known, until the output is closed.
async fn follow(
    api: Api<Event>,
    objects: &[Seen],
    mut known: HashSet<(Option<String>, Option<String>)>,
    namespaces: bool,
    form: Option<Form>,
) -> Result<(), Error> {
    let mut changes = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut is_told = false;
    while let Some(event) = changes.next().await {
        let event = match event {
            Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) => event,
            Ok(_) => continue,
            Err(error) => {
                // It is tried again; once is enough to know.
                if !std::mem::replace(&mut is_told, true) {
                    eprintln!("Watching the Events failed, which is tried again: {error}");
                }
                continue;
            }
        };
        if !is_meant(&event, objects) || !known.insert(version(&event)) {
            continue;
        }
        let text = match form {
            None | Some(Form::Wide) => format!("{}\n", line(&event, namespaces)),
            Some(form) => {
                Shown { text: String::new(), data: data(&event), names: names(&event) }.in_form(Some(form))?
            }
        };
        if anstream::stdout().write_all(text.as_bytes()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Of the operator's objects, and of those that are asked for.
fn is_meant(event: &Event, objects: &[Seen]) -> bool {
    let Some(of) = &event.regarding else { return false };
    let (Some(kind), Some(name)) = (&of.kind, &of.name) else { return false };
    let Some(kind) = Kind::of(kind) else { return false };
    objects.is_empty() || objects.iter().any(|seen| seen.kind == kind && seen.name() == name)
}

fn last_seen(event: &Event) -> Timestamp {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    series.or(event.event_time.as_ref().map(|time| time.0)).unwrap_or_default()
}

fn tone(event: &Event) -> Tone {
    if event.type_.as_deref() == Some("Warning") { Tone::Bad } else { Tone::Plain }
}

fn about(event: &Event) -> String {
    let Some(of) = &event.regarding else { return String::new() };
    let kind = of.kind.as_deref().and_then(Kind::of).map_or("", Kind::short);
    format!("{kind}/{}", of.name.as_deref().unwrap_or_default())
}

fn names(event: &Event) -> Vec<String> {
    event.metadata.name.iter().map(|name| format!("event/{name}")).collect()
}

fn line(event: &Event, namespaces: bool) -> String {
    let reason = toned(tone(event), event.reason.as_deref().unwrap_or_default());
    let namespace = event.metadata.namespace.as_deref().filter(|_| namespaces);
    let namespace = namespace.map(|namespace| format!("{namespace} ")).unwrap_or_default();
    let note = event.note.as_deref().unwrap_or_default();
    format!("{} {namespace}{} {reason}: {note}", last_seen(event), about(event))
}

fn data(event: &Event) -> serde_json::Value {
    json!({
        "time": last_seen(event).to_string(), "object": about(event), "type": event.type_, "reason": event.reason,
        "namespace": event.metadata.namespace, "message": event.note,
        "count": event.series.as_ref().map_or(1, |series| series.count),
    })
}

fn shown(told: &[Event], namespaces: bool, form: Option<Form>, now: Timestamp) -> Shown {
    let mut header = vec!["LAST SEEN", "OBJECT", "REASON", "MESSAGE"];
    if namespaces {
        header.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&header);
    for event in told {
        let mut cells = vec![
            (Tone::Plain, age(now, last_seen(event))),
            (Tone::Plain, about(event)),
            (tone(event), event.reason.clone().unwrap_or_default()),
            (Tone::Plain, event.note.clone().unwrap_or_default()),
        ];
        if namespaces {
            cells.insert(0, (Tone::Plain, event.metadata.namespace.clone().unwrap_or_default()));
        }
        table.row(cells);
    }
    Shown {
        text: if told.is_empty() { "No Events found.\n".to_owned() } else { table.in_form(form) },
        data: told.iter().map(data).collect::<Vec<_>>().into(),
        names: told.iter().flat_map(names).collect(),
    }
}
