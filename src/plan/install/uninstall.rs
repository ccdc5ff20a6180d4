//! What an uninstall would lose or leave hanging.

use std::collections::BTreeMap;

use super::{ObjectName, resource};
use crate::api::{FINALIZER, HOST_FINALIZER, PUSH_FINALIZER};

/// So many names of a kind are listed; of the rest the number is told.
const LISTED: usize = 20;

/// What the operator alone takes away.
const OWN: [&str; 3] = [FINALIZER, HOST_FINALIZER, PUSH_FINALIZER];

/// An object that is there when the operator goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftObject {
    /// Which it is.
    pub name: ObjectName,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What of the operator's keeps it.
    pub finalizers: Vec<String>,
}

impl LeftObject {
    /// Whether only the operator can let it go.
    pub fn hangs(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|finalizer| OWN.contains(&finalizer.as_str()))
    }
}

/// Those of an object's finalizers that are the operator's.
pub fn own_finalizers(finalizers: &[String]) -> Vec<String> {
    finalizers.iter().filter(|finalizer| OWN.contains(&finalizer.as_str())).cloned().collect()
}

/// Says what would be lost or left hanging: `None` where nothing is.
pub fn obstacles(objects: &[LeftObject], crds_go: bool) -> Option<String> {
    let mut texts = Vec::new();
    let hanging: Vec<&ObjectName> = objects.iter().filter(|one| one.hangs()).map(|one| &one.name).collect();
    if !hanging.is_empty() {
        texts.push(format!(
            "these are being deleted, and only the operator can clean up for them in Conjur and take away their finalizers:\n{}\n\
             Wait until they are gone, or see what keeps them: kubectl get {} --all-namespaces",
            listed(&hanging),
            resource(&hanging[0].kind),
        ));
    }
    let all: Vec<&ObjectName> = objects.iter().map(|one| &one.name).collect();
    if crds_go && !all.is_empty() {
        texts.push(format!(
            "crds.keep is false, so the CRDs go, and with them these objects and the Secrets of ConjurSecrets:\n{}\n\
             Set crds.keep to true by an upgrade of the release to keep them, or delete them first",
            listed(&all),
        ));
    }
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// A line for each kind.
fn listed(names: &[&ObjectName]) -> String {
    let mut kinds = BTreeMap::<&str, Vec<String>>::new();
    for name in names {
        let place = if name.namespace.is_empty() { "" } else { "/" };
        kinds.entry(&name.kind).or_default().push(format!("{}{place}{}", name.namespace, name.name));
    }
    let lines = kinds.into_iter().map(|(kind, mut names)| {
        names.sort();
        let more = names.len().saturating_sub(LISTED);
        names.truncate(LISTED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("  {kind}: {}{more}", names.join(", "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, deleting: bool, finalizer: &str) -> LeftObject {
        LeftObject {
            name: ObjectName { kind: kind.into(), namespace: "a".into(), name: name.into() },
            deleting,
            finalizers: vec![finalizer.to_owned()],
        }
    }

    #[test]
    fn who_waits_for_the_operator_is_listed_and_nobody_else() {
        let at_rest = [
            object("ConjurPolicy", "stays", false, FINALIZER),
            object("ConjurSecret", "foreign", true, "example.com/other"),
        ];
        assert_eq!(obstacles(&at_rest, false), None);
        let hanging = [
            object("ConjurPolicy", "p", true, FINALIZER),
            object("ConjurPush", "q", true, PUSH_FINALIZER),
            object("ConjurHost", "h", true, HOST_FINALIZER),
        ];
        let text = obstacles(&[&at_rest[..], &hanging].concat(), false).unwrap();
        for expected in ["ConjurPolicy: a/p", "ConjurPush: a/q", "ConjurHost: a/h", "kubectl get"] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("stays") && !text.contains("foreign"), "{text}");
    }

    #[test]
    fn what_goes_with_the_crds_is_listed_and_long_lists_are_cut() {
        assert_eq!(obstacles(&[], true), None);
        let many: Vec<LeftObject> =
            (0..25).map(|n| object("ConjurSecret", &format!("s{n:02}"), false, "x")).collect();
        let text = obstacles(&many, true).unwrap();
        assert!(text.contains("a/s19 and 5 more") && !text.contains("a/s20"), "{text}");
        assert!(text.contains("crds.keep"), "{text}");
    }
}
