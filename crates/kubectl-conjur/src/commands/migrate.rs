//! `migrate`: from External Secrets Operator and the Secrets Provider to this operator. Without `--apply` it prints manifests and
//! what to know about them, and changes nothing.

mod conjur_secret;
mod external;
mod hand_over;
mod names;
mod plan;
mod record;
mod sources;
mod target;
mod trial;
mod undo;

use anstream::{eprint, eprintln};
use serde_json::{Value, json};

use crate::{
    Ended, Error,
    cli::{Form, MigrateArgs},
    cluster::{Cluster, Kind, Reference},
    files,
    migrate::{Connection, Former, Migration, Options, Severity, Takeover, migrate},
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
        let sources = sources::of_cluster(&cluster).await?;
        for (kind, why) in &sources.unseen {
            eprint!("{}", wrapped(&format!("not seen: {kind}, and what it says: {why}"), ""));
        }
        let migration = migrate(&sources.objects, &options);
        if args.apply {
            sources.check_needed()?;
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
        None | Some(Form::Wide) => {
            migration.objects.iter().map(yaml).collect::<Result<Vec<_>, _>>()?.join("---\n")
        }
        Some(Form::Json | Form::Yaml | Form::Name) => String::new(),
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
            eprint!("{}", wrapped(&note.to_string(), ""));
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
    let (mut told, mut text) = (Vec::new(), String::new());
    let records = record::all(cluster).await?;
    for why in &records.unread {
        text += &wrapped(&format!("left out: {why}"), "");
    }
    let mut well = !migration.is_blocked() && records.unread.is_empty();
    for plan in plan::plans(cluster, migration, records.all).await? {
        let outcome = match plan.what {
            Ok(task) => hand_over::run(cluster, task, migration, args.timeout).await,
            Err(why) => Err(why),
        };
        well &= outcome.is_ok();
        told.push((plan.secret, outcome));
    }
    let by_hand: Vec<&Takeover> = migration.takeovers.iter().filter(|one| !plan::is_automatic(one)).collect();
    for (secret, outcome) in &told {
        text += &match outcome {
            Ok(object) => format!("secret/{secret} is written by {object} now\n"),
            Err(why) => wrapped(&format!("secret/{secret} {why}"), ""),
        };
    }
    for one in &by_hand {
        let why = match one.from {
            Former::SecretsProvider { .. } => "take the Secrets Provider out of its workloads first",
            Former::ExternalSecret { .. } => "only some of its keys are the ExternalSecret's",
        };
        text += &wrapped(
            &format!(
                "secret/{} is left for a hand-over by hand: {why}; see \"By hand\" in docs/migration.md",
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
