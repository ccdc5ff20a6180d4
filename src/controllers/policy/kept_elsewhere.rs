//! Which keys another ConjurPolicy keeps, that loaded the very same document.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    run::Run,
    seen::{load_inputs, may_load_through},
};
use crate::{
    api::{ConjurPolicy, SERVER_ANNOTATION},
    controllers::{Context, connection::access},
    effect::keys::{announced_in, holds_key, made_on, secrets_of},
    plan::{
        Failure,
        connection::access::Verb,
        full_id::lies_in,
        secret::{Owner, is_written_for},
    },
    runtime::Key,
};

/// The object that keeps the key of a role (its full id) of a server: it made the role, or is about to. Who may write the status
/// may have written any role there: only one below its branch counts, through a connection that the server lets in, and where it
/// has a Secret with keys of that server.
pub fn keeper_of(role: &str, server: &str, ctx: &Context) -> Option<Key> {
    let store = &ctx.kinds.policies.store;
    let named = |policy: &ConjurPolicy| {
        let roles = policy.status.as_ref().and_then(|status| status.created_roles.as_ref());
        roles.is_some_and(|roles| roles.iter().any(|made| made == role))
    };
    store.state().iter().find_map(|policy| {
        // Of most their branch says enough, without a copy.
        if !policy.0.as_ref().is_ok_and(|policy| may_have_made(role, policy)) {
            return None;
        }
        let key = Key::of(policy.as_ref());
        let policy = ctx.statuses.freshest(&key, store)?.ok()?;
        if !named(&policy) || !may_have_made(role, &policy) {
            return None;
        }
        let through = access::named(&policy.spec.connection_ref, &key, ctx).ok()?;
        let granted = through.may_access(Verb::Load, &[&policy.spec.branch], &key, ctx);
        let goes_there = may_load_through(&policy, server, ctx) && through.is_let_in(ctx);
        (granted && goes_there && has_keys_of(&Owner::of(&policy), server, ctx)).then_some(key)
    })
}

/// Whether a role lies where a policy loads.
fn may_have_made(role: &str, policy: &ConjurPolicy) -> bool {
    let account = role.split(':').next().unwrap_or_default();
    lies_in(role, account, &policy.spec.branch)
}

/// Whether a Secret was written for a policy with keys of a server, or before one was written down.
fn has_keys_of(owner: &Owner, server: &str, ctx: &Context) -> bool {
    secrets_of(owner, ctx).into_iter().any(|name| {
        let found = ctx.owned.get(&ObjectRef::new(&name).within(&owner.namespace));
        found.is_some_and(|secret| {
            secret.annotations().get(SERVER_ANNOTATION).is_none_or(|made_on| made_on == server)
        })
    })
}

impl Run<'_> {
    /// Those of the roles whose keys another ConjurPolicy keeps: it loaded the very same document as the same
    /// identity, so that its load looks like the operator's.
    pub async fn stored_elsewhere(
        &self,
        roles: &BTreeSet<String>,
        absent_at: i64,
    ) -> Result<BTreeSet<String>, Failure> {
        let mut stored = BTreeSet::new();
        if roles.is_empty() {
            return Ok(stored);
        }
        for policy in self.ctx.kinds.policies.store.state() {
            let key = Key::of(policy.as_ref());
            let Some(Ok(other)) = self.ctx.statuses.freshest(&key, &self.ctx.kinds.policies.store) else {
                continue;
            };
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
        let announced = announced_in(secret).and_then(Result::ok).is_some_and(|a| {
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
            && made_on(secret) == Some(server)
            && secret.immutable != Some(true)
            && is_written_for(&secret.metadata, &Owner::of(other))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_keeps_no_key_of_what_lies_outside_of_its_branch() {
        for (branch, role, expected) in [
            ("apps", "demo:host:apps/web", true),
            ("apps", "demo:host:apps/a/web", true),
            ("apps", "demo:host:app/web", false),
            ("apps/web", "demo:host:apps/web2", false),
            ("root", "demo:host:web", true),
        ] {
            let policy = json!({
                "metadata": { "namespace": "n", "name": "p" },
                "spec": { "connectionRef": { "name": "c" }, "branch": branch },
            });
            let policy: ConjurPolicy = serde_json::from_value(policy).unwrap();
            assert_eq!(may_have_made(role, &policy), expected, "{branch} {role}");
        }
    }
}
