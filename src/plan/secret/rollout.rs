//! Which revision the data of a Secret has, and whether workloads are still to be restarted for it.
//!
//! A revision is `<lineage>-<number>`: the lineage is of the object (the beginning of its uid), the number counts the
//! changes of the data that its workloads are to see. It says nothing of the values. It is written with the data, in
//! the same call; then the workloads are patched; then the status says that they were (`rolledOut`). So a crash
//! anywhere between leaves a revision that is not rolled out, and patching a workload again to the revision that it
//! has changes nothing. The first revision is that of the first write, which restarts nothing.

use crate::{
    api::{REVISION_ANNOTATION, condition::clip},
    plan::hash::hash,
};

/// Longest name part of an annotation's key.
const NAME_LIMIT: usize = 63;

/// The annotation on the workloads' pod templates, and on Secrets that are merged into: one for each object, for
/// several may restart one workload, and several may merge into one Secret.
pub fn annotation_key(object: &str) -> String {
    let (group, name) = REVISION_ANNOTATION.split_once('/').unwrap_or(("", REVISION_ANNOTATION));
    let full = format!("{name}.{object}");
    if full.len() <= NAME_LIMIT {
        return format!("{group}/{full}");
    }
    format!("{group}/{}-{}", clip(&full, NAME_LIMIT - 33), hash([object]))
}

/// The revisions of one object's data.
#[derive(Clone, Copy, Debug)]
pub struct Lineage<'a> {
    uid: &'a str,
}

impl<'a> Lineage<'a> {
    /// Of the object with this uid.
    pub fn of(uid: &'a str) -> Self {
        Self { uid: clip(uid, 8) }
    }

    /// The number of a revision; none for one of an earlier object of the same name, or for what is no revision.
    fn number(self, revision: &str) -> Option<u64> {
        revision.strip_prefix(self.uid)?.strip_prefix('-')?.parse().ok()
    }

    /// The first of these that is a revision of the object's: of what the Secret says, what is remembered of it, and
    /// what the status says.
    pub fn standing(self, known: [Option<&str>; 3]) -> Option<&str> {
        known.into_iter().flatten().find(|revision| self.number(revision).is_some())
    }

    /// The revision of the data that is about to be written. `standing`: that of the data before, where it is known.
    pub fn next(self, standing: Option<&str>, data_differs: bool) -> String {
        let number = match standing.and_then(|revision| self.number(revision)) {
            None => 1,
            Some(number) if data_differs => number.saturating_add(1),
            Some(number) => number,
        };
        format!("{}-{number}", self.uid)
    }

