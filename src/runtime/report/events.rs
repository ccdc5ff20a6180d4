//! Sends Events: [`super::queue`] says which and when.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::events::v1::{Event, EventSeries},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    runtime::events::EventType,
};
use serde_json::json;
use tokio::{sync::Notify, time::timeout};

use super::queue::{DueEvent, EventQueue, NextEvent, Note};
use crate::{
    api::{MANAGER, Reason, condition::clip},
    limits,
};

/// Sending one Event.
const DEADLINE: Duration = Duration::from_secs(10);
/// What is kept of an object's name in that of an Event, whose own is longer by a time.
const NAME_BYTES: usize = 230;

/// Takes Events to be sent, each a share of its namespace's budget; clones share the queue.
#[derive(Clone)]
pub struct Events(Arc<SharedQueue>);

struct SharedQueue {
    queue: Mutex<EventQueue>,
    news: Notify,
}

impl SharedQueue {
    fn queue(&self) -> MutexGuard<'_, EventQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// The queue, and the task that sends what is in it, for ever.
    pub fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let shared =
            Arc::new(SharedQueue { queue: Mutex::new(EventQueue::new(Instant::now())), news: Notify::new() });
        let reporter = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
        let sender = Sender {
            client,
            shared: shared.clone(),
            reporter: clip(reporter.as_deref().unwrap_or(MANAGER), 128).to_owned(),
        };
        let send = async move {
            join_all((0..limits::EVENTS_SENDERS).map(|_| sender.run())).await;
        };
        (Self(shared), send)
    }

    /// Queues an Event about an object; one that is beyond a budget is dropped and counted.
    pub fn publish<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        type_: EventType,
        reason: Reason,
        action: &'static str,
        note: impl AsRef<str>,
    ) {
        let type_ = match type_ {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        let text = clip(note.as_ref(), limits::EVENT_NOTE_BYTES).to_owned();
        let note = Note { about: object.object_ref(&()), type_, reason: reason.as_str(), action, text };
        if self.0.queue().offer(note, Instant::now()) {
            self.0.news.notify_one();
        }
    }
}

struct Sender {
    client: Client,
    shared: Arc<SharedQueue>,
    reporter: String,
}

impl Sender {
    async fn run(&self) {
        loop {
            let next = self.shared.queue().next(Instant::now());
            match next {
                NextEvent::Write(due) => {
                    let name = match timeout(DEADLINE, Box::pin(self.write(&due))).await {
                        Ok(Ok(name)) => Some(name),
                        Ok(Err(error)) => {
                            tracing::debug!(%error, "an Event was not taken");
                            None
                        }
                        Err(_) => None,
                    };
                    self.shared.queue().written(due.id, name, Instant::now());
                }
                NextEvent::Wait(until) => {
                    let _ = tokio::time::timeout_at(until.into(), self.shared.news.notified()).await;
                }
                NextEvent::Rest => self.shared.news.notified().await,
            }
        }
    }

    /// Makes the Event, or writes its count where it is there; its name.
    async fn write(&self, due: &DueEvent) -> Result<String, kube::Error> {
        let about = &due.note.about;
        // Events about what has no namespace are in this one.
        let api =
            Api::<Event>::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        let now = Timestamp::now();
        if let Some(name) = &due.name {
            let series = json!({ "series": { "count": due.count, "lastObservedTime": MicroTime(now) } });
            match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(series)).await {
                // It has lived as long as the API server keeps Events.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                answer => return answer.map(|_| name.clone()),
            }
        }
        let event = self.event(due, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await.map(|_| name)
    }

    fn event(&self, due: &DueEvent, now: Timestamp) -> Event {
        let DueEvent { note, count, .. } = due;
        let about = clip(note.about.name.as_deref().unwrap_or(MANAGER), NAME_BYTES);
        let count = i32::try_from(*count).unwrap_or(i32::MAX);
        Event {
            metadata: ObjectMeta {
                namespace: Some(note.about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                name: Some(format!("{about}.{:x}", now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            action: Some(note.action.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(note.text.clone()),
            reason: Some(note.reason.to_owned()),
            regarding: Some(note.about.clone()),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.reporter.clone()),
            series: (count > 1).then_some(EventSeries { count, last_observed_time: MicroTime(now) }),
            type_: Some(note.type_.to_owned()),
            ..Event::default()
        }
    }
}
