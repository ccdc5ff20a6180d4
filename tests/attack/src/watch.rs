//! The operator under watch: whether it lives, answers its probes, holds its Lease, and what it takes.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use testbed::Cost;

use crate::world::World;

/// As the chart's probes: Kubernetes gives an answer one second where nothing is said.
const PROBE: Duration = Duration::from_secs(1);
/// A Lease that was not renewed for so long is another's.
const LEASE: Duration = Duration::from_secs(15);

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Probes that were sent.
    pub probes: usize,
    /// What became of those that failed.
    pub missed: Vec<String>,
    /// The slowest answer to a probe, in seconds.
    pub slowest: f64,
    /// Who held the Lease, each with its count of transitions.
    pub holders: BTreeSet<String>,
    /// The longest that the Lease was not renewed, in seconds.
    pub lease_age: f64,
    /// How the process ended, where it did.
    pub ended: Option<String>,
    /// The most that was resident, in MiB: of the process in its whole life, or of it and those that it started, each
    /// second.
    pub peak: f64,
    /// The most processes that it had started at once.
    pub workers: usize,
    /// Processes of its control group that were killed for their memory, workers among them.
    pub killed: u64,
    /// The most threads.
    pub threads: usize,
    /// The most open file descriptors.
    pub descriptors: usize,
    /// What was logged meanwhile, in MiB.
    pub logged: f64,
    /// Processor time, in seconds.
    pub cpu: f64,
}

/// A watch that goes on.
pub struct Watched {
    task: tokio::task::JoinHandle<Result<Seen>>,
    stop: tokio::sync::watch::Sender<bool>,
    died: tokio::sync::watch::Receiver<Option<String>>,
}

/// What the watch needs to know.
struct Watch {
    pid: Option<u32>,
    health: String,
    log: std::path::PathBuf,
    leases: Api<Lease>,
}

/// Begins one.
pub fn begin(world: &World) -> Watched {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (say, died) = tokio::sync::watch::channel(None);
    let watch = Watch {
        pid: world.operator.pid(),
        health: world.operator.health_addr().to_owned(),
        log: world.operator.log_file().to_owned(),
        leases: Api::namespaced(world.client.clone(), &world.release.namespace),
    };
    Watched { task: tokio::spawn(watch.run(stopped, say)), stop, died }
}

impl Watched {
    /// Ends when the operator's process does; how.
    pub async fn died(&self) -> String {
        let mut died = self.died.clone();
        let said = died.wait_for(Option::is_some).await.ok().and_then(|said| said.clone());
        match said {
            Some(said) => said,
            None => std::future::pending().await,
        }
    }

    /// Ends the watch, and gives what it saw.
    pub async fn end(self) -> Result<Seen> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

impl Watch {
    async fn run(
        self,
        stopped: tokio::sync::watch::Receiver<bool>,
        died: tokio::sync::watch::Sender<Option<String>>,
    ) -> Result<Seen> {
        let (mut seen, first) = (Seen::default(), self.logged());
        let health: SocketAddr = self.health.parse().context("the address of the probes")?;
        let (stop, asked) = mpsc::channel::<()>();
        let probing = std::thread::spawn(move || probes(health, &asked));
        let pid = self.pid.context("the operator has ended")?;
        let before = Cost::of(pid)?.cpu;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*stopped.borrow() {
            tick.tick().await;
            // Its guard reaps it at once: what is not there any more has ended.
            let Ok(cost) = Cost::of(pid) else {
                let end = "the operator's process has ended".to_owned();
                seen.ended = Some(end.clone());
                died.send_replace(Some(end));
                break;
            };
            let workers: Vec<Cost> = children(pid).into_iter().filter_map(|pid| Cost::of(pid).ok()).collect();
            let together = cost.resident + workers.iter().map(|worker| worker.resident).sum::<f64>();
            seen.peak = seen.peak.max(cost.peak).max(together);
            seen.workers = seen.workers.max(workers.len());
            seen.cpu = cost.cpu.saturating_sub(before).as_secs_f64();
            seen.threads = seen.threads.max(entries(pid, "task"));
            seen.descriptors = seen.descriptors.max(entries(pid, "fd"));
            self.lease(&mut seen).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
        let logged = self.logged().saturating_sub(first) as f64 / 1_048_576.0;
        seen.logged = logged;
        drop(stop);
        let probed = tokio::task::spawn_blocking(move || probing.join()).await?;
        let probed = probed.map_err(|_| anyhow::anyhow!("who sends the probes panicked"))?;
        Ok(Seen { probes: probed.probes, missed: probed.missed, slowest: probed.slowest, ..seen })
    }

    async fn lease(&self, seen: &mut Seen) {
        // The API server may be slow; that is not the operator's fault, and the next look tells as much.
        let Ok(lease) = self.leases.get("conjur-operator").await else { return };
        let Some(spec) = lease.spec else { return };
        let holder = spec.holder_identity.unwrap_or_else(|| "nobody".to_owned());
        seen.holders.insert(format!("{holder} ({})", spec.lease_transitions.unwrap_or_default()));
        if let Some(renewed) = spec.renew_time {
            let age = jiff::Timestamp::now().duration_since(renewed.0).as_secs_f64();
            seen.lease_age = seen.lease_age.max(age);
        }
    }

    fn logged(&self) -> u64 {
        std::fs::metadata(&self.log).map(|file| file.len()).unwrap_or_default()
    }
}

impl Seen {
    /// Whether one held the Lease all the time, and renewed it in time.
    pub fn held(&self) -> bool {
        self.holders.len() == 1 && self.lease_age < LEASE.as_secs_f64()
    }
}

/// One probe a second, on a thread of its own: what else this program does must not look like silence.
fn probes(health: SocketAddr, stop: &mpsc::Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    loop {
        let began = Instant::now();
        let answer = probe(health);
        let took = began.elapsed();
        seen.probes += 1;
        seen.slowest = seen.slowest.max(took.as_secs_f64());
        match answer {
            Ok(answer) if answer.contains(" 200 ") && took <= PROBE => {}
            Ok(answer) if took > PROBE => {
                seen.missed.push(format!("/healthz took {:.1} s: {answer}", took.as_secs_f64()));
            }
            Ok(answer) => seen.missed.push(format!("/healthz answers {answer}")),
            Err(error) => seen.missed.push(format!("/healthz: {error}")),
        }
        if stop.recv_timeout(Duration::from_secs(1)) != Err(mpsc::RecvTimeoutError::Timeout) {
            return seen;
        }
    }
}

/// The first line of an answer.
fn probe(health: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&health, PROBE)?;
    stream.set_read_timeout(Some(PROBE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 64];
    let read = stream.read(&mut start)?;
    Ok(String::from_utf8_lossy(&start[..read]).lines().next().unwrap_or_default().to_owned())
}

/// The processes that one has started and that live.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn entries(pid: u32, of: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/{of}")).map(Iterator::count).unwrap_or_default()
}
