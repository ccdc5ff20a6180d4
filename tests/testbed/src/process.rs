//! Processes that end with the one that started them, even when that is killed with SIGKILL.
//!
//! Each is the child of a small `sh` that holds one end of a pipe: when the other end closes, because it was
//! dropped here or because this process is gone, the shell ends its child. Signals go through the same pipe, so
//! they reach what was started here and nothing else. A last shell, the sweeper, removes the folder.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::{Result, wait_for};

const GUARD: &str = include_str!("guard.sh");
const SWEEPER: &str = include_str!("sweeper.sh");

/// A temporary folder for processes and what belongs to them. It goes, after the processes, when this is
/// dropped or this process ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    sweeper: Mutex<Child>,
}

impl Folder {
    /// A new folder that only this user can read.
    pub fn new() -> Result<Self> {
        let path =
            tempfile::Builder::new().prefix("conjur-operator.").tempdir().context("making a folder")?.keep();
        for part in ["running", "logs"] {
            std::fs::create_dir(path.join(part)).with_context(|| format!("making {}", path.display()))?;
        }
        let sweeper = Command::new("sh")
            .args(["-c", SWEEPER, "sweeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting sh")?;
        Ok(Self { path, sweeper: Mutex::new(sweeper) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only this user can read, and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path.join(name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_ref()))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// From now on the processes of this folder outlive this one, until the file `keep` in it is removed.
    pub fn keep(&self) -> Result<()> {
        self.write("keep", "").map(drop)
    }

    /// Ends what [`Folder::keep`] left running, and waits until its folder is gone.
    pub async fn end_kept(folder: &Path) -> Result<()> {
        if let Err(error) = std::fs::remove_file(folder.join("keep"))
            && folder.exists()
        {
            return Err(error).with_context(|| format!("ending what runs in {}", folder.display()));
        }
        wait_until_gone(folder).await
    }

    /// Lets the folder go and waits until it is gone. End the processes in it before.
    pub async fn remove(&self) -> Result<()> {
        drop(lock(&self.sweeper).stdin.take());
        wait_until_gone(&self.path).await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(lock(&self.sweeper).stdin.take());
    }
}

async fn wait_until_gone(folder: &Path) -> Result<()> {
    let what = format!("{} is gone", folder.display());
    wait_for(&what, Duration::from_secs(30), async || (!folder.exists()).then_some(())).await
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name for logs and errors; one at a time in a folder.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables on top of this process's own.
    pub env: Vec<(String, String)>,
    /// What it gets when its time has come: `TERM` where it has something to finish, `KILL` where not.
    pub last_signal: &'static str,
}

/// A running process. Dropping it ends it, without waiting.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    log: PathBuf,
    guard: Mutex<Guard>,
}

#[derive(Debug)]
struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Process {
    /// Starts `program`; its output is appended to `logs/NAME.log` in the folder.
    pub fn start(folder: &Folder, program: &Program) -> Result<Self> {
        let log = folder.path.join("logs").join(format!("{}.log", program.name));
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("writing {}", log.display()))?;
        let errors = output.try_clone().context("sharing a log file")?;
        if !program.path.is_file() {
            bail!("{} is not there; build it first (`make test` and `make demo` do)", program.path.display());
        }
        let running = folder.path.join("running").join(&program.name);
        File::create(&running).with_context(|| format!("writing {}", running.display()))?;
        let mut shell = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&folder.path)
            .args([&program.name, program.last_signal])
            .arg(&program.path)
            .args(&program.args)
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for the one who started all this; the pipe tells the rest.
            .process_group(0)
            .spawn()
            .context("starting sh")?;
        let pipe = shell.stdin.take();
        let (name, path) = (program.name.clone(), program.path.clone());
        Ok(Self { name, program: path, log, guard: Mutex::new(Guard { shell, pipe }) })
    }

    /// The number of the program's own process, once it runs.
    pub fn pid(&self) -> Option<u32> {
        let shell = lock(&self.guard).shell.id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| {
                std::fs::canonicalize(&self.program).is_ok_and(|wanted| wanted == program)
            })
        })
    }

    /// The file with all it has said.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// All it has said so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last `lines` lines it said.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// How it ended, or nothing while it runs. A program that a signal ended has code 128 and the signal's number.
    pub fn ended(&self) -> Option<ExitStatus> {
        lock(&self.guard).shell.try_wait().ok().flatten()
    }

    /// Sends a signal, by its name without `SIG`: `TERM`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let mut guard = lock(&self.guard);
        let Some(pipe) = guard.pipe.as_mut() else { bail!("{} was ended before", self.name) };
        writeln!(pipe, "{name}").with_context(|| format!("sending {name} to {}, which has ended", self.name))
    }

    /// Waits until it has ended; an error with its last words after `deadline`.
    pub async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} has ended", self.name);
        wait_for(&what, deadline, async || self.ended()).await.with_context(|| self.last_words())
    }

    /// Ends it for good and waits until it has ended.
    pub async fn end(&self) -> Result<()> {
        drop(lock(&self.guard).pipe.take());
        self.wait(Duration::from_secs(15)).await.map(drop)
    }

    /// Waits until `ready` says so; an error with its last words when it ends before, or after `deadline`.
    pub async fn ready<Ready>(&self, deadline: Duration, mut ready: impl FnMut() -> Ready) -> Result<()>
    where
        Ready: Future<Output = bool>,
    {
        let what = format!("{} is ready", self.name);
        let outcome = wait_for(&what, deadline, || {
            let ready = ready();
            async {
                if let Some(status) = self.ended() {
                    return Some(Err(status));
                }
                ready.await.then_some(Ok(()))
            }
        })
        .await
        .with_context(|| self.last_words())?;
        outcome.map_err(|status| {
            let code = status.code().map_or_else(|| status.to_string(), |code| format!("code {code}"));
            anyhow::anyhow!("{} ended before it was ready, with {code}. {}", self.name, self.last_words())
        })
    }

    fn last_words(&self) -> String {
        format!("{} said last:\n{}", self.name, self.log_tail(30))
    }
}

/// A port of the loopback interface that is free now.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}

/// What is guarded here is whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
