//! What whoever mounts a Secret would see of it.

use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};

use crate::setup::Bench;

/// What a Secret was in between: each state that was not as the first one.
pub struct Watched {
    odd: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    pub async fn start(bench: &Bench, name: &str) -> Self {
        let api: Api<Secret> = Api::namespaced(bench.client().await, &bench.namespace);
        let first = api.get(name).await.unwrap();
        let odd = Arc::new(Mutex::new(Vec::new()));
        let (seen, name) = (Arc::clone(&odd), name.to_owned());
        let task = tokio::spawn(async move {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let mut events = watcher(api, config).default_backoff().boxed();
            while let Ok(Some(event)) = events.try_next().await {
                let what = match event {
                    watcher::Event::Delete(_) => "deleted".to_owned(),
                    watcher::Event::Apply(now) | watcher::Event::InitApply(now) => {
                        let same = now.metadata.uid == first.metadata.uid
                            && now.data == first.data
                            && now.type_ == first.type_
                            && now.metadata.deletion_timestamp.is_none();
                        if same {
                            continue;
                        }
                        format!(
                            "{:?} of {:?}",
                            now.data.map(|data| data.into_keys().collect::<Vec<_>>()),
                            now.metadata
                        )
                    }
                    watcher::Event::Init | watcher::Event::InitDone => continue,
                };
                seen.lock().unwrap().push(what);
            }
        });
        Self { odd, task }
    }

    pub fn saw_nothing(self) {
        self.task.abort();
        let odd = self.odd.lock().unwrap();
        assert!(odd.is_empty(), "{odd:#?}");
    }
}
