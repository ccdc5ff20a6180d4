//! Announce, load, store, say so, clear; in this order, so that after a crash between any two it is known what was
//! done (`resolve`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::events::EventType;

use super::{
    claims,
    explain::not_owner,
    keys::KeySecret,
    progress,
    run::{Roles, Run, some_roles},
};
use crate::{
    api::{
        ConjurPolicyStatus, Reason,
        policy::{PendingLoad, PolicyPlan},
    },
    conjur::{Error, Lane, LoadError, Loaded, Ownership, PolicyBranch},
    plan::{
        Class, Failure,
        effect::{announcement::Announcement, evidence::newest},
    },
    runtime::{Key, Outcome, report},
    sensitive::Sensitive,
};

/// Loads the document, or finds out that an announced load of it happened; what there is to say then. None where
/// something else was asked for before it had its turn. `drifted`: what had drifted, if that is why it is loaded.
///
/// # Errors
/// Any that keeps the document from being loaded. An announcement stays as long as the outcome is not known.
pub async fn load(
    run: &Run<'_>,
    kept: &mut KeySecret,
    drifted: Option<PolicyPlan>,
    status: &mut ConjurPolicyStatus,
) -> Result<Option<String>, Failure> {
    let Run { seen, ctx, .. } = *run;
    let Some(_one_at_a_time) = run.turn(status).await? else { return Ok(None) };
    let made: BTreeSet<String> = run.content.document.roles.iter().map(|r| r.id.clone()).collect();
    if !made.is_empty() {
        run.require_ownership(&seen.branch).await?;
        let announced = run.announcement(made.clone(), 0);
        let earlier = kept.announcement().cloned();
        kept.check_room(seen, earlier.into_iter().fold(announced, Announcement::after))?;
    }
    let mut roles = Roles::default();
    let before = match kept.announcement().cloned() {
        Some(announced) => run.settle(announced, kept, &mut roles).await?,
        None => run.settle_without_roles().await?,
    };
    let (message, version) = match before {
        Before::Loaded(version) => {
            (format!("branch {} holds the document since its version {version}", seen.branch), version)
        }
        Before::Open { carried, repeated } => {
            run.check_deletions_allowed(status).await?;
            let may_go = run.roles_that_may_go(kept).await?;
            let version = run.announce_and_load(&made, carried, kept, &mut roles, status).await?;
            roles.gone = run.gone_of(&may_go).await?;
            kept.drop_keys(&roles.gone, seen, ctx).await?;
            let again = if repeated {
                "; loaded again, since the outcome of an earlier try can't be read"
            } else {
                ""
            };
            (format!("loaded as version {version} of branch {}{again}", seen.branch), version)
        }
    };
    run.resolve_inventory(version, &roles.answered).await?;
    // What a load would change, by the last look, is done now; but what drifted stays to be seen.
    status.plan = drifted;
    run.say_loaded(status, version, &made, kept, &roles);
    // First this and then the announcement goes: a crash in between must not load it again.
    report::write_status(seen.object, status, Lane::Foreground, ctx).await?;
    if kept.announcement().is_some() {
        kept.write(seen, None, &BTreeMap::new(), ctx).await?;
    }
    ctx.events.publish(seen.object, EventType::Normal, Reason::Loaded, "Load", &message);
    ctx.policy_notes.stands_as_loaded(&Key::of(seen.object), true);
    // While the branch is still locked: who waits for it looks at once whose it is.
    claims::note(seen.object, &Ok(Outcome::NotDue(None)), ctx);
    Ok(Some(message))
}

/// How things stand before a load.
pub enum Before {
    /// An announced load of this very document happened, as this version.
    Loaded(i64),
    /// It is to be loaded.
    Open {
        /// An earlier announcement whose load may still happen.
        carried: Option<Announcement>,
        /// An earlier try may have happened, and can't be looked up.
        repeated: bool,
    },
}

