//! Restarts of workloads, as `kubectl rollout restart` does them: by an annotation on the pod template.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Cluster, Error, call};
use crate::{
    api::{MANAGER, secret::RolloutKind},
    conjur::Lane,
};

impl Cluster {
    /// Makes a workload's pods anew by writing an annotation onto their template; one that it has changes nothing.
    ///
    /// # Errors
    /// `NotFound` where there is no such workload.
    pub async fn restart_workload(
        &self,
        kind: RolloutKind,
        namespace: &str,
        name: &str,
        annotation: (&str, &str),
        lane: Lane,
    ) -> Result<(), Error> {
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": { annotation.0: annotation.1 } } } } });
        let _permit = self.permit(lane, Some(namespace)).await;
        match kind {
            RolloutKind::Deployment => self.patch::<Deployment>(namespace, name, patch).await,
            RolloutKind::StatefulSet => self.patch::<StatefulSet>(namespace, name, patch).await,
            RolloutKind::DaemonSet => self.patch::<DaemonSet>(namespace, name, patch).await,
        }
    }

    async fn patch<K>(&self, namespace: &str, name: &str, patch: Value) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let what = format!("restart {} {namespace}/{name}", K::kind(&()));
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        call(&what, api.patch_metadata(name, &params, &Patch::Merge(patch))).await.map(drop)
    }
}
