//! ExternalSecret → ConjurSecret.

mod data;
mod data_from;
mod reading;
mod target;
mod templates;

use std::collections::{BTreeMap, BTreeSet};

use conjur_operator_api::GoDuration;
use serde_json::{Value, json};

pub use self::templates::{note as note_translation, value_of};
use self::{data::Data, reading::Reading, target::Target};
use super::{
    connections::{Connections, Resolved, StoreKey, Uses, reference, store_key},
    fields::Fields,
    inventory::{Inventory, Object},
    metadata::Metadata,
    migration::{Connection, Former, Mode, Takeover},
    note::Notes,
    output::Output,
};

/// Translates all of them.
pub fn translate(inventory: &Inventory, connections: &mut Connections, output: &mut Output) {
    let rivals = Rivals::of(inventory);
    for object in inventory.eso("ExternalSecret") {
        let mut notes = Notes::new(object.source());
        rivals.refuse(object, &mut notes);
        one(Reading { inventory, object, notes }, connections, output);
    }
}

/// The ExternalSecrets that each take a Secret for their own, by its namespace and name.
struct Rivals<'a>(BTreeMap<(Option<&'a str>, &'a str), Vec<&'a str>>);

impl<'a> Rivals<'a> {
    fn of(inventory: &Inventory<'a>) -> Self {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for object in inventory.eso("ExternalSecret") {
            all.entry(Self::secret(object)).or_default().push(object.name());
        }
        all.remove(&None);
        Self(all.into_iter().filter_map(|(secret, all)| Some((secret?, all))).collect())
    }

    /// The Secret that an object takes for its own.
    fn secret(object: Object<'a>) -> Option<(Option<&'a str>, &'a str)> {
        let target = &object.value["spec"]["target"];
        let policy = target["creationPolicy"].as_str().unwrap_or("Owner");
        let name = target["name"].as_str().filter(|name| !name.is_empty()).unwrap_or(object.name());
        matches!(policy, "Owner" | "Orphan").then_some((object.namespace(), name))
    }

    /// Neither of two is migrated: which of them the Secret's values are from is chance.
    fn refuse(&self, object: Object<'a>, notes: &mut Notes) {
        let Some(secret) = Self::secret(object) else { return };
        let all = self.0.get(&secret).into_iter().flatten();
        let others: Vec<_> =
            all.filter(|name| **name != object.name()).map(|name| format!("ExternalSecret {name}")).collect();
        if !others.is_empty() {
            let what = format!("{} writes the Secret {}, too", others.join(", "), secret.1);
            let todo = "Have one object write it, or all but one with creationPolicy: Merge";
            notes.blocks("spec.target", what, todo);
        }
    }
}

fn one(mut reading: Reading, connections: &mut Connections, output: &mut Output) {
    let object = reading.object;
    let spec = Fields::of("spec", object.value.get("spec"));
    let Some(store) = store(&spec, object, &mut reading.notes) else { return output.note(reading.notes) };
    let connection = match connections.resolve(&store.0, &store.1, &mut reading.notes, output) {
        Resolved::Use(connection) => connection,
        Resolved::Other => {
            let what = format!("its {} {} is not of Conjur; it is left alone", store.0.kind, store.0.name);
            reading.notes.info(store.1, what, "");
            return output.note(reading.notes);
        }
        Resolved::Blocked => Connection { name: store.0.name.clone(), cluster: false },
    };
    refuse_owned(object, &mut reading.notes);
    let mut data = data::entries(&spec, &mut reading.notes);
    data_from::sources(&spec, &mut data, &mut reading.notes);
    let target = target::translate(&spec, &data, &mut reading);
    let mut made = json!({ "connectionRef": reference(&connection) });
    refresh(&spec, &target, &mut made, &mut reading.notes);
    if let Some(target) = &target.spec {
        made["target"] = target.clone();
    }
    for (field, list) in [("data", &data.entries), ("dataFrom", &data.sources)] {
        if !list.is_empty() {
            made[field] = json!(list);
        }
    }
    if data.entries.is_empty() && data.sources.is_empty() {
        reading.notes.blocks("spec", "it has neither data nor dataFrom", "Say what goes into the Secret");
    }
    spec.rest(&mut reading.notes);
    let takeover = takeover(object, &target, &data);
    let metadata = Metadata::of(object.value).object(object.namespace(), object.name());
    let uses = Uses { read: data.reads.clone(), ..Uses::default() };
    let made = secret(&metadata, &made);
    if output.emit(reading.notes, made, Some(takeover)) {
        connections.used(&store.0, object.namespace(), uses);
    }
}

/// A ConjurSecret's manifest.
pub fn secret(metadata: &Value, spec: &Value) -> Value {
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": metadata, "spec": spec })
}

fn takeover(object: Object, target: &Target, data: &Data) -> Takeover {
    Takeover {
        namespace: object.namespace().map(str::to_owned),
        secret: target.name.clone(),
        conjur_secret: object.name().to_owned(),
        mode: target.mode,
        expected_keys: target.keys.clone().or_else(|| data.keys()),
        expected_type: (target.mode == Mode::Owner).then(|| target.secret_type.clone()),
        from: Former::ExternalSecret {
            api_version: object.api_version().to_owned(),
            name: object.name().to_owned(),
            owns: target.owns,
        },
    }
}

