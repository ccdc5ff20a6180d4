//! Texts that are kept of a ConfigMap or Secret: of the keys that someone asked for, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    input::{Dependency, DependencyKind},
    shown::Version,
};
use crate::{
    api::SourceKind,
    cluster::{self, Cluster},
    sensitive::Sensitive,
};

/// What lies under a key.
#[derive(Clone, Debug)]
pub enum KeptText {
    /// Nothing: there is no such key.
    Absent,
    /// What is not UTF-8.
    Binary,
    /// A text.
    Is(Arc<Sensitive<String>>),
}

/// Texts of one version of a ConfigMap or Secret.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Uid and resource version; empty where there is no such thing.
    pub version: String,
    /// Each text.
    pub by_key: BTreeMap<String, KeptText>,
    read: Option<Instant>,
}

/// Uid and resource version, in one.
pub fn version(meta: &ObjectMeta) -> String {
    Version::of(meta).to_string()
}

impl Texts {
    /// Whether these have the keys and are of the version that the watch shows, or were read after `asked`.
    pub(super) fn serve(&self, keys: &BTreeSet<&str>, seen: Option<&str>, asked: Instant) -> bool {
        let Some(read) = self.read else { return false };
        (read >= asked || seen == Some(&self.version))
            && keys.iter().all(|key| self.by_key.contains_key(*key))
    }

    /// How much room they take, about.
    pub(super) fn bytes(&self) -> usize {
        let of = |text: &KeptText| match text {
            KeptText::Is(text) => text.expose().len(),
            KeptText::Absent | KeptText::Binary => 0,
        };
        self.by_key.iter().map(|(key, text)| key.len() + of(text) + 64).sum()
    }

    /// These keys, and those that others have asked for.
    pub(super) fn with(&self, keys: &BTreeSet<&str>) -> BTreeSet<String> {
        self.by_key.keys().cloned().chain(keys.iter().map(|key| (*key).to_owned())).collect()
    }

    /// Reads them.
    pub(super) async fn read(
        input: &Dependency,
        keys: BTreeSet<String>,
        cluster: &Cluster,
    ) -> Result<Self, cluster::Error> {
        let read = Some(Instant::now());
        let kind = match input.kind {
            DependencyKind::ConfigMap => SourceKind::ConfigMap,
            DependencyKind::Secret | DependencyKind::ServiceAccount => SourceKind::Secret,
        };
        let wanted = keys.iter().map(String::as_str);
        let bundle = cluster.read_keys(kind, &input.namespace, &input.name, wanted).await?;
        let (version, mut found) =
            bundle.map_or_else(Default::default, |bundle| (version(&bundle.metadata), bundle.keys));
        let text = |mut bytes: Sensitive<Vec<u8>>| match String::from_utf8(std::mem::take(bytes.expose_mut()))
        {
            Ok(text) => KeptText::Is(Arc::new(Sensitive::new(text))),
            Err(error) => {
                drop(Sensitive::new(error.into_bytes()));
                KeptText::Binary
            }
        };
        let texts = keys.into_iter().map(|key| {
            let text = found.remove(&key).map_or(KeptText::Absent, text);
            (key, text)
        });
        Ok(Self { version, by_key: texts.collect(), read })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn kept_texts_serve_while_the_watch_shows_their_version_or_they_are_young() {
        let now = Instant::now();
        let by_key = BTreeMap::from([("a".to_owned(), KeptText::Absent)]);
        let kept = Texts { version: "u/1".into(), by_key, read: Some(now) };
        let (a, b) = (BTreeSet::from(["a"]), BTreeSet::from(["a", "b"]));
        let (before, after) =
            (now.checked_sub(Duration::from_secs(1)).unwrap(), now + Duration::from_secs(1));
        assert!(kept.serve(&a, Some("u/1"), after));
        assert!(kept.serve(&a, None, before));
        assert!(kept.serve(&a, Some("u/2"), before), "what the watch shows may be older than what was read");
        assert!(!kept.serve(&a, Some("u/2"), after));
        assert!(!kept.serve(&a, None, after));
        assert!(!kept.serve(&b, Some("u/1"), after));
        assert!(!Texts::default().serve(&a, Some(""), before));
        assert_eq!(kept.with(&BTreeSet::from(["b"])), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    }
}
