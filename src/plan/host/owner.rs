//! Whose a host is, by its annotations in Conjur.

use super::step::Maker;
use crate::{
    api::{ADOPT_ANNOTATION, CREATED_ANNOTATION, OWNER_ANNOTATION},
    plan::record_owner::RecordOwner,
};

/// The kind, as owner annotations name it.
pub const KIND: &str = "ConjurHost";

/// How the owner annotation of a host names an object.
pub fn owner_of(cluster: &str, namespace: &str, name: &str) -> RecordOwner {
    RecordOwner {
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
        kind: KIND.to_owned(),
        name: name.to_owned(),
    }
}

/// How the makers of hosts are told apart for an object.
pub struct HostOwnership<'a> {
    /// Texts of the owner annotation that name the object: of this cluster, and of the one that it says it was before.
    pub mine: &'a [String],
    /// Whether it is believed of which cluster it was; else only a host whose annotation in Conjur gives it to the object is its own
    /// from there.
    pub is_former_believed: bool,
    /// Whether the object that an owner annotation names is gone: then it names none.
    pub is_gone: &'a dyn Fn(&RecordOwner) -> bool,
    /// What names another object may be taken over, too.
    pub takes_marked: bool,
}

impl HostOwnership<'_> {
    /// Whose a host with these annotations is.
    pub fn maker(&self, annotations: &[(&str, &str)]) -> Maker {
        let find =
            |wanted: &str| annotations.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let believed =
            if self.is_former_believed { self.mine } else { self.mine.get(..1).unwrap_or_default() };
        let is_mine = |text: &str| believed.iter().any(|mine| mine == text);
        let is_given = find(ADOPT_ANNOTATION).is_some_and(is_mine);
        let is_former = |text: &str| is_given && self.mine.iter().any(|mine| mine == text);
        match find(OWNER_ANNOTATION) {
            None => Maker::Unmarked,
            Some(owner) if is_mine(owner) || is_former(owner) => {
                Maker::Ours { created: find(CREATED_ANNOTATION) == Some("true") }
            }
            Some(_) if is_given => Maker::Unmarked,
            Some(owner)
                if self.takes_marked
                    || RecordOwner::parse(owner).is_some_and(|owner| (self.is_gone)(&owner)) =>
            {
                Maker::Unmarked
            }
            Some(owner) => Maker::Another(owner.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_whose_annotation_it_carries() {
        let mine = [owner_of("c1", "pay", "web").to_string(), owner_of("c0", "pay", "web").to_string()];
        let is_gone = |owner: &RecordOwner| *owner == owner_of("c1", "pay", "gone");
        let ours = |created| Maker::Ours { created };
        let another = |text: &str| Maker::Another(text.to_owned());
        for (annotations, takes_marked, expected) in [
            (vec![], false, Maker::Unmarked),
            (vec![("team", "pay")], false, Maker::Unmarked),
            (vec![(OWNER_ANNOTATION, "c1/pay/ConjurHost/web")], false, ours(false)),
            (
                vec![(OWNER_ANNOTATION, "c1/pay/ConjurHost/web"), (CREATED_ANNOTATION, "true")],
                false,
                ours(true),
            ),
            (
                vec![(OWNER_ANNOTATION, "c0/pay/ConjurHost/web"), (CREATED_ANNOTATION, "yes")],
                false,
                ours(false),
            ),
            // Another cluster, namespace, kind, name.
            (vec![(OWNER_ANNOTATION, "c2/pay/ConjurHost/web")], false, another("c2/pay/ConjurHost/web")),
            (vec![(OWNER_ANNOTATION, "c1/shop/ConjurHost/web")], false, another("c1/shop/ConjurHost/web")),
            (vec![(OWNER_ANNOTATION, "c1/pay/ConjurPush/web")], false, another("c1/pay/ConjurPush/web")),
            (vec![(OWNER_ANNOTATION, "c1/pay/ConjurHost/other")], false, another("c1/pay/ConjurHost/other")),
            (vec![(OWNER_ANNOTATION, "c1/pay/ConjurHost/other")], true, Maker::Unmarked),
            // Gone, or given.
            (vec![(OWNER_ANNOTATION, "c1/pay/ConjurHost/gone")], false, Maker::Unmarked),
            (
                vec![(OWNER_ANNOTATION, "c2/x/ConjurHost/y"), (ADOPT_ANNOTATION, "c1/pay/ConjurHost/web")],
                false,
                Maker::Unmarked,
            ),
            (
                vec![(OWNER_ANNOTATION, "c2/x/ConjurHost/y"), (ADOPT_ANNOTATION, "c1/pay/ConjurHost/x")],
                false,
                another("c2/x/ConjurHost/y"),
            ),
        ] {
            let ownership =
                HostOwnership { mine: &mine, is_former_believed: true, is_gone: &is_gone, takes_marked };
            assert_eq!(ownership.maker(&annotations), expected, "{annotations:?}");
        }
    }

    #[test]
    fn of_which_cluster_an_object_was_is_believed_only_where_the_host_says_so_too() {
        let mine = [owner_of("c1", "pay", "web").to_string(), owner_of("c0", "pay", "web").to_string()];
        let former = (OWNER_ANNOTATION, "c0/pay/ConjurHost/web");
        let made = (CREATED_ANNOTATION, "true");
        let another = || Maker::Another("c0/pay/ConjurHost/web".to_owned());
        for (annotations, believed, unbelieved) in [
            (vec![former, made], Maker::Ours { created: true }, another()),
            // Given to the object; or to the one of the other cluster, which may be there.
            (
                vec![former, made, (ADOPT_ANNOTATION, "c1/pay/ConjurHost/web")],
                Maker::Ours { created: true },
                Maker::Ours { created: true },
            ),
            (
                vec![former, made, (ADOPT_ANNOTATION, "c0/pay/ConjurHost/web")],
                Maker::Ours { created: true },
                another(),
            ),
            (
                vec![(OWNER_ANNOTATION, "c2/x/ConjurHost/y"), (ADOPT_ANNOTATION, "c0/pay/ConjurHost/web")],
                Maker::Unmarked,
                Maker::Another("c2/x/ConjurHost/y".to_owned()),
            ),
            (
                vec![(OWNER_ANNOTATION, "c1/pay/ConjurHost/web")],
                Maker::Ours { created: false },
                Maker::Ours { created: false },
            ),
        ] {
            for (is_former_believed, expected) in [(true, believed), (false, unbelieved)] {
                let ownership = HostOwnership {
                    mine: &mine,
                    is_former_believed,
                    is_gone: &|_| false,
                    takes_marked: false,
                };
                assert_eq!(ownership.maker(&annotations), expected, "{annotations:?} {is_former_believed}");
            }
        }
    }
}
