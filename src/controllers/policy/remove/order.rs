//! Other policies that are deleted together with one, and whose records hang on what that one made: they go first,
//! in whichever order the deletions came in.
//!
//! Each removes what it can before it waits, and waits only for who certainly has something to remove: so two never
//! wait for each other.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::{Kept, RemovalRun, server};
use crate::{
    api::{ConjurPolicy, FINALIZER, Reason, secret::DeletionPolicy},
    controllers::{connection::access, policy::seen::may_load_through},
    effect::evidence::All,
    plan::{
        Class, Failure, connection::access::Verb, effect::inventory::Inventory, full_id::below_account,
        policy::removal::Removal, secret::Owner,
    },
    runtime::Key,
};

/// `kubectl delete -f folder` marks its objects one by one: those who may be deleted too are given so long.
const GRACE: i64 = 60;
/// A removal wakes who waits; this is for what was removed by one that waits itself.
const AGAIN: Duration = Duration::from_secs(5);

/// One that is being deleted, or may soon be.
pub struct Other {
    key: Key,
    /// Whether it loads into a branch in which something was made that hangs on the operator's.
    near: bool,
    /// None where it can't be read, and a person must act.
    inventory: Option<Inventory>,
}

impl RemovalRun<'_> {
    /// Who goes first. `others` are those there were before the look, if that is known; it is then.
    pub(super) async fn blocked_by(
        &self,
        server: &str,
        removal: &Removal,
        all: &All,
        others: &mut Option<Vec<Other>>,
    ) -> Result<Option<Failure>, Failure> {
        if let Some(others) = others {
            return Ok(others.iter().find_map(|other| self.waits_for(other, server, removal, all)));
        }
        let mut read = Vec::new();
        for (near, policy) in self.candidates(server, removal, all) {
            let inventory = match Kept::read(&Owner::of(&policy), self.ctx).await {
                Ok(kept) if !kept.is_there() => continue,
                Ok(kept) => Some(self.removable(kept.inventory, &policy, server)),
                Err(failure) if failure.class == Class::Stalled => None,
                Err(failure) => return Err(failure),
            };
            let other = Other { key: Key::of(&policy), near, inventory };
            if let Some(waits) = self.waits_for(&other, server, removal, all) {
                return Ok(Some(waits));
            }
            read.push(other);
        }
        *others = Some(read);
        Ok(None)
    }

    /// An inventory lies where others than the operator can write it: of it only that keeps others waiting which its
    /// object is permitted to remove.
    fn removable(&self, mut inventory: Inventory, other: &ConjurPolicy, here: &str) -> Inventory {
        let key = Key::of(other);
        let named = access::named(&other.spec.connection_ref, &key, self.ctx).ok();
        inventory.loads.retain(|load| {
            named.as_ref().is_some_and(|named| {
                let settings = &named.facts.settings;
                let branches = [other.spec.branch.as_str(), load.branch.as_str()];
                server(&settings.url, &settings.account) == here
                    && named.check_access(Verb::Load, &branches, &key, self.ctx).is_ok()
            })
        });
        inventory
    }

    /// The likeliest first.
    fn candidates(&self, server: &str, removal: &Removal, all: &All) -> Vec<(bool, ConjurPolicy)> {
        let made_in = |id: &String| all.seen.get(id)?.policy.as_deref().and_then(below_account);
        let branches: BTreeSet<&str> = removal.held_by.iter().filter_map(made_in).collect();
        let since = self.object.meta().deletion_timestamp.as_ref().map(|t| t.0);
        let young = since.is_some_and(|t| Timestamp::now().as_second() - t.as_second() < GRACE);
        let mut found = Vec::new();
        for policy in self.ctx.kinds.policies.store.state() {
            let Ok(other) = &policy.0 else { continue };
            let near = branches.contains(other.spec.branch.as_str());
            let may_hold = if other.meta().deletion_timestamp.is_some() {
                other.finalizers().iter().any(|f| f == FINALIZER)
            } else {
                young && near && may_load_through(other, server, self.ctx)
            };
            let removes = other.spec.deletion_policy == Some(DeletionPolicy::Delete);
            if may_hold && removes && other.uid() != self.object.uid() {
                found.push((near, other.clone()));
            }
        }
        found.sort_by_key(|(near, _)| !near);
        found
    }

    fn waits_for(&self, other: &Other, server: &str, removal: &Removal, all: &All) -> Option<Failure> {
        let account = &self.through.account;
        let what = match &other.inventory {
            Some(inventory) => inventory.one_of(server, account, &removal.held_by, &all.seen)?,
            None if other.near => "what it made".to_owned(),
            None => return None,
        };
        let message = format!(
            "ConjurPolicy {}/{} must be deleted first where it is deleted, too: {what} depends on records of this policy",
            other.key.namespace, other.key.name
        );
        Some(Failure::waiting(Reason::LoadInProgress, AGAIN, message))
    }
}
