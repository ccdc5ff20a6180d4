//! PushSecret → ConjurPush.
//!
//! The provider of External Secrets Operator makes, for the remote key `a/b/c`, the policy `c` in `a/b`, in it a variable for
//! each key or property, and a group `delegation/consumers` that may read them.

use std::collections::{BTreeMap, BTreeSet};

use conjur_operator_api::GoDuration;
use serde_json::{Value, json};

use super::{
    connections::{Connections, Resolved, StoreKey, Uses, reference, store_key},
    external::note_translation,
    fields::Fields,
    inventory::{Inventory, Object},
    metadata::Metadata,
    migration::Connection,
    note::Notes,
    output::Output,
    template::{self, Names},
};

/// Translates all of them.
pub fn translate(inventory: &Inventory, connections: &mut Connections, output: &mut Output) {
    for object in inventory.eso("PushSecret") {
        one(object, connections, output);
    }
}

/// What is pushed where.
#[derive(Debug, Default)]
struct Pushed {
    entries: Vec<Entry>,
    /// Each key of the Secret goes below this.
    whole: Option<String>,
    remotes: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry {
    source: Value,
    remote: String,
    name: String,
}

fn one(object: Object, connections: &mut Connections, output: &mut Output) {
    let mut notes = Notes::new(object.source());
    let spec = Fields::of("spec", object.value.get("spec"));
    let Some((store, connection)) = connection(&spec, object, connections, &mut notes, output) else {
        return output.note(notes);
    };
    let secret = source(&spec, &mut notes);
    if output.writes(object.namespace(), &secret) {
        let what =
            format!("a ConjurSecret writes the Secret {secret}: what comes from Conjur is not pushed back");
        notes.blocks("spec.selector.secret.name", what, "Push a Secret of another origin");
    }
    let templates = templates(&spec, &mut notes);
    let pushed = pushed(&spec, &templates, &mut notes);
    let mut made =
        json!({ "connectionRef": reference(&connection), "source": { "secretRef": { "name": secret } } });
    let uses = put(&pushed, &mut made, &mut notes);
    policies(&spec, &mut made, &mut notes);
    spec.rest(&mut notes);
    let metadata = Metadata::of(object.value).object(object.namespace(), object.name());
    let made = json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPush", "metadata": metadata, "spec": made
    });
    if output.emit(notes, made, None) {
        connections.used(&store, object.namespace(), uses);
    }
}

fn connection(
    spec: &Fields,
    object: Object,
    connections: &Connections,
    notes: &mut Notes,
    output: &Output,
) -> Option<(StoreKey, Connection)> {
    let references = spec.items("secretStoreRefs");
    if references.len() != 1 {
        let what = format!("it names {} stores, and a ConjurPush uses one connection", references.len());
        notes.blocks("spec.secretStoreRefs", what, "Write a ConjurPush for each");
    }
    let store = references.first()?;
    if store.raw("labelSelector").is_some() {
        notes.blocks(
            store.path("labelSelector"),
            "a ConjurPush names its connection",
            "Write a ConjurPush for each",
        );
        return None;
    }
    let kind = store.text("kind").unwrap_or("SecretStore");
    let key = store_key(kind, store.text("name").unwrap_or_default(), object.namespace());
    store.rest(notes);
    match connections.resolve(&key, store.at(), notes, output) {
        Resolved::Use(connection) => Some((key, connection)),
        Resolved::Other => {
            notes.info(
                store.at(),
                format!("{} {} is not of Conjur; it is left alone", key.kind, key.name),
                "",
            );
            None
        }
        Resolved::Blocked => Some((key.clone(), Connection { name: key.name, cluster: false })),
    }
}

/// The Secret that is pushed.
fn source(spec: &Fields, notes: &mut Notes) -> String {
    let selector = spec.inner("selector").unwrap_or_else(|| Fields::of("spec.selector", None));
    if selector.raw("generatorRef").is_some() {
        let what = "the operator generates no values";
        notes.blocks(
            selector.path("generatorRef"),
            what,
            "Have the value generated into a Secret, and push that",
        );
        return String::new();
    }
    let secret = selector.inner("secret").unwrap_or_else(|| Fields::of("spec.selector.secret", None));
    let name = secret.text("name").unwrap_or_default().to_owned();
    if secret.raw("selector").is_some() {
        let what = "all Secrets with the labels go to the same variables, the last counts; here each needs variables of its own";
        let todo = "Write spec.source.selector, with {secret} in prefix or in each variable";
        notes.blocks(secret.path("selector"), what, todo);
    } else if name.is_empty() {
        notes.blocks(secret.path("name"), "it names no Secret", "Name one");
    }
    secret.rest(notes);
    selector.rest(notes);
    name
}

