//! Whose a variable is, and what is to be done with it.

use crate::{
    api::push::{PushedVariable, PushedVersion},
    plan::record_owner::RecordOwner,
};

/// A variable, as Conjur shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownVariable {
    /// The owner annotation.
    pub owner: Option<String>,
    /// Whether it says that the operator made it.
    pub created: bool,
    /// The annotation that lets an object take it over.
    pub adopt: Option<String>,
    /// The number of its newest version; none where it holds no value.
    pub version: Option<u32>,
    /// When it was made, in milliseconds since 1970; empty where the server does not say it.
    pub made: String,
    /// The branch that it was made in; none where only the list was looked at, which does not say it.
    pub branch: Option<String>,
}

/// What an object asks for, and who it is.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub struct PushTerms {
    /// The object.
    pub me: RecordOwner,
    /// The same, in the cluster that this one was restored from.
    pub former: Option<RecordOwner>,
    /// `conflictPolicy: Adopt`.
    pub adopts: bool,
    /// It goes through a ClusterConjurConnection.
    pub is_tenant: bool,
    /// `updatePolicy: IfNotExists`.
    pub only_empty: bool,
    /// `createVariables` is set.
    pub makes: bool,
    /// The look began after the object's last write.
    pub look_is_newer: bool,
}

impl PushTerms {
    /// Whether a variable of this owner is the object's own of before its cluster was restored. Through a ClusterConjurConnection
    /// the variable itself must say so: there the cluster of that name may be another that lives.
    fn is_former(&self, owner: &RecordOwner, shown: &ShownVariable) -> bool {
        self.former.as_ref() == Some(owner) && (!self.is_tenant || self.is_permitted(shown))
    }

    /// Whether the variable names this object as the one that may take it over.
    fn is_permitted(&self, shown: &ShownVariable) -> bool {
        shown.adopt.as_deref() == Some(&self.me.to_string())
    }

    /// Whether a variable says that it is the object's.
    pub fn is_own(&self, shown: &ShownVariable) -> bool {
        let owner = shown.owner.as_deref().and_then(RecordOwner::parse);
        owner.is_some_and(|owner| owner == self.me || self.is_former(&owner, shown))
    }
}

/// What has become of the object of this cluster that a variable says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerNow {
    /// It is there no more.
    Gone,
    /// It keeps the variable.
    Keeps,
    /// It is a younger ConjurPush: of two the older has a variable, whoever made it.
    Yields,
}

/// What is to be done with a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushStep {
    /// It is to be made, and then filled. `again`: it was the object's, and is gone.
    Make {
        /// It was there, and is gone.
        again: bool,
    },
    /// It is not there, and is not to be made.
    NotFound {
        /// It was there, and is gone.
        again: bool,
    },
    /// It gets the value.
    Fill {
        /// Another writer changed it.
        overwritten: bool,
        /// It is another's, and becomes this object's.
        takes_over: bool,
    },
    /// It holds the value; the number of the version that does.
    Settled(u32),
    /// It holds a value, and is left alone. `mine`: it is the object's.
    Leave {
        /// It is the object's.
        mine: bool,
    },
    /// It is another writer's.
    Foreign {
        /// The owner annotation, where there is one.
        owner: Option<String>,
    },
    /// It is another object's, of this cluster.
    Taken(RecordOwner),
}

enum Holder {
    Nobody,
    Me,
    /// A live object of this cluster.
    Here(RecordOwner),
    /// The same, which has to give it up.
    Younger,
    Other(String),
}

