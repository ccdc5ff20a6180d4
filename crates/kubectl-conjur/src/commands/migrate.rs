//! `migrate`: from External Secrets Operator and the Secrets Provider to this operator. Without `--apply` it prints manifests and
//! what to know about them, and changes nothing.

mod hand_over;
mod record;
mod sources;
mod undo;

use anstream::eprintln;
use serde_json::{Value, json};

use crate::{
    Ended, Error,
    cli::{Form, MigrateArgs},
    cluster::{Cluster, Kind, Reference},
    files,
    migrate::{Connection, Former, Migration, Mode, Options, Severity, Takeover, migrate},
    show::{Shown, wrapped},
};

pub async fn run(
    args: &MigrateArgs,
    cluster: impl AsyncFn() -> Result<Cluster, Error>,
    form: Option<Form>,
) -> Result<Ended, Error> {
    if args.undo {
        return undo::run(&cluster().await?, args, form).await;
    }
    let options = Options { connection: args.connection.as_deref().map(connection).transpose()? };
    if args.files.is_empty() {
        let cluster = cluster().await?;
        let migration = migrate(&sources::of_cluster(&cluster).await?, &options);
        if args.apply {
            return apply(&cluster, args, &migration, form).await;
        }
        return print(&migration, form);
    }
    let mut objects = Vec::new();
    for document in files::read(&args.files)? {
        let value = document.value();
        let value =
            value.map_err(|(line, error)| Error::new(format!("{}:{line}: {error}", document.path)))?;
        match value["items"].as_array() {
            Some(items) => objects.extend(items.clone()),
            None => objects.push(value),
        }
    }
    print(&migrate(&objects, &options), form)
}

fn connection(text: &str) -> Result<Connection, Error> {
    match Reference::parse(text)? {
        Reference::Name(name) | Reference::Object(Kind::Connection, name) => {
            Ok(Connection { name, cluster: false })
        }
        Reference::Object(Kind::ClusterConnection, name) => Ok(Connection { name, cluster: true }),
        Reference::Kind(_) | Reference::Object(..) => {
            Err(Error::new(format!("{text} is no connection: write cjc/<name> or ccjc/<name>")))
        }
    }
}

/// Manifests go to the output, notes to the person.
fn print(migration: &Migration, form: Option<Form>) -> Result<Ended, Error> {
    notes(migration);
    let failed = |error: serde_json::Error| Error::new(error.to_string());
    let text = match form {
        None => migration.objects.iter().map(yaml).collect::<Result<Vec<_>, _>>()?.join("---\n"),
        Some(_) => String::new(),
    };
    let names = migration.objects.iter().map(name_of).collect();
    Shown { text, data: serde_json::to_value(migration).map_err(failed)?, names }.print(form)?;
    Ok(if migration.is_blocked() { Ended::Differs } else { Ended::Well })
}

fn yaml(object: &Value) -> Result<String, Error> {
    serde_saphyr::to_string(object).map_err(|error| Error::new(error.to_string()))
}

fn name_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
    format!("{}.conjur-operator.io/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn notes(migration: &Migration) {
    for severity in [Severity::Blocks, Severity::Differs, Severity::Info] {
        for note in migration.notes.iter().filter(|note| note.severity == severity) {
            for line in wrapped(&note.to_string(), "").lines() {
                eprintln!("{line}");
            }
        }
    }
    let (objects, notes) = (migration.objects.len(), migration.notes.len());
    let blocked = migration.notes.iter().filter(|note| note.severity == Severity::Blocks).count();
    eprintln!("{objects} objects, {notes} notes, of which {blocked} say what is not migrated");
}

/// Hands Secrets over that an ExternalSecret writes, one after the other.
async fn apply(
    cluster: &Cluster,
    args: &MigrateArgs,
    migration: &Migration,
    form: Option<Form>,
) -> Result<Ended, Error> {
    notes(migration);
    let (mut told, mut well) = (Vec::new(), !migration.is_blocked());
    for plan in hand_over::plans(cluster, migration).await? {
        let outcome = hand_over::run(cluster, &plan, migration, args.timeout).await;
        well &= outcome.is_ok();
        told.push((plan.secret.clone(), outcome.map_err(|error| error.to_string())));
    }
    let by_hand: Vec<&Takeover> = migration.takeovers.iter().filter(|one| !is_automatic(one)).collect();
    let mut text = String::new();
    for (secret, outcome) in &told {
        text += &match outcome {
            Ok(object) => format!("secret/{secret} is written by {object} now\n"),
            Err(error) => wrapped(&format!("secret/{secret} stays as it was: {error}"), ""),
        };
    }
    for one in &by_hand {
        let why = match one.from {
            Former::SecretsProvider { .. } => "take the Secrets Provider out of its workloads first",
            Former::ExternalSecret { .. } => "only some of its keys are the ExternalSecret's",
        };
        text += &wrapped(
            &format!(
                "secret/{} is left for a hand-over by hand: {why}; docs/migration.md says how",
                one.secret
            ),
            "",
        );
    }
    if told.is_empty() && by_hand.is_empty() {
        text += "There is nothing to hand over.\n";
    }
    let data = told.iter().map(|(secret, outcome)| {
        json!({ "secret": secret, "object": outcome.as_ref().ok(), "error": outcome.as_ref().err() })
    });
    let data = json!({ "namespace": cluster.namespace, "secrets": data.collect::<Vec<_>>() });
    let names = told.iter().map(|(secret, _)| format!("secret/{secret}")).collect();
    Shown { text, data, names }.print(form)?;
    Ok(if well { Ended::Well } else { Ended::Differs })
}

/// Whether a hand-over is this program's: of all of a Secret that External Secrets Operator writes.
fn is_automatic(takeover: &Takeover) -> bool {
    takeover.mode == Mode::Owner && matches!(takeover.from, Former::ExternalSecret { .. })
}
