//! How objects are named in queues and caches.

use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: ResourceExt::namespace(object).unwrap_or_default(), name: object.name_any() }
    }

    /// Where the object is found in a store of its kind.
    pub fn reference<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        let at = ObjectRef::new(&self.name);
        if self.namespace.is_empty() { at } else { at.within(&self.namespace) }
    }
}