/// Decides what is to be done with a variable. `known`: what the status says of it; `changed`: the value may be another than
/// the one that was pushed; `now`: what has become of an object of this cluster.
pub fn decide(
    shown: Option<&ShownVariable>,
    known: Option<&PushedVariable>,
    changed: bool,
    terms: &PushTerms,
    now: impl Fn(&RecordOwner) -> OwnerNow,
) -> PushStep {
    let Some(shown) = shown else {
        // What was merely announced may never have been there.
        let again = known.is_some_and(|known| known.version != PushedVersion::Announced);
        return if terms.makes { PushStep::Make { again } } else { PushStep::NotFound { again } };
    };
    let holder = holder(shown, terms, now);
    let is_same = known.is_some_and(|known| match &known.made {
        Some(made) => *made == shown.made,
        // It was about to be made: what holds a value by now is not known to be what was.
        None => known.version != PushedVersion::Announced || shown.version.is_none(),
    });
    let mine = match &holder {
        Holder::Me => true,
        // One that was made anew since, by another and without an annotation, is another one.
        Holder::Nobody => is_same,
        Holder::Here(_) | Holder::Younger | Holder::Other(_) => false,
    };
    if terms.only_empty && shown.version.is_some() {
        return PushStep::Leave { mine };
    }
    let made_anew = !is_same && known.is_some_and(|known| known.made.is_some());
    let of_mine = || of_mine(shown, known.filter(|_| is_same), made_anew, changed, terms);
    if mine {
        return of_mine();
    }
    match holder {
        Holder::Here(object) => PushStep::Taken(object),
        // What was taken over before, and could not be told so, is not taken over at each look.
        Holder::Younger if is_same => of_mine(),
        Holder::Younger => PushStep::Fill { overwritten: false, takes_over: true },
        // One that still names an object that is gone is given this one's name.
        Holder::Nobody | Holder::Me if shown.version.is_none() => {
            PushStep::Fill { overwritten: false, takes_over: shown.owner.is_some() }
        }
        Holder::Nobody | Holder::Me if terms.adopts => {
            PushStep::Fill { overwritten: false, takes_over: true }
        }
        Holder::Nobody | Holder::Me => PushStep::Foreign { owner: None },
        Holder::Other(owner) => {
            let permitted = !terms.is_tenant || terms.is_permitted(shown);
            if terms.adopts && permitted && is_same {
                of_mine()
            } else if terms.adopts && permitted {
                PushStep::Fill { overwritten: false, takes_over: true }
            } else {
                PushStep::Foreign { owner: Some(owner) }
            }
        }
    }
}

fn holder(shown: &ShownVariable, terms: &PushTerms, now: impl Fn(&RecordOwner) -> OwnerNow) -> Holder {
    let Some(text) = &shown.owner else { return Holder::Nobody };
    match RecordOwner::parse(text) {
        Some(owner) if owner == terms.me || terms.is_former(&owner, shown) => Holder::Me,
        Some(owner) if owner.cluster == terms.me.cluster => match now(&owner) {
            OwnerNow::Gone => Holder::Nobody,
            OwnerNow::Keeps => Holder::Here(owner),
            OwnerNow::Yields => Holder::Younger,
        },
        _ => Holder::Other(text.clone()),
    }
}

