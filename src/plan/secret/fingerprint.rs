//! Fingerprints of what of a Secret is the operator's.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use k8s_openapi::api::core::v1::Secret;

use super::{Desired, Owner, merge};
use crate::sensitive::Sensitive;

/// Makes fingerprints of a Secret's content under a key that never leaves the process: equal content, equal
/// fingerprint, and nothing of the content can be guessed from it.
pub struct FingerprintKey(hmac::Key);

/// Stands for the type of a Secret that is merged into, which is not the operator's.
const MERGED: &str = "merged";

/// HMAC-SHA256 over what of a Secret is the operator's.
pub type Fingerprint = [u8; 32];

impl FingerprintKey {
    /// A new random key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<Self, String> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map(Self)
            .map_err(|_| "the system gives no randomness".into())
    }

    /// The fingerprint of the Secret as it should be.
    pub fn of_desired(&self, desired: &Desired, owner: &Owner) -> Fingerprint {
        let labels = desired.wanted_labels();
        let annotations = desired.wanted_annotations(owner);
        self.sign(
            &desired.type_,
            [desired.owned, desired.immutable],
            labels.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
            annotations.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
            desired.data.iter().map(|(k, v)| (k.as_str(), v.expose().as_slice())),
        )
    }

    /// The fingerprint of a Secret that is there, over what of it would be the operator's: another's label does not count.
    pub fn of_existing(&self, existing: &Secret, desired: &Desired, owner: &Owner) -> Fingerprint {
        let empty = BTreeMap::new();
        let labels = existing.metadata.labels.as_ref().unwrap_or(&empty);
        let annotations = existing.metadata.annotations.as_ref().unwrap_or(&empty);
        let (wanted_labels, wanted_annotations) =
            (desired.wanted_labels(), desired.wanted_annotations(owner));
        let names_us = existing.metadata.owner_references.iter().flatten().any(|o| o.uid == owner.uid);
        self.sign(
            existing.type_.as_deref().unwrap_or("Opaque"),
            [names_us, existing.immutable == Some(true)],
            wanted_labels.keys().map(|k| (k.as_str(), labels.get(k).map(String::as_str))),
            wanted_annotations.keys().map(|k| (k.as_str(), annotations.get(k).map(String::as_str))),
            existing.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())),
        )
    }

    /// Half a fingerprint of one value of a variable: enough to tell two values of it apart.
    pub fn of_value(&self, id: &str, value: &[u8]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(id.len() as u64).to_be_bytes());
        context.update(id.as_bytes());
        context.update(value);
        let mut half = [0; 16];
        half.copy_from_slice(&context.sign().as_ref()[..16]);
        half
    }

    /// The fingerprint of what is to be merged into a Secret.
    pub fn of_merge(&self, desired: &Desired) -> Fingerprint {
        let labels = merge::labels(desired);
        self.sign(
            MERGED,
            [false, false],
            labels.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
            desired.annotations.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
            desired.data.iter().map(|(k, v)| (k.as_str(), v.expose().as_slice())),
        )
    }

    /// The fingerprint of what of a Secret one of the operator's objects merged into it: what others put there does not count.
    pub fn of_merged(&self, existing: &Secret, owner: &Owner) -> Fingerprint {
        let own = merge::own(&existing.metadata, owner);
        let empty = BTreeMap::new();
        let labels = existing.metadata.labels.as_ref().unwrap_or(&empty);
        let annotations = existing.metadata.annotations.as_ref().unwrap_or(&empty);
        let data = existing.data.iter().flatten().filter(|(k, _)| own.data.contains(*k));
        self.sign(
            MERGED,
            [false, false],
            own.labels.iter().map(|k| (k.as_str(), labels.get(k).map(String::as_str))),
            own.annotations.iter().map(|k| (k.as_str(), annotations.get(k).map(String::as_str))),
            data.map(|(k, v)| (k.as_str(), v.0.as_slice())),
        )
    }

    /// The fingerprint of data alone: whether its revision is another.
    pub fn of_data(&self, data: &BTreeMap<String, Sensitive<Vec<u8>>>) -> Fingerprint {
        let none = std::iter::empty;
        self.sign(
            "",
            [false; 2],
            none(),
            none(),
            data.iter().map(|(k, v)| (k.as_str(), v.expose().as_slice())),
        )
    }

    fn sign<'a>(
        &self,
        type_: &str,
        flags: [bool; 2],
        labels: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        annotations: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        data: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.0);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(type_.as_bytes());
        part(&flags.map(u8::from));
        for (section, entries) in [(b"l", labels.collect::<Vec<_>>()), (b"a", annotations.collect())] {
            for (key, value) in entries {
                part(section);
                part(key.as_bytes());
                part(&[u8::from(value.is_some())]);
                part(value.unwrap_or_default().as_bytes());
            }
        }
        for (key, value) in data {
            part(b"d");
            part(key.as_bytes());
            part(value);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}
