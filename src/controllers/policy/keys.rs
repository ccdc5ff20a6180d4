//! The `createdRoles` Secret: API keys of the roles that a policy made, and the announcement of a load.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    ResourceExt,
    core::PartialObjectMeta,
    runtime::{events::EventType, reflector::ObjectRef},
};
use serde_json::{Map, Value, json};

use super::{Seen, keys_of};
use crate::{
    api::{OWNER_ANNOTATION, ROTATE_KEYS_ANNOTATION, Reason},
    cluster,
    conjur::{Error, Lane, RoleId},
    controllers::{Context, Key, clients::Connected},
    metrics::SecretWrite,
    plan::{
        Failure,
        load::{Announcement, PENDING_KEY, permitted_rotations},
        secret::{Desired, OwnKeys, refuse_unless_ours, wipe},
    },
    sensitive::Sensitive,
};

/// Keys that are in hand must reach the Secret: writes are repeated this often, with growing pauses.
const STORE_TRIES: u32 = 8;

/// The Secret that keeps the keys, as it was last read or written. Dropping it wipes the values.
pub struct KeySecret {
    /// Its name; where the spec names none any more, that of the one that was made before; none where no role needs it.
    name: Option<String>,
    secret: Option<Secret>,
    announcement: Option<Announcement>,
}

impl Drop for KeySecret {
    fn drop(&mut self) {
        self.secret.iter_mut().for_each(wipe);
    }
}

impl KeySecret {
    /// Reads it.
    ///
    /// # Errors
    /// `ForeignSecret` where it is somebody else's, or immutable; an announcement that does not decode.
    pub async fn read(seen: &Seen<'_>, ctx: &Context) -> Result<Self, Failure> {
        let asked = seen.object.spec.created_roles.as_ref().map(|c| c.secret_name.clone());
        let mut others = named_us(seen, ctx);
        others.retain(|name| asked.as_ref() != Some(name));
        let only = if others.len() == 1 { others.first().cloned() } else { None };
        let mut kept = Self { name: asked.clone().or(only), secret: None, announcement: None };
        for other in others.iter().filter(|name| kept.name.as_ref() != Some(*name)) {
            refuse_where_pending(seen, other, ctx).await?;
        }
        kept.read_again(seen, ctx).await?;
        Ok(kept)
    }

    async fn read_again(&mut self, seen: &Seen<'_>, ctx: &Context) -> Result<(), Failure> {
        self.secret.iter_mut().for_each(wipe);
        (self.secret, self.announcement) = (None, None);
        let Some(name) = &self.name else { return Ok(()) };
        let namespace = &seen.owner.namespace;
        let Some(secret) = ctx.cluster.read_secret(namespace, name).await? else { return Ok(()) };
        let secret = self.secret.insert(secret);
        let what = format!("Secret {namespace}/{name}");
        refuse_unless_ours(&secret.metadata, &seen.owner, &what)?;
        if secret.immutable == Some(true) {
            let message = format!(
                "{what} is immutable, so that no key could be stored in it; delete it or name another"
            );
            return Err(Failure::stalled(Reason::ForeignSecret, message));
        }
        if let Some(announced) = announced_in(secret) {
            self.announcement = Some(announced.map_err(|_| {
                let message = format!(
                    "key {PENDING_KEY} of {what} was edited and can't be read: it says which roles are owed a key. Restore \
                     it, or remove it, and look whether a role of this policy has lost its key"
                );
                Failure::stalled(Reason::KeyNotStored, message)
            })?);
        }
        Ok(())
    }

    /// The load that was announced and not yet resolved.
    pub fn announcement(&self) -> Option<&Announcement> {
        self.announcement.as_ref()
    }

    /// Whether the key of a role is stored.
    pub fn has_key(&self, role: &str) -> bool {
        self.secret.as_ref().is_some_and(|secret| holds_key(secret, role))
    }

    /// Where the spec names no Secret, and a load made a role all the same: no key may be lost.
    pub fn name_if_unnamed(&mut self, seen: &Seen) {
        self.name.get_or_insert_with(|| format!("{}-created-roles", seen.owner.name));
    }

