//! etcd, kube-apiserver and kube-controller-manager as processes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Mutex, OnceCell};

use crate::api_path::Address;
use crate::audit::{self, ApiRequest, AuditMark};
use crate::pki::{self, Authority};
use crate::process::{Folder, Process, Program, free_port};
use crate::{Result, programs, wait_for};

const START: Duration = Duration::from_secs(90);

/// A running control plane. Dropping it ends it; [`ControlPlane::stop`] also waits for the end.
///
/// Where it has no node, a Pod is never run. Garbage collection learns of a new CRD within 30 s.
#[derive(Debug)]
pub struct ControlPlane {
    pub(crate) backing: Backing,
    folder: Arc<Folder>,
    programs: PathBuf,
    url: String,
    authority: String,
    admin_token: String,
}

/// The processes that it is made of.
#[derive(Debug)]
pub(crate) enum Backing {
    /// Programs of this machine; no Pods.
    Programs(Box<Programs>),
    /// All of it in namespaces of a node's own; see [`crate::node`].
    Node(Process),
}

// In the order in which they go: who calls before who answers.
#[derive(Debug)]
pub(crate) struct Programs {
    controller_manager: Process,
    api_server: Mutex<Process>,
    etcd: Process,
    api_server_program: Program,
}

impl ControlPlane {
    /// Starts one and waits until it is ready, some five seconds. Builds the programs first where they are
    /// missing, which takes minutes.
    pub async fn start() -> Result<Self> {
        let programs = programs::control_plane().await?;
        let folder = Arc::new(Folder::new()?);
        let authority = Authority::new("testbed Kubernetes")?;
        let files =
            Files::write(&folder, &authority, &["127.0.0.1", "localhost", "kubernetes.default.svc"], &[])?;

        let (etcd, etcd_port) = on_free_port(async |port| {
            let etcd = Process::start(&folder, &etcd_program(&programs, &folder, port))?;
            etcd.ready(START, async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok())
                .await?;
            Ok((etcd, port))
        })
        .await?;

        let (api_server, api_server_program, url) = on_free_port(async |port| {
            let program = api_server_program(&programs, &files, etcd_port, port);
            let url = format!("https://127.0.0.1:{port}");
            let client = client(&kubeconfig(&url, &authority.certificate(), &files.admin_token)).await?;
            let process = Process::start(&folder, &program)?;
            process.ready(START, || is_ready(client.clone())).await?;
            Ok((process, program, url))
        })
        .await?;

        let admin = kubeconfig(&url, &authority.certificate(), &files.admin_token);
        let admin_kubeconfig = folder.write("kubeconfig", admin.to_string())?;
        let program = controller_manager_program(&programs, &files, &admin_kubeconfig);
        let controller_manager = Process::start(&folder, &program)?;
        // It has no port to ask; the ServiceAccount that it puts into every namespace tells that it works.
        let accounts: Api<ServiceAccount> = Api::namespaced(client(&admin).await?, "default");
        controller_manager.ready(START, async || accounts.get("default").await.is_ok()).await?;

        let api_server = Mutex::new(api_server);
        let backing = Backing::Programs(Box::new(Programs {
            controller_manager,
            api_server,
            etcd,
            api_server_program,
        }));
        Ok(Self::assemble(backing, folder, programs, url, authority.certificate(), files.admin_token))
    }

    pub(crate) fn assemble(
        backing: Backing,
        folder: Arc<Folder>,
        programs: PathBuf,
        url: String,
        authority: String,
        admin_token: String,
    ) -> Self {
        Self { backing, folder, programs, url, authority, admin_token }
    }

