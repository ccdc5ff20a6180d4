//! Every role that a policy made has its login and key in the Secret; what is to be done where one has not.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use kube::{ResourceExt, runtime::events::EventType};

use super::{KeySecret, keys_of, made_on, named_us};
use crate::{
    api::{ConjurPolicyStatus, ROTATE_KEYS_ANNOTATION, Reason},
    conjur::{Error, RoleId},
    controllers::{
        Context,
        connection::pool::ReadyConnection,
        policy::seen::{Seen, failed},
    },
    plan::{
        Failure,
        connection::access::Verb,
        effect::{announcement::Announcement, lost_keys::permitted_rotations},
        full_id::below_account,
        secret::refuse_unless_ours,
    },
    sensitive::Sensitive,
};

/// Rotates the key of a role and stores the new one. The old one dies with the rotation, so only for roles whose key
/// no one has. `why` that is so stands in an Event.
///
/// # Errors
/// Conjur's, or the API server's; both leave the role owed.
pub async fn rotate_and_store(
    role: &str,
    why: &str,
    announcement: Option<Announcement>,
    seen: &Seen<'_>,
    through: &ReadyConnection,
    kept: &mut KeySecret,
    ctx: &Context,
) -> Result<(), Failure> {
    let id = parse(role)?;
    let key = through.client.rotate_api_key(&id).await.map_err(|error| match error {
        Error::NotFound { .. } | Error::Forbidden { .. } | Error::Invalid { .. } => {
            let message =
                format!("no API key is stored for {}, and it can't be rotated: {error}", id.login());
            Failure::stalled(Reason::KeyNotStored, message)
        }
        error => failed(error, through, ctx),
    })?;
    kept.write(seen, announcement, &BTreeMap::from([(role.to_owned(), key)]), ctx).await?;
    let note = format!("the key that Conjur gave for {} {why}; it was rotated and stored", id.login());
    ctx.events.publish(seen.object, EventType::Warning, Reason::KeyRotated, "Rotate", note);
    Ok(())
}

impl KeySecret {
    /// Stores the keys of roles that lie in other Secrets of this policy, which were named before: there they stay.
    async fn take_over(
        &mut self,
        roles: &BTreeSet<String>,
        seen: &Seen<'_>,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let mut keys = BTreeMap::new();
        for name in named_us(seen, ctx).iter().filter(|name| self.name.as_ref() != Some(name)) {
            let Some(secret) = ctx.cluster.read_secret(&seen.owner.namespace, name).await? else {
                continue;
            };
            let of_this_server = made_on(&secret).is_none_or(|made| made == seen.server);
            if of_this_server && refuse_unless_ours(&secret.metadata, &seen.owner, name).is_ok() {
                for role in roles.iter().filter(|role| !self.has_key(role)) {
                    let data = secret.data.as_ref();
                    let key = keys_of(role).ok().and_then(|keys| data?.get(&keys.api_key_key));
                    if let Some(key) =
                        key.and_then(|key| std::str::from_utf8(&key.0).ok()).filter(|k| !k.is_empty())
                    {
                        keys.insert(role.clone(), Sensitive::new(key.to_owned()));
                    }
                }
            }
        }
        if keys.is_empty() { Ok(()) } else { self.write(seen, self.announcement.clone(), &keys, ctx).await }
    }
}

/// Sees that every role that this policy made has its login and key in the Secret; false where that needs a
/// connection which was not tried yet.
///
/// # Errors
/// `KeyNotStored`, naming the logins, until the user restores them or permits the rotation.
pub async fn ensure_keys_stored(
    seen: &Seen<'_>,
    kept: &mut KeySecret,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> Result<bool, Failure> {
    // A load may just have made some, or found out that there are none.
    let mut roles: BTreeSet<String> = status.created_roles.iter().flatten().cloned().collect();
    let lost: Vec<String> = roles.iter().filter(|role| !kept.has_key(role)).cloned().collect();
    if !lost.is_empty() {
        let Some(through) = seen.through(Verb::Load, ctx)? else { return Ok(false) };
        let permitted = seen.object.annotations().get(ROTATE_KEYS_ANNOTATION).cloned();
        let permitted = permitted_rotations(permitted.as_deref());
        let (mut there, mut stay_lost) = (BTreeMap::new(), Vec::new());
        for role in lost {
            let id = parse(&role)?;
            let shown = through.client.show_resource(&id.kind, &id.id).await;
            match shown.map_err(|e| failed(e, &through, ctx))? {
                Some(shown) => _ = there.insert(role, shown.policy),
                None => _ = roles.remove(&role),
            }
        }
        if !there.is_empty() {
            kept.refuse_to_mix(seen, &through, ctx).await?;
        }
        kept.take_over(&there.keys().cloned().collect(), seen, ctx).await?;
        for (role, policy) in there.into_iter().filter(|(role, _)| !kept.has_key(role)).collect::<Vec<_>>() {
            let login = keys_of(&role)?.login;
            if permitted.contains(login.as_str()) {
                // Another server may have said that it made this role, or the branch is no longer granted to this policy.
                let branch = policy.as_deref().and_then(below_account).unwrap_or("root");
                seen.check_access_to(branch, Verb::Load, ctx)?;
                kept.name_if_unnamed(seen);
                let why = "is not stored any more, and annotation rotate-keys permits this";
                rotate_and_store(&role, why, None, seen, &through, kept, ctx).await?;
            } else {
                stay_lost.push(login);
            }
        }
        status.created_roles = Some(roles.iter().cloned().collect());
        if !stay_lost.is_empty() {
            return Err(not_stored(seen, &stay_lost));
        }
    }
    restore_logins(seen, kept, &roles, ctx).await?;
    Ok(true)
}

fn parse(role: &str) -> Result<RoleId, Failure> {
    role.parse().map_err(|e| Failure::stalled(Reason::PolicyInvalid, format!("{role} is no role: {e}")))
}

async fn restore_logins(
    seen: &Seen<'_>,
    kept: &mut KeySecret,
    roles: &BTreeSet<String>,
    ctx: &Context,
) -> Result<(), Failure> {
    let wrong = kept.wrong_logins(roles);
    if wrong.is_empty() {
        return Ok(());
    }
    if let Some(secret) = &mut kept.secret {
        let data = secret.data.get_or_insert_default();
        data.extend(wrong.into_iter().map(|(key, login)| (key, ByteString(login.into_bytes()))));
    }
    let announcement = kept.announcement.clone();
    kept.write(seen, announcement, &BTreeMap::new(), ctx).await
}

fn not_stored(seen: &Seen, logins: &[String]) -> Failure {
    let name = seen.object.spec.created_roles.as_ref().map_or("createdRoles", |c| c.secret_name.as_str());
    let message = format!(
        "no API key is stored any more for {} in Secret {}/{name}. Restore the Secret from where you keep its copy, or let \
         the keys be rotated, which ends the old ones: kubectl annotate --overwrite -n {} conjurpolicy {} \
         {ROTATE_KEYS_ANNOTATION}={}",
        logins.join(", "),
        seen.owner.namespace,
        seen.owner.namespace,
        seen.owner.name,
        logins.join(",")
    );
    Failure::stalled(Reason::KeyNotStored, message)
}
