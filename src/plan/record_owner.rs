//! Whose a record in Conjur is that the operator made: it says so in an annotation, by cluster, namespace, kind and name of
//! the object that it was made for.

use std::{collections::BTreeMap, fmt};

use crate::api::{CREATED_ANNOTATION, OWNER_ANNOTATION};

/// The object of a cluster that a record was made for: `<uid of kube-system>/<namespace>/<kind>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordOwner {
    /// Uid of the Namespace kube-system, which tells one cluster from others.
    pub cluster: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for RecordOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.cluster, self.namespace, self.kind, self.name)
    }
}

impl RecordOwner {
    /// Reads an annotation; none where it is of another form.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let [cluster, namespace, kind, name] = parts[..] else { return None };
        let filled = parts.iter().all(|part| !part.is_empty());
        filled.then(|| Self {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The annotations of a record that the operator makes for the object.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (OWNER_ANNOTATION.to_owned(), self.to_string()),
            (CREATED_ANNOTATION.to_owned(), "true".to_owned()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_as_it_was_written() {
        let owner = RecordOwner::parse("c1/ns/ConjurPush/a.b").unwrap();
        assert_eq!(owner.to_string(), "c1/ns/ConjurPush/a.b");
        assert_eq!((owner.namespace.as_str(), owner.name.as_str()), ("ns", "a.b"));
        for text in ["", "ConjurPush/a", "c1/ns/ConjurPush/", "c1/ns/ConjurPush/a/b", "c1//ConjurPush/a"] {
            assert_eq!(RecordOwner::parse(text), None, "{text}");
        }
    }
}
