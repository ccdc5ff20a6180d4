//! The documents that make, change and remove the variables of ConjurPushes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{CREATED_ANNOTATION, push::PushPermit},
    limits::{VARIABLES_BYTES, VARIABLES_NODES},
    plan::{
        policy::statements::{NotAsPlanned, RecordName, StatementKind, Statements, path_in},
        record_owner::RecordOwner,
    },
};

/// Variables that one object wants made, or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariablesWish {
    /// The object.
    pub owner: RecordOwner,
    /// Ids of the variables, below the branch.
    pub ids: Vec<String>,
    /// Their annotations, without the operator's own.
    pub annotations: BTreeMap<String, String>,
    /// Who may do what with them.
    pub permit: Vec<PushPermit>,
    /// What was given before, and is taken back.
    pub deny: Vec<PushPermit>,
    /// Ids of variables that become the object's, though it did not make them.
    pub adopted: BTreeSet<String>,
    /// Ids of variables that were made for the object and do not say so yet.
    pub bare: BTreeSet<String>,
    /// The owner annotation that each has, where it is there: one that has another by then is left alone.
    pub owners: BTreeMap<String, Option<String>>,
}

impl VariablesWish {
    /// How many nodes its statements have, about.
    pub fn nodes(&self) -> usize {
        let roles = self.permit.len() + self.deny.len() + 1;
        self.ids.len() * (2 * self.annotations.len() + 12 + 2 * roles) + 32 * roles
    }

    /// How many bytes its statements have at most, with each sign escaped.
    pub fn bytes(&self) -> usize {
        let text = |text: &str| 10 * text.len() + 32;
        let annotations: usize = self.annotations.iter().map(|(name, value)| text(name) + text(value)).sum();
        let ids: usize = self.ids.iter().map(|id| text(id)).sum();
        let roles = self.permit.len() + self.deny.len() + 1;
        self.ids.len() * (annotations + 256) + ids * (roles + 1)
    }

    /// The same in parts of which each fits into one document, about.
    pub fn parts(self) -> Vec<Self> {
        let count = self.bytes().div_ceil(VARIABLES_BYTES).max(self.nodes().div_ceil(VARIABLES_NODES));
        if count <= 1 {
            return vec![self];
        }
        let parts = self.ids.chunks(self.ids.len().div_ceil(count).max(1));
        parts.map(|ids| Self { ids: ids.to_vec(), ..self.clone() }).collect()
    }

    fn annotated(&self, id: &str) -> BTreeMap<String, String> {
        let mut all = self.annotations.clone();
        let own = self.owner.annotations();
        all.extend(own);
        if self.adopted.contains(id) {
            // What the object did not make never goes with it, whatever another cluster said of it.
            all.insert(CREATED_ANNOTATION.to_owned(), "false".to_owned());
        }
        all
    }

    fn paths<'w>(&'w self, branch: &str) -> Vec<&'w str> {
        self.ids.iter().filter_map(|id| path_in(id, branch)).collect()
    }
}

/// How variables are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakingPass<'r> {
    /// By who owns the branch, so sees what it makes.
    Owner,
    /// By who merely may load it: first bare, with a permit for itself, so that it sees whose they are.
    Bare(&'r RecordName),
}

/// The document that makes variables.
///
/// # Errors
/// A fault of the operator.
pub fn make(
    branch: &str,
    account: &str,
    wishes: &[&VariablesWish],
    pass: MakingPass<'_>,
) -> Result<String, NotAsPlanned> {
    let mut statements = Statements::new(branch, account);
    for wish in wishes {
        let paths = wish.paths(branch);
        for id in &wish.ids {
            let Some(path) = path_in(id, branch) else { return Err(NotAsPlanned) };
            let annotations = match pass {
                MakingPass::Owner => wish.annotated(id),
                MakingPass::Bare(_) => BTreeMap::new(),
            };
            statements.record(StatementKind::Variable, path, &annotations, None);
        }
        match pass {
            MakingPass::Owner => permits(&mut statements, &wish.permit, &paths),
            MakingPass::Bare(own) => {
                statements.permit(own, &["read", "update"].map(str::to_owned), &paths);
            }
        }
    }
    statements.document().map(|(text, _)| text)
}

/// The document that changes variables which are there: their annotations, and who may do what with them.
///
/// # Errors
/// A fault of the operator.
pub fn change(branch: &str, account: &str, wishes: &[&VariablesWish]) -> Result<String, NotAsPlanned> {
    let mut statements = Statements::new(branch, account);
    for wish in wishes {
        let paths = wish.paths(branch);
        for id in &wish.ids {
            let Some(path) = path_in(id, branch) else { return Err(NotAsPlanned) };
            statements.record(StatementKind::Variable, path, &wish.annotated(id), None);
        }
        permits(&mut statements, &wish.permit, &paths);
        for denied in &wish.deny {
            if let Some(role) = RecordName::of_role(&denied.role) {
                statements.deny(&role, &denied.privileges, &paths);
            }
        }
    }
    statements.document().map(|(text, _)| text)
}

