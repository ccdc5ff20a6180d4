//! Pods and what makes them, as far as they use the Secrets Provider.

use std::collections::BTreeMap;

use serde_json::Value;

use super::specs;
use crate::migrate::{
    external::value_of,
    inventory::{Inventory, Object},
};

/// What the image of the Secrets Provider is called.
const IMAGE: &str = "secrets-provider-for-k8s";
const PREFIX: &str = "conjur.org/";

/// A setting, and the ConfigMap and key that it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Its value, where it can be read.
    pub value: Option<String>,
    /// Where it lies.
    pub from: Option<(String, String)>,
}

/// A workload that uses it.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// It.
    pub object: Object<'a>,
    pod: &'a Value,
    settings: BTreeMap<String, Setting>,
    /// Whether a container of the Secrets Provider stands in it.
    pub has_container: bool,
}

impl<'a> Workload<'a> {
    /// All of them.
    pub fn all(inventory: &Inventory<'a>) -> Vec<Self> {
        inventory.iter().filter_map(|object| Self::of(object, inventory)).collect()
    }

    fn of(object: Object<'a>, inventory: &Inventory<'a>) -> Option<Self> {
        let template = match (object.group_version().0, object.kind()) {
            ("", "Pod") => object.value,
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet") | ("batch", "Job") => {
                &object.value["spec"]["template"]
            }
            ("batch", "CronJob") => &object.value["spec"]["jobTemplate"]["spec"]["template"],
            _ => return None,
        };
        let owners = object.value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        if owners.into_iter().any(|owner| owner["controller"] == true) {
            return None;
        }
        let containers = ["initContainers", "containers"]
            .into_iter()
            .flat_map(|field| template["spec"][field].as_array().into_iter().flatten());
        let container =
            containers.into_iter().find(|c| c["image"].as_str().is_some_and(|image| image.contains(IMAGE)));
        let mut workload =
            Self { object, pod: template, settings: BTreeMap::new(), has_container: container.is_some() };
        if let Some(container) = container {
            workload.read_settings(container, inventory);
        }
        let is_annotated = workload.annotations().any(|(key, _)| {
            key.starts_with("conjur-secrets.") || matches!(key, "secrets-destination" | "k8s-secrets")
        });
        (container.is_some() || is_annotated).then_some(workload)
    }

    fn read_settings(&mut self, container: &Value, inventory: &Inventory) {
        let namespace = self.object.namespace();
        for source in container["envFrom"].as_array().into_iter().flatten() {
            let Some(name) = source["configMapRef"]["name"].as_str() else { continue };
            let found = inventory.core("ConfigMap", namespace, name);
            let keys = found.and_then(|map| map.value["data"].as_object()).into_iter().flatten();
            for (key, _) in keys {
                let value = found.and_then(|map| value_of(map, key));
                let from = Some((name.to_owned(), key.clone()));
                self.settings.insert(key.clone(), Setting { value, from });
            }
            if found.is_none() {
                let from = Some((name.to_owned(), String::new()));
                self.settings.insert(String::new(), Setting { value: None, from });
            }
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let Some(name) = variable["name"].as_str() else { continue };
            let setting = match variable["valueFrom"]["configMapKeyRef"].as_object() {
                Some(reference) => {
                    let text = |field: &str| {
                        reference.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
                    };
                    let (map, key) = (text("name"), text("key"));
                    let value =
                        inventory.core("ConfigMap", namespace, &map).and_then(|map| value_of(map, &key));
                    Setting { value, from: Some((map, key)) }
                }
                None => Setting { value: variable["value"].as_str().map(str::to_owned), from: None },
            };
            self.settings.insert(name.to_owned(), setting);
        }
    }

    /// Its namespace.
    pub fn namespace(&self) -> Option<String> {
        self.object.namespace().map(str::to_owned)
    }

    /// As `Deployment/web`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.object.kind(), self.object.name())
    }

    /// The annotations of the Pods below `conjur.org/`, without that.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.pod["metadata"]["annotations"].as_object().into_iter().flatten();
        all.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str()?)))
    }

    /// One of them.
    pub fn annotation(&self, name: &str) -> Option<&'a str> {
        self.annotations().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A setting by one of its names.
    pub fn setting(&self, names: &[&str]) -> Setting {
        names.iter().find_map(|name| self.settings.get(*name)).cloned().unwrap_or_default()
    }

    /// An annotation, or the setting that says the same.
    pub fn said(&self, annotation: &str, setting: &str) -> Option<String> {
        self.annotation(annotation).map(str::to_owned).or_else(|| self.setting(&[setting]).value)
    }

    /// The ConfigMap that its settings lie in, which gives the connection its name; else its own name.
    pub fn settings_name(&self) -> String {
        let map =
            self.settings.values().find_map(|setting| setting.from.as_ref().map(|(map, _)| map.clone()));
        map.unwrap_or_else(|| format!("{}-conjur", self.object.name()))
    }

    /// Its ServiceAccount.
    pub fn account(&self) -> &'a str {
        self.pod["spec"]["serviceAccountName"].as_str().unwrap_or("default")
    }

    /// The login of its host, where it names one.
    pub fn host(&self) -> Option<String> {
        self.said("authn-identity", "CONJUR_AUTHN_LOGIN")
    }

    /// The audiences of the tokens that its Pods are given.
    pub fn audiences(&self) -> Vec<&'a str> {
        let volumes = self.pod["spec"]["volumes"].as_array().into_iter().flatten();
        let sources =
            volumes.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
        let mut audiences: Vec<_> =
            sources.filter_map(|source| source["serviceAccountToken"]["audience"].as_str()).collect();
        audiences.dedup();
        audiences
    }

    /// The ConfigMaps that are mounted.
    pub fn mounted_maps(&self) -> impl Iterator<Item = &'a str> {
        let volumes = self.pod["spec"]["volumes"].as_array().into_iter().flatten();
        volumes.filter_map(|volume| volume["configMap"]["name"].as_str())
    }

    /// What tells its login from those of others.
    pub fn login(&self) -> String {
        format!("{} {} {}", self.account(), self.host().unwrap_or_default(), self.audiences().join(" "))
    }

    /// The Secrets that it names; none where it takes those with the label.
    pub fn secrets(&self) -> Vec<String> {
        self.said("k8s-secrets", "K8S_SECRETS").map(|text| specs::names(&text)).unwrap_or_default()
    }

    /// Whether it has files written.
    pub fn writes_files(&self) -> bool {
        self.said("secrets-destination", "SECRETS_DESTINATION").as_deref() == Some("file")
    }
}
