//! Kubernetes IO, and the only writer of Secrets.
//!
//! Every write of a Secret carries the uid and resource version that it was decided on, so that an edit in
//! between is a conflict and never lost. What was sent is wiped from the operator's buffers; copies inside the HTTP stack
//! are out of reach.

pub mod api_server;
mod keys;
mod selected;
mod workloads;

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Instant};

use http::HeaderValue;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Secret, ServiceAccount},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{PartialObjectMeta, Request, Status},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    api::MANAGER,
    conjur::Lane,
    gate::{Gate, Parties, Permit, Pull},
    limits::{API_CALL_DEADLINE, API_READS},
    metrics::{Metrics, TurnOf},
    plan::secret::SecretRead,
    sensitive::Sensitive,
};

const ONLY_METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// How often a change of the finalizers is tried when someone is in between.
const FINALIZER_TRIES: u32 = 5;

/// Why a call to the API server failed, by meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 409 on a create: someone was first.
    #[error("{0}")]
    AlreadyExists(String),
    /// 409: it was changed since it was looked at.
    #[error("{0}")]
    Conflict(String),
    /// 409 on an apply: what is to be the operator's is another's.
    #[error("{message}")]
    FieldConflict {
        /// Whose what is. Holds no value.
        message: String,
        /// The field managers that it is.
        managers: Vec<String>,
    },
    /// 400, 413, 422: the API server refuses what it says.
    #[error("{0}")]
    Invalid(String),
    /// 403.
    #[error("{0}")]
    Forbidden(String),
    /// Anything else: it will pass, or someone has to look at the API server.
    #[error("{0}")]
    Failed(String),
}

/// What was written, as the API server gave it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
}

/// Kubernetes IO, with the reads and writes in flight bounded, each namespace in its turn; writes in two lanes.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    writes: Arc<Gate>,
    reads: Arc<Gate>,
    metrics: Metrics,
}

impl Cluster {
    /// With at most `max_concurrent` writes in flight; refreshes leave a quarter of them to new and changed objects.
    pub fn new(client: Client, max_concurrent: usize, metrics: Metrics) -> Self {
        let all = max_concurrent.max(2);
        let writes = Gate::with_refreshes(all, all - (all / 4).max(1));
        Self { client, writes, reads: Gate::new(API_READS), metrics }
    }

    /// The client, for watches and events.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Reads a Secret.
    ///
    /// # Errors
    /// Any but `NotFound`, which is `None`.
    pub async fn read_secret(&self, namespace: &str, name: &str) -> Result<Option<SecretRead>, Error> {
        let what = format!("read Secret {namespace}/{name}");
        let _permit = self.read_permit(Some(namespace)).await;
        let read = Api::<Secret>::namespaced(self.client.clone(), namespace);
        Ok(call(&what, read.get_opt(name)).await?.map(SecretRead::from))
    }

    /// Reads a ConfigMap.
    ///
    /// # Errors
    /// Any but `NotFound`, which is `None`.
    async fn read_config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, Error> {
        let what = format!("read ConfigMap {namespace}/{name}");
        let _permit = self.read_permit(Some(namespace)).await;
        call(&what, Api::<ConfigMap>::namespaced(self.client.clone(), namespace).get_opt(name)).await
    }

    /// Reads an object of the operator's.
    ///
    /// # Errors
    /// Any but `NotFound`, which is `None`.
    pub async fn read<K>(&self, api: &Api<K>, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        let _permit = self.read_permit(api.namespace()).await;
        call(&format!("read {}/{name}", api.resource_url()), api.get_opt(name)).await
    }

    /// Creates a Secret; never changes one that is there.
    ///
    /// # Errors
    /// `AlreadyExists` where one is there.
    pub async fn create_secret(&self, secret: SecretRead, lane: Lane) -> Result<Written, Error> {
        let what = describe("create", &secret);
        let _permit = self.permit(lane, secret.metadata.namespace.as_deref()).await;
        let request =
            Request::new(self.secrets(&secret).resource_url()).create(&post_params(), body(&secret)?);
        drop(secret);
        self.write(&what, request).await
    }