    /// The one that all tests of a test program share. It ends with the program.
    ///
    /// # Panics
    /// Where it can't be started, with the reason, in every test that asks.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<std::result::Result<ControlPlane, String>> = OnceCell::const_new();
        let shared =
            SHARED.get_or_init(|| async { Self::start().await.map_err(|error| format!("{error:#}")) }).await;
        #[expect(clippy::panic, reason = "without it no test of the program can go on")]
        shared.as_ref().unwrap_or_else(|error| panic!("no control plane: {error}"))
    }

    /// A client with all rights. It belongs to the runtime it is made in: make one in every test.
    pub async fn client(&self) -> Result<kube::Client> {
        client(&kubeconfig(&self.url, &self.authority, &self.admin_token)).await
    }

    /// A client with the rights of the holder of `token`.
    pub async fn client_for(&self, token: &str) -> Result<kube::Client> {
        client(&kubeconfig(&self.url, &self.authority, token)).await
    }

    /// The kubeconfig file with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The text of a kubeconfig with the rights of the holder of `token`.
    pub fn kubeconfig_for(&self, token: &str) -> String {
        kubeconfig(&self.url, &self.authority, token).to_string()
    }

    /// A new token of a `ServiceAccount`, good for a day.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(24 * 3600), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("asking for a token of the ServiceAccount {namespace}/{name}"))?;
        let status =
            answer.status.with_context(|| format!("the token of {namespace}/{name} did not come"))?;
        Ok(status.token)
    }

    /// Runs kubectl with all rights and gives what it prints; an error with what it complains of where it fails.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "").await
    }

    /// `kubectl apply` of `yaml`.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], yaml).await
    }

    /// Like [`ControlPlane::kubectl`], with something on its standard input.
    pub async fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        self.run(&self.programs.join("kubectl"), args, input).await
    }

    /// Runs a client of the API server under the admin's kubeconfig, with no file of the user's home touched.
    pub(crate) async fn run(&self, program: &Path, args: &[&str], input: &str) -> Result<String> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.folder.path())
            .env("KUBECACHEDIR", self.kube_cache())
            .envs(["CACHE", "CONFIG", "DATA"].map(|kind| {
                (format!("HELM_{kind}_HOME"), self.folder.path().join("helm").join(kind.to_lowercase()))
            }))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stdin = child.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input closes it; its exit code says whether that was right.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = output.with_context(|| format!("waiting for {name}"))?;
        if !output.status.success() {
            let (errors, said) =
                (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
            bail!("{name} {}: {}{}", args.join(" "), said, errors.trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// kubectl looks up a category like `conjur` in what it remembers of the API server's kinds, and helm has
    /// just made it remember those from before the CRDs.
    pub(crate) fn forget_discovery(&self) -> Result<()> {
        match std::fs::remove_dir_all(self.kube_cache()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("clearing kubectl's cache")
            }
            _ => Ok(()),
        }
    }

    fn kube_cache(&self) -> PathBuf {
        self.folder.path().join("kube-cache")
    }

    /// Every request that `user` has made so far and that was answered, watches and all. A `ServiceAccount` is
    /// `system:serviceaccount:NAMESPACE:NAME`. A request is written just after its answer goes out.
    pub fn api_requests_by(&self, user: &str) -> Result<Vec<ApiRequest>> {
        Ok(self.api_requests_since(user, AuditMark::default())?.0)
    }

    /// The same, from a place in the audit log on; and the place up to which it was read.
    pub fn api_requests_since(&self, user: &str, mark: AuditMark) -> Result<(Vec<ApiRequest>, AuditMark)> {
        audit::requests_by(user, &self.folder.path().join("logs/audit.log"), mark)
    }

    /// The URL of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Who vouches for the API server, as PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The text of a kubeconfig with the rights of the holder of `token`, by another way to the API server.
    pub(crate) fn kubeconfig_by(&self, way: Option<&Address>, token: &str) -> String {
        match way {
            Some(way) => kubeconfig(&way.url, &way.authority, token).to_string(),
            None => self.kubeconfig_for(token),
        }
    }

    /// The folder with all files of this control plane; processes of tests may be started in it.
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// The folder of the programs, kubectl among them.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Ends the API server as a crash would; what is stored stays.
    pub async fn stop_api_server(&self) -> Result<()> {
        match &self.backing {
            Backing::Programs(programs) => programs.api_server.lock().await.end().await,
            Backing::Node(_) => {
                self.order("stop", "kube-apiserver")?;
                let client = self.client().await?;
                let gone = async || (!is_ready(client.clone()).await).then_some(());
                wait_for("the API server is gone", START, gone).await
            }
        }
    }

    /// Starts the API server again, on the same port, and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let client = self.client().await?;
        match &self.backing {
            Backing::Programs(programs) => {
                let mut api_server = programs.api_server.lock().await;
                api_server.end().await?;
                *api_server = Process::start(&self.folder, &programs.api_server_program)?;
                api_server.ready(START, || is_ready(client.clone())).await
            }
            Backing::Node(process) => {
                self.order("start", "kube-apiserver")?;
                process.ready(START, || is_ready(client.clone())).await
            }
        }
    }

    /// Ends everything, waits for it, and leaves no file. End first what else was started in its folder, like an
    /// operator.
    pub async fn stop(self) -> Result<()> {
        match &self.backing {
            Backing::Programs(programs) => {
                programs.controller_manager.end().await?;
                programs.api_server.lock().await.end().await?;
                programs.etcd.end().await?;
            }
            Backing::Node(process) => process.end().await?,
        }
        self.folder.remove().await
    }
}

