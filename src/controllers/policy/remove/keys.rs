//! The Secrets with keys of a policy that is being deleted: a key goes when Conjur certainly no longer has its role
//! (`plan::policy::key_retention` decides), and stays where that can't be told.

use std::collections::{BTreeMap, BTreeSet};

use super::{Done, Kept, RemovalRun, key_secrets, server};
use crate::{
    conjur::{Lane, Ownership, PolicyBranch},
    effect::{
        evidence,
        keys::{made_on, roles_in, take_out},
    },
    plan::{
        Failure,
        effect::announcement::PENDING_KEY,
        full_id::lies_in,
        policy::{
            key_retention::{KnownRoles, home, is_gone},
            secret_keys::RoleKeys,
        },
        secret::{SecretRead, refuse_unless_ours},
    },
};

impl RemovalRun<'_> {
    /// Removes the keys of roles that are gone from Conjur, and with the last one the Secret. What else is in it stays;
    /// of a Secret whose keys were made on another server or account, all does.
    pub(super) async fn drop_keys_of_what_is_gone(
        &self,
        kept: &Kept,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let settings = &self.named.facts.settings;
        let server = server(&settings.url, &settings.account);
        for name in key_secrets(self.owner, self.object, self.ctx) {
            let namespace = &self.owner.namespace;
            let Some(secret) = self.ctx.cluster.read_secret(namespace, &name).await? else { continue };
            let what = format!("Secret {namespace}/{name}");
            if secret.immutable == Some(true)
                || refuse_unless_ours(&secret.metadata, self.owner, &what).is_err()
            {
                continue;
            }
            if made_on(&secret).is_some_and(|made| made != server) {
                done.left.push(format!("{what} stays: its keys were made on another server or account"));
                continue;
            }
            self.drop_from(secret, &what, &server, kept, done).await?;
        }
        Ok(())
    }

    async fn drop_from(
        &self,
        mut secret: SecretRead,
        what: &str,
        server: &str,
        kept: &Kept,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let roles = roles_in(&secret, &self.through.account);
        let gone = self.gone(&roles, made_on(&secret).is_some(), server, kept, done).await;
        let (gone, seen) = gone?;
        let data = secret.data.get_or_insert_default();
        data.remove(PENDING_KEY);
        for (_, keys) in roles.iter().filter(|(role, _)| gone.contains(*role)) {
            take_out(data, keys);
        }
        if data.is_empty() {
            return Ok(self.ctx.cluster.delete_secret(&secret, Lane::Foreground).await?);
        }
        let unseen = roles.len() - gone.len() - seen;
        let why = match (seen, unseen) {
            (0, 0) => "something else is in it".to_owned(),
            (seen, 0) => format!("it keeps keys of {seen} roles that are still in Conjur"),
            (seen, unseen) => format!(
                "it keeps keys of {seen} roles that are still in Conjur, and of {unseen} of which {} can't tell whether they \
                 are",
                self.through.identity
            ),
        };
        done.left.push(format!("{what} stays, for {why}"));
        self.ctx.cluster.replace_secret(secret, Lane::Foreground).await?;
        Ok(())
    }

    /// The roles that are certainly gone, and how many are certainly there.
    async fn gone(
        &self,
        roles: &BTreeMap<String, RoleKeys>,
        made_here: bool,
        server: &str,
        kept: &Kept,
        done: &Done,
    ) -> Result<(BTreeSet<String>, usize), Failure> {
        let (inventory, account) = (&kept.inventory, &self.through.account);
        // Who may write Secrets may have named any role: others' branches are not asked of, so that nothing is told of them.
        let mut granted = inventory.branches(server);
        granted.insert(self.object.spec.branch.clone());
        let is_granted = |role: &str| {
            self.named.facts.access.is_none() || granted.iter().any(|b| lies_in(role, account, b))
        };
        let roles: BTreeMap<&String, &RoleKeys> = roles.iter().filter(|(role, _)| is_granted(role)).collect();
        let seen =
            evidence::existing(&roles.keys().copied().cloned().collect(), self.through, self.ctx).await?;
        let mut known = KnownRoles { seen: seen.into_keys().collect(), ..KnownRoles::default() };
        known.removed = inventory.removing.get(server).cloned().unwrap_or_default();
        for branch in &done.invisible {
            // There nothing of what is left would be seen.
            for id in inventory.announced(server, branch, account) {
                known.removed.remove(&id);
            }
        }
        let branches = inventory.branches(server);
        let mut policies = BTreeSet::from([self.object.spec.branch.clone()]);
        for branch in &branches {
            let ids = inventory.announced(server, branch, account);
            policies
                .extend(ids.iter().filter_map(|id| id.split_once(":policy:")).map(|(_, id)| id.to_owned()));
        }
        policies.extend(branches);
        let homes: BTreeMap<&String, Option<String>> =
            roles.keys().map(|r| (*r, home(r, &policies))).collect();
        if made_here {
            let unsure = homes.iter().filter(|(role, _)| {
                let role: &str = role;
                !known.seen.contains(role) && !known.removed.contains(role)
            });
            let unsure: BTreeSet<&String> = unsure.filter_map(|(_, home)| home.as_ref()).collect();
            for policy in unsure {
                let Ok(branch) = PolicyBranch::new(policy) else { continue };
                let owns = self.through.client.owns_branch(&branch).await.map_err(|e| self.failed(e))?;
                if owns == Ownership::Owner {
                    known.owned.insert(policy.clone());
                }
            }
        }
        let gone = homes.iter().filter(|(role, home)| is_gone(role, home.as_ref(), &known));
        let gone = gone.map(|(role, _)| (*role).clone()).collect();
        Ok((gone, known.seen.len()))
    }
}
