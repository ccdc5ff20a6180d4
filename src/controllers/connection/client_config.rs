//! What a client is made of, read from the cluster.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use url::Url;

use super::view::ConnectionView;
use crate::{
    api::{
        Reason, SourceKind,
        connection::{
            ApiKeyAuth, BundleRef, JwtAuth, LimitsSpec, SecretKeyRef, SecretRef, ServiceAccountRef,
        },
        duration::GoDuration,
    },
    cluster::{self, Cluster},
    conjur::{self, ClientIdentity, Config, Credentials, Limits, address},
    controllers::{Context, dependencies::Dependency},
    plan::{
        Failure, LOOK_AGAIN,
        connection::{audience, ingredients::Ingredient},
        hash,
    },
    sensitive::Sensitive,
};

/// What a client is made of.
pub struct ClientInputs {
    /// The client's configuration.
    pub config: Config,
    /// A hash over where it came from.
    pub inputs: String,
}

/// All Secrets, ConfigMaps and ServiceAccounts that a connection refers to.
pub fn referred(facts: &ConnectionView) -> Vec<Dependency> {
    let (auth, tls) = (&facts.settings.auth, &facts.settings.tls);
    let at = |given: &Option<String>| facts.namespace_of(given.as_deref()).to_owned();
    let key = |r: &SecretKeyRef| Dependency::secret(&at(&r.namespace), &r.name);
    let secret = |r: &SecretRef| Dependency::secret(&at(&r.namespace), &r.name);
    let mut inputs = Vec::new();
    if let Some(auth) = &auth.api_key {
        inputs.push(key(&auth.api_key_secret_ref));
        inputs.extend(auth.login_secret_ref.iter().map(key));
    }
    inputs.extend(auth.password.iter().map(|p| key(&p.password_secret_ref)));
    inputs.extend(auth.certificate.iter().map(|c| secret(&c.certificate_secret_ref)));
    inputs.extend(tls.client_certificate_secret_ref.iter().map(secret));
    inputs.extend(auth.jwt.iter().filter(|_| facts.tenant.is_some() || !facts.has_tenants()).map(|jwt| {
        let account = &jwt.service_account_ref;
        Dependency::service_account(&at(&account.namespace), &account.name)
    }));
    inputs.extend(tls.ca_bundle_from.iter().map(|b| Dependency::bundle(b.kind, &at(&b.namespace), &b.name)));
    inputs.sort();
    inputs.dedup();
    inputs
}

/// Reads all that a client is made of.
///
/// # Errors
/// `CredentialsNotFound`, naming what is missing; `InvalidSpec`; the API server's.
pub async fn gather(facts: &ConnectionView, ctx: &Context) -> Result<ClientInputs, Failure> {
    let settings = &facts.settings;
    let url = address::base(&settings.url).map_err(|error| {
        Failure::stalled(
            Reason::InvalidSpec,
            format!("spec.url: {error}, such as https://conjur.example.com"),
        )
    })?;
    let reach = match facts.access {
        None => Some(ctx.reach.of_party(&facts.id.namespace)),
        // Of administrators, who may lead it anywhere.
        Some(_) => None,
    };
    if let Some(reach) = &reach {
        reach.check_base(&url)?;
    }
    let mut reader = InputReader { facts, ctx, sources: Vec::new(), shown_login: None };
    let credentials = reader.credentials(&url).await?;
    let mut config = Config::new(url, &settings.account, credentials);
    config.shown_login = reader.shown_login.take();
    config.reach = reach;
    config.ca_bundle = match (&settings.tls.ca_bundle, &settings.tls.ca_bundle_from) {
        (Some(pem), _) => {
            Ingredient::CaBundle.check("spec.tls.caBundle", pem.len())?;
            Some(pem.as_bytes().to_vec())
        }
        (None, Some(from)) => Some(reader.bundle(from).await?),
        (None, None) => None,
    };
    if let Some(from) = &settings.tls.client_certificate_secret_ref {
        config.client_identity = Some(reader.identity(from).await?);
    }
    config.token_refresh_interval = settings.token_refresh_interval;
    config.limits = limits(&settings.limits);
    config.party = facts.party().into();
    let inputs = hash::hash(reader.sources.iter().map(String::as_str));
    Ok(ClientInputs { config, inputs })
}

fn limits(spec: &LimitsSpec) -> Limits {
    let default = Limits::default();
    let duration =
        |given: &Option<GoDuration>, default: Duration| given.as_ref().map_or(default, GoDuration::get);
    Limits {
        max_connections: spec.max_connections.map_or(default.max_connections, usize::from),
        requests_per_second: spec.requests_per_second.unwrap_or(default.requests_per_second),
        batch_size: spec.batch_size.map_or(default.batch_size, usize::from),
        batch_bytes: spec.batch_bytes.map_or(default.batch_bytes, usize::from),
        timeout: duration(&spec.timeout, default.timeout),
        policy_timeout: duration(&spec.policy_timeout, default.policy_timeout),
    }
}

