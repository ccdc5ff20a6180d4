//! Missing variables are made, and those that are there get the annotations and permits of the spec.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::events::EventType;

use super::{run::Push, seen::loader};
use crate::{
    api::{
        ConjurPushStatus, Reason,
        condition::{READY, find},
        push::{AppliedPush, CreateVariables, PushedVariable, PushedVersion},
    },
    conjur::{Lane, PolicyBranch},
    controllers::{Context, policy::may_add_to},
    effect::{
        branch_locks::Loader,
        variables::{ShownVariables, Statement, VariablesAsked, load, shown},
    },
    limits::REFUSED_AGAIN,
    plan::{
        Class, Failure, LOOK_AGAIN,
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
fn may_load(loader: &Loader, statement: Statement, ctx: &Context) -> Result<(), Failure> {
    match may_add_to(&loader.place, ctx) {
        // What is removed is in nobody's way: a Replace is refused as long as it is there.
        Err(failure) if statement == Statement::Remove && failure.reason == Reason::BranchTaken => Ok(()),
        answer => answer,
    }
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
        let ids = self.to_make();
        let Some(creates) = self.creates().cloned().filter(|_| !ids.is_empty()) else { return Ok(()) };
        let gone: Vec<&str> = self
            .steps
            .iter()
            .filter(|(_, step)| matches!(step, PushStep::Make { again: true }))
            .map(|(id, _)| id.as_str())
            .collect();
        let what = "variables of this object were removed from Conjur, and are made and filled again";
        self.tell_of(EventType::Warning, Reason::VariableOverwritten, what, &gone);
        let bare = ids.iter().filter(|id| self.is_bare(id)).cloned().collect();
        let wish = VariablesWish { bare, ..self.wish(&creates, ids.clone(), Vec::new(), BTreeSet::new()) };
        let said = match self.say_what_is_given(&creates, status).await {
            Ok(()) => self.announce_making(&ids, status).await,
            Err(failure) => Err(failure),
        };
        let made = match said {
            Ok(()) => self.load(&creates.branch, Statement::Make, wish).await,
            Err(failure) => Err(failure),
        };
        match made {
            Ok(shown) => {
                self.shown.extend(shown);
                self.made.extend(ids.iter().cloned());
            }
            Err(failure) => {
                if failure.class != Class::Connection && failure.class != Class::Transient {
                    self.forget_what_was_not_made(&ids, status).await?;
                }
                self.problems.push(failure);
                for id in &ids {
                    self.steps.remove(id);
                }
                return Ok(());
            }
        }
        for id in ids {
            let now = |owner: &_| self.seen.owner_now(owner, &id, self.ctx);
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

    /// What was refused may have been made all the same, without its annotations. What is made from now on of the rest is not this
    /// object's.
    async fn forget_what_was_not_made(
        &self,
        ids: &[String],
        status: &mut ConjurPushStatus,
    ) -> Result<(), Failure> {
        let now = shown(ids, self.through, self.ctx).await?;
        let missing: BTreeSet<&String> = ids.iter().filter(|id| !now.contains_key(*id)).collect();
        if let Some(variables) = &mut status.variables {
            variables.retain(|variable| !(is_being_made(variable) && missing.contains(&variable.id)));
        }
        Ok(())
    }

    /// What is to be made, and what was and does not say yet whose it is.
    pub fn to_make(&self) -> Vec<String> {
        let is_missing = |(id, step): &(&String, &PushStep)| match step {
            PushStep::Make { .. } => true,
            PushStep::Fill { .. } => self.is_bare(id),
            _ => false,
        };
        self.steps.iter().filter(is_missing).map(|(id, _)| id.clone()).collect()
    }

    /// Whether the annotations and permits of the spec are others than those that were given.
    pub fn differs(&self, status: &ConjurPushStatus) -> bool {
        let Some(creates) = self.creates() else { return false };
        let applied = status.applied.clone().unwrap_or_default();
        applied.annotations.unwrap_or_default() != creates.annotations.clone().unwrap_or_default()
            || applied.permit.unwrap_or_default() != creates.permit.clone().unwrap_or_default()
    }

    /// Gives what is the object's by annotation the annotations and permits of the spec, where they were others before, and what
    /// it takes over its owner annotation.
    ///
    /// # Errors
    /// None but what is the connection's.
    pub async fn change_what_differs(&mut self, status: &mut ConjurPushStatus) -> Result<(), Failure> {
        let Some(creates) = self.creates().cloned() else { return Ok(()) };
        let applied = status.applied.clone().unwrap_or_default();
        let differs = self.differs(status);
        let me = self.seen.me.to_string();
        let ids = self.steps.keys().filter(|id| {
            let Some(shown) = self.shown.get(*id) else { return false };
            let is_mine = shown.owner.as_deref() == Some(&me);
            path_in(id, &creates.branch).is_some()
                && (self.takes_over(id)
                    || !is_mine && self.is_own(shown)
                    || differs && is_mine && !self.made.contains(*id))
        });
        let ids: Vec<String> = ids.cloned().collect();
        if ids.is_empty() {
            self.write_applied(&creates, status);
            return Ok(());
        }
        let is_made = |id: &String| self.shown.get(id).is_some_and(|shown| shown.created);
        let adopted = ids.iter().filter(|id| self.takes_over(id) || !is_made(id)).cloned().collect();
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
            Ok(of_others) => {
                self.tell_what_stays(&applied, &creates);
                self.write_applied(&creates, status);
                for (id, shown) in of_others {
                    self.steps.insert(id, PushStep::Foreign { owner: shown.owner });
                }
                self.see_what_was_taken_over(ids, &me).await?;
            }
            Err(failure) => {
                // What is to say whose it is gets no value before it does.
                let held: Vec<String> =
                    ids.into_iter().filter(|id| self.takes_over(id) || !self.names(id, &me)).collect();
                for id in &held {
                    self.steps.remove(id);
                }
                self.problems.push(failure);
            }
        }
        Ok(())
    }

    /// Whether a variable was made by this object and does not say so yet: who merely may load a branch makes it bare first.
    pub fn is_bare(&self, id: &str) -> bool {
        let announced = self.known.get(id).is_some_and(is_being_made);
        announced && self.shown.get(id).is_some_and(|shown| shown.owner.is_none() && shown.version.is_none())
    }

    /// The ids of variables that are about to be made stand in the status: one that is found bare then is this object's.
    async fn announce_making(&self, ids: &[String], status: &mut ConjurPushStatus) -> Result<(), Failure> {
        let standing: BTreeSet<&str> =
            status.variables.iter().flatten().map(|variable| variable.id.as_str()).collect();
        let new = ids.iter().filter(|id| !standing.contains(id.as_str())).map(|id| being_made(id));
        let new: Vec<PushedVariable> = new.collect();
        self.announce_variables(new, status).await
    }

    /// Only what carries the object's annotation by now was taken over: one that another branch gave stays as it is (recordings 82
    /// to 85).
    async fn see_what_was_taken_over(&mut self, ids: Vec<String>, me: &str) -> Result<(), Failure> {
        let is_unsure = |id: &String| {
            let is_foreign = matches!(self.steps.get(id), Some(PushStep::Foreign { .. }));
            !is_foreign && (self.takes_over(id) || !self.names(id, me))
        };
        let ids: Vec<String> = ids.into_iter().filter(is_unsure).collect();
        let now = shown(&ids, self.through, self.ctx).await?;
        for id in ids {
            let owner = now.get(&id).and_then(|shown| shown.owner.clone());
            if owner.as_deref() != Some(me) {
                self.steps.insert(id, PushStep::Foreign { owner });
            }
        }
        self.shown.extend(now);
        Ok(())
    }

    /// Whether a variable names the object as its owner, as it was looked at.
    pub fn names(&self, id: &str, me: &str) -> bool {
        self.shown.get(id).is_some_and(|shown| shown.owner.as_deref() == Some(me))
    }

    /// Whether a variable is another's by its annotation, or nobody's, and is to become the object's.
    fn takes_over(&self, id: &str) -> bool {
        matches!(self.steps.get(id), Some(PushStep::Fill { takes_over: true, .. }))
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
        let before = status.applied.clone().unwrap_or_default();
        // What could not be looked at now may still have what was given before: it is taken back later.
        let is_covered = self.kept.iter().all(|id| self.steps.contains_key(id));
        let now = creates.permit.clone().unwrap_or_default();
        let permit =
            if is_covered { now } else { all_given(before.permit.as_deref().unwrap_or_default(), &now) };
        status.applied = Some(AppliedPush {
            server: self.server.clone(),
            branch: Some(creates.branch.clone()),
            annotations: creates.annotations.clone().filter(|all| !all.is_empty()),
            permit: Some(permit).filter(|all| !all.is_empty()),
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
        Ok(report::write_announcement(self.seen.object, status, edit, Lane::Foreground, self.ctx).await?)
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
            owners: owners(&ids, &self.shown),
            ids,
            annotations: creates.annotations.clone().unwrap_or_default(),
            permit: creates.permit.clone().unwrap_or_default(),
            deny,
            adopted,
            bare: BTreeSet::new(),
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
        // Refused before, and not changed since: it is not sent again before something could have mended it, and then alone.
        let asked_for = seen.asked_for();
        let refused = ctx.push_notes.refused(&seen.key, &seen.uid, statement, &asked_for);
        if let Some((failure, age)) = &refused
            && statement != Statement::Remove
            && *age < REFUSED_AGAIN
        {
            return Err(failure.clone());
        }
        let status = seen.status();
        let ready = find(status.conditions.as_deref().unwrap_or_default(), READY);
        let said = ready.is_some_and(|ready| ready.reason == Reason::PolicyInvalid.as_str());
        let alone =
            refused.is_some() || said && status.observed_generation == seen.object.metadata.generation;
        let asked = |wish| VariablesAsked {
            through: self.through,
            branch: &branch,
            loader: &loader,
            namespace: &seen.key.namespace,
            statement,
            wish,
            alone,
            may: may_load,
        };
        let parts = async {
            let mut all = ShownVariables::new();
            for part in wish.parts() {
                all.extend(load(asked(part), ctx).await?);
            }
            Ok::<_, Failure>(all)
        };
        let answer = parts.await;
        let failure = answer.as_ref().err().filter(|failure| {
            matches!(failure.reason, Reason::PolicyInvalid | Reason::PolicyForbidden)
                && statement != Statement::Remove
        });
        let refused = failure.map(|failure| (asked_for, failure.clone()));
        ctx.push_notes.note_refused(&seen.key, &seen.uid, statement, refused);
        answer
    }
}

/// An announcement that a variable is about to be made: when it was made is not known yet.
fn being_made(id: &str) -> PushedVariable {
    PushedVariable { id: id.to_owned(), created: true, version: PushedVersion::Announced, made: None }
}

fn is_being_made(variable: &PushedVariable) -> bool {
    *variable == being_made(&variable.id)
}

/// The owner annotation of each variable, as it was looked at.
pub fn owners(ids: &[String], shown: &ShownVariables) -> BTreeMap<String, Option<String>> {
    ids.iter().filter_map(|id| Some((id.clone(), shown.get(id)?.owner.clone()))).collect()
}
