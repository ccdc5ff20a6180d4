//! What Flux and Argo CD would say of every object, whenever a test of this folder changes one: each state that a watch shows is
//! judged, and a test fails where a verdict does not fit the state.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures::{StreamExt as _, stream::select_all};
use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::Value;
use testbed::wait_for;

use super::SOON;
use crate::gitops::{
    judge::{health_scripts, judge},
    phase::Phase,
};

/// Kind, namespace and name of an object, and a phase that it was in.
type Seen = (String, String, String, Phase);

/// All that was judged on one control plane.
pub struct Judged {
    /// Argo CD's script for each kind.
    scripts: BTreeMap<String, String>,
    /// Each with the object as it was then, where its namespace asked for that.
    seen: Mutex<BTreeMap<Seen, Value>>,
    /// Namespace and sentence.
    wrong: Mutex<Vec<(String, String)>>,
}

impl Judged {
    /// Watches all kinds from now on, as long as the runtime lives.
    pub fn start(client: &Client) -> Arc<Self> {
        let judged =
            Arc::new(Self { scripts: health_scripts(), seen: Mutex::default(), wrong: Mutex::default() });
        let watches = judged.scripts.keys().map(|kind| {
            let resource =
                ApiResource::from_gvk(&GroupVersionKind::gvk("conjur-operator.io", "v1alpha1", kind));
            let objects = Api::<DynamicObject>::all_with(client.clone(), &resource);
            watcher(objects, watcher::Config::default()).default_backoff().applied_objects().boxed()
        });
        let (mut all, to) = (select_all(watches.collect::<Vec<_>>()), Arc::clone(&judged));
        tokio::spawn(async move {
            while let Some(next) = all.next().await {
                // A watch that ends with the control plane, or begins anew.
                let Ok(object) = next else { continue };
                to.look(serde_json::to_value(object).unwrap());
            }
        });
        judged
    }

    /// Judges an object as it is, or was.
    pub fn look(&self, object: Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, meta) = (text(&object["kind"]), &object["metadata"]);
        let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
        match judge(&object, &self.scripts) {
            Ok(phase) => {
                self.seen.lock().unwrap().insert((kind, namespace, name, phase), kept(object));
            }
            Err(wrong) => {
                let sentence = format!("{kind} {namespace}/{name}: {wrong}\n{object}");
                self.wrong.lock().unwrap().push((namespace, sentence));
            }
        }
    }

    /// Waits until an object was seen in a phase, and gives it as it was then.
    pub async fn saw(&self, kind: &str, namespace: &str, name: &str, phase: Phase) -> Value {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned(), phase);
        let what = format!("{kind} {namespace}/{name} is {phase:?}");
        wait_for(&what, SOON, || async { self.seen.lock().unwrap().get(&key).cloned() }).await.unwrap_or_else(
            |error| {
                let seen = self.seen.lock().unwrap();
                let of: Vec<_> =
                    seen.iter().filter(|(seen, _)| seen.1 == namespace && seen.2 == name).collect();
                panic!("{error:#}; it was {of:#?}")
            },
        )
    }

    /// All verdicts on the objects of a namespace, and on those that are in none, were right.
    pub fn was_right(&self, namespace: &str) {
        let wrong = self.wrong.lock().unwrap();
        let here: Vec<_> = wrong.iter().filter(|(of, _)| of == namespace || of.is_empty()).collect();
        assert!(here.is_empty(), "judged wrongly by GitOps tools:\n{here:#?}");
        drop(wrong);
        self.seen.lock().unwrap().retain(|seen, _| seen.1 != namespace);
    }
}

/// An object without what is large in it.
fn kept(mut object: Value) -> Value {
    const LARGE: usize = 4096;
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    for text in object["spec"].as_object_mut().into_iter().flat_map(|spec| spec.values_mut()) {
        if text.to_string().len() > LARGE {
            *text = Value::Null;
        }
    }
    object
}
