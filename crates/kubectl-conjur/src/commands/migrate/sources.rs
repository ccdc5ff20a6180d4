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

/// All of them.
///
/// # Errors
/// The API server's, where it is another than that a kind is not there.
pub async fn of_cluster(cluster: &Cluster) -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
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
                    all.extend(found.items.into_iter().filter_map(|object| typed(object, &resource)));
                    break;
                }
                // Not served, in this version or at all.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                // Those of all namespaces may be another's to see; an ExternalSecret says then what it lacks.
                Err(kube::Error::Api(status)) if status.code == 403 && !namespaced => break,
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
    let mut object = serde_json::to_value(object).ok()?;
    if resource.kind == "Secret" {
        // Only what maps keys to variables is of use.
        let map = object["data"]["conjur-map"].clone();
        let is_map = map.is_string();
        object["data"] = if is_map { serde_json::json!({ "conjur-map": map }) } else { Value::Null };
        let annotated = object["metadata"].to_string().contains("conjur.org/");
        return (is_map || annotated).then_some(object);
    }
    Some(object)
}
