//! What a watch of a whole kind has shown: for each object its version, and nothing else.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
};

use aws_lc_rs::digest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::limits::WATCHED_OBJECTS;

/// Uid and resource version of an object, in 24 bytes: a cluster has ten thousands of Secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    uid: [u8; 16],
    revision: u64,
}

impl Version {
    /// Of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        let revision = meta.resource_version.as_deref().unwrap_or_default();
        Self {
            uid: uid(meta.uid.as_deref().unwrap_or_default()),
            // They are decimal numbers (guaranteed since Kubernetes 1.35, so long before).
            revision: revision.parse().unwrap_or_else(|_| {
                let mut first = [0; 8];
                first.copy_from_slice(&short_hash(revision)[..8]);
                u64::from_be_bytes(first)
            }),
        }
    }
}

fn short_hash(text: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..16]);
    short
}

/// A uid is a UUID; of anything else a hash.
fn uid(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let digits: String = text.chars().filter(|sign| *sign != '-').collect();
    match hex::decode_to_slice(digits, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => short_hash(text),
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uid = hex::encode(self.uid);
        let groups = [&uid[..8], &uid[8..12], &uid[12..16], &uid[16..20], &uid[20..]];
        write!(f, "{}/{}", groups.join("-"), self.revision)
    }
}

/// By a hash of namespace and name: the texts themselves would take most of the room.
type ShownVersions = HashMap<u64, Version>;

/// The objects of one kind, as the watch has shown them so far.
#[derive(Default)]
pub struct ShownObjects {
    /// Keyed, so that no one can choose names that meet.
    hasher: RandomState,
    versions: ShownVersions,
    /// What is being listed anew.
    listing: Option<ShownVersions>,
    /// It was listed once.
    listed: bool,
    /// There are more than are kept, so that what is not known may be there.
    overflown: bool,
}

impl ShownObjects {
    fn key(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    /// A list begins.
    pub fn begin(&mut self) {
        self.listing = Some(ShownVersions::new());
    }

    /// The list has ended: what was not in it is gone.
    pub fn end(&mut self) {
        if let Some(listing) = self.listing.take() {
            self.versions = listing;
        }
        self.listed = true;
    }

    /// An object is there, as the watch or a list shows it. Whether that is news. `wanted`: someone asks for it, so
    /// that it is kept in any case.
    pub fn put(&mut self, namespace: &str, name: &str, version: Version, wanted: bool) -> bool {
        let key = self.key(namespace, name);
        if let Some(listing) = &mut self.listing {
            listing.insert(key, version);
        }
        if !wanted && self.versions.len() >= WATCHED_OBJECTS && !self.versions.contains_key(&key) {
            self.overflown = true;
            if let Some(listing) = self.listing.as_mut().filter(|listing| listing.len() > WATCHED_OBJECTS) {
                listing.remove(&key);
            }
            return false;
        }
        self.versions.insert(key, version) != Some(version)
    }

    /// An object is gone. Whether that is news.
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let key = self.key(namespace, name);
        if let Some(listing) = &mut self.listing {
            listing.remove(&key);
        }
        self.versions.remove(&key).is_some()
    }

    /// The version of an object, an empty text where there is none; none where that is not known.
    pub fn version(&self, namespace: &str, name: &str) -> Option<String> {
        match self.versions.get(&self.key(namespace, name)) {
            Some(version) => Some(version.to_string()),
            None => (self.listed && !self.overflown).then(String::new),
        }
    }

    /// Whether it was listed once.
    pub fn is_listed(&self) -> bool {
        self.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(uid: &str, revision: &str) -> Version {
        Version::of(&ObjectMeta {
            uid: Some(uid.into()),
            resource_version: Some(revision.into()),
            ..ObjectMeta::default()
        })
    }

    #[test]
    fn a_version_is_printed_as_uid_and_resource_version() {
        let uid = "0dba3aa9-6d0c-4b3b-8a4e-8f1f1f4f0b0a";
        assert_eq!(version(uid, "1234").to_string(), format!("{uid}/1234"));
        assert_ne!(version("u1", "1"), version("u2", "1"));
        assert_ne!(version(uid, "1x"), version(uid, "2x"));
        assert_eq!(std::mem::size_of::<Version>(), 24);
    }

    #[test]
    fn what_is_not_there_is_known_only_after_a_list() {
        let mut shown = ShownObjects::default();
        assert_eq!(shown.version("n", "a"), None);
        shown.begin();
        assert!(shown.put("n", "a", version("a", "1"), false));
        assert!(!shown.put("n", "a", version("a", "1"), false), "the same again is no news");
        assert_eq!(shown.version("n", "a"), Some(version("a", "1").to_string()));
        assert_eq!(shown.version("n", "b"), None);
        shown.end();
        assert_eq!(shown.version("n", "b").as_deref(), Some(""));
        assert!(shown.put("n", "a", version("a", "2"), false));
        assert!(shown.remove("n", "a"));
        assert!(!shown.remove("n", "a"));
        assert_eq!(shown.version("n", "a").as_deref(), Some(""));
    }

    #[test]
    fn a_list_that_is_begun_anew_takes_away_what_went_meanwhile_and_nothing_before_it_ends() {
        let mut shown = ShownObjects::default();
        shown.begin();
        shown.put("n", "stays", version("s", "1"), false);
        shown.put("n", "goes", version("g", "1"), false);
        shown.end();
        shown.begin();
        shown.put("n", "stays", version("s", "1"), false);
        assert!(shown.version("n", "goes").is_some_and(|v| !v.is_empty()), "the list has not ended");
        shown.end();
        assert_eq!(shown.version("n", "goes").as_deref(), Some(""));
        assert!(shown.version("n", "stays").is_some_and(|v| !v.is_empty()));
    }

    #[test]
    fn beyond_the_bound_only_what_somebody_wants_is_kept_and_nothing_is_taken_for_gone() {
        let mut shown = ShownObjects::default();
        shown.begin();
        for n in 0..=WATCHED_OBJECTS as u64 {
            shown.put("n", &n.to_string(), Version { uid: [0; 16], revision: n }, false);
        }
        assert!(shown.put("n", "wanted", version("w", "1"), true));
        shown.end();
        assert!(shown.versions.len() <= WATCHED_OBJECTS + 1);
        assert!(shown.version("n", "wanted").is_some());
        assert_eq!(shown.version("n", "unknown"), None);
    }
}
