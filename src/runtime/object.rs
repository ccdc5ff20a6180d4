//! What the runtime needs to know of an object: of which kind it is, its status, and how little of it a store may keep.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{
    Api, Client, Resource,
    core::{
        DeserializeGuard, NamespaceResourceScope,
        object::{HasSpec, HasStatus},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::compact;
use crate::{
    api::{ConnectionRef, condition::Conditioned},
    metrics::Kind,
    plan::Failure,
};

/// What lies in namespaces, of one, or of the whole cluster where the text is empty.
pub fn api_of_part<K>(client: Client, part: &str) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    if part.is_empty() { Api::all(client) } else { Api::namespaced(client, part) }
}

/// An object of one of the operator's kinds.
pub trait Object:
    Resource<DynamicType = ()>
    + HasSpec<Spec: Serialize>
    + HasStatus<Status: Conditioned + Serialize + DeserializeOwned + Clone + Default + Send + Sync>
    + Clone
    + DeserializeOwned
    + Serialize
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Its kind, for logs and metrics.
    const KIND: Kind;
    /// Names the connection that an object uses, which tells of its own failures for all who do; none where the kind uses none.
    const CONNECTION: Option<fn(&Self) -> &ConnectionRef> = None;

    /// The API of the kind, in a namespace where it has one.
    fn api(client: Client, namespace: &str) -> Api<Self>;

    /// The same for a watch, of a namespace, or of the whole cluster where the text is empty.
    fn watched(client: Client, part: &str) -> Api<DeserializeGuard<Self>>;

    /// `status.observedGeneration` and `status.conditions`.
    fn conditions(&self) -> (Option<i64>, &[Condition]) {
        self.status().map_or((None, &[]), |status| (status.observed_generation(), status.conditions()))
    }

    /// The status as JSON; none where there is none.
    fn status_json(&self) -> Option<Value> {
        serde_json::to_value(self.status()?).ok()
    }

    /// Takes a status as JSON.
    fn set_status(&mut self, status: Value) {
        *self.status_mut() = serde_json::from_value(status).ok();
    }

    /// Leaves out of the metadata what the store need not keep.
    fn compact_metadata(metadata: &mut ObjectMeta) {
        compact::own(metadata);
    }

    /// The same for the rest, and gives back the room that lists took while they were decoded.
    fn compact(&mut self) {}

    /// Leaves all out of a long spec but what is looked at while it is another object's turn.
    fn shorten(spec: &mut Self::Spec);

    /// Whether only administrators write such objects, so that their heads have no bound.
    fn is_of_administrators() -> bool {
        false
    }

    /// Refuses references to what can't be a name, before anything is asked for by them.
    ///
    /// # Errors
    /// `InvalidSpec`.
    fn check_references(&self) -> Result<(), Failure> {
        Ok(())
    }
}