/// The document that removes variables.
///
/// # Errors
/// A fault of the operator.
pub fn remove(branch: &str, account: &str, ids: &[String]) -> Result<String, NotAsPlanned> {
    let mut statements = Statements::new(branch, account);
    for path in ids.iter().map(|id| path_in(id, branch)) {
        statements.delete(StatementKind::Variable, path.ok_or(NotAsPlanned)?);
    }
    statements.document().map(|(text, _)| text)
}

fn permits(statements: &mut Statements, permit: &[PushPermit], paths: &[&str]) {
    for permitted in permit {
        if let Some(role) = RecordName::of_role(&permitted.role) {
            statements.permit(&role, &permitted.privileges, paths);
        }
    }
}

/// What was permitted before and is no more, by role.
pub fn taken_back(before: &[PushPermit], now: &[PushPermit]) -> Vec<PushPermit> {
    let gather = |all: &[PushPermit]| -> BTreeMap<String, BTreeSet<String>> {
        let mut by_role: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for permit in all {
            by_role.entry(permit.role.clone()).or_default().extend(permit.privileges.iter().cloned());
        }
        by_role
    };
    let now = gather(now);
    let left = gather(before).into_iter().map(|(role, privileges)| {
        let kept = now.get(&role);
        let privileges = privileges.into_iter().filter(|p| kept.is_none_or(|kept| !kept.contains(p)));
        PushPermit { role, privileges: privileges.collect() }
    });
    left.filter(|permit| !permit.privileges.is_empty()).collect()
}

/// What was permitted before or is now: all that may have been given.
pub fn all_given(before: &[PushPermit], now: &[PushPermit]) -> Vec<PushPermit> {
    now.iter().cloned().chain(taken_back(before, now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(role: &str, privileges: &[&str]) -> PushPermit {
        PushPermit { role: role.into(), privileges: privileges.iter().map(|p| (*p).to_owned()).collect() }
    }

    fn wish() -> VariablesWish {
        VariablesWish {
            owner: RecordOwner::parse("c1/ns/ConjurPush/a").unwrap(),
            ids: vec!["litellm/one".into()],
            annotations: BTreeMap::from([("team".to_owned(), "ai".to_owned())]),
            permit: vec![permit("host/litellm/proxy", &["read", "execute"])],
            deny: vec![permit("user/alice", &["read"])],
            adopted: BTreeSet::new(),
            bare: BTreeSet::new(),
            owners: BTreeMap::new(),
        }
    }

    #[test]
    fn an_owner_makes_variables_with_all_that_belongs_to_them() {
        let text = make("litellm", "demo", &[&wish()], MakingPass::Owner).unwrap();
        for part in [
            "id: \"one\"",
            "\"conjur-operator.io/owner\": \"c1/ns/ConjurPush/a\"",
            "\"conjur-operator.io/created\": \"true\"",
            "\"team\": \"ai\"",
            "role: !host \"/litellm/proxy\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("deny"), "{text}");
    }

    #[test]
    fn who_merely_may_load_makes_them_bare_and_permits_itself() {
        let own = RecordName::of_role("host/ops").unwrap();
        let text = make("litellm", "demo", &[&wish()], MakingPass::Bare(&own)).unwrap();
        assert!(text.contains("!host \"/ops\"") && text.contains("\"update\""), "{text}");
        assert!(!text.contains("annotations") && !text.contains("proxy"), "{text}");
    }

    #[test]
    fn what_is_adopted_is_owned_and_not_made() {
        let adopted = BTreeSet::from(["litellm/one".to_owned()]);
        let text = change("litellm", "demo", &[&VariablesWish { adopted, ..wish() }]).unwrap();
        assert!(text.contains("\"conjur-operator.io/created\": \"false\""), "{text}");
        assert!(text.contains("!deny") && text.contains("!user \"/alice\""), "{text}");
    }

    #[test]
    fn nothing_outside_of_the_branch_is_made_or_removed() {
        assert_eq!(make("other", "demo", &[&wish()], MakingPass::Owner), Err(NotAsPlanned));
        assert_eq!(remove("other", "demo", &wish().ids), Err(NotAsPlanned));
        assert!(remove("litellm", "demo", &wish().ids).unwrap().contains("record: !variable \"one\""));
    }

    #[test]
    fn what_does_not_fit_into_one_document_goes_in_parts() {
        assert_eq!(wish().parts(), [wish()]);
        let ids: Vec<String> = (0..1000).map(|at| format!("litellm/v{at}")).collect();
        let annotations = (0..16).map(|at| (format!("a{at}"), "x".repeat(1024))).collect();
        let large = VariablesWish { ids: ids.clone(), annotations, ..wish() };
        let parts = large.parts();
        assert!(
            parts.iter().all(|part| part.bytes() <= VARIABLES_BYTES + VARIABLES_BYTES / 8),
            "{}",
            parts.len()
        );
        assert_eq!(parts.into_iter().flat_map(|part| part.ids).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn what_left_the_permits_is_taken_back_and_nothing_else() {
        let before = [permit("host/a", &["read", "execute"]), permit("host/b", &["read"])];
        let now = [permit("host/a", &["read"]), permit("host/c", &["read"])];
        assert_eq!(taken_back(&before, &now), [permit("host/a", &["execute"]), permit("host/b", &["read"])]);
        assert_eq!(taken_back(&before, &before), []);
        assert_eq!(all_given(&before, &now).len(), 4);
    }
}
