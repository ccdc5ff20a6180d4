//! A Secret in memory.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
};

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroize;

/// A Secret that was read, or is to be written. Its values are overwritten when it is dropped, and never printed.
#[derive(Clone, Default, PartialEq)]
pub struct SecretRead(Secret);

impl From<Secret> for SecretRead {
    fn from(secret: Secret) -> Self {
        Self(secret)
    }
}

impl Deref for SecretRead {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.0
    }
}

impl DerefMut for SecretRead {
    fn deref_mut(&mut self) -> &mut Secret {
        &mut self.0
    }
}

impl Drop for SecretRead {
    fn drop(&mut self) {
        for value in self.0.data.iter_mut().flat_map(BTreeMap::values_mut) {
            value.0.zeroize();
        }
    }
}

impl fmt::Debug for SecretRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = (&self.0.metadata.namespace, &self.0.metadata.name);
        f.debug_struct("SecretRead").field("namespace", namespace).field("name", name).finish_non_exhaustive()
    }
}
