//! A client of Conjur as a connection of the cluster has it, or as the environment says. What is secret is read as the user who
//! runs the program may read it.

use std::env;

use conjur_client::{Client, ClientIdentity, Config, Credentials, address, sensitive::Sensitive};
use conjur_operator::seams::{audience, check};
use conjur_operator_api::{ClusterConjurConnectionSpec, ConjurConnectionSpec, connection::Settings};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Secret, ServiceAccount},
};
use kube::{Api, api::PostParams};
use serde_json::Value;

use crate::{
    Error,
    cluster::{Cluster, Kind, Seen, api_error},
};

/// Whom to ask, and as who.
pub struct Conjur {
    pub client: Client,
    pub config: Config,
    /// Where it comes from: `cjc/conjur`, or the environment.
    pub from: String,
}

impl Conjur {
    /// As a connection says.
    ///
    /// # Errors
    /// What is missing, or may not be read.
    pub async fn of_connection(cluster: &Cluster, connection: &Seen, user: &str) -> Result<Self, Error> {
        let config = ConnectionReader { cluster, connection, user }.config().await?;
        Self::of(config, connection.short_name())
    }

    /// As variables of the environment say: `CONJUR_*`, and those of LiteLLM, `CYBERARK_*`.
    ///
    /// # Errors
    /// What is missing.
    pub fn of_environment() -> Result<Self, Error> {
        Self::of(
            from_environment(&|name| env::var(name).ok().filter(|text| !text.is_empty()))?,
            "the environment".into(),
        )
    }

    fn of(config: Config, from: String) -> Result<Self, Error> {
        let client = Client::new(config.clone()).map_err(|error| Error::new(format!("{from}: {error}")))?;
        Ok(Self { client, config, from })
    }

    /// The same server, without an identity.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn anonymous(&self) -> Result<Client, conjur_client::Error> {
        Client::new(Config { credentials: Credentials::Anonymous, ..self.config.clone() })
    }
}

fn base(url: &str) -> Result<url::Url, Error> {
    address::base(url).map_err(|error| Error::new(format!("the URL can't be used: {error}")))
}

fn from_environment(get: &dyn Fn(&str) -> Option<String>) -> Result<Config, Error> {
    let first = |names: &[&str]| names.iter().find_map(|name| get(name));
    let needs = |names: &[&str]| {
        first(names).ok_or_else(|| {
            Error::new(format!("set {} in the environment, or name a connection", names.join(" or ")))
        })
    };
    let url = needs(&["CONJUR_APPLIANCE_URL", "CYBERARK_API_BASE"])?;
    let account = needs(&["CONJUR_ACCOUNT", "CYBERARK_ACCOUNT"])?;
    let login = needs(&["CONJUR_AUTHN_LOGIN", "CYBERARK_USERNAME"])?;
    // LiteLLM puts it into the URL as it is, so that its users write it encoded.
    let login = login.replace("%2F", "/").replace("%2f", "/");
    let api_key = Sensitive::new(needs(&["CONJUR_AUTHN_API_KEY", "CYBERARK_API_KEY"])?);
    let mut config = Config::new(base(&url)?, account, Credentials::ApiKey { login, api_key });
    config.ca_bundle = match (get("CONJUR_SSL_CERTIFICATE"), first(&["CONJUR_CERT_FILE", "SSL_CERT_FILE"])) {
        (Some(pem), _) => Some(pem.into_bytes()),
        (None, Some(path)) => {
            Some(std::fs::read(&path).map_err(|error| Error::new(format!("{path} can't be read: {error}")))?)
        }
        (None, None) => None,
    };
    Ok(config)
}

/// Reads what a connection refers to.
struct ConnectionReader<'a> {
    cluster: &'a Cluster,
    connection: &'a Seen,
    /// The namespace of the object that uses the connection.
    user: &'a str,
}

