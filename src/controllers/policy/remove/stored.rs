//! The Secrets with keys of a policy that is being deleted: a key goes when Conjur no longer has its role.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::key_secrets;
use crate::{
    api::ConjurPolicy,
    conjur::{Lane, RoleId},
    controllers::{Context, clients::Connected, policy::look},
    plan::{
        Failure,
        load::PENDING_KEY,
        role_key::role_keys,
        secret::{Owner, refuse_unless_ours, wipe},
    },
};

/// Removes the keys of roles that are gone from Conjur, and with the last one the Secret. What else is in it stays.
pub async fn drop_what_is_gone(
    owner: &Owner,
    object: &ConjurPolicy,
    through: &Connected,
    left: &mut Vec<String>,
    ctx: &Context,
) -> Result<(), Failure> {
    for name in key_secrets(owner, object, ctx) {
        let Some(mut secret) = ctx.cluster.read_secret(&owner.namespace, &name).await? else { continue };
        let what = format!("Secret {}/{name}", owner.namespace);
        if secret.immutable == Some(true) || refuse_unless_ours(&secret.metadata, owner, &what).is_err() {
            wipe(&mut secret);
            continue;
        }
        let roles = roles_in(&secret, &through.account);
        let there = look::existing(&roles.keys().cloned().collect(), through, ctx).await;
        let there: BTreeSet<String> =
            there.map(|there| there.into_keys().collect()).inspect_err(|_| wipe(&mut secret))?;
        let data = secret.data.get_or_insert_default();
        data.remove(PENDING_KEY);
        for (_, (login_key, api_key)) in roles.iter().filter(|(role, _)| !there.contains(*role)) {
            for key in [login_key, api_key] {
                data.remove(key);
            }
        }
        let kept = data.len();
        let written = if kept == 0 {
            let deleted = ctx.cluster.delete_secret(&secret, Lane::Foreground).await;
            wipe(&mut secret);
            deleted
        } else {
            let why = match there.len() {
                0 => "something else is in it".to_owned(),
                count => format!("it keeps keys of {count} roles that are still in Conjur"),
            };
            left.push(format!("{what} stays, for {why}"));
            ctx.cluster.replace_secret(secret, Lane::Foreground).await.map(|_| ())
        };
        written?;
    }
    Ok(())
}

/// The roles whose login is in a Secret under the key that we would put it under, with their two keys.
fn roles_in(secret: &Secret, account: &str) -> BTreeMap<String, (String, String)> {
    let role = |(key, login): (&String, &ByteString)| {
        let login = std::str::from_utf8(&login.0).ok()?;
        let role = RoleId::from_login(account, login).ok()?.to_string();
        let keys = role_keys(&role).ok().filter(|keys| keys.login_key == *key)?;
        Some((role, (keys.login_key, keys.api_key_key)))
    };
    secret.data.iter().flatten().filter_map(role).collect()
}
