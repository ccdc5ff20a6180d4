//! What the chart's hooks do: apply connections, look before an uninstall, look after an install. Each runs once, in a Pod of
//! its own with rights of its own, and prints what it did.

mod apply;
mod install_check;
mod uninstall_check;

use std::path::Path;

use kube::{
    Api, Client, Resource,
    api::{DynamicObject, ListParams},
    core::{ApiResource, ObjectList, PartialObjectMeta},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    api::{ClusterConjurConnection, ConjurConnection, ConjurHost, ConjurPolicy, ConjurPush, ConjurSecret},
    cli::Hook,
    limits::{HOOK_PATIENCE, META_PAGE},
    plan::install::{HookScope, ObjectName},
};

/// What is waited for is looked at this often.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No threads.
    #[error("the runtime could not be started: {0}")]
    Runtime(#[source] std::io::Error),
    /// No cluster.
    #[error("cannot connect to the Kubernetes API: {0}; run in a cluster, or set KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
    /// No manifests.
    #[error("{file} can't be read: {error}")]
    File {
        /// Which.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// A call to the API server failed.
    #[error("cannot {what}: {error}")]
    Call {
        /// What was to be done.
        what: String,
        /// Why not.
        error: Box<kube::Error>,
    },
    /// The cluster, or what is asked for, is not as it should be.
    #[error("{0}")]
    Refused(String),
}

/// Runs a hook; what it did, in lines for people.
///
/// # Errors
/// Why it failed, in sentences.
pub fn run(hook: Hook) -> Result<String, HookError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(HookError::Runtime)?.block_on(async {
        let client = Client::try_default().await.map_err(|error| HookError::Client(Box::new(error)))?;
        match hook {
            Hook::Apply(args) => apply::run(&client, args).await,
            Hook::UninstallCheck(args) => uninstall_check::run(&client, args).await,
            Hook::InstallCheck(args) => install_check::run(&client, args).await,
        }
    })
}

/// One of the operator's kinds, as hooks list it.
struct HookKind {
    resource: ApiResource,
    namespaced: bool,
}

fn kind<K: Resource<DynamicType = ()>>(namespaced: bool) -> HookKind {
    HookKind { resource: ApiResource::erase::<K>(&()), namespaced }
}

fn cluster_connections() -> HookKind {
    kind::<ClusterConjurConnection>(false)
}

fn connections() -> HookKind {
    kind::<ConjurConnection>(true)
}

/// The kinds whose finalizers only the operator takes away.
fn finalized() -> Vec<HookKind> {
    vec![kind::<ConjurPolicy>(true), kind::<ConjurPush>(true), kind::<ConjurHost>(true)]
}

/// All kinds, ClusterConjurConnections where the scope has them.
fn all(scope: &HookScope) -> Vec<HookKind> {
    let mut kinds = vec![connections(), kind::<ConjurSecret>(true)];
    kinds.extend(finalized());
    kinds.extend(scope.cluster_connections.then(cluster_connections));
    kinds
}

impl HookKind {
    /// Where its objects lie in the scope.
    fn apis(&self, client: &Client, scope: &HookScope) -> Vec<Api<DynamicObject>> {
        if !self.namespaced || scope.namespaces.is_empty() {
            return vec![Api::all_with(client.clone(), &self.resource)];
        }
        let namespaces = scope.namespaces.iter();
        namespaces.map(|name| Api::namespaced_with(client.clone(), name, &self.resource)).collect()
    }

    /// What `keep` makes of the metadata of its objects in the scope; `None` where the kind is not served. Nothing else of a page
    /// is kept while the next one is read.
    async fn metadata<T>(
        &self,
        client: &Client,
        scope: &HookScope,
        keep: impl Fn(PartialObjectMeta<DynamicObject>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, HookError> {
        let mut found = Vec::new();
        for api in self.apis(client, scope) {
            // A tenant's annotations may be large, and a hook has little memory.
            let mut params = ListParams::default().limit(META_PAGE);
            loop {
                let Some(page) = self.page(&api, &params).await? else { return Ok(None) };
                let next = page.metadata.continue_.filter(|token| !token.is_empty());
                found.extend(page.items.into_iter().filter_map(&keep));
                match next {
                    Some(token) => params = params.continue_token(&token),
                    None => break,
                }
            }
        }
        Ok(Some(found))
    }

    /// One page of metadata; `None` where the kind is not served.
    async fn page(
        &self,
        api: &Api<DynamicObject>,
        params: &ListParams,
    ) -> Result<Option<ObjectList<PartialObjectMeta<DynamicObject>>>, HookError> {
        match api.list_metadata(params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            other => other.map(Some).map_err(|error| self.failed("list", error)),
        }
    }

    /// The same as `metadata`, once the kind is served: a CRD that was just made needs a moment.
    async fn metadata_when_served<T>(
        &self,
        client: &Client,
        scope: &HookScope,
        keep: impl Fn(PartialObjectMeta<DynamicObject>) -> Option<T>,
    ) -> Result<Vec<T>, HookError> {
        let found = patiently(async || self.metadata(client, scope, &keep).await).await?;
        found.ok_or_else(|| self.unserved())
    }

    /// Waits until the kind is served, and may be listed all over the scope.
    async fn served(&self, client: &Client, scope: &HookScope) -> Result<(), HookError> {
        let found = patiently(async || self.looked_at(client, scope).await).await?;
        found.ok_or_else(|| self.unserved())
    }

    async fn looked_at(&self, client: &Client, scope: &HookScope) -> Result<Option<()>, HookError> {
        let one = ListParams::default().limit(1);
        for api in self.apis(client, scope) {
            if self.page(&api, &one).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    fn unserved(&self) -> HookError {
        HookError::Refused(format!(
            "the API server does not serve {}s of {}; install the CRDs (crds.enabled), then run this again",
            self.resource.kind, self.resource.api_version
        ))
    }

    fn failed(&self, verb: &str, error: kube::Error) -> HookError {
        HookError::Call { what: format!("{verb} {}s", self.resource.kind), error: Box::new(error) }
    }

    fn name<K: kube::ResourceExt>(&self, object: &K) -> ObjectName {
        let namespace = object.namespace().unwrap_or_default();
        ObjectName { kind: self.resource.kind.clone(), namespace, name: object.name_any() }
    }
}

/// Where an object of one of the kinds lies.
fn api_of(client: &Client, kinds: &[HookKind], name: &ObjectName) -> Result<Api<DynamicObject>, HookError> {
    let kind = kinds.iter().find(|kind| kind.resource.kind == name.kind);
    let kind = kind.ok_or_else(|| HookError::Refused(format!("{name} is of a kind that is not applied")))?;
    Ok(if kind.namespaced {
        Api::namespaced_with(client.clone(), &name.namespace, &kind.resource)
    } else {
        Api::all_with(client.clone(), &kind.resource)
    })
}

/// The manifests of a release.
fn read(file: &Path) -> Result<String, HookError> {
    std::fs::read_to_string(file).map_err(|error| HookError::File { file: file.display().to_string(), error })
}

/// Asks until there is something, for a while; then `None`.
async fn patiently<T>(
    mut ask: impl AsyncFnMut() -> Result<Option<T>, HookError>,
) -> Result<Option<T>, HookError> {
    let deadline = Instant::now() + HOOK_PATIENCE;
    loop {
        let found = ask().await?;
        if found.is_some() || Instant::now() >= deadline {
            return Ok(found);
        }
        sleep_until(deadline.min(Instant::now() + LOOK)).await;
    }
}