    /// Whether the API server would make a Secret, were there none of its name.
    ///
    /// # Errors
    /// Why it would not; that one is there is none.
    pub async fn try_create_secret(&self, secret: SecretRead) -> Result<(), Error> {
        let what = describe("create", &secret);
        let params = PostParams { dry_run: true, ..post_params() };
        let _permit = self.permit(Lane::Foreground, secret.metadata.namespace.as_deref()).await;
        let answer = call(&what, self.secrets(&secret).create(&params, &*secret)).await;
        drop(secret);
        match answer {
            Ok(made) => {
                drop(SecretRead::from(made));
                Ok(())
            }
            Err(Error::AlreadyExists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Replaces a Secret that is as `secret.metadata` says (uid and resource version).
    ///
    /// # Errors
    /// `Conflict` where it was changed since, `NotFound` where it is gone.
    pub async fn replace_secret(&self, secret: SecretRead, lane: Lane) -> Result<Written, Error> {
        let what = describe("replace", &secret);
        let _permit = self.permit(lane, secret.metadata.namespace.as_deref()).await;
        let request = Request::new(self.secrets(&secret).resource_url());
        let request = request.replace(&secret.name_any(), &post_params(), body(&secret)?);
        drop(secret);
        self.write(&what, request).await
    }

    /// Whether the API server would replace a Secret that is as `secret.metadata` says.
    ///
    /// # Errors
    /// Why it would not; `Conflict` where it was changed since, `NotFound` where it is gone.
    pub async fn try_replace_secret(&self, secret: SecretRead) -> Result<(), Error> {
        let what = describe("replace", &secret);
        let params = PostParams { dry_run: true, ..post_params() };
        let _permit = self.permit(Lane::Foreground, secret.metadata.namespace.as_deref()).await;
        let answer = call(&what, self.secrets(&secret).replace(&secret.name_any(), &params, &*secret)).await;
        drop(secret);
        answer.map(|made| drop(SecretRead::from(made)))
    }

    /// Applies what of a Secret is one manager's, to the Secret that is as `secret.metadata` says (uid and resource
    /// version). `force`: take what is another's.
    ///
    /// # Errors
    /// `FieldConflict` where something is another's, `Conflict` where it was changed since or is gone.
    pub async fn apply_secret(
        &self,
        secret: SecretRead,
        manager: &str,
        force: bool,
        lane: Lane,
    ) -> Result<Written, Error> {
        let what = describe("merge into", &secret);
        let _permit = self.permit(lane, secret.metadata.namespace.as_deref()).await;
        let params = PatchParams { field_manager: Some(manager.to_owned()), force, ..PatchParams::default() };
        let request = Request::new(self.secrets(&secret).resource_url());
        let request = request.patch(&secret.name_any(), &params, &Patch::Apply(&*secret));
        drop(secret);
        self.write(&what, request).await
    }

    /// Deletes a Secret that is as `secret.metadata` says (uid and resource version).
    ///
    /// # Errors
    /// `Conflict` where it was changed since; that it is gone already is success.
    pub async fn delete_secret(&self, secret: &Secret, lane: Lane) -> Result<(), Error> {
        let what = describe("delete", secret);
        let _permit = self.permit(lane, secret.metadata.namespace.as_deref()).await;
        let preconditions =
            Preconditions { uid: secret.uid(), resource_version: secret.metadata.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match call(&what, self.secrets(secret).delete(&secret.name_any(), &params)).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes the status of the object of a name by merge patch; where a version is given, only of the object as it was then. Which
    /// object that was, and its version afterwards: of the object, which may be large, nothing else comes back.
    ///
    /// # Errors
    /// `NotFound` where it is gone; `Conflict` where it has another version.
    pub async fn patch_status<K>(
        &self,
        api: &Api<K>,
        name: &str,
        status: &Value,
        version: Option<&str>,
        lane: Lane,
    ) -> Result<Written, Error>
    where
        K: Resource,
    {
        let what = format!("write the status of {}/{name}", api.resource_url());
        let _permit = self.permit(lane, api.namespace()).await;
        let mut body = serde_json::json!({ "status": status });
        if let Some(version) = version {
            body["metadata"] = serde_json::json!({ "resourceVersion": version });
        }
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let request = Request::new(api.resource_url());
        let request = request.patch_subresource("status", name, &params, &Patch::Merge(body));
        self.write(&what, request).await
    }

    /// An object as the API server has it now; none where it is gone.
    ///
    /// # Errors
    /// The API server's.
    pub async fn read_object<K>(&self, api: &Api<K>, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        let what = format!("read {}/{name}", api.resource_url());
        let _permit = self.read_permit(api.namespace()).await;
        call(&what, api.get_opt(name)).await
    }

    /// Whether an object that has this uid still has a finalizer; a watch may be late to show that it is gone.
    ///
    /// # Errors
    /// The API server's.
    pub async fn has_finalizer<K>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: &str,
        finalizer: &str,
    ) -> Result<bool, Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        let what = format!("read the finalizers of {}/{name}", api.resource_url());
        let _permit = self.read_permit(api.namespace()).await;
        let object = call(&what, api.get_metadata_opt(name)).await?;
        Ok(object.is_some_and(|object| {
            object.metadata.uid.as_deref() == Some(uid) && object.finalizers().iter().any(|f| f == finalizer)
        }))
    }

    /// Sets a finalizer of an object that has this uid, or removes it. Says whether the object is there and lives on.
    ///
    /// # Errors
    /// `Conflict` where it was changed each time in between.
    pub async fn set_finalizer<K>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: &str,
        finalizer: &str,
        there: bool,
    ) -> Result<bool, Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        let what = format!("write the finalizers of {}/{name}", api.resource_url());
        let mut tries = 0;
        loop {
            let permit = self.read_permit(api.namespace()).await;
            let Some(object) = call(&what, api.get_metadata_opt(name)).await? else { return Ok(false) };
            drop(permit);
            if object.metadata.uid.as_deref() != Some(uid) {
                return Ok(false);
            }
            let going = object.metadata.deletion_timestamp.is_some();
            let mut finalizers = object.metadata.finalizers.unwrap_or_default();
            if finalizers.iter().any(|f| f == finalizer) == there || (going && there) {
                return Ok(!going);
            }
            finalizers.retain(|f| f != finalizer);
            finalizers.extend(there.then(|| finalizer.to_owned()));
            let version = object.metadata.resource_version;
            let body =
                serde_json::json!({ "metadata": { "finalizers": finalizers, "resourceVersion": version } });
            let _permit = self.permit(Lane::Foreground, api.namespace()).await;
            let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
            match call(&what, api.patch_metadata(name, &params, &Patch::Merge(body))).await {
                Ok(_) => return Ok(!going),
                Err(Error::NotFound(_)) => return Ok(false),
                Err(Error::Conflict(_)) if tries < FINALIZER_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A new token of a ServiceAccount for these audiences; without any, for those of the API server.
    ///
    /// # Errors
    /// `NotFound` where there is no such ServiceAccount; `Forbidden` where the chart does not permit it.
    pub async fn request_token(
        &self,
        namespace: &str,
        service_account: &str,
        audiences: &[String],
    ) -> Result<Sensitive<String>, Error> {
        let what = format!("request a token of ServiceAccount {namespace}/{service_account}");
        let spec = TokenRequestSpec {
            audiences: audiences.to_vec(),
            // The shortest there is: Conjur's own token lives for 8 minutes.
            expiration_seconds: Some(600),
            bound_object_ref: None,
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let params = PostParams::default();
        let _permit = self.read_permit(Some(namespace)).await;
        let answer = call(&what, api.create_token_request(service_account, &params, &request));
        let answer = answer.await.map_err(|error| match error {
            Error::Forbidden(message) => Error::Forbidden(format!(
                "{message}; the operator's administrator allows it by the name of the ServiceAccount in \
                 rbac.tokenRequest.serviceAccountNames of the chart"
            )),
            error => error,
        })?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        if token.is_empty() {
            return Err(Error::Failed(format!("the API server gave no token to: {what}")));
        }
        Ok(Sensitive::new(token))
    }

    /// Sends a write. Only metadata comes back: what was written is known, and values went the way once already.
    async fn write(
        &self,
        what: &str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Written, Error> {
        let mut request = request.map_err(|error| Error::Failed(format!("cannot {what}: {error}")))?;
        request.headers_mut().insert(http::header::ACCEPT, HeaderValue::from_static(ONLY_METADATA));
        let answer: PartialObjectMeta<Secret> = call(what, self.client.request(request)).await?;
        Ok(Written {
            uid: answer.metadata.uid.unwrap_or_default(),
            resource_version: answer.metadata.resource_version.unwrap_or_default(),
        })
    }

    fn secrets(&self, secret: &Secret) -> Api<Secret> {
        Api::namespaced(self.client.clone(), secret.metadata.namespace.as_deref().unwrap_or_default())
    }

    /// The right to have one read in flight: what is read is in memory several times over while it is decoded.
    async fn read_permit(&self, namespace: Option<&str>) -> Permit {
        let party = namespace.unwrap_or_default().into();
        self.reads.enter(Lane::Foreground, Pull::Quick, &Parties::of([party])).await
    }

    /// The right to have one write in flight. Each namespace has its turn.
    async fn permit(&self, lane: Lane, namespace: Option<&str>) -> Permit {
        let party = namespace.unwrap_or_default().into();
        let start = Instant::now();
        let permit = self.writes.enter(lane, Pull::Quick, &Parties::of([party])).await;
        self.metrics.waited(TurnOf::ApiServerWrite, lane.into(), start.elapsed());
        permit
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
}

fn describe(verb: &str, secret: &Secret) -> String {
    format!(
        "{verb} Secret {}/{}",
        secret.metadata.namespace.as_deref().unwrap_or_default(),
        secret.name_any()
    )
}

/// A Secret as it is sent, in a buffer that never grows: that would leave copies behind.
fn body(secret: &Secret) -> Result<Vec<u8>, Error> {
    let values: usize =
        secret.data.iter().flatten().map(|(key, value)| key.len() + value.0.len() / 3 * 4 + 16).sum();
    let mut body = Vec::with_capacity(values + 4096);
    serde_json::to_writer(&mut body, secret)
        .map_err(|_| Error::Failed(format!("{} can't be written as JSON", describe("write", secret))))?;
    Ok(body)
}

async fn call<T>(what: &str, future: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    // Boxed: it is large, and thousands may wait for their turn before it is made.
    match tokio::time::timeout(API_CALL_DEADLINE, Box::pin(future)).await {
        Ok(answer) => answer.map_err(|e| meaning(what, &e)),
        Err(_) => {
            Err(Error::Failed(format!("the API server gave no answer in {API_CALL_DEADLINE:?} to: {what}")))
        }
    }
}

/// What the API server says. Of a Secret that it finds invalid only the fields, and what is wrong with them in
/// general: its own words may hold a piece of a value (the JSON error of a docker configuration).
fn words(what: &str, status: &Status) -> String {
    if status.code != 422 || !what.contains("Secret ") {
        return status.message.clone();
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let causes = causes.filter(|cause| !cause.field.is_empty());
    let fields: Vec<_> = causes.map(|cause| format!("{} ({})", cause.field, cause.reason)).collect();
    if !fields.is_empty() {
        return format!("invalid: {}", fields.join(", "));
    }
    match denying_policy(&status.message) {
        // Its message may be made of what is written.
        Some(policy) => format!("ValidatingAdmissionPolicy {policy} denies it"),
        None => status.reason.clone(),
    }
}

/// The admission policy that the API server names in a denial.
fn denying_policy(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("ValidatingAdmissionPolicy '")?;
    let (name, _) = rest.split_once('\'')?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    (!name.is_empty() && name.len() <= 253 && name.chars().all(is_name)).then_some(name)
}

/// The conflict of an apply, by manager and field: `conflict with "kubectl-edit" using v1` at `.data.password`.
fn field_conflict(what: &str, status: &Status) -> Option<Error> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut managers = BTreeMap::<String, Vec<&str>>::new();
    for cause in causes.filter(|cause| cause.reason == "FieldManagerConflict") {
        let manager = cause.message.split('"').nth(1).unwrap_or("another field manager");
        managers.entry(manager.to_owned()).or_default().push(cause.field.trim_start_matches('.'));
    }
    if managers.is_empty() {
        return None;
    }
    let whose = managers.iter().map(|(manager, fields)| format!("{manager} set {}", fields.join(", ")));
    let message = format!(
        "cannot {what}: {}. Take it out of the Secret, or leave it out of the spec; nothing was written",
        whose.collect::<Vec<_>>().join("; ")
    );
    Some(Error::FieldConflict { message, managers: managers.into_keys().collect() })
}

/// What an error of the API server means. Only its own message is repeated: it hides the values of a Secret.
fn meaning(what: &str, error: &kube::Error) -> Error {
    let kube::Error::Api(status) = error else {
        return Error::Failed(match error {
            // A body that does not decode may be a Secret's.
            kube::Error::SerdeError(_) => format!("the API server's answer does not decode: {what}"),
            other => format!("cannot {what}: {other}"),
        });
    };
    let message = format!("the API server refuses to {what}: {}", words(what, status));
    if let Some(conflict) = field_conflict(what, status) {
        return conflict;
    }
    match status.code {
        404 => Error::NotFound(message),
        409 if status.reason == "AlreadyExists" => Error::AlreadyExists(message),
        409 => Error::Conflict(message),
        400 | 413 | 422 => Error::Invalid(message),
        403 => Error::Forbidden(message),
        _ => Error::Failed(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refused_secret_fields_or_the_policy_are_named_and_no_text() {
        let refused = |message: &str, causes: serde_json::Value| {
            let status = serde_json::json!({
                "status": "Failure", "reason": "Invalid", "code": 422, "message": message, "details": { "causes": causes },
            });
            words("replace Secret n/s", &serde_json::from_value(status).unwrap())
        };
        let denied = "secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'keep-out' with binding 'b' denied request: hunter2";
        let unnamed = serde_json::json!([{ "message": "hunter2" }]);
        assert_eq!(refused(denied, unnamed.clone()), "ValidatingAdmissionPolicy keep-out denies it");
        assert_eq!(refused("hunter2 ValidatingAdmissionPolicy 'Hunter 2'", unnamed), "Invalid");
        let named =
            serde_json::json!([{ "reason": "FieldValueInvalid", "message": "hunter2", "field": "data[a]" }]);
        assert_eq!(refused("hunter2", named), "invalid: data[a] (FieldValueInvalid)");
    }

    #[test]
    fn a_conflict_names_the_managers_and_their_fields() {
        // As an API server answers (1.35).
        let status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "reason": "Conflict", "code": 409, "message": "Apply failed with 2 conflicts: ...",
            "details": { "causes": [
                { "reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using v1", "field": ".data.password" },
                { "reason": "FieldManagerConflict", "message": "conflict with \"helm\" using v1 at 2026-11-22T00:00:00Z", "field": ".data.user" },
            ] },
        }))
        .unwrap();
        let Error::FieldConflict { message, managers } =
            meaning("merge into Secret a/b", &kube::Error::Api(Box::new(status)))
        else {
            panic!("no conflict of fields")
        };
        assert_eq!(managers, ["helm", "kubectl-edit"]);
        assert!(message.contains("helm set data.user; kubectl-edit set data.password"), "{message}");
    }
}
