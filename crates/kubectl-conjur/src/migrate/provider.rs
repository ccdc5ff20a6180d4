//! The Secrets Provider for Kubernetes: Secrets with a `conjur-map` or annotations, Pods that have files written, and the
//! settings of both.

mod files;
mod login;
mod secrets;
mod specs;
mod workload;

use std::collections::BTreeMap;

use self::workload::Workload;
use super::{
    connections::{Connections, StoreKey},
    inventory::Inventory,
    output::Output,
};

/// Workloads that use the Secrets Provider, each with the settings that it logs in by.
struct Users<'a> {
    workloads: Vec<(Workload<'a>, StoreKey)>,
}

/// The kind by which the settings of the Secrets Provider stand among the stores.
const SETTINGS: &str = "Settings of the Secrets Provider";

impl<'a> Users<'a> {
    /// All of them. Settings that different logins use become a connection each.
    fn of(inventory: &Inventory<'a>) -> Self {
        let workloads: Vec<_> = Workload::all(inventory);
        let mut logins: BTreeMap<(Option<String>, String), Vec<String>> = BTreeMap::new();
        for workload in &workloads {
            let all = logins.entry((workload.namespace(), workload.settings_name())).or_default();
            if !all.contains(&workload.login()) {
                all.push(workload.login());
            }
        }
        let keyed = workloads.into_iter().map(|workload| {
            let (namespace, base) = (workload.namespace(), workload.settings_name());
            let all = logins.get(&(namespace.clone(), base.clone())).map(Vec::as_slice).unwrap_or_default();
            let name = name(&base, &workload, all);
            (workload, StoreKey { kind: SETTINGS.to_owned(), namespace, name })
        });
        Self { workloads: keyed.collect() }
    }

    /// The settings of a namespace, if there are just one.
    fn only(&self, namespace: Option<&str>) -> Option<&StoreKey> {
        let mut keys =
            self.workloads.iter().map(|(_, key)| key).filter(|key| key.namespace.as_deref() == namespace);
        let first = keys.next()?;
        keys.all(|key| key == first).then_some(first)
    }
}

/// The connection of settings, where `logins` use these: with the ServiceAccount behind it, and a number where that is not enough.
fn name(base: &str, workload: &Workload, logins: &[String]) -> String {
    let of_account = format!("{} ", workload.account());
    let mut same = logins.iter().filter(|login| login.starts_with(&of_account));
    match (logins.len(), same.clone().count()) {
        (0 | 1, _) => base.to_owned(),
        (_, 1) => format!("{base}-{}", workload.account()),
        _ => {
            let number = same.position(|login| *login == workload.login()).unwrap_or_default() + 1;
            format!("{base}-{}-{number}", workload.account())
        }
    }
}

/// Makes connections of settings.
pub fn settings(inventory: &Inventory, connections: &mut Connections, output: &mut Output) {
    let users = Users::of(inventory);
    for (workload, key) in &users.workloads {
        if !connections.knows(key) {
            login::translate(workload, key, inventory, connections, output);
        }
    }
    login::note_unused(
        inventory,
        &users.workloads.iter().map(|(workload, _)| workload).collect::<Vec<_>>(),
        output,
    );
}

/// Makes ConjurSecrets.
pub fn translate(inventory: &Inventory, connections: &mut Connections, output: &mut Output) {
    let users = Users::of(inventory);
    secrets::translate(inventory, &users, connections, output);
    for (workload, key) in &users.workloads {
        files::translate(workload, key, inventory, connections, output);
    }
}
