//! The development Conjur as a process, and what an administrator does there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::pki::Authority;
use crate::process::{Folder, Process, Program};
use crate::{Result, wait_for};

/// A running development Conjur, reached over HTTPS as its `admin`. Dropping it ends it.
#[derive(Debug)]
pub struct DevConjur {
    process: Process,
    ready: Ready,
    authority: String,
    http: reqwest::Client,
}

/// What the server tells when it is ready.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    url: String,
    account: String,
    admin_key: String,
}

impl DevConjur {
    /// Starts `binary` for `account`, with a certificate of an authority made for it, and waits until it is ready.
    pub async fn start(binary: impl Into<PathBuf>, folder: &Folder, account: &str) -> Result<Self> {
        Self::start_at("127.0.0.1", binary, folder, account).await
    }

    /// The same on another address of this machine.
    pub async fn start_at(
        address: &str,
        binary: impl Into<PathBuf>,
        folder: &Folder,
        account: &str,
    ) -> Result<Self> {
        let authority = Authority::new("testbed Conjur")?;
        let identity = authority.issue(&[address, "127.0.0.1", "localhost"])?;
        let certificate = folder.write("conjur.crt", identity.certificate)?;
        let key = folder.write("conjur.key", identity.key)?;
        folder.write("conjur-ca.crt", authority.certificate())?;
        let ready_file = folder.path().join("conjur-ready.json");
        // An earlier one in this folder may have left its own.
        let _ = std::fs::remove_file(&ready_file);
        let program = Program {
            name: "conjur-dev".to_owned(),
            path: std::path::absolute(binary.into()).context("the development Conjur's binary")?,
            args: vec![
                format!("--listen={address}:0"),
                format!("--tls-cert={}", certificate.display()),
                format!("--tls-key={}", key.display()),
                format!("--account={account}"),
                format!("--ready-file={}", ready_file.display()),
            ],
            env: vec![],
            last_signal: "TERM",
        };
        let process = Process::start(folder, &program)?;
        let told =
            || std::fs::read(&ready_file).ok().and_then(|text| serde_json::from_slice::<Ready>(&text).ok());
        process.ready(Duration::from_secs(30), async || told().is_some()).await?;
        let ready = told().context("the development Conjur's ready file is gone")?;
        let root = reqwest::Certificate::from_pem(authority.certificate().as_bytes())?;
        let http = reqwest::Client::builder()
            .tls_certs_only([root])
            .no_proxy()
            .timeout(Duration::from_secs(120))
            .build()?;
        let conjur = Self { process, ready, authority: authority.certificate(), http };
        wait_for("Conjur lets its admin in", Duration::from_secs(10), async || conjur.token().await.ok())
            .await?;
        Ok(conjur)
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.ready.url
    }

    /// The account it serves.
    pub fn account(&self) -> &str {
        &self.ready.account
    }

    /// The API key of the user `admin`.
    pub fn admin_key(&self) -> &str {
        &self.ready.admin_key
    }

    /// The certificate of its authority, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Adds a document to a branch's policy, and gives the answer with its `created_roles`.
    pub async fn load_policy(&self, branch: &str, document: &str) -> Result<Value> {
        let path = format!("policies/{}/policy/{}", self.account(), segment(branch));
        let answer = self.call(Method::POST, &path, document).await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Gives a variable a value.
    pub async fn set(&self, variable: &str, value: &str) -> Result<()> {
        let path = format!("secrets/{}/variable/{}", self.account(), segment(variable));
        self.call(Method::POST, &path, value).await.map(drop)
    }

    /// The value of a variable.
    pub async fn get(&self, variable: &str) -> Result<String> {
        let path = format!("secrets/{}/variable/{}", self.account(), segment(variable));
        Ok(self.call(Method::GET, &path, "").await?.text().await?)
    }

    /// One of the development server's own controls: `POST /_dev/{control}` with JSON, or `GET` and `DELETE` without.
    /// Gives what it answers.
    pub async fn control(&self, method: Method, control: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}/_dev/{control}", self.url());
        let mut request = self.http.request(method.clone(), &url);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await?;
        let (status, bytes) = (answer.status(), answer.bytes().await?);
        if !status.is_success() {
            bail!("{method} {url}: {status} {}", String::from_utf8_lossy(&bytes));
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// A record as its owner is shown it, what it is a member of, and how often its value was changed or its key replaced:
    /// `{shown, memberships, versions, keyGeneration}`. `None` where it is not there. No request is counted.
    pub async fn record(&self, kind: &str, id: &str) -> Result<Option<Value>> {
        let url = format!("{}/_dev/records?kind={kind}&id={}", self.url(), segment(id));
        let answer = self.http.get(&url).send().await?;
        if answer.status().as_u16() == 404 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?))
    }

    /// How many loads of a branch (`root`, `app/web`) there were.
    pub async fn loads(&self, branch: &str) -> Result<u64> {
        let all = self.control(Method::GET, "loads", None).await?;
        Ok(all[branch].as_u64().unwrap_or_default())
    }

    /// Whether a login gets in with an API key.
    pub async fn lets_in(&self, login: &str, api_key: &str) -> Result<bool> {
        Ok(self.authenticate(login, api_key).await?.status().is_success())
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> Result<Response> {
        let url = format!("{}/{path}", self.url());
        let answer = self
            .http
            .request(method.clone(), &url)
            .header("Authorization", format!("Token token=\"{}\"", self.token().await?))
            .header("Content-Type", "application/octet-stream")
            .body(body.to_owned())
            .send()
            .await?;
        if !answer.status().is_success() {
            let status = answer.status();
            bail!("{method} {url}: {status} {}", answer.text().await.unwrap_or_default());
        }
        Ok(answer)
    }

    async fn token(&self) -> Result<String> {
        let answer = self.authenticate("admin", self.admin_key()).await?.error_for_status()?;
        Ok(BASE64.encode(answer.bytes().await?))
    }

    async fn authenticate(&self, login: &str, api_key: &str) -> Result<Response> {
        let url = format!("{}/authn/{}/{}/authenticate", self.url(), self.account(), segment(login));
        Ok(self.http.post(&url).body(api_key.to_owned()).send().await?)
    }
}

/// An id or login as one segment of a path.
fn segment(id: &str) -> String {
    id.replace('%', "%25").replace('/', "%2F")
}