impl ConnectionReader<'_> {
    async fn config(&self) -> Result<Config, Error> {
        let spec = self.connection.spec();
        self.check()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let credentials = self.credentials(&spec["auth"]).await?;
        let mut config = Config::new(base(&text(&spec["url"]))?, text(&spec["account"]), credentials);
        config.ca_bundle = self.ca_bundle(&spec["tls"]).await?;
        let certificate = &spec["tls"]["clientCertificateSecretRef"];
        if certificate.is_object() {
            config.client_identity = Some(self.certificate(certificate).await?);
        }
        Ok(config)
    }

    /// Refuses what the operator would, before anything that is secret is read and sent somewhere.
    fn check(&self) -> Result<(), Error> {
        let spec = self.connection.spec().clone();
        let wrong =
            |error: serde_json::Error| Error::new(format!("{}: {error}", self.connection.short_name()));
        let refused = if self.connection.kind == Kind::ClusterConnection {
            let spec: ClusterConjurConnectionSpec = serde_json::from_value(spec).map_err(wrong)?;
            check(&Settings::from(&spec), Some(&spec.access.clone().unwrap_or_default()))
        } else {
            let spec: ConjurConnectionSpec = serde_json::from_value(spec).map_err(wrong)?;
            check(&Settings::from(&spec), None)
        };
        refused.map_err(|failure| Error::new(failure.message))
    }

    /// The namespace of a reference: its own, or the connection's; of the user where neither has one.
    fn namespace<'r>(&'r self, reference: &'r Value) -> &'r str {
        let own = Some(self.connection.namespace()).filter(|namespace| !namespace.is_empty());
        own.or(reference["namespace"].as_str()).unwrap_or(self.user)
    }

    async fn credentials(&self, auth: &Value) -> Result<Credentials, Error> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (key, password) = (&auth["apiKey"], &auth["password"]);
        if key.is_object() {
            let login = match text(&key["login"]) {
                Some(login) => login,
                None => line(&self.secret_key(&key["loginSecretRef"]).await?),
            };
            let api_key = Sensitive::new(line(&self.secret_key(&key["apiKeySecretRef"]).await?));
            return Ok(Credentials::ApiKey { login, api_key });
        }
        if password.is_object() {
            let secret = Sensitive::new(line(&self.secret_key(&password["passwordSecretRef"]).await?));
            let login = text(&password["login"]).unwrap_or_default();
            return Ok(Credentials::Password { login, password: secret });
        }
        let host_id = |of: &Value| text(&of["hostID"]);
        let jwt = &auth["jwt"];
        if jwt.is_object() {
            let is_safe =
                self.connection.spec()["url"].as_str().is_some_and(|url| url.starts_with("https://"));
            if !is_safe {
                return Err(Error::new("spec.url: the token of a ServiceAccount is sent over https only"));
            }
            let token = self.token(&jwt["serviceAccountRef"]).await?;
            let source = std::sync::Arc::new(move || std::future::ready(Ok(token.clone())));
            let service_id = text(&jwt["serviceID"]).unwrap_or_default();
            return Ok(Credentials::Jwt { service_id, host_id: host_id(jwt), source });
        }
        let certificate = &auth["certificate"];
        let identity = self.certificate(&certificate["certificateSecretRef"]).await?;
        let service_id = text(&certificate["serviceID"]).unwrap_or_default();
        Ok(Credentials::Certificate { service_id, host_id: host_id(certificate), identity })
    }

    async fn secret(&self, reference: &Value) -> Result<(String, Secret), Error> {
        let (namespace, name) = (self.namespace(reference), reference["name"].as_str().unwrap_or_default());
        let api = Api::<Secret>::namespaced(self.cluster.client.clone(), namespace);
        let what = format!("Secret {namespace}/{name}");
        let read = api.get_opt(name).await.map_err(|error| api_error(&format!("read {what}"), &error))?;
        let secret = read.ok_or_else(|| {
            let connection = self.connection.short_name();
            Error::new(format!("{what} does not exist; create it, or correct the reference in {connection}"))
        })?;
        Ok((what, secret))
    }

    async fn secret_key(&self, reference: &Value) -> Result<Vec<u8>, Error> {
        let (what, secret) = self.secret(reference).await?;
        key(&what, &secret, reference["key"].as_str().unwrap_or_default())
    }

    async fn certificate(&self, reference: &Value) -> Result<ClientIdentity, Error> {
        let (what, secret) = self.secret(reference).await?;
        Ok(ClientIdentity {
            certificate: key(&what, &secret, "tls.crt")?,
            key: Sensitive::new(key(&what, &secret, "tls.key")?),
        })
    }

    async fn ca_bundle(&self, tls: &Value) -> Result<Option<Vec<u8>>, Error> {
        if let Some(pem) = tls["caBundle"].as_str() {
            return Ok(Some(pem.as_bytes().to_vec()));
        }
        let from = &tls["caBundleFrom"];
        if !from.is_object() {
            return Ok(None);
        }
        if from["kind"] == "Secret" {
            return Ok(Some(self.secret_key(from).await?));
        }
        let (namespace, name) = (self.namespace(from), from["name"].as_str().unwrap_or_default());
        let api = Api::<ConfigMap>::namespaced(self.cluster.client.clone(), namespace);
        let what = format!("ConfigMap {namespace}/{name}");
        let read = api.get_opt(name).await.map_err(|error| api_error(&format!("read {what}"), &error))?;
        let data = read.ok_or_else(|| {
            Error::new(format!("{what} does not exist; create it, or correct the reference"))
        })?;
        let at = from["key"].as_str().unwrap_or_default();
        let pem = data.data.unwrap_or_default().remove(at).map(String::into_bytes);
        let pem = pem.or_else(|| data.binary_data.unwrap_or_default().remove(at).map(|bytes| bytes.0));
        pem.map(Some).ok_or_else(|| Error::new(format!("{what} has no key {at}")))
    }

    /// A token for Conjur. One that the API server itself would take is never asked for: it would be a key to the cluster.
    async fn token(&self, reference: &Value) -> Result<Sensitive<String>, Error> {
        let (namespace, name) = (self.namespace(reference), reference["name"].as_str().unwrap_or_default());
        let wanted = reference["audiences"].as_array().into_iter().flatten();
        let wanted: Vec<String> = wanted.filter_map(|one| one.as_str().map(str::to_owned)).collect();
        let own = self.request(namespace, name, Vec::new()).await?;
        let own = audience::of_the_cluster(own.expose()).map_err(Error::new)?;
        audience::check(&wanted, &own).map_err(|failure| Error::new(failure.message))?;
        self.request(namespace, name, wanted).await
    }

    async fn request(
        &self,
        namespace: &str,
        name: &str,
        audiences: Vec<String>,
    ) -> Result<Sensitive<String>, Error> {
        let spec = TokenRequestSpec { audiences, expiration_seconds: Some(600), bound_object_ref: None };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let api = Api::<ServiceAccount>::namespaced(self.cluster.client.clone(), namespace);
        let answer = api.create_token_request(name, &PostParams::default(), &request).await;
        let what = format!("request a token of ServiceAccount {namespace}/{name}");
        let answer = answer.map_err(|error| api_error(&what, &error))?;
        Ok(Sensitive::new(answer.status.map(|status| status.token).unwrap_or_default()))
    }
}

