//! ConjurConnection: makes the shared client, sees that it works, and wakes those who wait for it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{Resource, ResourceExt, runtime::events::EventType};
use serde_json::{Map, Value};
use url::Url;

use super::{
    Context, Key, Outcome, Reconcile, Trouble,
    clients::connection_ref,
    inputs::{Input, User},
};
use crate::{
    api::{
        ConjurConnection, Reason, SecretKeyRef,
        connection::{ApiKeyAuth, BundleKind, BundleRef},
    },
    conjur::{Client, Config, Credentials, Lane},
    metrics::Kind,
    plan::{Class, Failure, inputs},
    sensitive::Sensitive,
};

/// A connection that works is looked at this often, for a fault that no call has met.
const CHECK_AGAIN: Duration = Duration::from_secs(600);

impl Reconcile for ConjurConnection {
    const KIND: Kind = Kind::Connection;
    const DEADLINE: Duration = Duration::from_secs(90);

    async fn reconcile(&self, ctx: &Context) -> Result<Outcome, Trouble> {
        if let Some(rest) = ctx.clients.rests(self)
            && !ctx.inputs.changed(&User::Connection(connection_ref(self)))
        {
            return Ok(Outcome::Untouched(Some(rest)));
        }
        match connect(self, ctx).await {
            Ok(outcome) => Ok(outcome),
            Err(failure) => Err(fail(self, failure, ctx)),
        }
    }

    fn conditions(&self) -> (Option<i64>, &[Condition]) {
        let status = self.status.as_ref();
        (
            status.and_then(|s| s.observed_generation),
            status.and_then(|s| s.conditions.as_deref()).unwrap_or_default(),
        )
    }

    fn status_json(&self) -> Option<Value> {
        serde_json::to_value(self.status.as_ref()?).ok()
    }

    fn set_status(&mut self, status: Value) {
        self.status = serde_json::from_value(status).ok();
    }

    fn gone(key: &Key, ctx: &Context) {
        let there: Vec<_> = ctx
            .connections
            .state()
            .iter()
            .filter_map(|c| c.0.as_ref().ok().and_then(ResourceExt::uid))
            .collect();
        ctx.clients.forget(|uid| there.iter().any(|u| u == uid));
        // They tell of it; their Secrets stay.
        wake_users(&key.namespace, &key.name, ctx);
        let reference = kube::runtime::reflector::ObjectRef::new(&key.name).within(&key.namespace);
        ctx.inputs.want(&User::Connection(reference), &[]);
    }
}

impl ConjurConnection {
    fn is_observed(&self) -> bool {
        self.status.as_ref().and_then(|s| s.observed_generation) == self.meta().generation
    }
}

/// What a connection is made of, read from the cluster.
struct Ingredients {
    config: Config,
    /// A hash over where they came from.
    inputs: String,
}

async fn connect(connection: &ConjurConnection, ctx: &Context) -> Result<Outcome, Failure> {
    let reference = User::Connection(connection_ref(connection));
    ctx.inputs.want(&reference, &referred(connection));
    let changed = ctx.inputs.take_changed(&reference);
    let known = ctx.clients.checked_at(connection).filter(|_| connection.is_observed());
    let rest = known.and_then(|at| CHECK_AGAIN.checked_sub(at.elapsed()));
    if let (Some(rest), false) = (rest, changed) {
        return Ok(Outcome::Untouched(Some(rest)));
    }
    let Ingredients { config, inputs } = gather(connection, ctx).await?;
    let existing = ctx.clients.existing(connection, &inputs);
    if let (Some(rest), Some(_)) = (rest, &existing) {
        return Ok(Outcome::Untouched(Some(rest)));
    }
    let client = if let Some(client) = existing {
        client
    } else {
        let client = Client::with_observer(config, Arc::new(ctx.metrics.clone()))?;
        listen_for_found(&client, connection, ctx);
        ctx.clients.put(connection, inputs.clone(), client.clone());
        client
    };
    let who = client.whoami().await.inspect_err(|error| ctx.clients.check_failed(connection, error))?;
    let version = server_version(connection, &client).await;
    if ctx.clients.works(connection, &who.username) {
        wake_users_of(connection, ctx);
    }
    if connection.spec.url.starts_with("http://") && !connection.is_observed() {
        let note = format!("{} is plain http: secrets cross the network unencrypted", connection.spec.url);
        ctx.events.publish(connection, EventType::Warning, Reason::InsecureConnection, "Connect", note);
    }
    let mut fields = Map::new();
    fields.insert("identity".into(), who.username.clone().into());
    fields.insert("observedInputs".into(), inputs.into());
    fields.insert("serverVersion".into(), version.into());
    let message = format!("connected to {} as {}", connection.spec.url, who.username);
    Ok(Outcome::Done {
        again: Some(CHECK_AGAIN),
        reason: Reason::Connected,
        message,
        fields,
        lane: Lane::Foreground,
    })
}