/// What another object makes is made again by it.
fn refuse_owned(object: Object, notes: &mut Notes) {
    let owners = object.value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    for owner in owners.filter(|owner| owner["controller"] == true) {
        let owner = format!(
            "{} {}",
            owner["kind"].as_str().unwrap_or_default(),
            owner["name"].as_str().unwrap_or_default()
        );
        let what = format!("{owner} makes it, and would make it again");
        notes.blocks("metadata.ownerReferences", what, format!("Migrate {owner} by hand first"));
    }
}

/// The one store that all of an object's data comes from, and the field that names it.
fn store(spec: &Fields, object: Object, notes: &mut Notes) -> Option<(StoreKey, String)> {
    let mut stores: BTreeSet<(StoreKey, String)> = BTreeSet::new();
    let mut named = Vec::new();
    let general = spec.inner("secretStoreRef").filter(|reference| !reference.is_empty());
    let mut is_general_used = false;
    for field in ["data", "dataFrom"] {
        for item in spec.items(field) {
            let source = item.inner("sourceRef");
            match source.as_ref().and_then(|source| source.inner("storeRef")) {
                Some(own) => named.push(own),
                None if source.as_ref().is_some_and(|source| source.raw("generatorRef").is_some()) => {}
                None => is_general_used = true,
            }
        }
    }
    if let Some(general) = general.as_ref().filter(|_| is_general_used || named.is_empty()) {
        stores.insert(key_of(general, object, notes));
    }
    for own in &named {
        stores.insert(key_of(own, object, notes));
    }
    let distinct: BTreeSet<_> = stores.iter().map(|(key, _)| key).collect();
    if distinct.len() > 1 {
        let what = "its data comes from several stores, and a ConjurSecret uses one connection";
        let todo = "Split it: one ConjurSecret for each, those after the first with creationPolicy: Merge";
        notes.blocks("spec", what, todo);
    }
    let first = stores.into_iter().next();
    if first.is_none() {
        notes.blocks("spec.secretStoreRef", "it names no store", "Name one");
    }
    first
}

fn key_of(reference: &Fields, object: Object, notes: &mut Notes) -> (StoreKey, String) {
    let kind = reference.text("kind").unwrap_or("SecretStore");
    let key = store_key(kind, reference.text("name").unwrap_or_default(), object.namespace());
    reference.rest(notes);
    (key, reference.at().to_owned())
}

/// When the Secret is brought up to date.
fn refresh(spec: &Fields, target: &Target, made: &mut Value, notes: &mut Notes) {
    let at = spec.path("refreshPolicy");
    let policy = spec.text("refreshPolicy").unwrap_or("Periodic");
    if !matches!(policy, "Periodic" | "OnChange" | "CreatedOnce") {
        let what = format!("the policy '{policy}' is not known; it becomes Periodic");
        notes.differs(&at, what, "Write another into spec.refreshPolicy");
    }
    // It counts where the policy is Periodic alone.
    spec.irrelevant(&["refreshInterval"]);
    let never = !matches!(policy, "OnChange" | "CreatedOnce") && !interval(spec, made, notes);
    if target.immutable {
        made["refreshPolicy"] = json!("CreatedOnce");
        let what = "External Secrets Operator never changes an immutable Secret that it has written: refreshPolicy becomes \
                    CreatedOnce. Where Conjur holds other values by now, --apply leaves the Secret to its ExternalSecret; applied by \
                    hand, the ConjurSecret makes it anew, with another uid";
        notes.differs("spec.target.immutable", what, "Apply it by hand when its workloads may restart");
    } else if never || policy == "CreatedOnce" {
        made["refreshPolicy"] = json!("CreatedOnce");
        let what = "where Conjur holds other values by now, --apply leaves the Secret to its ExternalSecret; applied by hand, \
                    the ConjurSecret writes them. After it the operator leaves the Secret alone, and what is changed in it by \
                    hand stays";
        notes.differs(if never { spec.path("refreshInterval") } else { at }, what, "");
    } else if policy == "OnChange" {
        made["refreshPolicy"] = json!("OnChange");
    }
    if spec.inner("syncWindows").is_some() {
        let what = "the operator has no windows of time: it refreshes at any";
        notes.differs(spec.path("syncWindows"), what, "Set spec.suspend outside of the window, by a CronJob");
    }
}

/// The interval; false where it is zero, which is never.
fn interval(spec: &Fields, made: &mut Value, notes: &mut Notes) -> bool {
    let at = spec.path("refreshInterval");
    let Some(text) = spec.text("refreshInterval") else { return true };
    match GoDuration::parse(if text == "0" { "0s" } else { text }) {
        Ok(duration) if duration.get().is_zero() => return false,
        Ok(duration) if duration.get().as_secs() < 10 => {
            made["refreshInterval"] = json!("10s");
            notes.differs(at, format!("{text} becomes 10s, the least that the operator takes"), "");
        }
        Ok(_) => made["refreshInterval"] = json!(text),
        Err(_) => {
            let what =
                format!("the operator does not know the duration '{text}'; it becomes 1h, the default");
            notes.differs(at, what, "Write it into spec.refreshInterval, as in 1h30m");
        }
    }
    true
}
