//! The keys of roles that a load of this policy took out of Conjur.

use std::collections::{BTreeMap, BTreeSet};

use super::{KeySecret, keys_of, made_on, take_out};
use crate::{
    conjur::Ownership,
    controllers::{
        Context,
        policy::{evidence, run::Run, seen::Seen},
    },
    plan::{
        Failure,
        effect::evidence::Origin,
        policy::{
            document::DeletionKind,
            removed_roles::{may_go, went},
        },
    },
};

/// A write that others were faster than is made again so often.
const TRIES: u32 = 3;

impl Run<'_> {
    /// Before a load that may delete: those of the operator's roles whose keys are stored, that the document does not name, and that
    /// the identity sees as an owner of the branch.
    ///
    /// # Errors
    /// Conjur's.
    pub async fn roles_that_may_go(&self, kept: &KeySecret) -> Result<BTreeMap<String, Origin>, Failure> {
        let document = &self.content.document;
        let deletes = document.deletions.iter().any(|d| d.statement == DeletionKind::Delete);
        let named: BTreeSet<&str> = document.roles.iter().map(|role| role.id.as_str()).collect();
        let mut roles = self.seen.known_roles();
        roles.retain(|role| !named.contains(role.as_str()) && kept.has_key(role));
        // A role of the same id on another server says nothing of the one whose key is stored.
        let made_here =
            kept.secret.as_ref().and_then(|secret| made_on(secret)) == Some(self.seen.server.as_str());
        let may_go = made_here && may_go(self.seen.object.mode(), deletes);
        if !may_go || roles.is_empty() || !self.owns().await? {
            return Ok(BTreeMap::new());
        }
        self.existing(&roles).await
    }

    /// After it: those that went with it. What is merely invisible is not gone, so that only an owner's look counts.
    ///
    /// # Errors
    /// Conjur's.
    pub async fn gone_of(&self, before: &BTreeMap<String, Origin>) -> Result<BTreeSet<String>, Failure> {
        if before.is_empty() {
            return Ok(BTreeSet::new());
        }
        let after = evidence::each(&before.keys().cloned().collect(), self.through, self.ctx).await?;
        let branch = format!("{}:policy:{}", self.through.account, self.seen.branch);
        let gone = went(before, &after, &branch);
        Ok(if gone.is_empty() || self.owns().await? { gone } else { BTreeSet::new() })
    }

    async fn owns(&self) -> Result<bool, Failure> {
        let ownership = self.through.client.owns_branch(&self.seen.branch).await;
        Ok(ownership.map_err(|e| self.failed(e))? == Ownership::Owner)
    }
}

impl KeySecret {
    /// Takes the logins and keys of roles that are gone out of the Secret.
    ///
    /// # Errors
    /// As [`KeySecret::write`].
    pub async fn drop_keys(
        &mut self,
        gone: &BTreeSet<String>,
        seen: &Seen<'_>,
        ctx: &Context,
    ) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let Some(data) = self.secret.as_mut().and_then(|secret| secret.data.as_mut()) else { break };
            let mut removed = false;
            for keys in gone.iter().filter_map(|role| keys_of(role).ok()) {
                removed |= take_out(data, &keys);
            }
            if !removed {
                break;
            }
            // Where it is written again after a fault it was read again before, with the keys in it.
            self.write(seen, self.announcement.clone(), &BTreeMap::new(), ctx).await?;
        }
        Ok(())
    }
}
