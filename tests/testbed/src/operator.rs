//! The operator's binary as a process.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::process::{Folder, Process, Program, free_port};
use crate::{Address, ControlPlane, Release, Result};

const START: Duration = Duration::from_secs(60);

/// How to run the operator.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// Whose `ServiceAccount` it runs under.
    pub release: Release,
    /// Its name among the processes and Pods; one at a time.
    pub name: String,
    /// `--log-level`.
    pub log_level: String,
    /// `--allow-hosts`: where connections of namespaces may lead beyond the default. The Conjurs of tests are on loopback.
    pub allow_hosts: String,
    /// Further arguments of `run`.
    pub args: Vec<String>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// The way to the API server; none is the straight one.
    pub way: Option<Address>,
}

impl OperatorOptions {
    /// Under the `ServiceAccount` of `release`, with the log level `info` and text as its format.
    pub fn under(release: &Release) -> Self {
        Self {
            release: release.clone(),
            name: "conjur-operator-0".to_owned(),
            log_level: "info".to_owned(),
            allow_hosts: "127.0.0.0/8,::1".to_owned(),
            args: vec!["--log-format".to_owned(), "text".to_owned()],
            env: vec![],
            way: None,
        }
    }

    /// With no more than so many file descriptors, and in a control group where its folder is given.
    #[must_use]
    pub fn within(mut self, descriptors: usize, group: Option<&Path>) -> Self {
        self.env.push(("TESTBED_NOFILE".to_owned(), descriptors.to_string()));
        self.env.extend(group.map(|folder| ("TESTBED_CGROUP".to_owned(), folder.display().to_string())));
        self
    }
}

/// A running operator. Dropping it ends it (SIGTERM) without waiting.
#[derive(Debug)]
pub struct Operator {
    folder: Arc<Folder>,
    program: Program,
    process: Process,
    health: String,
    metrics: String,
    http: reqwest::Client,
}

impl Operator {
    /// Starts `binary run` with a kubeconfig that holds a token of the release's `ServiceAccount`, and waits
    /// until `/readyz` says so.
    pub async fn start(
        binary: impl Into<PathBuf>,
        cluster: &ControlPlane,
        options: OperatorOptions,
    ) -> Result<Operator> {
        let operator = Self::spawn(binary, cluster, options).await?;
        operator.wait_until_ready().await?;
        Ok(operator)
    }

    /// Like [`Operator::start`], without waiting until it is ready.
    pub async fn spawn(
        binary: impl Into<PathBuf>,
        cluster: &ControlPlane,
        options: OperatorOptions,
    ) -> Result<Operator> {
        let release = &options.release;
        let token = cluster.service_account_token(&release.namespace, &release.service_account).await?;
        let kubeconfig = format!("{}.kubeconfig", options.name);
        let kubeconfig =
            cluster.folder().write(&kubeconfig, cluster.kubeconfig_by(options.way.as_ref(), &token))?;
        let (health, metrics) =
            (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let mut args = vec!["run".to_owned()];
        for (flag, value) in
            [("--health-addr", &health), ("--metrics-addr", &metrics), ("--log-level", &options.log_level)]
        {
            args.extend([flag.to_owned(), value.clone()]);
        }
        if !options.allow_hosts.is_empty() {
            args.extend(["--allow-hosts".to_owned(), options.allow_hosts]);
        }
        args.extend(options.args);
        let mut env = vec![
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("POD_NAME".to_owned(), options.name.clone()),
            ("POD_NAMESPACE".to_owned(), release.namespace.clone()),
        ];
        env.extend(options.env);
        let path = std::path::absolute(binary.into()).context("the operator's binary")?;
        let program = Program { name: options.name, path, args, env, last_signal: "TERM" };
        let process = Process::start(cluster.folder(), &program)?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(Self { folder: cluster.folder().clone(), program, process, health, metrics, http })
    }

    /// Waits until `/readyz` says so; an error with the log's tail where it ends before.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let url = format!("http://{}/readyz", self.health);
        let ask = async || self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
        self.process.ready(START, ask).await
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub async fn kill9(&self) -> Result<()> {
        self.process.signal("KILL")?;
        self.process.wait(Duration::from_secs(10)).await.map(drop)
    }

    /// Asks it with SIGTERM to end and waits, up to 40 s; how it ended.
    pub async fn terminate(&self) -> Result<ExitStatus> {
        self.process.signal("TERM")?;
        self.process.wait(Duration::from_secs(40)).await
    }

    /// Sends a signal, by its name without `SIG`; `STOP` and `CONT` make and end a pause.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Starts it again after an end, with the same arguments; a running one is terminated before.
    pub async fn restart(&mut self) -> Result<()> {
        if self.is_running() {
            self.terminate().await?;
        }
        self.process = Process::start(&self.folder, &self.program)?;
        self.wait_until_ready().await
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.ended().is_none()
    }

    /// How it ended, or nothing while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// The number of its process, once it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// All it has logged, over all its restarts.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Where its log is; a restart goes on with it.
    pub fn log_file(&self) -> &std::path::Path {
        self.process.log_file()
    }

    /// The last `lines` lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> Result<String> {
        self.get(&format!("http://{}/metrics", self.metrics)).await
    }

    /// The address of `/healthz` and `/readyz`.
    pub fn health_addr(&self) -> &str {
        &self.health
    }

    /// The address of `/metrics`.
    pub fn metrics_addr(&self) -> &str {
        &self.metrics
    }

    async fn get(&self, url: &str) -> Result<String> {
        let answer = self.http.get(url).send().await.with_context(|| format!("asking {url}"))?;
        if !answer.status().is_success() {
            bail!("{url} answers {}", answer.status());
        }
        Ok(answer.text().await?)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failed test shows what the operator did last")]
            {
                eprintln!("{} logged last:\n{}", self.program.name, self.process.log_tail(40));
            }
        }
    }
}