    /// Writes an announcement, or removes it, and stores keys, in one write. Repeated until it is done, for keys in
    /// hand are nowhere else.
    ///
    /// # Errors
    /// Refusals; the API server's, after several tries.
    pub async fn write(
        &mut self,
        seen: &Seen<'_>,
        announcement: Option<Announcement>,
        keys: &BTreeMap<String, Sensitive<String>>,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            match self.try_write(seen, announcement.as_ref(), keys, ctx).await? {
                Ok(()) => return Ok(()),
                Err(error @ (cluster::Error::Invalid(_) | cluster::Error::Forbidden(_))) => {
                    return Err(error.into());
                }
                Err(error) if tries == STORE_TRIES => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(
                        namespace = seen.owner.namespace,
                        name = seen.owner.name,
                        "cannot write the createdRoles Secret yet: {error}"
                    );
                    tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                    tries += 1;
                    // What cannot be read now is tried again with the write.
                    let _ = self.read_again(seen, ctx).await.map_err(|e| tracing::debug!("{e}"));
                }
            }
        }
    }

    async fn try_write(
        &mut self,
        seen: &Seen<'_>,
        announcement: Option<&Announcement>,
        keys: &BTreeMap<String, Sensitive<String>>,
        ctx: &Context,
    ) -> Result<Result<(), cluster::Error>, Failure> {
        let Some(name) = self.name.clone() else { return Ok(Ok(())) };
        if let Some(secret) = &self.secret {
            let what = format!("Secret {}/{name}", seen.owner.namespace);
            refuse_unless_ours(&secret.metadata, &seen.owner, &what)?;
        }
        let next = self.next(seen, &name, announcement, keys)?;
        let created = self.secret.is_none();
        let mut copy = next.clone();
        let at = Key { namespace: seen.owner.namespace.clone(), name };
        let writing = ctx.key_writes.begin(&at);
        let written = if created {
            ctx.cluster.create_secret(next, Lane::Foreground).await
        } else {
            ctx.cluster.replace_secret(next, Lane::Foreground).await
        };
        if writing.end(written.as_ref().ok().map(|w| w.resource_version.as_str())) {
            ctx.wakeups.policy(ObjectRef::new(&seen.owner.name).within(&seen.owner.namespace));
        }
        Ok(match written {
            Ok(written) => {
                ctx.metrics.secret_written(if created { SecretWrite::Create } else { SecretWrite::Update });
                (copy.metadata.uid, copy.metadata.resource_version) =
                    (Some(written.uid), Some(written.resource_version));
                self.secret.iter_mut().for_each(wipe);
                self.secret = Some(copy);
                self.announcement = announcement.cloned();
                Ok(())
            }
            Err(error) => {
                wipe(&mut copy);
                Err(error)
            }
        })
    }

    /// The Secret as it should be: all keys that are in it, the new ones, and the announcement.
    fn next(
        &self,
        seen: &Seen,
        name: &str,
        announcement: Option<&Announcement>,
        keys: &BTreeMap<String, Sensitive<String>>,
    ) -> Result<Secret, Failure> {
        let mut desired = Desired {
            name: name.to_owned(),
            type_: self.secret.as_ref().and_then(|s| s.type_.clone()).unwrap_or_else(|| "Opaque".to_owned()),
            // Keys that can't be had again must not go with the object.
            owned: false,
            ..Desired::default()
        };
        for (key, value) in self.secret.iter().flat_map(|s| s.data.iter().flatten()) {
            desired.data.insert(key.clone(), Sensitive::new(value.0.clone()));
        }
        desired.data.remove(PENDING_KEY);
        if let Some(announcement) = announcement {
            let json = serde_json::to_vec(announcement).map_err(|e| {
                Failure::transient(Reason::ApiServerError, format!("cannot write an announcement: {e}"))
            })?;
            desired.data.insert(PENDING_KEY.to_owned(), Sensitive::new(json));
        }
        for (role, key) in keys {
            let entry = keys_of(role)?;
            desired.data.insert(entry.login_key, Sensitive::new(entry.login.into_bytes()));
            desired.data.insert(entry.api_key_key, Sensitive::new(key.expose().clone().into_bytes()));
        }
        desired.check_size()?;
        Ok(desired.to_secret(&seen.owner, self.secret.as_ref().map(|s| &s.metadata), &OwnKeys::default()))
    }

    /// Logins that were edited or removed beside a stored key.
    fn wrong_logins(&self, roles: &BTreeSet<String>) -> Vec<(String, String)> {
        let data = self.secret.as_ref().and_then(|s| s.data.as_ref());
        let stored = roles.iter().filter(|role| self.has_key(role)).filter_map(|role| keys_of(role).ok());
        stored
            .filter(|k| {
                data.and_then(|d| d.get(&k.login_key)).map(|v| v.0.as_slice()) != Some(k.login.as_bytes())
            })
            .map(|k| (k.login_key, k.login))
            .collect()
    }

    /// Refuses roles whose keys would not fit into the Secret.
    pub fn check_room(&self, seen: &Seen, roles: &BTreeSet<String>) -> Result<(), Failure> {
        // A key has 50 to 60 characters.
        let keys = roles.iter().map(|r| (r.clone(), Sensitive::new("x".repeat(64)))).collect();
        let name = self.name.clone().unwrap_or_default();
        let mut secret = self.next(seen, &name, self.announcement.as_ref(), &keys)?;
        wipe(&mut secret);
        Ok(())
    }
}