/// Reads, and remembers what it read from.
struct InputReader<'a> {
    facts: &'a ConnectionView,
    ctx: &'a Context,
    sources: Vec<String>,
    /// What messages say in place of a login that came from a Secret.
    shown_login: Option<String>,
}

impl InputReader<'_> {
    async fn credentials(&mut self, url: &Url) -> Result<Credentials, Failure> {
        let auth = &self.facts.settings.auth;
        if let Some(auth) = &auth.api_key {
            self.api_key(auth).await
        } else if let Some(auth) = &auth.password {
            let password = self.text(&auth.password_secret_ref).await?;
            Ok(Credentials::Password { login: auth.login.clone(), password })
        } else if let Some(auth) = &auth.jwt {
            self.jwt(auth, url).await
        } else if let Some(auth) = &auth.certificate {
            let identity = self.identity(&auth.certificate_secret_ref).await?;
            let (service_id, host_id) = (auth.service_id.clone(), auth.host_id.clone());
            Ok(Credentials::Certificate { service_id, host_id, identity })
        } else {
            let message = "spec.auth says no way to log in: set apiKey, password, jwt or certificate";
            Err(Failure::stalled(Reason::InvalidSpec, message))
        }
    }

    async fn api_key(&mut self, auth: &ApiKeyAuth) -> Result<Credentials, Failure> {
        let login = match (&auth.login, &auth.login_secret_ref) {
            (Some(login), _) => login.clone(),
            (None, Some(from)) => {
                let namespace = self.facts.namespace_of(from.namespace.as_deref());
                self.shown_login = Some(format!("key {} of Secret {namespace}/{}", from.key, from.name));
                self.text(from).await?.expose().clone()
            }
            (None, None) => {
                let message = "set spec.auth.apiKey.login or loginSecretRef";
                return Err(Failure::stalled(Reason::InvalidSpec, message));
            }
        };
        Ok(Credentials::ApiKey { login, api_key: self.text(&auth.api_key_secret_ref).await? })
    }

    async fn jwt(&mut self, auth: &JwtAuth, url: &Url) -> Result<Credentials, Failure> {
        if self.facts.has_tenants() && self.facts.tenant.is_none() {
            return Ok(Credentials::Anonymous);
        }
        if url.scheme() != "https" && !self.ctx.reach.is_allowed_loopback(url) {
            let message = "spec.url: the token of a ServiceAccount is sent over https only";
            return Err(Failure::stalled(Reason::InvalidSpec, message));
        }
        let account = &auth.service_account_ref;
        if self.facts.access.is_none() {
            audience::check_allowed(&account.audiences, &self.ctx.audiences.allowed)?;
        }
        let namespace = self.facts.namespace_of(account.namespace.as_deref()).to_owned();
        let not_there = |error| match error {
            cluster::Error::NotFound(_) => Failure::waiting(
                Reason::CredentialsNotFound,
                LOOK_AGAIN,
                format!(
                    "ServiceAccount {namespace}/{} does not exist; create it, or correct the reference",
                    account.name
                ),
            ),
            error => Failure::from(error),
        };
        let (cluster, audiences) = (&self.ctx.cluster, &account.audiences);
        let own = self.ctx.audiences.get(cluster, &namespace, &account.name).await.map_err(not_there)?;
        audience::check(audiences, &own)?;
        // Whether there is a token to be had shows here, and not as a login that fails.
        let token = cluster.request_token(&namespace, &account.name, audiences).await.map_err(not_there)?;
        check_token(&namespace, &account.name, &token)?;
        self.sources.push(format!("{namespace}/{}", account.name));
        Ok(Credentials::Jwt {
            service_id: auth.service_id.clone(),
            host_id: auth.host_id.clone(),
            source: Arc::new(token_source(self.ctx.cluster.clone(), namespace, account.clone())),
        })
    }

    /// What one logs in with, from a Secret's key.
    async fn text(&mut self, from: &SecretKeyRef) -> Result<Sensitive<String>, Failure> {
        let [bytes] =
            self.keys(SourceKind::Secret, from.namespace.as_deref(), &from.name, [&from.key]).await?;
        let namespace = self.facts.namespace_of(from.namespace.as_deref());
        credential(&format!("key '{}' of Secret {namespace}/{}", from.key, from.name), &bytes)
    }

    /// Certificate and key of a Secret of type kubernetes.io/tls.
    async fn identity(&mut self, from: &SecretRef) -> Result<ClientIdentity, Failure> {
        let [certificate, key] = self
            .keys(SourceKind::Secret, from.namespace.as_deref(), &from.name, ["tls.crt", "tls.key"])
            .await?;
        let namespace = self.facts.namespace_of(from.namespace.as_deref());
        let what = format!("tls.crt and tls.key of Secret {namespace}/{}", from.name);
        Ingredient::ClientCertificate.check(&what, certificate.expose().len() + key.expose().len())?;
        Ok(ClientIdentity { certificate: certificate.expose().clone(), key })
    }

    async fn keys<const N: usize>(
        &mut self,
        kind: SourceKind,
        namespace: Option<&str>,
        name: &str,
        keys: [&str; N],
    ) -> Result<[Sensitive<Vec<u8>>; N], Failure> {
        let namespace = self.facts.namespace_of(namespace);
        let what = format!("{kind:?} {namespace}/{name}");
        let bundle = self.ctx.cluster.read_keys(kind, namespace, name, keys).await?;
        let mut bundle = bundle.ok_or_else(|| missing(&what, None))?;
        self.sources.push(source(&bundle.metadata));
        let found = keys.map(|key| bundle.keys.remove(key));
        if let Some(at) = found.iter().position(Option::is_none) {
            return Err(missing(&what, Some(keys[at])));
        }
        Ok(found.map(|bytes| bytes.unwrap_or_else(|| Sensitive::new(Vec::new()))))
    }

    async fn bundle(&mut self, from: &BundleRef) -> Result<Vec<u8>, Failure> {
        let [bytes] = self.keys(from.kind, from.namespace.as_deref(), &from.name, [&from.key]).await?;
        let namespace = self.facts.namespace_of(from.namespace.as_deref());
        let what = format!("key '{}' of {:?} {namespace}/{}", from.key, from.kind, from.name);
        Ingredient::CaBundle.check(&what, bytes.expose().len())?;
        Ok(bytes.expose().clone())
    }
}

