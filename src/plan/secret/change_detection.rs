//! Whether the variables of an object have other values than when it was last fetched, by the numbers of their newest
//! versions: `changeDetection: Version`.
//!
//! What is remembered comes from a list that was read before the values were, so that a value that changes between the two
//! is fetched once too often rather than never.

use std::hash::{DefaultHasher, Hash, Hasher};

/// What the list says of one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shown {
    /// The number of its newest version; none where it was never set.
    pub version: Option<u32>,
    /// Stands for when the variable was made: one that was removed and made again counts its versions anew.
    pub made: u64,
}

/// Which versions an object's Secret was made of, as a hash. Another variable, one more or one less count as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionsHash(u64);

/// One look at the variables of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    versions: VersionsHash,
    has_value: Vec<bool>,
}

impl Look {
    /// Takes the variables in the order in which the object names them, each with what the list says of it; none where the
    /// list does not show it.
    pub fn at<'a>(variables: impl IntoIterator<Item = (&'a str, Option<Shown>)>) -> Self {
        let mut hasher = DefaultHasher::new();
        let mut has_value = Vec::new();
        for (id, shown) in variables {
            (id, shown).hash(&mut hasher);
            has_value.push(shown.is_some_and(|shown| shown.version.is_some()));
        }
        has_value.len().hash(&mut hasher);
        Self { versions: VersionsHash(hasher.finish()), has_value }
    }

    /// Whether a fetch would bring what it brought then.
    pub fn is_as(&self, then: VersionsHash) -> bool {
        self.versions == then
    }

    /// What to remember after a fetch which brought a value or none for each of the variables, in the same order. Nothing
    /// where the list said otherwise of one: it does not show all that can be fetched, or it was just made or removed. Then
    /// the next refresh fetches.
    pub fn after(&self, brought: impl IntoIterator<Item = bool>) -> Option<VersionsHash> {
        self.has_value.iter().copied().eq(brought).then_some(self.versions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the list says of a variable with that newest version, or without one.
    const fn listed(version: Option<u32>) -> Shown {
        Shown { version, made: 1 }
    }

    const NEVER_SET: Option<Shown> = Some(listed(None));

    #[test]
    fn only_the_same_variables_with_the_same_versions_are_unchanged() {
        let base = || vec![("a", Some(listed(Some(1)))), ("b", Some(listed(Some(2))))];
        let then = Look::at(base()).after([true, true]).unwrap();
        assert!(Look::at(base()).is_as(then));
        for (what, now) in [
            ("a new version", vec![("a", Some(listed(Some(1)))), ("b", Some(listed(Some(3))))]),
            ("an older version", vec![("a", Some(listed(Some(1)))), ("b", Some(listed(Some(1))))]),
            ("versions exchanged", vec![("a", Some(listed(Some(2)))), ("b", Some(listed(Some(1))))]),
            (
                "made again",
                vec![("a", Some(listed(Some(1)))), ("b", Some(Shown { version: Some(2), made: 2 }))],
            ),
            ("no value any more", vec![("a", Some(listed(Some(1)))), ("b", NEVER_SET)]),
            ("not shown any more", vec![("a", Some(listed(Some(1)))), ("b", None)]),
            ("another one", vec![("a", Some(listed(Some(1)))), ("c", Some(listed(Some(2))))]),
            ("one less", vec![("a", Some(listed(Some(1))))]),
            (
                "one more",
                vec![
                    ("a", Some(listed(Some(1)))),
                    ("b", Some(listed(Some(2)))),
                    ("c", Some(listed(Some(1)))),
                ],
            ),
        ] {
            assert!(!Look::at(now).is_as(then), "{what}");
        }
    }

    #[test]
    fn nothing_is_remembered_where_list_and_fetch_disagree() {
        for (said, brought, agree) in [
            (Some(listed(Some(1))), true, true),
            (None, false, true),
            (NEVER_SET, false, true),
            // A list that does not show all that may be fetched would never tell of a change.
            (None, true, false),
            (NEVER_SET, true, false),
            // Shown, and yet left out: it will be there.
            (Some(listed(Some(1))), false, false),
        ] {
            let look = Look::at([("a", Some(listed(Some(7)))), ("b", said)]);
            assert_eq!(look.after([true, brought]).is_some(), agree, "{said:?} {brought}");
        }
        assert_eq!(Look::at([("a", Some(listed(Some(7))))]).after([]), None);
    }

    #[test]
    fn an_object_without_a_variable_to_look_at_never_changes() {
        let then = Look::at([]).after([]).unwrap();
        assert!(Look::at([]).is_as(then));
    }
}
