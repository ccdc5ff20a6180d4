//! Who mounts a Secret: the Pod templates of workloads, and Ingresses.

use futures::future::join_all;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

use crate::cluster::Cluster;

/// A workload, or an Ingress, with the Secrets that it uses.
#[derive(Debug)]
pub struct MountingWorkload {
    /// In lower case.
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// A Secret's name, and where it stands.
    pub mounts: Vec<(String, String)>,
}

impl MountingWorkload {
    /// All the places where a Secret stands.
    pub fn how(&self, secret: &str) -> String {
        let mut places: Vec<_> =
            self.mounts.iter().filter(|(name, _)| name == secret).map(|(_, how)| how.as_str()).collect();
        places.sort_unstable();
        places.dedup();
        places.join(", ")
    }
}

/// Group, kind, and where its Pod template is.
const KINDS: [(&str, &str, &str); 5] = [
    ("apps", "Deployment", "/spec/template/spec"),
    ("apps", "StatefulSet", "/spec/template/spec"),
    ("apps", "DaemonSet", "/spec/template/spec"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template/spec"),
    ("networking.k8s.io", "Ingress", ""),
];

/// Short names that kubectl knows.
const SHORT: [(&str, &str); 5] = [
    ("deploy", "deployment"),
    ("sts", "statefulset"),
    ("ds", "daemonset"),
    ("cj", "cronjob"),
    ("ing", "ingress"),
];

/// The kind in lower case.
pub fn singular(text: &str) -> String {
    let text = text.to_lowercase();
    let long = SHORT.iter().find(|(short, _)| *short == text).map(|(_, long)| (*long).to_owned());
    long.unwrap_or_else(|| match text.strip_suffix("es").filter(|it| it.ends_with("ingress")) {
        Some(ingress) => ingress.to_owned(),
        None => text.strip_suffix('s').filter(|_| text != "ingress").unwrap_or(&text).to_owned(),
    })
}

pub fn is_kind(text: &str) -> bool {
    let text = singular(text);
    KINDS.iter().any(|(_, kind, _)| kind.to_lowercase() == text)
}

/// All of them, and a sentence for each kind that can't be seen.
pub async fn list(cluster: &Cluster, namespace: Option<&str>) -> (Vec<MountingWorkload>, Vec<String>) {
    let (mut all, mut unseen) = (Vec::new(), Vec::new());
    let lists = KINDS.iter().map(|(group, kind, at)| async move {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
            None => Api::all_with(cluster.client.clone(), &resource),
        };
        (kind, at, api.list(&ListParams::default()).await)
    });
    for (kind, at, found) in join_all(lists).await {
        match found {
            Ok(found) => all.extend(found.items.iter().map(|object| workload(kind, at, object))),
            Err(kube::Error::Api(status)) => unseen.push(format!("{kind}s ({})", status.message)),
            Err(error) => unseen.push(format!("{kind}s ({error})")),
        }
    }
    (all, unseen)
}

fn workload(kind: &str, at: &str, object: &DynamicObject) -> MountingWorkload {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mounts = if at.is_empty() {
        of_ingress(&object.data)
    } else {
        object.data.pointer(at).map(of_pod).unwrap_or_default()
    };
    MountingWorkload {
        kind: kind.to_lowercase(),
        namespace: text(&object.metadata.namespace),
        name: text(&object.metadata.name),
        mounts,
    }
}

fn items<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value[field].as_array().into_iter().flatten()
}

fn of_ingress(object: &Value) -> Vec<(String, String)> {
    let names = items(&object["spec"], "tls").filter_map(|tls| tls["secretName"].as_str());
    names.map(|name| (name.to_owned(), "TLS".to_owned())).collect()
}

/// The Secrets that a Pod uses.
fn of_pod(pod: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &Value, how: String| all.extend(name.as_str().map(|name| (name.to_owned(), how)));
    for volume in items(pod, "volumes") {
        let how = || format!("volume {}", volume["name"].as_str().unwrap_or_default());
        add(&volume["secret"]["secretName"], how());
        items(&volume["projected"], "sources").for_each(|source| add(&source["secret"]["name"], how()));
    }
    for containers in ["containers", "initContainers"] {
        for container in items(pod, containers) {
            for from in items(container, "envFrom") {
                add(&from["secretRef"]["name"], "all of its environment".to_owned());
            }
            for variable in items(container, "env") {
                let how = format!("env {}", variable["name"].as_str().unwrap_or_default());
                add(&variable["valueFrom"]["secretKeyRef"]["name"], how);
            }
        }
    }
    items(pod, "imagePullSecrets").for_each(|secret| add(&secret["name"], "pulls its image".to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_way_to_use_a_secret_is_seen() {
        let pod = json!({
            "volumes": [
                { "name": "v", "secret": { "secretName": "volume" } },
                { "name": "p", "projected": { "sources": [{ "secret": { "name": "projected" } }, { "configMap": { "name": "x" } }] } },
            ],
            "containers": [{ "envFrom": [{ "secretRef": { "name": "all" } }], "env": [
                { "name": "A", "valueFrom": { "secretKeyRef": { "name": "one", "key": "k" } } }, { "name": "B", "value": "b" }] }],
            "initContainers": [{ "env": [{ "name": "C", "valueFrom": { "secretKeyRef": { "name": "first", "key": "k" } } }] }],
            "imagePullSecrets": [{ "name": "pull" }],
        });
        let names: Vec<_> = of_pod(&pod).into_iter().map(|(name, how)| format!("{name}: {how}")).collect();
        assert_eq!(
            names,
            [
                "volume: volume v",
                "projected: volume p",
                "all: all of its environment",
                "one: env A",
                "first: env C",
                "pull: pulls its image"
            ]
        );
        let ingress = json!({ "spec": { "tls": [{ "secretName": "cert" }] } });
        assert_eq!(of_ingress(&ingress), [("cert".to_owned(), "TLS".to_owned())]);
    }

    #[test]
    fn kinds_are_those_that_kubectl_knows() {
        for (text, kind) in [
            ("deploy", "deployment"),
            ("StatefulSets", "statefulset"),
            ("ing", "ingress"),
            ("ingresses", "ingress"),
        ] {
            assert!(is_kind(text) && singular(text) == kind, "{text}");
        }
        assert!(!is_kind("pod") && !is_kind("apps"));
    }
}
