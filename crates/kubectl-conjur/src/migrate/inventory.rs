//! What is among the objects.

use serde_json::Value;

use super::{
    note::{Notes, Source},
    output::Output,
};

/// The group of External Secrets Operator.
pub const ESO: &str = "external-secrets.io";
/// The group of its generators.
const GENERATORS: &str = "generators.external-secrets.io";
/// The versions of ExternalSecret and SecretStore that are known here.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// One object.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// All of it.
    pub value: &'a Value,
}

impl<'a> Object<'a> {
    fn text(self, pointer: &str) -> &'a str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Group and version; the group is empty for the core.
    pub fn group_version(self) -> (&'a str, &'a str) {
        let api = self.text("/apiVersion");
        api.split_once('/').unwrap_or(("", api))
    }

    /// Its apiVersion.
    pub fn api_version(self) -> &'a str {
        self.text("/apiVersion")
    }

    /// Its kind.
    pub fn kind(self) -> &'a str {
        self.text("/kind")
    }

    /// Its name.
    pub fn name(self) -> &'a str {
        self.text("/metadata/name")
    }

    /// Its namespace, where the manifest names one.
    pub fn namespace(self) -> Option<&'a str> {
        Some(self.text("/metadata/namespace")).filter(|namespace| !namespace.is_empty())
    }

    /// An annotation.
    pub fn annotation(self, key: &str) -> Option<&'a str> {
        self.value["metadata"]["annotations"][key].as_str()
    }

    /// What notes name it by.
    pub fn source(self) -> Source {
        Source::of(self.value)
    }
}

/// All of them, lists taken apart.
#[derive(Debug, Default)]
pub struct Inventory<'a> {
    objects: Vec<Object<'a>>,
}

impl<'a> Inventory<'a> {
    /// Of manifests.
    pub fn of(objects: &'a [Value]) -> Self {
        let mut all = Self::default();
        for value in objects {
            all.add(value);
        }
        all
    }

    fn add(&mut self, value: &'a Value) {
        let object = Object { value };
        match value["items"].as_array() {
            Some(items) if object.kind().ends_with("List") => {
                for item in items {
                    self.add(item);
                }
            }
            _ => self.objects.push(object),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Object<'a>> {
        self.objects.iter().copied()
    }

    /// Those of External Secrets Operator of one kind, in a version that is known.
    pub fn eso(&self, kind: &'static str) -> impl Iterator<Item = Object<'a>> {
        let is = move |object: &Object| {
            object.group_version().0 == ESO && object.kind() == kind && is_known(*object)
        };
        self.iter().filter(is)
    }

    /// A core object of the namespace.
    pub fn core(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<Object<'a>> {
        let mut all = self.iter();
        all.find(|object| {
            object.group_version() == ("", "v1")
                && object.kind() == kind
                && object.namespace() == namespace
                && object.name() == name
        })
    }
}

fn is_known(object: Object) -> bool {
    object.kind() == "PushSecret" || VERSIONS.contains(&object.group_version().1)
}

/// Notes what is of External Secrets Operator, and not translated as a kind.
pub fn note_kinds(inventory: &Inventory, output: &mut Output) {
    for object in inventory.iter() {
        let (group, version) = object.group_version();
        let mut notes = Notes::new(object.source());
        match (group, object.kind()) {
            (ESO, "ExternalSecret" | "SecretStore" | "ClusterSecretStore" | "PushSecret") if is_known(object) => continue,
            (ESO, "ExternalSecret" | "SecretStore" | "ClusterSecretStore") => {
                let what = format!("version {version} of this kind is not known here");
                notes.blocks("apiVersion", what, format!("Convert it to {ESO}/v1 first"));
            }
            (ESO, "ClusterExternalSecret") => notes.blocks(
                "",
                "no kind of the operator makes objects in several namespaces",
                "Put a ConjurSecret into each namespace, by what deploys it (Kustomize, Helm, an ApplicationSet), with a ClusterConjurConnection; delete this object before its ExternalSecrets are handed over, or it makes them again",
            ),
            (ESO, "ClusterPushSecret") => notes.blocks(
                "",
                "no kind of the operator pushes from several namespaces",
                "Put a ConjurPush into each namespace, by what deploys it",
            ),
            (ESO, kind) => notes.blocks("", format!("the kind {kind} is not known here"), ""),
            (GENERATORS, _) => notes.blocks(
                "",
                "the operator generates no values",
                "Generate the value elsewhere and keep it in Conjur: a ConjurPush brings a Secret there",
            ),
            _ => continue,
        }
        output.note(notes);
    }
}