/// A text from a Secret's key, without the newline that editors and `echo` leave at its end: Conjur would take it for a part
/// of the key.
///
/// # Errors
/// `InvalidSpec`, naming where it lies.
pub fn credential(what: &str, bytes: &Sensitive<Vec<u8>>) -> Result<Sensitive<String>, Failure> {
    Ingredient::Credential.check(what, bytes.expose().len())?;
    let text = std::str::from_utf8(bytes.expose())
        .map_err(|_| Failure::stalled(Reason::InvalidSpec, format!("{what} is not text")))?;
    Ok(Sensitive::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn check_token(namespace: &str, account: &str, token: &Sensitive<String>) -> Result<(), Failure> {
    let what = format!("the token of ServiceAccount {namespace}/{account}");
    Ingredient::Credential.check(&what, token.expose().len())
}

/// Asks the API server for a new token each time that Conjur is to give one, which is every few minutes.
fn token_source(cluster: Cluster, namespace: String, account: ServiceAccountRef) -> impl conjur::JwtSource {
    move || {
        let (cluster, namespace, account) = (cluster.clone(), namespace.clone(), account.clone());
        async move {
            let token = cluster.request_token(&namespace, &account.name, &account.audiences).await;
            let token = token.map_err(|error| match error {
                cluster::Error::NotFound(message) | cluster::Error::Invalid(message) => {
                    conjur::Error::config(message)
                }
                error => conjur::Error::unavailable(error.to_string()).because(error),
            })?;
            check_token(&namespace, &account.name, &token)
                .map_err(|failure| conjur::Error::config(failure.message))?;
            Ok(token)
        }
        .boxed()
    }
}

fn source(meta: &ObjectMeta) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", text(&meta.uid), text(&meta.resource_version))
}

fn missing(what: &str, key: Option<&str>) -> Failure {
    let message = match key {
        None => format!("{what} does not exist; create it, or correct the reference in the spec"),
        Some(key) => format!("{what} has no key '{key}'; add it, or correct the reference in the spec"),
    };
    Failure::waiting(Reason::CredentialsNotFound, LOOK_AGAIN, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn a_key_that_is_no_key_is_refused_by_its_reference_and_never_shown() {
        let read = |text: String| credential("key 'k' of Secret n/s", &Sensitive::new(text.into_bytes()));
        assert_eq!(read("alice\r\n".into()).unwrap().expose(), "alice");
        let most = read("x".repeat(limits::CREDENTIAL_BYTES));
        assert_eq!(most.unwrap().expose().len(), limits::CREDENTIAL_BYTES);
        let told = read("x".repeat(limits::CREDENTIAL_BYTES + 1)).map(drop).expect_err("a refusal").message;
        assert!(told.starts_with("key 'k' of Secret n/s: 17 KiB") && !told.contains("xx"), "{told}");
        let token = Sensitive::new("y".repeat(limits::CREDENTIAL_BYTES + 1));
        let told = check_token("n", "app", &token).expect_err("a refusal").message;
        assert!(told.starts_with("the token of ServiceAccount n/app: 17 KiB"), "{told}");
    }
}
