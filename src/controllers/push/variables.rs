//! Missing variables are made, and those that are there get the annotations and permits of the spec.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::events::EventType;

use super::{run::Push, seen::loader};
use crate::{
    api::{
        ConjurPushStatus, Reason,
        condition::{READY, find},
        push::{AppliedPush, CreateVariables},
    },
    conjur::{Lane, PolicyBranch},
    controllers::{Context, policy::may_add_to},
    effect::{
        branch_locks::Loader,
        variables::{ShownVariables, Statement, VariablesAsked, load},
    },
    plan::{
        Failure, LOOK_AGAIN,
        connection::access::Verb,
        policy::statements::path_in,
        push::{
            decide::{PushStep, PushTerms, decide},
            documents::{VariablesWish, all_given, taken_back},
        },
    },
    runtime::report,
};

/// A branch takes variables unless a ConjurPolicy Replaces it, or a load of it is announced whose outcome is not known.
fn may_load(loader: &Loader, ctx: &Context) -> Result<(), Failure> {
    may_add_to(&loader.place, ctx)
}

impl Push<'_> {
    fn creates(&self) -> Option<&CreateVariables> {
        self.seen.object.spec.create_variables.as_ref()
    }

    /// Has what is missing made, and decides anew about it.
    ///
    /// # Errors
    /// Only what holds up all the others: the connection's.
    pub async fn make_missing(
        &mut self,
        terms: &PushTerms,
        status: &mut ConjurPushStatus,
    ) -> Result<(), Failure> {
        let missing = |step: &PushStep| matches!(step, PushStep::Make { .. });
        let ids: Vec<String> =
            self.steps.iter().filter(|(_, step)| missing(step)).map(|(id, _)| id.clone()).collect();
        let Some(creates) = self.creates().cloned().filter(|_| !ids.is_empty()) else { return Ok(()) };
        let gone: Vec<&str> = self
            .steps
            .iter()
            .filter(|(_, step)| matches!(step, PushStep::Make { again: true }))
            .map(|(id, _)| id.as_str())
            .collect();
        let what = "variables of this object were removed from Conjur, and are made and filled again";
        self.tell_of(EventType::Warning, Reason::VariableOverwritten, what, &gone);
        let wish = self.wish(&creates, ids.clone(), Vec::new(), BTreeSet::new());
        let made = match self.say_what_is_given(&creates, status).await {
            Ok(()) => self.load(&creates.branch, Statement::Make, wish).await,
            Err(failure) => Err(failure),
        };
        match made {
            Ok(shown) => {
                self.shown.extend(shown);
                self.made.extend(ids.iter().cloned());
            }
            Err(failure) => {
                self.problems.push(failure);
                ids.iter().for_each(|id| _ = self.steps.remove(id));
                return Ok(());
            }
        }
        for id in ids {
            let now = |owner: &_| self.seen.owner_now(owner, self.ctx);
            // It was missing: what there is of it now is not what the status knew.
            match decide(self.shown.get(&id), None, true, terms, now) {
                PushStep::Make { .. } | PushStep::NotFound { .. } => {
                    self.steps.remove(&id);
                    let message = format!(
                        "variable {id} was made in branch {}, and is not visible to {}: let it own the branch",
                        creates.branch, self.through.identity
                    );
                    self.problems.push(Failure::waiting(Reason::VariableNotFound, LOOK_AGAIN, message));
                }
                step => _ = self.steps.insert(id, step),
            }
        }
        Ok(())
    }

    /// Gives what is the object's by annotation the annotations and permits of the spec, where they were others before, and what
    /// it takes over its owner annotation.
    ///
    /// # Errors
    /// None but what is the connection's.
    pub async fn change_what_differs(&mut self, status: &mut ConjurPushStatus) -> Result<(), Failure> {
        let Some(creates) = self.creates().cloned() else { return Ok(()) };
        let applied = status.applied.clone().unwrap_or_default();
        let differs = applied.annotations.clone().unwrap_or_default()
            != creates.annotations.clone().unwrap_or_default()
            || applied.permit.clone().unwrap_or_default() != creates.permit.clone().unwrap_or_default();
        let me = self.seen.me.to_string();
        let ids = self.steps.iter().filter(|(id, step)| {
            let Some(shown) = self.shown.get(*id) else { return false };
            let takes_over = matches!(step, PushStep::Fill { takes_over: true, .. });
            let is_mine = shown.owner.as_deref() == Some(&me);
            let former = !is_mine && self.seen.is_own(shown);
            path_in(id, &creates.branch).is_some()
                && (takes_over || former || differs && is_mine && !self.made.contains(*id))
        });
        let ids: Vec<String> = ids.map(|(id, _)| id.clone()).collect();
        if ids.is_empty() {
            self.write_applied(&creates, status);
            return Ok(());
        }
        let adopted = ids.iter().filter(|id| self.shown.get(*id).is_none_or(|shown| !shown.created));
        let adopted = adopted.cloned().collect();
        let deny = taken_back(
            applied.permit.as_deref().unwrap_or_default(),
            creates.permit.as_deref().unwrap_or_default(),
        );
        let wish = self.wish(&creates, ids.clone(), deny, adopted);
        let changed = match self.say_what_is_given(&creates, status).await {
            Ok(()) => self.load(&creates.branch, Statement::Change, wish).await,
            Err(failure) => Err(failure),
        };
        match changed {
            Ok(_) => {
                self.tell_what_stays(&applied, &creates);
                self.write_applied(&creates, status);
            }
            Err(failure) => {
                // What is to be taken over gets no value before it says whose it is.
                let takes_over =
                    |step: Option<&PushStep>| matches!(step, Some(PushStep::Fill { takes_over: true, .. }));
                let held: Vec<String> = ids.into_iter().filter(|id| takes_over(self.steps.get(id))).collect();
                held.iter().for_each(|id| _ = self.steps.remove(id));
                self.problems.push(failure);
            }
        }
        Ok(())
    }

    /// An annotation that was given can't be taken back (recording 745).
    fn tell_what_stays(&self, applied: &AppliedPush, creates: &CreateVariables) {
        let now = creates.annotations.clone().unwrap_or_default();
        let before = applied.annotations.iter().flatten().map(|(name, _)| name.as_str());
        let stays: Vec<&str> = before.filter(|name| !now.contains_key(*name)).collect();
        let what = "Conjur takes no annotation back, so these stay on the variables";
        self.tell_of(EventType::Normal, Reason::LeftInConjur, what, &stays);
    }

    fn write_applied(&self, creates: &CreateVariables, status: &mut ConjurPushStatus) {
        status.applied = Some(AppliedPush {
            server: self.server.clone(),
            branch: Some(creates.branch.clone()),
            annotations: creates.annotations.clone().filter(|all| !all.is_empty()),
            permit: creates.permit.clone().filter(|all| !all.is_empty()),
        });
    }

    /// Says in the status what roles may have been given, before they are: a crash must not hide what is to be taken back.
    async fn say_what_is_given(
        &self,
        creates: &CreateVariables,
        status: &mut ConjurPushStatus,
    ) -> Result<(), Failure> {
        let applied = status.applied.clone().unwrap_or_default();
        let before = applied.permit.clone().unwrap_or_default();
        let given = all_given(&before, creates.permit.as_deref().unwrap_or_default());
        if given.is_empty() || applied.permit.as_deref() == Some(&given) {
            return Ok(());
        }
        let applied = AppliedPush {
            server: self.server.clone(),
            branch: Some(creates.branch.clone()),
            permit: Some(given),
            ..applied
        };
        let edit = |status: &mut ConjurPushStatus| status.applied = Some(applied.clone());
        Ok(report::write_edit(self.seen.object, status, edit, Lane::Foreground, self.ctx).await?)
    }

    fn wish(
        &self,
        creates: &CreateVariables,
        ids: Vec<String>,
        deny: Vec<crate::api::push::PushPermit>,
        adopted: BTreeSet<String>,
    ) -> VariablesWish {
        VariablesWish {
            owner: self.seen.me.clone(),
            ids,
            annotations: creates.annotations.clone().unwrap_or_else(BTreeMap::new),
            permit: creates.permit.clone().unwrap_or_default(),
            deny,
            adopted,
        }
    }

    /// Has statements about variables loaded into a branch.
    ///
    /// # Errors
    /// `AccessDenied`; see [`load`].
    pub async fn load(
        &self,
        branch: &str,
        statement: Statement,
        wish: VariablesWish,
    ) -> Result<ShownVariables, Failure> {
        let (seen, ctx) = (self.seen, self.ctx);
        self.named.check_access(Verb::Load, &[branch], &seen.key, ctx)?;
        let loader = loader(self.named, self.through, branch);
        let branch = PolicyBranch::new(branch).map_err(|error| {
            Failure::stalled(Reason::InvalidSpec, format!("spec.createVariables.branch: {error}"))
        })?;
        // Refused before, and not changed since.
        let status = seen.status();
        let ready = find(status.conditions.as_deref().unwrap_or_default(), READY);
        let refused = ready.is_some_and(|ready| ready.reason == Reason::PolicyInvalid.as_str());
        let alone = refused && status.observed_generation == seen.object.metadata.generation;
        let asked = VariablesAsked {
            through: self.through,
            branch: &branch,
            loader: &loader,
            namespace: &seen.key.namespace,
            statement,
            wish,
            alone,
            may: may_load,
        };
        load(asked, ctx).await
    }
}
