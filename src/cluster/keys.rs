//! What lies under a key of a ConfigMap.

use k8s_openapi::api::core::v1::ConfigMap;

/// Takes the bytes under a key out of a ConfigMap, whose `data` and `binaryData` have no key in common; none where there
/// is no such key.
pub fn take_key(map: &mut ConfigMap, key: &str) -> Option<Vec<u8>> {
    let text = map.data.as_mut().and_then(|data| data.remove(key)).map(String::into_bytes);
    text.or_else(|| map.binary_data.as_mut()?.remove(key).map(|bytes| bytes.0))
}