/// The server's version: asked where it is not known yet, or the connection was not Ready; else as it was.
async fn server_version(connection: &ConjurConnection, client: &Client) -> Option<String> {
    let (_, conditions) = connection.conditions();
    let known = connection.status.as_ref().and_then(|s| s.server_version.clone());
    if known.is_some() && connection.is_observed() && crate::api::condition::is_true(conditions, "Ready") {
        return known;
    }
    // Servers may hide it, and it is for people only.
    client.server_version().await.ok().flatten()
}

fn fail(connection: &ConjurConnection, failure: Failure, ctx: &Context) -> Trouble {
    let (again, news) = ctx.clients.fails(connection, &failure);
    if news {
        // Those who wait for it say why; the others find nothing due.
        wake_users_of(connection, ctx);
    }
    let class = match failure.reason {
        // The user must act, and the server may be mended without us noticing: it is tried again all the same.
        Reason::AuthenticationFailed | Reason::TlsFailed => Class::Stalled,
        _ if failure.class == Class::Connection => Class::Transient,
        _ => failure.class,
    };
    if failure.class == Class::Connection {
        let (wakeups, reference) = (ctx.wakeups.clone(), connection_ref(connection));
        tokio::spawn(async move {
            tokio::time::sleep(again).await;
            wakeups.connection(reference);
        });
    }
    let message = match failure.reason {
        Reason::TlsFailed => {
            format!(
                "{}; correct spec.tls (caBundle or caBundleFrom), spec.url or the server",
                failure.message
            )
        }
        _ => failure.message,
    };
    Trouble { failure: Failure { class, message, ..failure }, asked: true, fields: Map::new() }
}

fn wake_users_of(connection: &ConjurConnection, ctx: &Context) {
    wake_users(&connection.namespace().unwrap_or_default(), &connection.name_any(), ctx);
}

/// Wakes every object that uses a connection: those that wait for it go on, the others find nothing due.
fn wake_users(namespace: &str, name: &str, ctx: &Context) {
    for secret in ctx.secrets.state() {
        if let Ok(s) = &secret.0
            && s.namespace().as_deref() == Some(namespace)
            && s.spec.connection_ref.name == name
        {
            ctx.wakeups.secret(kube::runtime::reflector::ObjectRef::from_obj(secret.as_ref()));
        }
    }
    for policy in ctx.policies.state() {
        if let Ok(p) = &policy.0
            && p.namespace().as_deref() == Some(namespace)
            && p.spec.connection_ref.name == name
        {
            ctx.wakeups.policy(kube::runtime::reflector::ObjectRef::from_obj(policy.as_ref()));
        }
    }
}

/// Wakes the objects that name a variable which was missing or forbidden and can be read now.
fn listen_for_found(client: &Client, connection: &ConjurConnection, ctx: &Context) {
    let mut found = client.bad_ids_found();
    let (secrets, wakeups, memory) = (ctx.secrets.clone(), ctx.wakeups.clone(), ctx.memory.clone());
    let (namespace, name) = (connection.namespace().unwrap_or_default(), connection.name_any());
    // Ends when the client does: the channel is its own.
    tokio::spawn(async move {
        while let Some(ids) = found.recv().await {
            let ids: std::collections::HashSet<_> = ids.iter().map(|w| w.id.as_str()).collect();
            for secret in secrets.state() {
                if let Ok(s) = &secret.0
                    && s.namespace().as_deref() == Some(&namespace)
                    && s.spec.connection_ref.name == name
                    && s.spec.data.iter().any(|entry| ids.contains(entry.variable.as_str()))
                {
                    // Where it was optional, the object is Ready, and would wait for its next slot.
                    memory.reopen_slot(&Key::of(s));
                    wakeups.secret(kube::runtime::reflector::ObjectRef::from_obj(secret.as_ref()));
                }
            }
        }
    });
}

fn referred(connection: &ConjurConnection) -> Vec<Input> {
    let namespace = connection.namespace().unwrap_or_default();
    let mut inputs = Vec::new();
    if let Some(auth) = &connection.spec.auth.api_key {
        inputs.push(Input::secret(&namespace, &auth.api_key_secret_ref.name));
        inputs.extend(auth.login_secret_ref.iter().map(|r| Input::secret(&namespace, &r.name)));
    }
    let bundle = connection.spec.tls.as_ref().and_then(|t| t.ca_bundle_from.as_ref());
    inputs.extend(bundle.map(|b| Input::bundle(b.kind, &namespace, &b.name)));
    inputs.sort();
    inputs.dedup();
    inputs
}

