//! Heavy work: what a tenant's text makes the process do that costs more than a moment, off the workers of the runtime.
//!
//! Work waits for one of [`limits::HEAVY_THREADS`] places and its share of [`limits::HEAVY_BYTES`], one at a time a
//! namespace while others wait ([`queue`]). There are two ways:
//! - [`Heavy::run`] is for what this crate bounds itself, step by step: regular expressions, JSON.
//! - [`Heavy::ask`] is for what no one can bound from outside: the template engine, which builds lazily what it later walks,
//!   and documents of megabytes. It is done by a process of its own ([`worker`], [`serve`]) with a limit of memory. A
//!   thread can't be ended and shares its end with all others; a process can be ended, and its end is no one else's.
//!
//! # The poison object
//! In whose work a worker died is known without a note on a disk: the operator itself goes on, and holds the question in
//! its hands. After two deaths the object's next try is alone, with all bytes to itself, and when that dies, too, the
//! object is set aside ([`Suspects`]) until an edit of it or of what it reads, another `sync-now`, an hour, or a start of the
//! operator. That a worker was ended by SIGKILL
//! (the kernel, an eviction, an administrator) says nothing of the object, and counts for nothing.

mod door;
pub mod queue;
pub mod serve;
mod wire;
mod worker;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::{runtime::RuntimeFlavor, sync::oneshot};

use self::{
    queue::Queue,
    wire::{BorrowedMessage, Message},
    worker::{Allowance, End, Workers},
};
use crate::{
    api::SYNC_NOW_ANNOTATION,
    limits::{self, InUse, Limit},
    lock::lock,
    plan::{
        hash,
        poison::{Suspects, Try},
    },
};

/// Whose work it is, for turns and for what is known of its deaths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Whose {
    /// The kind of the object.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A hash over what may make another try of it: its spec, what it reads elsewhere, and the text of `sync-now`.
    pub state: String,
}

impl Whose {
    /// An object, with the versions of what it reads elsewhere, or a hash over that.
    pub fn of(kind: &'static str, object: &ObjectMeta, sources: &[String]) -> Self {
        let generation = object.generation.unwrap_or_default().to_string();
        let annotations = object.annotations.as_ref();
        let sync_now = annotations.and_then(|all| all.get(SYNC_NOW_ANNOTATION)).map_or("", String::as_str);
        let sources = sources.iter().map(String::as_str);
        Self {
            kind,
            namespace: object.namespace.clone().unwrap_or_default(),
            name: object.name.clone().unwrap_or_default(),
            state: hash::hash([generation.as_str(), sync_now].into_iter().chain(sources)),
        }
    }