impl Run<'_> {
    /// Who does not own a branch sees none of its roles, and can't recover their keys.
    pub async fn require_ownership(&self, branch: &PolicyBranch) -> Result<(), Failure> {
        let ownership = self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))?;
        match ownership {
            Ownership::Owner => Ok(()),
            Ownership::NoBranch => Err(self.no_branch(branch)),
            Ownership::NotOwner => {
                self.lacks(branch, self.what_it_has(branch).await);
                Err(not_owner(self.content, branch, &self.through.identity, &self.through.account))
            }
        }
    }

    pub fn announcement(&self, owed: BTreeSet<String>, version: i64) -> Announcement {
        Announcement {
            document: self.seen.hash.clone(),
            inputs: self.seen.inputs.clone(),
            since: version,
            at: Timestamp::now().as_second(),
            documents: BTreeSet::from([self.seen.hash.clone()]),
            loaders: BTreeSet::from([self.our_role()]),
            server: self.seen.server.clone(),
            branch: self.seen.branch.as_str().to_owned(),
            version,
            owed,
        }
    }

    /// The load itself, with all that must be written before and after it. Gives the version that it made.
    async fn announce_and_load(
        &self,
        made: &BTreeSet<String>,
        carried: Option<Announcement>,
        kept: &mut KeySecret,
        roles: &mut Roles,
        status: &mut ConjurPolicyStatus,
    ) -> Result<i64, Failure> {
        let seen = self.seen;
        let resumed = carried.is_some();
        let recorded = self.record_absent().await?;
        let announced = self.announce(made, carried.clone(), kept, roles, status).await?;
        let (how, document) = (seen.object.mode().into(), self.content.text.as_str().as_bytes());
        let load = self.through.client.load_policy(&seen.branch, how, document);
        let message = format!(
            "loading {} bytes with {} records into branch {}, since {}",
            document.len(),
            self.content.document.records.len(),
            seen.branch,
            Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
        );
        match progress::shown(load, seen, Reason::Loading, &message, status, self.ctx).await {
            Ok(loaded) => self.store(loaded, announced, resumed, kept, roles).await,
            Err(LoadError::Refused(error)) => {
                let failure = self.refused(error).await;
                self.retract(carried, failure.class, kept, roles, status).await?;
                self.take_back(recorded).await?;
                Err(failure)
            }
            Err(LoadError::Unknown(error)) => {
                if let Some(failure) =
                    self.failed_at_document(&error, &announced, kept, roles, status).await?
                {
                    return Err(failure);
                }
                let mut failure = self.failed(error);
                if failure.class == Class::Stalled {
                    // Whatever the answer was: the next look finds out what became of it.
                    failure = Failure::transient(Reason::ConjurUnavailable, failure.message);
                } else if matches!(failure.class, Class::Waiting(_)) {
                    failure.class = Class::Transient;
                }
                let message = format!(
                    "{}. Whether the document was loaded is found out before it is tried again",
                    failure.message
                );
                Err(Failure { message, ..failure })
            }
        }
    }

    /// Says durably what is about to happen, before it does.
    async fn announce(
        &self,
        made: &BTreeSet<String>,
        carried: Option<Announcement>,
        kept: &mut KeySecret,
        roles: &mut Roles,
        status: &mut ConjurPolicyStatus,
    ) -> Result<Announcement, Failure> {
        let (seen, ctx) = (self.seen, self.ctx);
        if made.is_empty() && carried.is_none() {
            let version = match self.versions(&seen.branch).await {
                Ok(versions) => Some(newest(&versions)),
                // Who may load a branch may still not read it.
                Err(Error::NotFound { .. } | Error::Forbidden { .. }) => None,
                Err(error) => return Err(self.failed(error)),
            };
            let pending = PendingLoad {
                document_hash: seen.hash.clone(),
                version,
                inputs: seen.inputs.clone(),
                loader: Some(self.our_role()),
            };
            let edit = |status: &mut ConjurPolicyStatus| status.pending = Some(pending.clone());
            report::write_edit(seen.object, status, edit, Lane::Foreground, ctx).await?;
            return Ok(self.announcement(BTreeSet::new(), version.unwrap_or(0)));
        }
        // Looked at before the version, so that a role made in between is not taken for one of the operator's.
        let existing = self.existing(made).await?;
        let version = newest(&self.versions(&seen.branch).await.map_err(|e| self.failed(e))?);
        let absent: BTreeSet<String> =
            made.iter().filter(|role| !existing.contains_key(*role)).cloned().collect();
        if !absent.is_empty() {
            kept.refuse_to_mix(seen, self.through, ctx).await?;
        }
        let mut announced = self.announcement(absent, version);
        if let Some(carried) = carried.filter(|c| c.branch == announced.branch) {
            announced = announced.after(carried);
        }
        roles.announced.extend(announced.owed.iter().cloned());
        kept.write(seen, Some(announced.clone()), &BTreeMap::new(), ctx).await?;
        let mut known = seen.known_roles();
        known.extend(announced.owed.iter().cloned());
        if !known.is_empty() {
            let edit = |status: &mut ConjurPolicyStatus| status.created_roles = some_roles(&known);
            report::write_edit(seen.object, status, edit, Lane::Foreground, ctx).await?;
        }
        Ok(announced)
    }

    /// This try loaded nothing: what was announced for it is taken back, or another's load that does the same
    /// would be taken for it.
    async fn retract(
        &self,
        carried: Option<Announcement>,
        class: Class,
        kept: &mut KeySecret,
        roles: &Roles,
        status: &mut ConjurPolicyStatus,
    ) -> Result<(), Failure> {
        let mut known = self.seen.known_roles();
        if carried.is_none() {
            known = roles.of_ours(known, kept);
        }
        let edit = |status: &mut ConjurPolicyStatus| {
            status.pending = None;
            status.created_roles = some_roles(&known);
        };
        report::write_edit(self.seen.object, status, edit, Lane::Foreground, self.ctx).await?;
        if kept.announcement().is_some() && kept.announcement() != carried.as_ref() {
            // One that is tried again soon keeps its place.
            if carried.is_none() && class == Class::Stalled && kept.holds_nothing_else() {
                return kept.delete(self.seen, self.ctx).await;
            }
            kept.write(self.seen, carried, &BTreeMap::new(), self.ctx).await?;
        }
        Ok(())
    }

    /// Stores the keys that a load gave, and looks after those that an earlier one still owes.
    async fn store(
        &self,
        loaded: Loaded,
        announced: Announcement,
        resumed: bool,
        kept: &mut KeySecret,
        roles: &mut Roles,
    ) -> Result<i64, Failure> {
        let version = i64::try_from(loaded.version).unwrap_or(i64::MAX);
        let keys: BTreeMap<String, Sensitive<String>> =
            loaded.created_roles.into_iter().map(|(role, key)| (role.to_string(), key)).collect();
        if !keys.is_empty() {
            kept.name_if_unnamed(self.seen);
        }
        roles.created.extend(keys.keys().cloned());
        roles.answered.extend(keys.keys().cloned());
        let mut left = announced;
        left.owed.retain(|role| !keys.contains_key(role));
        if !keys.is_empty() {
            // The announcement stays until the status says that it was loaded.
            kept.write(self.seen, Some(left.clone()), &keys, self.ctx).await?;
        }
        // Without an earlier load of unknown outcome, the answer named every role that was made.
        if resumed && !left.owed.is_empty() {
            self.settle(left, kept, roles).await?;
        }
        Ok(version)
    }

    fn say_loaded(
        &self,
        status: &mut ConjurPolicyStatus,
        version: i64,
        made: &BTreeSet<String>,
        kept: &KeySecret,
        roles: &Roles,
    ) {
        let mut known = roles.of_ours(self.seen.known_roles(), kept);
        known.extend(made.iter().filter(|role| kept.has_key(role)).cloned());
        known.extend(roles.created.iter().chain(&roles.unclear).cloned());
        if status.version != Some(version) {
            let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
            status.last_load_time = Some(Time(now));
        }
        status.version = Some(version);
        status.loaded_hash = Some(self.seen.hash.clone());
        status.observed_inputs = Some(self.seen.inputs.clone());
        status.pending = None;
        status.created_roles = some_roles(&known);
    }
}
