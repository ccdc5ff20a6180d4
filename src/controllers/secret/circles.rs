//! Which objects read their templates from one another's Secrets, and who waits for such a circle to be broken.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use crate::{
    plan::secret::circle::{Circle, Reader, Readers},
    runtime::Key,
};

/// By namespace: no template lies in another.
#[derive(Default)]
pub struct Circles(Mutex<HashMap<String, NamespaceCircles>>);

#[derive(Default)]
struct NamespaceCircles {
    readers: Readers,
    /// By object: those that were refused for a circle that it is part of.
    refused: HashMap<String, BTreeSet<String>>,
}

impl Circles {
    fn with<T>(&self, namespace: &str, change: impl FnOnce(&mut NamespaceCircles) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = all.entry(namespace.to_owned()).or_default();
        let done = change(here);
        if here.readers.is_empty() && here.refused.is_empty() {
            all.remove(namespace);
        }
        done
    }

    /// An object writes and reads this from now on; none where it is gone. Those that are to look again.
    pub fn set(&self, object: &Key, reader: Option<Reader>) -> Vec<Key> {
        self.with(&object.namespace, |here| {
            if !here.readers.set(&object.name, reader) {
                return Vec::new();
            }
            let waiting = here.refused.remove(&object.name).unwrap_or_default();
            let others = waiting.into_iter().filter(|name| *name != object.name);
            others.map(|name| Key { namespace: object.namespace.clone(), name }).collect()
        })
    }

    /// The circle that an object is part of. A change of each that is in it wakes the object.
    pub fn of(&self, object: &Key) -> Option<Circle> {
        self.with(&object.namespace, |here| {
            let circle = here.readers.circle(&object.name)?;
            if let Circle::Back(way) = &circle {
                for member in way.iter().filter(|name| **name != object.name) {
                    here.refused.entry(member.clone()).or_default().insert(object.name.clone());
                }
            }
            Some(circle)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_refused_looks_again_when_another_of_the_circle_is_changed_or_gone() {
        let key = |name: &str| Key { namespace: "n".into(), name: name.into() };
        let reader =
            |writes: &str, reads: &str| Some(Reader { writes: writes.into(), reads: vec![reads.into()] });
        let circles = Circles::default();
        for (object, reads) in [("a", "b"), ("b", "c"), ("c", "a")] {
            assert_eq!(circles.set(&key(object), reader(object, reads)), []);
        }
        assert!(circles.of(&key("a")).is_some() && circles.of(&key("b")).is_some());
        assert_eq!(circles.set(&key("c"), reader("c", "a")), [], "it is as it was");
        assert_eq!(circles.set(&key("c"), reader("c", "text")), [key("a"), key("b")]);
        assert_eq!(circles.of(&key("a")), None);
        assert_eq!(circles.set(&key("c"), reader("c", "a")), []);
        assert!(circles.of(&key("a")).is_some());
        assert_eq!(circles.set(&key("c"), None), [key("a")]);
        for object in ["a", "b"] {
            circles.set(&key(object), None);
        }
        assert!(circles.0.lock().unwrap().is_empty());
    }
}