    fn is_same_object(&self, other: &Self) -> bool {
        (self.kind, &self.namespace, &self.name) == (other.kind, &other.namespace, &other.name)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeavyError {
    /// It took too long, and was ended.
    #[error("it took longer than {0:?}, and was ended")]
    TooLong(Duration),
    /// The process died of it several times, the last time alone.
    #[error("the worker processes crashed on it")]
    SetAside,
    /// There is no process to do it, or someone ended it: this is no one's fault here.
    #[error("the process that does it could not be started or was ended: {0}")]
    NoWorker(String),
}

/// The places for heavy work, and the processes that do some of it.
#[derive(Clone)]
pub struct Heavy(Arc<Inner>);

struct Inner {
    queue: Mutex<Queue<oneshot::Sender<Permit>>>,
    workers: Workers,
    suspects: Mutex<Suspects<Whose>>,
}

impl Heavy {
    /// `program` is this program, which is started as a worker when one is needed.
    pub fn new(program: PathBuf) -> Self {
        Self(Arc::new(Inner {
            queue: Mutex::new(Queue::new(limits::HEAVY_THREADS, limits::HEAVY_BYTES)),
            workers: Workers::new(program),
            suspects: Mutex::default(),
        }))
    }

    /// Does what bounds itself: at once where it is little, else when its turn has come. `bytes` is the most that it may
    /// take.
    pub async fn run<T>(&self, namespace: &str, bytes: usize, work: impl FnOnce() -> T + Send) -> T {
        if bytes <= limits::LIGHT_BYTES {
            return work();
        }
        let _permit = self.permit(namespace, bytes).await;
        let _in_use = in_use(bytes);
        off_the_workers(work)
    }

    /// Has a worker answer. Asked again after a death of the worker, until the object is set aside.
    ///
    /// # Errors
    /// See [`HeavyError`].
    async fn ask(
        &self,
        whose: &Whose,
        may: Allowance,
        question: &BorrowedMessage<'_>,
    ) -> Result<Message, HeavyError> {
        loop {
            let bytes = match lock(&self.0.suspects).next(whose, Instant::now()) {
                Try::SetAside { .. } => return Err(HeavyError::SetAside),
                Try::Alone => limits::HEAVY_BYTES,
                Try::AsOthers => may.bytes,
            };
            let _permit = self.permit(&whose.namespace, bytes).await;
            let _in_use = in_use(bytes);
            match off_the_workers(|| self.0.workers.ask(question, may)) {
                Ok(answer) => {
                    lock(&self.0.suspects).lived(whose);
                    return Ok(answer);
                }
                Err(End::TooLong) => {
                    limits::hit(if may.time == limits::DOCUMENT_DEADLINE {
                        Limit::DocumentDeadline
                    } else {
                        Limit::TemplatesDeadline
                    });
                    return Err(HeavyError::TooLong(may.time));
                }
                Err(End::Died(how)) => {
                    tracing::warn!(
                        kind = whose.kind,
                        namespace = whose.namespace,
                        name = whose.name,
                        "a worker process crashed while working on this object ({how})"
                    );
                    let mut suspects = lock(&self.0.suspects);
                    // What it was before is no more tried.
                    suspects.forget(|other| other.is_same_object(whose) && other != whose);
                    if !suspects.died(whose, how, Instant::now()) {
                        return Err(HeavyError::NoWorker(how.to_string()));
                    }
                }
                Err(End::NoWorker(why)) => return Err(HeavyError::NoWorker(why)),
            }
        }
    }

    /// Forgets what is known of an object that is gone.
    pub fn forget(&self, kind: &'static str, namespace: &str, name: &str) {
        lock(&self.0.suspects)
            .forget(|whose| whose.kind == kind && whose.namespace == namespace && whose.name == name);
    }

    /// Ends workers that have nothing to do, for as long as it is polled.
    pub async fn tidy(self) {
        loop {
            let since = Instant::now();
            tokio::time::sleep(limits::HEAVY_WORKER_IDLE).await;
            off_the_workers(|| self.0.workers.end_idle(since));
        }
    }

    async fn permit(&self, namespace: &str, bytes: usize) -> Permit {
        let (admit, mut admitted) = oneshot::channel();
        lock(&self.0.queue).push(namespace, bytes, admit);
        self.0.clone().admit();
        if let Ok(permit) = admitted.try_recv() {
            return permit;
        }
        limits::hit(Limit::HeavyThreads);
        match admitted.await {
            Ok(permit) => permit,
            // The queue lives as long as this does, and drops nothing that waits.
            Err(_) => Permit { of: None },
        }
    }
}

fn in_use(bytes: usize) -> (InUse, InUse) {
    (InUse::of(Limit::HeavyThreads, 1), InUse::of(Limit::HeavyBytes, bytes))
}

impl Inner {
    fn admit(self: Arc<Self>) {
        loop {
            let Some((namespace, bytes, admit)) = lock(&self.queue).admit() else { return };
            // Where no one waits any more, the permit comes back, and its place is given away in the next turn.
            let permit = Permit { of: Some((self.clone(), namespace, bytes)) };
            if let Err(mut unused) = admit.send(permit) {
                unused.give_back();
            }
        }
    }
}

/// A place, until it is dropped.
struct Permit {
    of: Option<(Arc<Inner>, String, usize)>,
}

impl Permit {
    fn give_back(&mut self) -> Option<Arc<Inner>> {
        let (inner, namespace, bytes) = self.of.take()?;
        lock(&inner.queue).done(&namespace, bytes);
        Some(inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(inner) = self.give_back() {
            inner.admit();
        }
    }
}

/// Runs on this thread, whose other tasks go to another one for that time.
fn off_the_workers<T>(work: impl FnOnce() -> T) -> T {
    let here = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
    match here {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_edit_of_the_object_or_of_what_it_reads_and_sync_now_make_another_try_of_it() {
        let of = |generation: i64, annotations: &[(&str, &str)], versions: &[&str]| {
            let annotations: serde_json::Map<_, _> =
                annotations.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
            let object = serde_json::from_value(json!({
                "namespace": "tenant", "name": "o", "generation": generation, "annotations": annotations,
            }));
            let versions: Vec<String> = versions.iter().map(|version| (*version).to_owned()).collect();
            Whose::of("ConjurSecret", &object.unwrap(), &versions)
        };
        let before = of(1, &[], &["uid/1"]);
        for (after, is_another) in [
            (of(1, &[], &["uid/1"]), false),
            (of(1, &[("theirs", "x")], &["uid/1"]), false),
            (of(2, &[], &["uid/1"]), true),
            (of(1, &[], &["uid/2"]), true),
            (of(1, &[(SYNC_NOW_ANNOTATION, "now")], &["uid/1"]), true),
        ] {
            assert_eq!(after != before, is_another, "{after:?}");
            assert!(after.is_same_object(&before));
        }
    }
}