fn of_mine(
    shown: &ShownVariable,
    known: Option<&PushedVariable>,
    made_anew: bool,
    changed: bool,
    terms: &PushTerms,
) -> PushStep {
    let fill = |overwritten| PushStep::Fill { overwritten, takes_over: false };
    let Some(known) = known else { return fill(made_anew) };
    match (known.version, shown.version) {
        (PushedVersion::Announced, _) => fill(false),
        // It lost its value: someone made it anew within the same moment, or the server forgot it.
        (PushedVersion::Number(_), None) => fill(true),
        (PushedVersion::Number(last), Some(now)) if now > last => fill(true),
        (PushedVersion::Number(_), Some(_)) if changed => fill(false),
        // The value was the same as before, and made no new version.
        (PushedVersion::Number(_), Some(now)) if terms.look_is_newer => PushStep::Settled(now),
        (PushedVersion::Number(last), Some(_)) => PushStep::Settled(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "c1/ns/ConjurPush/a";

    fn terms() -> PushTerms {
        PushTerms {
            me: RecordOwner::parse(ME).unwrap(),
            former: None,
            adopts: false,
            is_tenant: false,
            only_empty: false,
            makes: true,
            look_is_newer: false,
        }
    }

    fn shown(owner: Option<&str>, version: Option<u32>) -> ShownVariable {
        ShownVariable {
            owner: owner.map(str::to_owned),
            created: owner.is_some(),
            adopt: None,
            version,
            made: "m".into(),
            branch: None,
        }
    }

    fn known(version: PushedVersion) -> PushedVariable {
        PushedVariable { id: "v".into(), created: true, version, made: Some("m".into()) }
    }

    fn now(owner: &RecordOwner) -> OwnerNow {
        match owner.name.as_str() {
            "gone" => OwnerNow::Gone,
            "younger" => OwnerNow::Yields,
            _ => OwnerNow::Keeps,
        }
    }

    fn step(shown: Option<&ShownVariable>, known: Option<&PushedVariable>, terms: &PushTerms) -> PushStep {
        decide(shown, known, false, terms, now)
    }

    const FILL: PushStep = PushStep::Fill { overwritten: false, takes_over: false };
    const REPAIR: PushStep = PushStep::Fill { overwritten: true, takes_over: false };
    const TAKE_OVER: PushStep = PushStep::Fill { overwritten: false, takes_over: true };

    #[test]
    fn a_missing_variable_is_made_or_told() {
        let was = known(PushedVersion::Number(2));
        let announced = known(PushedVersion::Announced);
        let never = PushTerms { makes: false, ..terms() };
        for (known, again) in [(None, false), (Some(&was), true), (Some(&announced), false)] {
            assert_eq!(step(None, known, &terms()), PushStep::Make { again });
            assert_eq!(step(None, known, &never), PushStep::NotFound { again });
        }
    }

    #[test]
    fn whose_a_variable_is_decides_what_is_done_with_it() {
        let foreign = |owner: Option<&str>| PushStep::Foreign { owner: owner.map(str::to_owned) };
        let other = "c2/ns/ConjurPush/a";
        let taken = PushStep::Taken(RecordOwner::parse("c1/x/ConjurPush/b").unwrap());
        for (owner, version, refuse, adopt) in [
            (None, None, FILL, FILL),
            (None, Some(1), foreign(None), TAKE_OVER),
            (Some(ME), None, FILL, FILL),
            (Some(ME), Some(1), FILL, FILL),
            (Some(other), None, foreign(Some(other)), TAKE_OVER),
            (Some(other), Some(1), foreign(Some(other)), TAKE_OVER),
            (Some("somebody"), Some(1), foreign(Some("somebody")), TAKE_OVER),
            (Some("c1/x/ConjurPush/b"), Some(1), taken.clone(), taken.clone()),
            (Some("c1/x/ConjurPush/b"), None, taken.clone(), taken),
            (Some("c1/x/ConjurPush/younger"), Some(1), TAKE_OVER, TAKE_OVER),
            (Some("c1/x/ConjurPush/younger"), None, TAKE_OVER, TAKE_OVER),
            (Some("c1/x/ConjurPush/gone"), None, TAKE_OVER, TAKE_OVER),
            (Some("c1/x/ConjurPush/gone"), Some(1), foreign(None), TAKE_OVER),
        ] {
            let shown = shown(owner, version);
            assert_eq!(step(Some(&shown), None, &terms()), refuse, "{owner:?} {version:?}");
            let adopts = PushTerms { adopts: true, ..terms() };
            assert_eq!(step(Some(&shown), None, &adopts), adopt, "{owner:?} {version:?}");
        }
    }

    #[test]
    fn a_tenant_takes_over_only_what_has_no_owner_or_names_it() {
        let tenant = PushTerms { adopts: true, is_tenant: true, ..terms() };
        let other = shown(Some("c2/ns/ConjurPush/a"), Some(1));
        assert!(matches!(step(Some(&other), None, &tenant), PushStep::Foreign { .. }));
        let permitted = ShownVariable { adopt: Some(ME.into()), ..other.clone() };
        assert_eq!(step(Some(&permitted), None, &tenant), TAKE_OVER);
        let another = ShownVariable { adopt: Some("c1/ns/ConjurPush/b".into()), ..other };
        assert!(matches!(step(Some(&another), None, &tenant), PushStep::Foreign { .. }));
        assert_eq!(step(Some(&shown(None, Some(1))), None, &tenant), TAKE_OVER);
    }

    #[test]
    fn another_owners_annotation_counts_more_than_the_status() {
        let shown = shown(Some("c2/ns/ConjurPush/a"), Some(3));
        let told = step(Some(&shown), Some(&known(PushedVersion::Number(3))), &terms());
        assert!(matches!(told, PushStep::Foreign { .. }));
    }

    #[test]
    fn a_higher_version_or_one_made_anew_is_written_again_and_a_lower_one_is_not() {
        for (version, now, expected) in [
            (PushedVersion::Announced, None, FILL),
            (PushedVersion::Announced, Some(1), FILL),
            (PushedVersion::Number(3), Some(3), PushStep::Settled(3)),
            (PushedVersion::Number(3), Some(2), PushStep::Settled(3)),
            (PushedVersion::Number(3), Some(4), REPAIR),
            (PushedVersion::Number(3), None, REPAIR),
        ] {
            for owner in [Some(ME), None] {
                let shown = shown(owner, now);
                assert_eq!(
                    step(Some(&shown), Some(&known(version)), &terms()),
                    expected,
                    "{version:?} {now:?}"
                );
            }
        }
        let newer = PushTerms { look_is_newer: true, ..terms() };
        let lower = shown(None, Some(2));
        assert_eq!(step(Some(&lower), Some(&known(PushedVersion::Number(3))), &newer), PushStep::Settled(2));
        let anew = ShownVariable { made: "later".into(), ..shown(Some(ME), Some(1)) };
        assert_eq!(step(Some(&anew), Some(&known(PushedVersion::Number(3))), &terms()), REPAIR);
        let anothers = ShownVariable { made: "later".into(), ..shown(None, Some(1)) };
        let told = step(Some(&anothers), Some(&known(PushedVersion::Number(3))), &terms());
        assert_eq!(told, PushStep::Foreign { owner: None });
    }

    #[test]
    fn what_was_taken_over_is_not_taken_over_again() {
        let adopts = PushTerms { adopts: true, ..terms() };
        let other = shown(Some("c2/ns/ConjurPush/a"), Some(3));
        assert_eq!(step(Some(&other), None, &adopts), TAKE_OVER);
        assert_eq!(step(Some(&other), Some(&known(PushedVersion::Number(3))), &adopts), PushStep::Settled(3));
    }

    #[test]
    fn what_was_about_to_be_made_is_mine_only_while_it_holds_no_value() {
        let announced = PushedVariable { made: None, ..known(PushedVersion::Announced) };
        assert_eq!(step(Some(&shown(None, None)), Some(&announced), &terms()), FILL);
        let filled = step(Some(&shown(None, Some(1))), Some(&announced), &terms());
        assert_eq!(filled, PushStep::Foreign { owner: None }, "another made and filled it");
        assert_eq!(step(Some(&shown(Some(ME), Some(1))), Some(&announced), &terms()), FILL);
        assert_eq!(step(None, Some(&announced), &terms()), PushStep::Make { again: false });
    }

    #[test]
    fn a_changed_value_is_pushed() {
        let shown = shown(Some(ME), Some(3));
        let told = decide(Some(&shown), Some(&known(PushedVersion::Number(3))), true, &terms(), now);
        assert_eq!(told, FILL);
    }

    #[test]
    fn if_not_exists_leaves_every_value_and_fills_only_what_is_empty() {
        let terms = PushTerms { only_empty: true, ..terms() };
        for owner in [None, Some(ME), Some("c2/ns/ConjurPush/a"), Some("c1/x/ConjurPush/b")] {
            let told = step(Some(&shown(owner, Some(1))), None, &terms);
            assert_eq!(told, PushStep::Leave { mine: owner == Some(ME) }, "{owner:?}");
        }
        assert_eq!(step(Some(&shown(None, None)), None, &terms), FILL);
        let foreign = step(Some(&shown(Some("c2/ns/ConjurPush/a"), None)), None, &terms);
        assert!(matches!(foreign, PushStep::Foreign { .. }));
        let overwritten = shown(Some(ME), Some(4));
        let told = step(Some(&overwritten), Some(&known(PushedVersion::Number(3))), &terms);
        assert_eq!(told, PushStep::Leave { mine: true });
    }

    #[test]
    fn a_restored_cluster_knows_its_own_by_the_former_uid() {
        let former = shown(Some("c0/ns/ConjurPush/a"), Some(1));
        assert!(matches!(step(Some(&former), None, &terms()), PushStep::Foreign { .. }));
        let restored = PushTerms { former: RecordOwner::parse("c0/ns/ConjurPush/a"), ..terms() };
        assert_eq!(step(Some(&former), None, &restored), FILL);
        assert!(restored.is_own(&former));
        // Who only says so may mean a cluster that lives: through a ClusterConjurConnection the variable has to name the object.
        let tenant = PushTerms { is_tenant: true, ..restored };
        assert!(matches!(step(Some(&former), None, &tenant), PushStep::Foreign { .. }));
        assert!(!tenant.is_own(&former));
        let permitted = ShownVariable { adopt: Some(ME.into()), ..former };
        assert_eq!(step(Some(&permitted), None, &tenant), FILL);
        assert!(tenant.is_own(&permitted));
    }
}
