//! Labels and annotations: what goes along, and what belongs to who applied or reconciled the source.

use std::collections::BTreeMap;

use conjur_operator_api::MANAGED_BY_LABEL;
use serde_json::{Value, json};

use super::note::Notes;

/// What other controllers and tools put on an object for themselves: it says nothing about what is made of it.
const OTHERS: [&str; 12] = [
    "kubectl.kubernetes.io/",
    "meta.helm.sh/",
    "helm.sh/chart",
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "reconcile.external-secrets.io/",
    "external-secrets.io/",
    "conjur.org/",
    "conjur-operator.io/",
    "objectset.rio.cattle.io/",
];
/// The annotation that people use to have External Secrets Operator refresh at once.
const FORCE_SYNC: &str = "force-sync";

/// Labels and annotations of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// Those of an object that go along.
    pub fn of(object: &Value) -> Self {
        let kept = |field: &str| {
            let all = object["metadata"][field].as_object().into_iter().flatten();
            all.filter(|(key, _)| !is_others(key))
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        let mut metadata = Self { labels: kept("labels"), annotations: kept("annotations") };
        metadata.labels.retain(|key, value| key != MANAGED_BY_LABEL || value != "Helm");
        metadata
    }

    /// The metadata of a new object.
    pub fn object(&self, namespace: Option<&str>, name: &str) -> Value {
        let mut metadata = json!({ "name": name });
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        for (field, map) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !map.is_empty() {
                metadata[field] = json!(map);
            }
        }
        metadata
    }
}

fn is_others(key: &str) -> bool {
    key == FORCE_SYNC || OTHERS.iter().any(|other| key.starts_with(other))
}

/// What a Secret may be given: without what is the operator's own, which is noted.
pub fn of_target(
    field: &str,
    wanted: impl IntoIterator<Item = (String, String)>,
    notes: &mut Notes,
) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for (key, value) in wanted {
        if key == MANAGED_BY_LABEL && field.contains("labels") {
            let what = format!(
                "the label {MANAGED_BY_LABEL} of the Secret is the operator's own: it becomes conjur-operator"
            );
            notes.differs(
                field,
                what,
                format!("Select the Secret by another label than {MANAGED_BY_LABEL}={value}"),
            );
        } else if !is_others(&key) {
            kept.insert(key, value);
        }
    }
    kept
}