    /// Whether workloads are to be restarted for a revision. `rolled_out`: the one that they last were.
    pub fn is_pending(self, revision: Option<&str>, rolled_out: Option<&str>) -> bool {
        let number = revision.and_then(|revision| self.number(revision));
        number.is_some_and(|number| number > 1) && revision != rolled_out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const UID: &str = "4f1c2a9b-0000-0000-0000-000000000000";

    #[test]
    fn a_revision_counts_the_changes_of_the_data() {
        let lineage = Lineage::of(UID);
        for (standing, differs, expected) in [
            (None, false, "4f1c2a9b-1"),
            (None, true, "4f1c2a9b-1"),
            (Some("4f1c2a9b-1"), false, "4f1c2a9b-1"),
            (Some("4f1c2a9b-1"), true, "4f1c2a9b-2"),
            (Some("4f1c2a9b-41"), true, "4f1c2a9b-42"),
            // Of an earlier object of this name, whose Secret stayed; or written by someone.
            (Some("aaaaaaaa-7"), true, "4f1c2a9b-1"),
            (Some("nonsense"), true, "4f1c2a9b-1"),
            (Some("4f1c2a9b-18446744073709551615"), true, "4f1c2a9b-18446744073709551615"),
        ] {
            assert_eq!(lineage.next(standing, differs), expected, "{standing:?} {differs}");
        }
    }

    #[test]
    fn only_a_later_revision_that_is_not_rolled_out_is_pending() {
        let lineage = Lineage::of(UID);
        for (revision, rolled_out, pending) in [
            (None, None, false),
            (Some("4f1c2a9b-1"), None, false),
            (Some("4f1c2a9b-1"), Some("4f1c2a9b-1"), false),
            (Some("4f1c2a9b-2"), Some("4f1c2a9b-1"), true),
            (Some("4f1c2a9b-2"), None, true),
            (Some("4f1c2a9b-2"), Some("4f1c2a9b-2"), false),
            (Some("aaaaaaaa-2"), None, false),
        ] {
            assert_eq!(lineage.is_pending(revision, rolled_out), pending, "{revision:?} {rolled_out:?}");
        }
    }

    #[test]
    fn what_the_secret_says_beats_what_is_remembered_and_that_the_status() {
        let lineage = Lineage::of(UID);
        let (first, second, third) = (Some("4f1c2a9b-3"), Some("4f1c2a9b-2"), Some("4f1c2a9b-1"));
        for (known, expected) in [
            ([first, second, third], first),
            ([None, second, third], second),
            ([Some("aaaaaaaa-9"), None, third], third),
            ([None, None, Some("aaaaaaaa-9")], None),
        ] {
            assert_eq!(lineage.standing(known), expected);
        }
    }

    #[test]
    fn each_object_has_a_key_of_its_own_that_the_api_server_takes() {
        assert_eq!(annotation_key("db"), "conjur-operator.io/revision.db");
        let long = |end: &str| annotation_key(&("a".repeat(240) + end));
        let name = |key: &str| key.split_once('/').unwrap().1.to_owned();
        assert_eq!(name(&long("x")).len(), 63);
        assert_ne!(long("x"), long("y"));
        assert_eq!(name(&annotation_key(&"a".repeat(54))).len(), 63);
        assert_eq!(name(&annotation_key(&"a".repeat(55))).len(), 63);
    }

    /// One object, its Secret and one workload, where any line may be the last before a crash.
    #[derive(Clone, Default)]
    struct World {
        secret: Option<(u32, String)>,
        status: (Option<String>, Option<String>),
        workload: Option<String>,
        restarts: u32,
    }

    /// One reconcile after a start (nothing remembered) that dies after `steps` effects; whether it got to the end.
    fn reconcile(world: &mut World, data: u32, recreate: bool, mut steps: u32) -> bool {
        let mut dies = || {
            let dead = steps == 0;
            steps = steps.saturating_sub(1);
            dead
        };
        let lineage = Lineage::of(UID);
        let there = world.secret.clone();
        let differs = there.as_ref().is_some_and(|(old, _)| *old != data);
        let known = [there.as_ref().map(|(_, r)| r.as_str()), None, world.status.0.as_deref()];
        let revision = lineage.next(lineage.standing(known), differs);
        if differs || there.is_none() {
            if recreate && differs {
                if dies() {
                    return false;
                }
                world.status.0 = Some(revision.clone());
                if dies() {
                    return false;
                }
                world.secret = None;
            }
            if dies() {
                return false;
            }
            world.secret = Some((data, revision.clone()));
        }
        if lineage.is_pending(Some(&revision), world.status.1.as_deref()) {
            if dies() {
                return false;
            }
            if world.workload.as_ref() != Some(&revision) {
                world.workload = Some(revision.clone());
                world.restarts += 1;
            }
        }
        if dies() {
            return false;
        }
        world.status = (Some(revision.clone()), Some(revision));
        true
    }

    #[test]
    fn each_change_restarts_exactly_once_whatever_crashes_between() {
        let mut outcomes = BTreeMap::new();
        for recreate in [false, true] {
            for first in 0..7 {
                for second in 0..7 {
                    let mut world = World::default();
                    // The first write, with a crash or without; then one change, with two crashes.
                    for steps in [first, second, 9] {
                        reconcile(&mut world, 1, recreate, steps);
                    }
                    assert_eq!(world.restarts, 0, "the first write restarts nothing");
                    for steps in [first, second, 9, 9] {
                        reconcile(&mut world, 2, recreate, steps);
                    }
                    assert_eq!(world.restarts, 1, "recreate {recreate}, crashes after {first} and {second}");
                    // GitOps put the template back as it was: no reason to restart again.
                    world.workload = None;
                    reconcile(&mut world, 2, recreate, 9);
                    *outcomes.entry(world.restarts).or_insert(0) += 1;
                    reconcile(&mut world, 3, recreate, 9);
                    assert_eq!(world.restarts, 2);
                }
            }
        }
        assert_eq!(outcomes, BTreeMap::from([(1, 98)]));
    }
}
