//! Where it happens: the control plane, the development Conjur, and the operator as a process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use jiff::Timestamp;
use kube::Client;
use serde_json::json;
use testbed::{
    ApiRequest, AuditMark, Chart, ControlPlane, Cost, DevConjur, Operator, OperatorOptions, Release,
};

use crate::{Options, say};

/// What all cases share.
pub struct World {
    /// The control plane.
    pub plane: ControlPlane,
    /// The development Conjur.
    pub conjur: DevConjur,
    /// The administrator's client.
    pub client: Client,
    /// The bare writer's client: with the operator's own rights.
    pub writer: Client,
    release: Release,
    operator: PathBuf,
}

impl World {
    /// Starts all but the operator.
    pub async fn start(options: &Options) -> Result<Self> {
        say("starting a control plane, a development Conjur, and installing the chart");
        let beside = |name: &str| Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name(name));
        let conjur = options.conjur.clone().map_or_else(|| beside("conjur-dev"), Ok)?;
        let operator = options.operator.clone().map_or_else(|| beside("conjur-operator"), Ok)?;
        let plane = ControlPlane::start().await?;
        let conjur = DevConjur::start(conjur, plane.folder(), "myorg").await?;
        let release = plane.install_chart(&Chart::default()).await?;
        let token = plane.service_account_token(&release.namespace, &release.service_account).await?;
        let writer = plane.client_for(&token).await?;
        Ok(Self { client: plane.client().await?, writer, plane, conjur, release, operator })
    }

    /// Ends all of it.
    pub async fn stop(self) -> Result<()> {
        self.conjur.process().end().await?;
        self.plane.stop().await
    }

    /// Starts the operator as the chart does, with `more` arguments, and does not wait for it.
    pub async fn operator(&self, more: &[&str]) -> Result<Running<'_>> {
        let mut options = OperatorOptions::under(&self.release);
        options.args = more.iter().map(|arg| (*arg).to_owned()).collect();
        let mut running = Running {
            world: self,
            operator: Operator::spawn(&self.operator, &self.plane, options).await?,
            started: Timestamp::now(),
            mark: AuditMark::default(),
            seen: Vec::new(),
        };
        running.count_from_now().await?;
        Ok(running)
    }

    /// Makes each of Conjur's answers come later; zero ends that.
    pub async fn latency(&self, millis: u64) -> Result<()> {
        self.conjur.control(Method::DELETE, "faults", None).await?;
        if millis > 0 {
            let fault = json!({ "path": "/", "effect": { "latency": { "millis": millis } } });
            self.conjur.control(Method::POST, "faults", Some(&fault)).await?;
        }
        Ok(())
    }
}

/// A running operator, and what it has asked for since a point in time.
pub struct Running<'a> {
    world: &'a World,
    operator: Operator,
    /// When its process was started.
    pub started: Timestamp,
    mark: AuditMark,
    seen: Vec<ApiRequest>,
}

impl Running<'_> {
    /// What its process has used.
    pub fn cost(&self) -> Result<Cost> {
        Cost::of(self.operator.pid().with_context(|| self.ended())?)
    }

    fn ended(&self) -> String {
        format!("the operator has ended; it said last:\n{}", self.operator.log_tail(20))
    }

    /// Requests from now on count, at Conjur and at the API server.
    pub async fn count_from_now(&mut self) -> Result<()> {
        self.world.conjur.control(Method::DELETE, "requests", None).await?;
        self.read_audit()?;
        self.seen.clear();
        Ok(())
    }

    /// The requests to the API server that count: no watches, Leases, token requests.
    pub fn api_requests(&mut self) -> Result<&[ApiRequest]> {
        self.read_audit()?;
        Ok(&self.seen)
    }

    fn read_audit(&mut self) -> Result<()> {
        let user = self.world.release.user();
        let (new, mark) = self.world.plane.api_requests_since(&user, self.mark)?;
        self.mark = mark;
        // The bare writer comes under the same name, but never while the operator runs.
        self.seen.extend(new.into_iter().filter(|r| !r.is_background() && !r.is_token_request()));
        Ok(())
    }

    /// How many requests Conjur got, by kind.
    pub async fn conjur_requests(&self) -> Result<BTreeMap<String, usize>> {
        let counts = self.world.conjur.control(Method::GET, "counts", None).await?;
        Ok(serde_json::from_value(counts)?)
    }

    /// The sum of a metric over the series whose labels contain `labels`; zero while there is none.
    pub async fn metric(&self, name: &str, labels: &str) -> usize {
        let page = self.operator.metrics().await.unwrap_or_default();
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).sum()
    }

    /// Waits until a metric is as large, looking often: what is waited for is being timed.
    pub async fn reaches(&self, name: &str, labels: &str, goal: usize, deadline: Duration) -> Result<()> {
        let began = std::time::Instant::now();
        let mut told = began;
        loop {
            let now = self.metric(name, labels).await;
            if now >= goal {
                return Ok(());
            }
            anyhow::ensure!(self.operator.is_running(), self.ended());
            let tail = || self.operator.log_tail(10);
            anyhow::ensure!(began.elapsed() < deadline, "{name} is {now}, not {goal}:\n{}", tail());
            if told.elapsed() > Duration::from_secs(5) {
                told = std::time::Instant::now();
                say(format!("  … {now} of {goal}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until that many requests of a kind were answered with success, and gives the time of the last answer.
    pub async fn answered(&mut self, goal: usize, is_it: impl Fn(&ApiRequest) -> bool) -> Result<Timestamp> {
        let began = std::time::Instant::now();
        loop {
            let found = self.api_requests()?.iter().filter(|r| r.code < 300 && is_it(r));
            let times: Vec<Timestamp> = found.map(|r| r.until).collect();
            if let Some(last) = times.iter().max().filter(|_| times.len() >= goal) {
                return Ok(*last);
            }
            let (have, tail) = (times.len(), || self.operator.log_tail(10));
            anyhow::ensure!(began.elapsed() < Duration::from_secs(120), "{have} of {goal}:\n{}", tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.operator.signal(name)
    }

    /// Ends it and waits for the end.
    pub async fn end(self) -> Result<()> {
        let ended = self.operator.terminate().await?;
        anyhow::ensure!(ended.success(), "the operator ended with {ended}");
        Ok(())
    }
}

/// Whether a request made or replaced a Secret.
pub fn is_secret_write(request: &ApiRequest) -> bool {
    request.resource == "secrets" && matches!(&*request.verb, "create" | "update" | "patch")
}

/// Whether a request wrote the status of a ConjurSecret.
pub fn is_status_write(request: &ApiRequest) -> bool {
    request.resource == "conjursecrets" && request.subresource == "status"
}
