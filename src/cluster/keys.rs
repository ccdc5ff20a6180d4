//! What lies under keys of a ConfigMap or Secret.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Cluster, Error};
use crate::{api::SourceKind, sensitive::Sensitive};

/// What was read of a ConfigMap or Secret.
pub struct Bundle {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Those of the wanted keys that it has.
    pub keys: BTreeMap<String, Sensitive<Vec<u8>>>,
}

impl Cluster {
    /// Reads some keys of a ConfigMap or Secret. What else a Secret holds is wiped.
    ///
    /// # Errors
    /// Any but `NotFound`, which is `None`.
    pub async fn read_keys(
        &self,
        kind: SourceKind,
        namespace: &str,
        name: &str,
        keys: impl IntoIterator<Item = &str>,
    ) -> Result<Option<Bundle>, Error> {
        match kind {
            SourceKind::ConfigMap => {
                let Some(mut map) = self.read_config_map(namespace, name).await? else { return Ok(None) };
                let keys = taken(keys, |key| take_key(&mut map, key));
                Ok(Some(Bundle { keys, metadata: map.metadata }))
            }
            SourceKind::Secret => {
                let Some(mut secret) = self.read_secret(namespace, name).await? else { return Ok(None) };
                let keys = taken(keys, |key| Some(secret.data.as_mut()?.remove(key)?.0));
                let metadata = std::mem::take(&mut secret.metadata);
                Ok(Some(Bundle { metadata, keys }))
            }
        }
    }
}

fn taken<'k>(
    keys: impl IntoIterator<Item = &'k str>,
    mut take: impl FnMut(&str) -> Option<Vec<u8>>,
) -> BTreeMap<String, Sensitive<Vec<u8>>> {
    keys.into_iter().filter_map(|key| Some((key.to_owned(), Sensitive::new(take(key)?)))).collect()
}

/// Takes the bytes under a key out of a ConfigMap, whose `data` and `binaryData` have no key in common; none where there
/// is no such key.
fn take_key(map: &mut ConfigMap, key: &str) -> Option<Vec<u8>> {
    let text = map.data.as_mut().and_then(|data| data.remove(key)).map(String::into_bytes);
    text.or_else(|| map.binary_data.as_mut()?.remove(key).map(|bytes| bytes.0))
}
