//! What there is in a namespace to migrate from.

use kube::{
    Api,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

use crate::{
    Error,
    cluster::{Cluster, api_error},
};

/// Group, versions from the newest, kind, and whether it is in a namespace.
const KINDS: [(&str, &[&str], &str, bool); 10] = [
    ("external-secrets.io", &["v1", "v1beta1"], "SecretStore", true),
    ("external-secrets.io", &["v1", "v1beta1"], "ClusterSecretStore", false),
    ("external-secrets.io", &["v1", "v1beta1"], "ExternalSecret", true),
    ("external-secrets.io", &["v1alpha1"], "PushSecret", true),
    ("", &["v1"], "Secret", true),
    ("", &["v1"], "ConfigMap", true),
    ("apps", &["v1"], "Deployment", true),
    ("apps", &["v1"], "StatefulSet", true),
    ("apps", &["v1"], "DaemonSet", true),
    ("batch", &["v1"], "CronJob", true),
];

/// The resource of a kind that the cluster serves, in its newest version.
pub fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// The kinds without which no Secret is handed over.
const NEEDED: [&str; 2] = ["ExternalSecret", "Secret"];

/// What there is, and what may not be seen.
#[derive(Debug, Default)]
pub struct Sources {
    pub objects: Vec<Value>,
    /// Each kind, with what the API server says.
    pub unseen: Vec<(&'static str, String)>,
}

impl Sources {
    /// Refuses a hand-over of what is not all seen.
    ///
    /// # Errors
    /// The kinds that have to be seen.
    pub fn check_needed(&self) -> Result<(), Error> {
        let missing: Vec<_> =
            self.unseen.iter().map(|(kind, _)| *kind).filter(|kind| NEEDED.contains(kind)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!("--apply needs the right to list each {}", missing.join(" and "))))
    }
}

/// All of them.
///
/// # Errors
/// The API server's, where it is another than that a kind is not there, or may not be seen.
pub async fn of_cluster(cluster: &Cluster) -> Result<Sources, Error> {
    let mut all = Sources::default();
    for (group, versions, kind, namespaced) in KINDS {
        for version in versions {
            let resource = resource(group, version, kind);
            let api: Api<DynamicObject> = if namespaced {
                Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
            } else {
                Api::all_with(cluster.client.clone(), &resource)
            };
            match api.list(&ListParams::default()).await {
                Ok(found) => {
                    all.objects.extend(found.items.into_iter().filter_map(|object| typed(object, &resource)));
                    break;
                }
                // Not served, in this version or at all.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    all.unseen.push((kind, status.message));
                    break;
                }
                Err(error) => return Err(api_error(&format!("list {}", resource.plural), &error)),
            }
        }
    }
    Ok(all)
}

/// With its kind, which lists leave out, and without values.
fn typed(mut object: DynamicObject, resource: &ApiResource) -> Option<Value> {
    object.types =
        Some(kube::api::TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() });
    if resource.kind == "Secret" {
        object.metadata.managed_fields = None;
        // It may hold the values as they were applied.
        let annotations = object.metadata.annotations.iter_mut();
        annotations.for_each(|all| drop(all.remove("kubectl.kubernetes.io/last-applied-configuration")));
    }
    let mut object = serde_json::to_value(object).ok()?;
    if resource.kind == "Secret" {
        // Of use is what maps keys to variables, and which other keys there are.
        let is_map = object["data"]["conjur-map"].is_string();
        let annotated = object["metadata"].to_string().contains("conjur.org/");
        for (key, value) in object["data"].as_object_mut().into_iter().flatten() {
            if key != "conjur-map" {
                *value = "".into();
            }
        }
        return (is_map || annotated).then_some(object);
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::migrate::{Mode, Options, migrate};

    fn secret(data: &Value) -> Option<Value> {
        let object = json!({ "data": data, "metadata": { "name": "db", "namespace": "n", "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "hunter2",
        } } });
        typed(serde_json::from_value(object).unwrap(), &resource("", "v1", "Secret"))
    }

    #[test]
    fn a_secret_is_read_by_the_names_of_its_keys_and_without_values() {
        // As base64: `password: apps/password`.
        let map = "cGFzc3dvcmQ6IGFwcHMvcGFzc3dvcmQ=";
        let read = secret(&json!({ "conjur-map": map, "other": "aHVudGVyMg==" })).unwrap();
        assert_eq!(read["data"], json!({ "conjur-map": map, "other": "" }));
        assert!(!read.to_string().contains("hunter2"));
        assert!(secret(&json!({ "other": "aHVudGVyMg==" })).is_none());
        let connection = crate::migrate::Connection { name: "conjur".into(), cluster: false };
        let options = Options { connection: Some(connection) };
        for (data, mode) in [
            (json!({ "conjur-map": map, "other": "aHVudGVyMg==" }), Mode::Merge),
            (json!({ "conjur-map": map, "password": "aHVudGVyMg==" }), Mode::Owner),
        ] {
            let migration = migrate(&[secret(&data).unwrap()], &options);
            assert_eq!(migration.takeovers[0].mode, mode, "{data}: {:?}", migration.notes);
        }
    }

    #[test]
    fn a_hand_over_needs_the_right_to_see_what_it_touches() {
        let unseen = |kinds: &[&'static str]| Sources {
            unseen: kinds.iter().map(|kind| (*kind, "forbidden".to_owned())).collect(),
            ..Sources::default()
        };
        assert!(unseen(&["ConfigMap", "CronJob", "ClusterSecretStore"]).check_needed().is_ok());
        let told = unseen(&["ConfigMap", "Secret"]).check_needed().unwrap_err().to_string();
        assert!(told.contains("Secret") && !told.contains("ConfigMap"), "{told}");
    }
}
