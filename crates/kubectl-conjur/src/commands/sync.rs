//! `sync`: have objects looked at now.

use std::collections::{BTreeMap, BTreeSet};

use conjur_operator_api::SYNC_NOW_ANNOTATION;
use futures::StreamExt as _;
use serde_json::json;

use super::waiting::{annotate, new_text, until_handled};
use crate::{
    Ended, Error,
    cli::{Form, SyncArgs},
    cluster::{Cluster, Kind, Seen},
    show::{Shown, Table, Tone},
};

/// So many are asked and waited for at once.
const AT_ONCE: usize = 16;

/// What came of one.
enum Outcome {
    /// It was asked, and nobody waited.
    Asked,
    /// Nothing looks at it before it goes on.
    Suspended,
    /// It was looked at, and is as it says.
    Done(Box<Seen>),
    TooLong,
    Failed(Error),
}

pub async fn run(cluster: &Cluster, args: &SyncArgs, form: Option<Form>) -> Result<Ended, Error> {
    let objects = objects(cluster, args).await?;
    let text = new_text();
    let resting = wake_connections(cluster, &objects, &text).await;
    let each = objects.iter().map(|seen| async {
        if seen.spec()["suspend"] == true {
            return Outcome::Suspended;
        }
        if let Err(error) = annotate(cluster, seen, SYNC_NOW_ANNOTATION, &text).await {
            return Outcome::Failed(error);
        }
        // A connection that is as it was says nothing.
        if args.no_wait || seen.kind.is_connection() || is_host(seen) {
            return Outcome::Asked;
        }
        match until_handled(cluster, seen, "lastHandledSyncNow", &text, args.timeout).await {
            Ok(Some(now)) => Outcome::Done(Box::new(now)),
            Ok(None) => Outcome::TooLong,
            Err(error) => Outcome::Failed(error),
        }
    });
    let outcomes: Vec<_> = futures::stream::iter(each).buffered(AT_ONCE).collect().await;
    let all: Vec<_> = objects.iter().zip(&outcomes).collect();
    shown(&all, &resting, args, form).print(form)?;
    let well = all.iter().all(|(_, outcome)| match outcome {
        Outcome::Asked | Outcome::Suspended => true,
        Outcome::Done(now) => now.is_ready(),
        Outcome::TooLong | Outcome::Failed(_) => false,
    });
    Ok(if well { Ended::Well } else { Ended::Differs })
}

/// Has the connections tried that are not Ready: their objects are not looked at before. Gives what each says, by kind and name.
async fn wake_connections(
    cluster: &Cluster,
    objects: &[Seen],
    text: &str,
) -> BTreeMap<(Kind, String), String> {
    let used: BTreeSet<_> =
        objects.iter().filter_map(Seen::connection).map(|(kind, name)| (kind, name.to_owned())).collect();
    let mut resting = BTreeMap::new();
    for (kind, name) in used {
        // One that is not there, or not to be seen, is told by the objects.
        let Ok(Some(seen)) = cluster.get(kind, &name).await else { continue };
        let Some((_, reason, _)) = seen.condition("Ready").filter(|_| !seen.is_ready()) else { continue };
        let asked = annotate(cluster, &seen, SYNC_NOW_ANNOTATION, text).await;
        let asked = asked
            .map_or_else(|error| format!(", and {error}"), |()| ", and was asked to be tried".to_owned());
        resting.insert(
            (kind, name),
            format!("its connection {} was not Ready ({reason}){asked}", seen.short_name()),
        );
    }
    resting
}

/// A ConjurHost says when it rotated, and not when it was looked at.
fn is_host(seen: &Seen) -> bool {
    seen.kind == Kind::Host
}

async fn objects(cluster: &Cluster, args: &SyncArgs) -> Result<Vec<Seen>, Error> {
    if args.all || args.connection.is_some() {
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| !kind.is_connection()).collect();
        let mut all = cluster.list(&kinds, Some(&cluster.namespace)).await?;
        if let Some(text) = &args.connection {
            let connection = cluster.find(text).await?;
            if !connection.kind.is_connection() {
                return Err(Error::new(format!("{} is no connection", connection.short_name())));
            }
            all.retain(|seen| seen.connection() == Some((connection.kind, connection.name())));
        }
        if all.is_empty() {
            return Err(Error::new(format!("namespace {} has no such objects", cluster.namespace)));
        }
        return Ok(all);
    }
    let mut found = Vec::new();
    for text in &args.objects {
        found.push(cluster.find(text).await?);
    }
    Ok(found)
}

fn shown(
    all: &[(&Seen, &Outcome)],
    resting: &BTreeMap<(Kind, String), String>,
    args: &SyncArgs,
    form: Option<Form>,
) -> Shown {
    let mut table = Table::new(&["NAME", "READY", "REASON", "MESSAGE"]);
    let mut data = Vec::new();
    for (seen, outcome) in all {
        let (tone, ready, reason, message) = match outcome {
            Outcome::Asked => (Tone::Plain, "-", "-", "asked".to_owned()),
            Outcome::Suspended => {
                let message = format!("left alone; {} lets it go on", seen.command("resume"));
                (Tone::Faint, "-", "Suspended", message)
            }
            Outcome::Done(now) => {
                let (ready, reason, message) = now.condition("Ready").unwrap_or(("-", "-", ""));
                (if now.is_ready() { Tone::Good } else { Tone::Bad }, ready, reason, message.to_owned())
            }
            Outcome::TooLong => {
                let connection = seen.connection().map(|(kind, name)| (kind, name.to_owned()));
                let why = connection.and_then(|connection| resting.get(&connection).cloned());
                let why = why.unwrap_or_else(|| "see whether the operator runs and leads".to_owned());
                let message = format!(
                    "not handled within {:?}: {why}; {} says more",
                    args.timeout,
                    seen.command("explain")
                );
                (Tone::Waiting, "-", "-", message)
            }
            Outcome::Failed(error) => (Tone::Bad, "-", "-", error.to_string()),
        };
        data.push(json!({
            "object": seen.full_name(), "namespace": seen.namespace(), "handled": matches!(outcome, Outcome::Done(_)),
            "ready": ready == "True", "reason": reason, "message": message,
        }));
        table.row(vec![
            (Tone::Plain, seen.short_name()),
            (tone, ready.to_owned()),
            (tone, reason.to_owned()),
            (Tone::Plain, message),
        ]);
    }
    Shown {
        text: table.in_form(form),
        data: data.into(),
        names: all.iter().map(|(s, _)| s.full_name()).collect(),
    }
}