fn key(what: &str, secret: &Secret, key: &str) -> Result<Vec<u8>, Error> {
    let found = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
    found.ok_or_else(|| {
        let keys: Vec<_> = secret.data.iter().flat_map(|data| data.keys().cloned()).collect();
        let has = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
        Error::new(format!("{what} has no key {key}; its keys: {has}"))
    })
}

/// A login or key, without the newline that editors put at the end of a file.
fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text).to_owned()
}

/// The connection that a person means: the one that is named, or the only one that a namespace can be meant to use.
///
/// # Errors
/// That there is none, or that there are more.
pub async fn connection(cluster: &Cluster, text: Option<&str>) -> Result<Seen, Error> {
    if let Some(text) = text {
        let found = match Kind::of(text.split('/').next().unwrap_or_default()) {
            Some(_) if text.contains('/') => cluster.find(text).await?,
            _ => match cluster.get(Kind::Connection, text).await? {
                Some(found) => found,
                None => cluster.find(&format!("{}/{text}", Kind::ClusterConnection.short())).await?,
            },
        };
        return if found.kind.is_connection() {
            Ok(found)
        } else {
            Err(Error::new(format!("{} is no connection", found.short_name())))
        };
    }
    let mut all = cluster.list(&[Kind::Connection], Some(&cluster.namespace)).await?;
    if all.is_empty() {
        all = cluster.list(&[Kind::ClusterConnection], None).await?;
    }
    match (all.pop(), all.len()) {
        (Some(one), 0) => Ok(one),
        (Some(last), _) => {
            let names: Vec<_> = all.iter().chain([&last]).map(Seen::short_name).collect();
            Err(Error::new(format!("name a connection: {}", names.join(", "))))
        }
        (None, _) => Err(Error::new(format!("namespace {} has no connection", cluster.namespace))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_either_kind_is_read_and_what_lacks_is_named() {
        let of = |all: &'static [(&str, &str)]| {
            move |name: &str| all.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let litellm = of(&[
            ("CYBERARK_API_BASE", "https://conjur.example.com"),
            ("CYBERARK_ACCOUNT", "demo"),
            ("CYBERARK_USERNAME", "host%2Flitellm%2Fproxy"),
            ("CYBERARK_API_KEY", "k"),
        ]);
        let config = from_environment(&litellm).unwrap();
        let Credentials::ApiKey { login, .. } = &config.credentials else { panic!("no key") };
        assert_eq!((login.as_str(), config.account.as_str()), ("host/litellm/proxy", "demo"));
        let error = from_environment(&of(&[("CONJUR_APPLIANCE_URL", "https://c")])).unwrap_err().to_string();
        assert!(error.contains("CONJUR_ACCOUNT or CYBERARK_ACCOUNT"), "{error}");
    }

    #[test]
    fn one_newline_at_the_end_is_none_of_a_key() {
        for text in ["key", "key\n", "key\r\n"] {
            assert_eq!(line(text.as_bytes()), "key");
        }
        assert_eq!(line(b"key\n\n"), "key\n");
    }
}
