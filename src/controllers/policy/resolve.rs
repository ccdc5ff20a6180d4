//! What became of an announced load: look, and store the keys that are owed for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    evidence,
    keys::{self, KeySecret, holds_key},
    load::Before,
    run::{Roles, Run},
    seen::load_inputs,
};
use crate::{
    api::{ConjurPolicy, Reason},
    conjur::{Error, PolicyBranch},
    controllers::connection::access,
    plan::{
        Failure,
        connection::access::Verb,
        effect::{
            announcement::Announcement,
            evidence::{BranchVersion, Origin},
            resolve::{Resolution, resolve},
        },
        secret::{Owner, is_written_for},
    },
    runtime::Key,
};

/// A load whose caller is gone may go on in the server for as long as a load may take.
const LONGEST_LOAD: i64 = 600;

impl Run<'_> {
    pub async fn versions(&self, branch: &PolicyBranch) -> Result<Vec<BranchVersion>, Error> {
        evidence::versions(self.through, branch).await
    }

    /// The roles that exist, with what tells who made them.
    pub async fn existing(&self, roles: &BTreeSet<String>) -> Result<BTreeMap<String, Origin>, Failure> {
        evidence::existing(roles, self.through, self.ctx).await
    }

    /// Finds out what became of an announced load, and stores the keys that are owed for it.
    ///
    /// The announcement lies where everybody can write who may write Secrets of the namespace, so it is believed only
    /// where it grants nothing: its branch has to be granted as that of the spec has to be, and a key is owed only for
    /// what lies in that branch. Who may load a branch may take the keys of its roles anyway, by making them anew.
    ///
    /// # Errors
    /// `AccessDenied` before anything is asked; `KeyNotStored` where it can't be found out.
    pub async fn settle(
        &self,
        mut announced: Announcement,
        kept: &mut KeySecret,
        roles: &mut Roles,
    ) -> Result<Before, Failure> {
        if announced.server != self.seen.server {
            return Err(unresolved(&announced, "on another server or account"));
        }
        let branch = PolicyBranch::new(&announced.branch)
            .map_err(|e| Failure::stalled(Reason::KeyNotStored, format!("pending.json: {e}")))?;
        self.seen.check_access_to(&announced.branch, Verb::Load, self.ctx).map_err(|failure| Failure {
            message: format!(
                "pending.json in the createdRoles Secret announces a load into branch {}: {}; or remove that key from the \
                 Secret to give up the API keys that it says are owed",
                announced.branch, failure.message
            ),
            ..failure
        })?;
        // This policy's own branch is already held; a second one is not waited for.
        let _also_there = if branch == self.seen.branch {
            None
        } else {
            let taken = || {
                let message = format!("another ConjurPolicy is being loaded into branch {branch}");
                Failure::waiting(Reason::LoadInProgress, Duration::from_secs(1), message)
            };
            Some(self.ctx.branches.turns.try_take(&self.loader(&branch)).ok_or_else(taken)?)
        };
        announced.keep_to_its_branch(&self.through.account);
        roles.announced.extend(announced.owed.iter().cloned());
        if !announced.owed.is_empty() {
            // To others its roles look absent, whether they are or not.
            self.require_ownership(&branch).await.map_err(|failure| match failure.reason {
                Reason::BranchNotFound | Reason::NotBranchOwner if branch != self.seen.branch => {
                    unresolved(&announced, "into a branch that the identity does not own now")
                }
                _ => failure,
            })?;
        }
        let mut there = self.existing(&announced.owed).await?;
        let versions = self.versions(&branch).await.map_err(|e| self.failed(e))?;
        if announced.any_happened(&versions) {
            let absent = announced.owed.iter().filter(|role| !there.contains_key(*role)).cloned().collect();
            there.extend(evidence::each(&absent, self.through, self.ctx).await?);
        }
        let found = resolve(&announced, &there, &versions);
        let elsewhere = self.stored_elsewhere(&found.rotate, announced.version).await?;
        let mut left = announced;
        for role in found.rotate.difference(&elsewhere) {
            left.owed.remove(role);
            let why = "was lost before it was stored";
            keys::rotate_and_store(role, why, Some(left.clone()), self.seen, self.through, kept, self.ctx)
                .await?;
            roles.created.insert(role.clone());
        }
        left.owed.retain(|role| !elsewhere.contains(role));
        roles.unclear.extend(found.unclear.iter().cloned());
        self.before(left, &found)
    }

    fn before(&self, left: Announcement, found: &Resolution) -> Result<Before, Failure> {
        let asked = left.document == self.seen.hash && left.inputs == self.seen.inputs;
        if let (Some(version), true) = (found.happened, asked) {
            return Ok(Before::Loaded(version));
        }
        if left.owed.is_empty() {
            return Ok(Before::Open { carried: None, repeated: false });
        }
        // A load of the same branch that succeeds shows that no other is under way; one of another branch does not.
        let elsewhere = left.branch != self.seen.branch.as_str();
        let rest = left.at + LONGEST_LOAD - Timestamp::now().as_second();
        if let (true, None, false, Ok(rest @ 1..)) =
            (elsewhere, found.happened, found.absent.is_empty(), u64::try_from(rest))
        {
            let message = format!(
                "a load into branch {} was announced before spec.branch was changed, and it may still be under way: this \
                 goes on in {rest} s, when it can't be any more",
                left.branch
            );
            return Err(Failure::waiting(Reason::LoadInProgress, Duration::from_secs(rest), message));
        }
        // What it may still make stays owed.
        Ok(Before::Open { carried: Some(left), repeated: false })
    }

    /// Those of the roles whose keys another ConjurPolicy keeps: it loaded the very same document as the same
    /// identity, so that its load looks like the operator's.
    async fn stored_elsewhere(
        &self,
        roles: &BTreeSet<String>,
        absent_at: i64,
    ) -> Result<BTreeSet<String>, Failure> {
        let mut stored = BTreeSet::new();
        if roles.is_empty() {
            return Ok(stored);
        }
        for policy in self.ctx.policies.state() {
            let key = Key::of(policy.as_ref());
            let Some(Ok(other)) = self.ctx.statuses.freshest(&key, &self.ctx.policies) else { continue };
            let claimed = other.status.as_ref().and_then(|s| s.created_roles.as_ref());
            let claimed: Vec<&String> =
                claimed.into_iter().flatten().filter(|r| roles.contains(*r)).collect();
            let Some(keys) = &other.spec.created_roles else { continue };
            if other.uid().as_deref() == Some(&self.seen.owner.uid) || claimed.is_empty() {
                continue;
            }
            let namespace = other.namespace().unwrap_or_default();
            if let Some(secret) = self.ctx.cluster.read_secret(&namespace, &keys.secret_name).await? {
                // Not by its connection, which may be gone: a role of the same id on another server is another one.
                let kept = claimed.into_iter().filter(|role| {
                    holds_key(&secret, role) && self.keeps_key(&other, &secret, role, absent_at)
                });
                stored.extend(kept.cloned());
            }
        }
        Ok(stored)
    }

    /// Whether a Secret is what the operator wrote for another policy when that one made a role which was absent at a version
    /// of the branch. Who may write Secrets in a namespace may have written any, and a key that is left of a role which was
    /// made anew since is dead; so the other's status counts, where only the operator writes: a later version of its own. A
    /// load that was stored and then cut off before the status said so is only in its Secret.
    fn keeps_key(&self, other: &ConjurPolicy, secret: &Secret, role: &str, absent_at: i64) -> bool {
        let server = &self.seen.server;
        let key = Key::of(other);
        let announced = keys::announced_in(secret).and_then(Result::ok).is_some_and(|a| {
            a.server == *server && a.branch == self.seen.branch.as_str() && !a.owed.contains(role)
        });
        let loaded = other.status.as_ref().is_some_and(|s| {
            s.observed_inputs.as_ref() == Some(&load_inputs(other, server))
                && s.version.is_some_and(|version| version > absent_at)
        });
        let granted = access::named(&other.spec.connection_ref, &key, self.ctx).map_or(true, |named| {
            named.check_access(Verb::Load, &[&other.spec.branch], &key, self.ctx).is_ok()
        });
        granted
            && (announced || loaded)
            && keys::made_on(secret) == Some(server)
            && secret.immutable != Some(true)
            && is_written_for(&secret.metadata, &Owner::of(other))
    }

    /// The same for a document that makes no roles, whose announcement lies in the status.
    pub async fn settle_without_roles(&self) -> Result<Before, Failure> {
        let open = Before::Open { carried: None, repeated: false };
        let Some(pending) = self.seen.object.status.as_ref().and_then(|s| s.pending.clone()) else {
            return Ok(open);
        };
        if pending.document_hash != self.seen.hash || pending.inputs != self.seen.inputs {
            return Ok(open);
        }
        let unreadable = Before::Open { carried: None, repeated: true };
        let versions = match self.versions(&self.seen.branch).await {
            Ok(versions) => versions,
            Err(Error::NotFound { .. } | Error::Forbidden { .. }) => return Ok(unreadable),
            Err(error) => return Err(self.failed(error)),
        };
        let Some(version) = pending.version else { return Ok(unreadable) };
        let mut announced = self.announcement(BTreeSet::new(), version);
        // The connection may have got another login since.
        announced.loaders.extend(pending.loader);
        Ok(resolve(&announced, &BTreeMap::new(), &versions).happened.map_or(open, Before::Loaded))
    }
}

fn unresolved(announced: &Announcement, place: &str) -> Failure {
    let logins: Vec<String> = announced.owed.iter().filter_map(|r| keys::login_of(r)).collect();
    let message = format!(
        "a load into branch {} was announced {place}, and its outcome is not known: keys may be owed for {}. Set \
         spec.connectionRef, spec.branch and the connection back until this is Ready, or remove the key pending.json from \
         the createdRoles Secret to give those keys up",
        announced.branch,
        if logins.is_empty() { "no role".to_owned() } else { logins.join(", ") }
    );
    Failure::stalled(Reason::KeyNotStored, message)
}