/// The keys that a template makes.
fn templates(spec: &Fields, notes: &mut Notes) -> BTreeMap<String, String> {
    let Some(template) = spec.inner("template") else { return BTreeMap::new() };
    // They speak of the Secret that is made of it, and none is.
    template.irrelevant(&["type", "metadata", "mergePolicy"]);
    if template.text("engineVersion").is_some_and(|version| version != "v2") {
        let what = "templates of the engine v1 see values as bytes and have functions of their own";
        notes.blocks(template.path("engineVersion"), what, "Write them for the engine v2 first");
    }
    if !template.list("templateFrom").is_empty() {
        let what = "a ConjurPush has its templates in itself";
        notes.blocks(template.path("templateFrom"), what, "Write them into spec.data[].template");
    }
    let names = Names::Keys { known: BTreeSet::new(), open: true };
    let mut made = BTreeMap::new();
    for (key, text) in template.map("data") {
        let translated = template::translate(text, &names);
        note_translation(&translated, &format!("{}.{key}", template.path("data")), notes);
        made.extend(translated.text.map(|text| (key.to_owned(), text)));
    }
    template.rest(notes);
    made
}

fn pushed(spec: &Fields, templates: &BTreeMap<String, String>, notes: &mut Notes) -> Pushed {
    let mut all = Pushed::default();
    let items = spec.items("data");
    for item in &items {
        let matched = item.inner("match").unwrap_or_else(|| Fields::of(item.path("match"), None));
        let remote =
            matched.inner("remoteRef").unwrap_or_else(|| Fields::of(matched.path("remoteRef"), None));
        let id = remote.text("remoteKey").unwrap_or_default();
        if !id.contains('/') {
            let what =
                format!("the remote key '{id}' has no '/', and External Secrets Operator refuses it, too");
            notes.blocks(
                remote.path("remoteKey"),
                what,
                "Write the branch and a name below it, such as apps/billing",
            );
        }
        all.remotes.insert(id.to_owned());
        let entry = |source, name: &str| Entry { source, remote: id.to_owned(), name: name.to_owned() };
        match (matched.text("secretKey"), remote.text("property")) {
            (Some(key), property) => {
                let source = match templates.get(key) {
                    Some(template) => json!({ "template": template }),
                    None => json!({ "key": key }),
                };
                all.entries.push(entry(source, property.unwrap_or(key)));
            }
            (None, Some(property)) => {
                let whole = template::translate(
                    "{{ toRawJson . }}",
                    &Names::Keys { known: BTreeSet::new(), open: true },
                );
                all.entries.push(entry(json!({ "template": whole.text }), property));
                refuse_templates(templates, item.at(), notes);
            }
            (None, None) => {
                all.whole = Some(id.to_owned());
                refuse_templates(templates, item.at(), notes);
            }
        }
        conversion(item, notes);
        remote.rest(notes);
        matched.rest(notes);
        item.rest(notes);
    }
    if all.whole.is_some() && items.len() > 1 {
        let what = "one entry pushes each key, and others name keys: a ConjurPush does one of both";
        notes.blocks("spec.data", what, "Write a ConjurPush for each");
    }
    if !spec.list("dataTo").is_empty() {
        let what = "keys that are chosen by an expression are not pushed by a ConjurPush";
        notes.blocks(
            "spec.dataTo",
            what,
            "Push all keys, renamed with spec.rewrite, or name them in spec.data",
        );
    }
    all
}

fn refuse_templates(templates: &BTreeMap<String, String>, field: &str, notes: &mut Notes) {
    if !templates.is_empty() {
        let what = "it pushes all keys, and those that the template makes are among them";
        notes.blocks(field, what, "Name the keys, each with its template, in spec.data");
    }
}

fn conversion(item: &Fields, notes: &mut Notes) {
    if item.raw("metadata").is_some() {
        notes.info(
            item.path("metadata"),
            "External Secrets Operator does not look at it for Conjur: it is left out",
            "",
        );
    }
    if item.text("conversionStrategy").is_some_and(|strategy| strategy != "None") {
        let what = "names are not converted";
        notes.blocks(item.path("conversionStrategy"), what, "Name the keys and their variables in spec.data");
    }
}