async fn gather(connection: &ConjurConnection, ctx: &Context) -> Result<Ingredients, Failure> {
    let namespace = connection.namespace().unwrap_or_default();
    let spec = &connection.spec;
    let Some(auth) = &spec.auth.api_key else {
        return Err(Failure::stalled(Reason::InvalidSpec, "spec.auth says no way to log in: set apiKey"));
    };
    let url = Url::parse(&spec.url)
        .map_err(|e| Failure::stalled(Reason::InvalidSpec, format!("spec.url is no address: {e}")))?;
    let mut sources = Vec::new();
    let credentials = api_key(auth, &namespace, &mut sources, ctx).await?;
    let mut config = Config::new(url, &spec.account, credentials);
    let tls = spec.tls.clone().unwrap_or_default();
    config.ca_bundle = match (&tls.ca_bundle, &tls.ca_bundle_from) {
        (Some(pem), _) => Some(pem.clone().into_bytes()),
        (None, Some(from)) => Some(bundle(from, &namespace, &mut sources, ctx).await?),
        (None, None) => None,
    };
    let inputs = inputs::hash(sources.iter().map(String::as_str));
    Ok(Ingredients { config, inputs })
}

async fn api_key(
    auth: &ApiKeyAuth,
    namespace: &str,
    sources: &mut Vec<String>,
    ctx: &Context,
) -> Result<Credentials, Failure> {
    let login = match (&auth.login, &auth.login_secret_ref) {
        (Some(login), _) => login.clone(),
        (None, Some(from)) => secret_text(from, namespace, sources, ctx).await?.expose().clone(),
        (None, None) => {
            return Err(Failure::stalled(
                Reason::InvalidSpec,
                "set spec.auth.apiKey.login or loginSecretRef",
            ));
        }
    };
    let api_key = secret_text(&auth.api_key_secret_ref, namespace, sources, ctx).await?;
    Ok(Credentials::ApiKey { login, api_key })
}

/// A text from a Secret's key, without the newline that editors and `echo` leave at its end: Conjur would take it
/// for a part of the key.
async fn secret_text(
    from: &SecretKeyRef,
    namespace: &str,
    sources: &mut Vec<String>,
    ctx: &Context,
) -> Result<Sensitive<String>, Failure> {
    let what = format!("Secret {namespace}/{}", from.name);
    let secret = ctx.cluster.read_secret(namespace, &from.name).await?.ok_or_else(|| missing(&what, None))?;
    sources.push(source(&secret.metadata));
    let mut data = secret.data.unwrap_or_default();
    let bytes = data.remove(&from.key).map(|b| Sensitive::new(b.0));
    for rest in data.values_mut() {
        zeroize::Zeroize::zeroize(&mut rest.0);
    }
    let bytes = bytes.ok_or_else(|| missing(&what, Some(&from.key)))?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| {
        Failure::stalled(Reason::InvalidSpec, format!("key '{}' of {what} is not text", from.key))
    })?;
    Ok(Sensitive::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

async fn bundle(
    from: &BundleRef,
    namespace: &str,
    sources: &mut Vec<String>,
    ctx: &Context,
) -> Result<Vec<u8>, Failure> {
    match from.kind {
        BundleKind::Secret => {
            let reference = SecretKeyRef { name: from.name.clone(), key: from.key.clone() };
            let text = secret_text(&reference, namespace, sources, ctx).await?;
            Ok(text.expose().clone().into_bytes())
        }
        BundleKind::ConfigMap => {
            let what = format!("ConfigMap {namespace}/{}", from.name);
            let map = ctx.cluster.read_config_map(namespace, &from.name).await?;
            let map = map.ok_or_else(|| missing(&what, None))?;
            sources.push(source(&map.metadata));
            let text = map.data.and_then(|mut d| d.remove(&from.key)).map(String::into_bytes);
            let bytes = text.or_else(|| map.binary_data.and_then(|mut d| d.remove(&from.key)).map(|b| b.0));
            bytes.ok_or_else(|| missing(&what, Some(&from.key)))
        }
    }
}

fn source(meta: &ObjectMeta) -> String {
    format!(
        "{}/{}",
        meta.uid.as_deref().unwrap_or_default(),
        meta.resource_version.as_deref().unwrap_or_default()
    )
}

fn missing(what: &str, key: Option<&str>) -> Failure {
    let message = match key {
        None => format!("{what} does not exist; create it, or correct the reference in the spec"),
        Some(key) => format!("{what} has no key '{key}'; add it, or correct the reference in the spec"),
    };
    Failure::waiting(Reason::CredentialsNotFound, super::failure::LOOK_AGAIN, message)
}
