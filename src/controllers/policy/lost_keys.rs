//! Every role that a policy made has its login and key in the Secret; what is to be done where one has not.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::{claims, seen::ObservedPolicy};
use crate::{
    api::{ConjurPolicyStatus, ROTATE_KEYS_ANNOTATION, Reason},
    controllers::Context,
    effect::{
        keys::{KeySecret, keys_of, role_id},
        perform,
    },
    plan::{
        Failure, connection::access::Verb, full_id::below_account, policy::rotate_keys::permitted_rotations,
    },
};

/// Sees that every role that this policy made has its login and key in the Secret; false where that needs a
/// connection which was not tried yet.
///
/// # Errors
/// `KeyNotStored`, naming the logins, until the user restores them or permits the rotation.
pub async fn ensure_keys_stored(
    seen: &ObservedPolicy<'_>,
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
            let id = role_id(&role)?;
            let shown = through.client.show_resource(&id.kind, &id.id).await;
            match shown.map_err(|e| ctx.clients.failure(&through, e))? {
                Some(shown) => _ = there.insert(role, shown.policy),
                None => _ = roles.remove(&role),
            }
        }
        if !there.is_empty() {
            let loaded = claims::has_loaded(seen.object, ctx);
            let may_tell_of = |role: &str| seen.may_tell_of(role);
            kept.refuse_to_mix(seen.subject(), loaded, may_tell_of, &through, ctx).await?;
        }
        kept.take_over(&there.keys().cloned().collect(), seen.subject(), ctx).await?;
        for (role, policy) in there.into_iter().filter(|(role, _)| !kept.has_key(role)).collect::<Vec<_>>() {
            let login = keys_of(&role)?.login;
            if permitted.contains(login.as_str()) {
                // Another server may have said that it made this role, or the branch is no longer granted to this policy.
                let branch = policy.as_deref().and_then(below_account).unwrap_or("root");
                seen.check_access_to(branch, Verb::Load, ctx)?;
                let _begun = ctx.in_flight.begin()?;
                let key = perform::rotate(&role_id(&role)?, &through, ctx).await?;
                kept.name_if_unnamed(seen.subject());
                // Until it is stored the key is lost, and the annotation permits this: a crash rotates it once more.
                kept.write(seen.subject(), None, &BTreeMap::from([(role, key)]), ctx).await?;
                let why = "is not stored any more, and annotation rotate-keys permits this";
                seen.tell_rotated(&login, why, ctx);
            } else {
                stay_lost.push(login);
            }
        }
        status.created_roles = Some(roles.iter().cloned().collect());
        if !stay_lost.is_empty() {
            return Err(not_stored(seen, &stay_lost));
        }
    }
    kept.restore_logins(&roles, seen.subject(), ctx).await?;
    Ok(true)
}

fn not_stored(seen: &ObservedPolicy, logins: &[String]) -> Failure {
    let name = seen.object.spec.created_roles.as_ref().map_or("createdRoles", |c| c.secret_name.as_str());
    let message = format!(
        "no API key is stored for {} in Secret {}/{name}. Restore the Secret from where you keep its copy, or let \
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