/// Another process may take a port between our asking for it and our program's use of it.
async fn on_free_port<T>(start: impl AsyncFn(u16) -> Result<T>) -> Result<T> {
    let mut tries = 3;
    loop {
        tries -= 1;
        match start(free_port()?).await {
            Err(error) if tries > 0 && format!("{error:#}").contains("address already in use") => {}
            outcome => return outcome,
        }
    }
}

/// What the programs read.
pub(crate) struct Files {
    folder: PathBuf,
    pub(crate) admin_token: String,
    /// Further users and their tokens, by the name of the component.
    pub(crate) components: Vec<(String, String)>,
}

impl Files {
    /// `names` are those of the API server; `components` are programs with tokens of their own: name, user, group.
    pub(crate) fn write(
        folder: &Folder,
        authority: &Authority,
        names: &[&str],
        components: &[(&str, String, &str)],
    ) -> Result<Self> {
        let (private, public) = pki::signing_key()?;
        folder.write("sa.key", private)?;
        folder.write("sa.pub", public)?;
        let server = authority.issue(names)?;
        folder.write("server.crt", server.certificate)?;
        folder.write("server.key", server.key)?;
        let token = || anyhow::Ok(BASE64.encode(rcgen::KeyPair::generate()?.public_key_raw()));
        let admin_token = token()?;
        let mut tokens = format!("{admin_token},admin,admin,system:masters\n");
        let mut of_components = vec![];
        for (name, user, group) in components {
            let token = token()?;
            tokens.extend([&token, ",", user, ",", user, ",\"", group, "\"\n"]);
            of_components.push(((*name).to_owned(), token));
        }
        folder.write("tokens.csv", tokens)?;
        folder.write("audit.json", audit::POLICY)?;
        Ok(Self { folder: folder.path().to_owned(), admin_token, components: of_components })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

fn program(programs: &Path, name: &str, args: Vec<String>) -> Program {
    // What they store is thrown away with them, so there is nothing for them to finish.
    Program { name: name.to_owned(), path: programs.join(name), args, env: vec![], last_signal: "KILL" }
}

fn etcd_program(programs: &Path, folder: &Folder, port: u16) -> Program {
    let args = vec![
        format!("--data-dir={}", folder.path().join("etcd").display()),
        format!("--listen-client-urls=http://127.0.0.1:{port}"),
        format!("--advertise-client-urls=http://127.0.0.1:{port}"),
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    program(programs, "etcd", args)
}

/// What every API server here is told.
pub(crate) fn api_server_args(files: &Files, etcd: u16) -> Vec<String> {
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--tls-cert-file={}", files.path("server.crt")),
        format!("--tls-private-key-file={}", files.path("server.key")),
        format!("--service-account-key-file={}", files.path("sa.pub")),
        format!("--service-account-signing-key-file={}", files.path("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--token-auth-file={}", files.path("tokens.csv")),
        "--allow-privileged".to_owned(),
        format!("--audit-policy-file={}", files.path("audit.json")),
        format!("--audit-log-path={}", files.path("logs/audit.log")),
        "--audit-log-maxsize=2000".to_owned(),
    ]
}

fn api_server_program(programs: &Path, files: &Files, etcd: u16, port: u16) -> Program {
    let mut args = api_server_args(files, etcd);
    args.extend([
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", files.path("certs")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        // It would hold every Pod back until the controller manager has made its ServiceAccount's token.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ]);
    program(programs, "kube-apiserver", args)
}

fn controller_manager_program(programs: &Path, files: &Files, kubeconfig: &Path) -> Program {
    let args = vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--service-account-private-key-file={}", files.path("sa.key")),
        "--use-service-account-credentials".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--controllers=*,-nodeipam".to_owned(),
    ];
    program(programs, "kube-controller-manager", args)
}

pub(crate) fn kubeconfig(url: &str, authority: &str, token: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{
            "name": "testbed",
            "cluster": {"server": url, "certificate-authority-data": BASE64.encode(authority)},
        }],
        "users": [{"name": "testbed", "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
    })
}

async fn client(kubeconfig: &serde_json::Value) -> Result<kube::Client> {
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig.clone()).context("a kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn is_ready(client: kube::Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(vec![]) else { return false };
    // Retries of the client's own would outlast the deadline.
    let answer = tokio::time::timeout(Duration::from_secs(2), client.request_text(request)).await;
    matches!(answer, Ok(Ok(text)) if text == "ok")
}