/// Names of the Secrets that were written for this policy.
fn named_us(seen: &Seen, ctx: &Context) -> Vec<String> {
    let reference = seen.owner.reference();
    let ours = |s: &PartialObjectMeta<Secret>| {
        s.metadata.namespace.as_ref() == Some(&seen.owner.namespace)
            && s.annotations().get(OWNER_ANNOTATION) == Some(&reference)
    };
    ctx.owned.state().iter().filter(|s| ours(s)).map(|s| s.name_any()).collect()
}

/// A load that was announced in a Secret before the spec named another one would be forgotten with it.
async fn refuse_where_pending(seen: &Seen<'_>, name: &str, ctx: &Context) -> Result<(), Failure> {
    let namespace = &seen.owner.namespace;
    let Some(mut secret) = ctx.cluster.read_secret(namespace, name).await? else { return Ok(()) };
    let pending = announced_in(&secret).is_some();
    wipe(&mut secret);
    if !pending {
        return Ok(());
    }
    let message = format!(
        "a load was announced in Secret {namespace}/{name}, and its outcome is not yet known: set \
         spec.createdRoles.secretName back to {name} until this is Ready, or remove the key {PENDING_KEY} from it to give up \
         the keys that it is owed"
    );
    Err(Failure::stalled(Reason::KeyNotStored, message))
}

/// Whether a Secret holds the key of a role.
pub fn holds_key(secret: &Secret, role: &str) -> bool {
    let data = secret.data.as_ref();
    keys_of(role).is_ok_and(|k| data.and_then(|d| d.get(&k.api_key_key)).is_some_and(|v| !v.0.is_empty()))
}

/// The announcement in a Secret; an error where it was edited.
pub fn announced_in(secret: &Secret) -> Option<Result<Announcement, serde_json::Error>> {
    let json = secret.data.as_ref()?.get(PENDING_KEY)?;
    Some(serde_json::from_slice(&json.0))
}

/// What a role authenticates with; none for what has no key.
pub fn login_of(role: &str) -> Option<String> {
    keys_of(role).ok().map(|k| k.login)
}

/// Rotates the key of a role and stores the new one. The old one dies with the rotation, so only for roles whose key
/// nobody has.
///
/// # Errors
/// Conjur's, or the API server's; both leave the role owed.
pub async fn rotate_and_store(
    role: &str,
    announcement: Option<Announcement>,
    seen: &Seen<'_>,
    through: &Connected,
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
    let note = format!(
        "the key that Conjur gave for {} was lost before it was stored; it was rotated and stored",
        id.login()
    );
    ctx.events.publish(seen.object, EventType::Warning, Reason::KeyRotated, "Rotate", note);
    Ok(())
}

/// Sees that every role that this policy made has its login and key in the Secret; false where that needs a
/// connection which was not tried yet.
///
/// # Errors
/// `KeyNotStored`, naming the logins, until the user restores them or permits the rotation.
pub async fn see_that_all_are_stored(
    seen: &Seen<'_>,
    kept: &mut KeySecret,
    fields: &mut Map<String, Value>,
    ctx: &Context,
) -> Result<bool, Failure> {
    let mut roles = match fields.get("createdRoles") {
        // Null: a load just found out that there are none.
        Some(listed) => {
            listed.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        None => seen.known_roles(),
    };
    let lost: Vec<String> = roles.iter().filter(|role| !kept.has_key(role)).cloned().collect();
    if !lost.is_empty() {
        let Some(through) = seen.through(ctx)? else { return Ok(false) };
        let permitted = seen.object.annotations().get(ROTATE_KEYS_ANNOTATION).cloned();
        let permitted = permitted_rotations(permitted.as_deref());
        let mut stay_lost = Vec::new();
        for role in lost {
            let login = keys_of(&role)?.login;
            let id = parse(&role)?;
            let shown = through.client.show_resource(&id.kind, &id.id).await;
            if shown.map_err(|e| failed(e, &through, ctx))?.is_none() {
                roles.remove(&role);
            } else if permitted.contains(login.as_str()) {
                kept.name_if_unnamed(seen);
                rotate_and_store(&role, None, seen, &through, kept, ctx).await?;
            } else {
                stay_lost.push(login);
            }
        }
        fields.insert("createdRoles".into(), json!(roles));
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

/// Takes note of a connection that fails, and makes an error of Conjur a failure.
fn failed(error: Error, through: &Connected, ctx: &Context) -> Failure {
    ctx.clients.call_failed(through, &error);
    error.into()
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
         the keys be rotated, which ends the old ones: kubectl annotate conjurpolicy {} {ROTATE_KEYS_ANNOTATION}={}",
        logins.join(", "),
        seen.owner.namespace,
        seen.owner.name,
        logins.join(",")
    );
    Failure::stalled(Reason::KeyNotStored, message)
}
