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
    /// Texts of the owner annotation that name the object: of this cluster, and of the one that it was before.
    pub mine: &'a [String],
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
        let is_mine = |text: &str| self.mine.iter().any(|mine| mine == text);
        match find(OWNER_ANNOTATION) {
            None => Maker::Unmarked,
            Some(owner) if is_mine(owner) => {
                Maker::Ours { created: find(CREATED_ANNOTATION) == Some("true") }
            }
            Some(_) if find(ADOPT_ANNOTATION).is_some_and(is_mine) => Maker::Unmarked,
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
            let ownership = HostOwnership { mine: &mine, is_gone: &is_gone, takes_marked };
            assert_eq!(ownership.maker(&annotations), expected, "{annotations:?}");
        }
    }
}