/// Ids, and the branch that they are made in.
fn put(pushed: &Pushed, made: &mut Value, notes: &mut Notes) -> Uses {
    let mut uses = Uses::default();
    let single = pushed.remotes.first().filter(|_| pushed.remotes.len() == 1);
    let branch = single.cloned().unwrap_or_else(|| common(&pushed.remotes));
    if let Some(remote) = single {
        made["prefix"] = json!(format!("{remote}/"));
    }
    let id = |entry: &Entry| format!("{}/{}", entry.remote, entry.name);
    let data: Vec<_> = pushed
        .entries
        .iter()
        .map(|entry| {
            let mut made = entry.source.clone();
            made["variable"] = json!(if single.is_some() { entry.name.clone() } else { id(entry) });
            made
        })
        .collect();
    if !data.is_empty() {
        made["data"] = json!(data);
    } else if pushed.whole.is_none() {
        notes.blocks("spec.data", "it pushes nothing", "Name what is pushed");
    }
    uses.write.extend(pushed.entries.iter().map(id));
    uses.write.extend(pushed.whole.iter().map(|remote| format!("{remote}/*")));
    let mut create = json!({ "branch": branch });
    if let Some(remote) = single {
        let role = format!("group/{remote}/delegation/consumers");
        create["permit"] = json!([{ "role": role, "privileges": ["read", "execute"] }]);
        let what = format!(
            "the policy {remote} and the group {role} have to be there, as External Secrets Operator made them"
        );
        notes.info("spec.data", what, "Load them by a ConjurPolicy where they are to be made anew");
    } else {
        let what =
            "variables that are missing are made for their owner alone, without groups delegation/consumers";
        notes.differs(
            "spec.data",
            what,
            "Write a ConjurPush for each remote key, or permit in createVariables",
        );
    }
    made["createVariables"] = create;
    uses.branches.insert(branch);
    uses
}

/// The branch that all lie below.
fn common(remotes: &BTreeSet<String>) -> String {
    let mut all = remotes.iter().map(|remote| remote.split('/').collect::<Vec<_>>());
    let first = all.next().unwrap_or_default();
    let shared = all.fold(first, |shared, other| {
        shared.into_iter().zip(other).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    });
    if shared.is_empty() { "root".to_owned() } else { shared.join("/") }
}

fn policies(spec: &Fields, made: &mut Value, notes: &mut Notes) {
    made["conflictPolicy"] = json!("Adopt");
    let what = "variables that hold a value are taken over (conflictPolicy: Adopt): those that External Secrets Operator made are such";
    notes.info("spec.data", what, "Set Refuse when it was pushed once, to leave alone what others fill");
    let at = spec.path("updatePolicy");
    match spec.text("updatePolicy") {
        None | Some("Replace") => {}
        Some("IfNotExists") => {
            made["updatePolicy"] = json!("IfNotExists");
            notes.differs(at, "it works here; External Secrets Operator fails on it for Conjur", "");
        }
        Some(other) => {
            notes.differs(at, format!("the policy '{other}' is not known here; it becomes Replace"), "");
        }
    }
    let at = spec.path("deletionPolicy");
    match spec.text("deletionPolicy") {
        None | Some("None") => {}
        Some("Delete") => {
            made["deletionPolicy"] = json!("Delete");
            notes.differs(
                at,
                "variables that the ConjurPush makes go with it; those that it takes over stay",
                "",
            );
        }
        Some(other) => {
            notes.differs(at, format!("the policy '{other}' is not known here; it becomes Retain"), "");
        }
    }
    let at = spec.path("refreshInterval");
    let Some(text) = spec.text("refreshInterval") else { return };
    match GoDuration::parse(if text == "0" { "0s" } else { text }) {
        Ok(duration) if duration.get().is_zero() => {
            made["driftCheckInterval"] = json!("0s");
            notes.differs(
                at,
                "a changed Secret is pushed all the same",
                "Set spec.suspend to have nothing pushed",
            );
        }
        Ok(duration) if duration.get().as_secs() >= 10 => made["driftCheckInterval"] = json!(text),
        _ => {
            let what = format!("'{text}' can't be the interval here; it becomes 1h, the default");
            notes.differs(at, what, "Write it into spec.driftCheckInterval, at least 10s");
        }
    }
}
