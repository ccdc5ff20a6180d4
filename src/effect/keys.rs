//! The `createdRoles` Secret: API keys of the roles that a policy made, and the announcement of a load.

mod prune;
mod restore;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, core::PartialObjectMeta};
use zeroize::Zeroize;

use super::{
    Subject, evidence,
    write::{OwnWrite, write},
};
use crate::{
    api::{ADOPT_ANNOTATION, OWNER_ANNOTATION, Reason, SERVER_ANNOTATION},
    cluster,
    conjur::{Lane, RoleId},
    controllers::{Context, connection::pool::ReadyConnection},
    memory_budget,
    plan::{
        Failure,
        effect::{
            announcement::{Announcement, PENDING_KEY},
            inventory::secret_name,
        },
        policy::secret_keys::{RoleKeys, default_keys_name, role_keys},
        secret::{Desired, OwnKeys, Owner, SecretRead, refuse_unless_ours},
    },
    runtime::{
        current::{NamesInLine, say},
        failure::no_room,
    },
    sensitive::Sensitive,
};

/// The names of the keys that a Secret keeps, but for what is announced in it.
fn kept(secret: Option<&SecretRead>) -> impl Iterator<Item = &String> + Clone {
    let data = secret.into_iter().flat_map(|secret| secret.data.iter().flatten());
    data.map(|(key, _)| key).filter(|key| *key != PENDING_KEY)
}

/// Keys that are in hand must reach the Secret, and announcements must before a load: writes are repeated this often, with
/// growing pauses. After that the roles stay owed, and the next run rotates their keys.
const STORE_TRIES: u32 = 8;

/// The Secret that keeps the keys, as it was last read or written.
pub struct KeySecret {
    /// Its name; where the spec names none any more, that of the one that was made before; none where no role needs it.
    name: Option<String>,
    secret: Option<SecretRead>,
    announcement: Option<Announcement>,
}

impl KeySecret {
    /// Reads it. `asked`: the name that the spec gives.
    ///
    /// # Errors
    /// `ForeignSecret` where it is another's, or immutable; an announcement that does not decode.
    pub async fn read(subject: Subject<'_>, asked: Option<&str>, ctx: &Context) -> Result<Self, Failure> {
        let mut others = secrets_of(subject.owner, ctx);
        others.retain(|name| asked != Some(name.as_str()));
        let only = if others.len() == 1 { others.first().cloned() } else { None };
        let name = asked.map(str::to_owned).or(only);
        let mut kept = Self { name, secret: None, announcement: None };
        for other in others.iter().filter(|name| kept.name.as_ref() != Some(*name)) {
            refuse_where_pending(subject, other, ctx).await?;
        }
        kept.read_again(subject, ctx).await?;
        // It is held as long as a load takes. Later nothing is given up for want of room: there may be keys in hand.
        let length =
            kept.secret.iter().flat_map(|secret| secret.data.iter().flatten()).map(|(_, v)| v.0.len()).sum();
        let has_room =
            memory_budget::room_now(&subject.owner.namespace, length).is_some_and(|room| room.hold(length));
        if has_room { Ok(kept) } else { Err(no_room("the Secret of spec.createdRoles")) }
    }

    async fn read_again(&mut self, subject: Subject<'_>, ctx: &Context) -> Result<(), Failure> {
        (self.secret, self.announcement) = (None, None);
        let Some(name) = &self.name else { return Ok(()) };
        let namespace = &subject.owner.namespace;
        let Some(secret) = ctx.cluster.read_secret(namespace, name).await? else { return Ok(()) };
        let secret = self.secret.insert(secret);
        let what = format!("Secret {namespace}/{name}");
        refuse_unless_ours(&secret.metadata, subject.owner, &what)?;
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
    pub fn name_if_unnamed(&mut self, subject: Subject<'_>) {
        self.name.get_or_insert_with(|| default_keys_name(&subject.owner.name));
    }

    /// Writes an announcement, or removes it, and stores keys, in one write. Repeated up to `STORE_TRIES` times, for keys
    /// in hand are nowhere else.
    ///
    /// # Errors
    /// Refusals; the API server's, after several tries.
    pub async fn write(
        &mut self,
        subject: Subject<'_>,
        announcement: Option<Announcement>,
        keys: &BTreeMap<String, Sensitive<String>>,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            match self.try_write(subject, announcement.as_ref(), keys, ctx).await? {
                Ok(()) => return Ok(()),
                Err(error @ (cluster::Error::Invalid(_) | cluster::Error::Forbidden(_))) => {
                    return Err(error.into());
                }
                Err(error) if tries == STORE_TRIES => return Err(error.into()),
                Err(error) => {
                    if tries == 0 {
                        say!(WARN, "cannot write the createdRoles Secret; retrying: {error}");
                    }
                    tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                    tries += 1;
                    // What cannot be read now is tried again with the write.
                    let _ = self.read_again(subject, ctx).await.map_err(|e| tracing::debug!("{e}"));
                }
            }
        }
    }

    async fn try_write(
        &mut self,
        subject: Subject<'_>,
        announcement: Option<&Announcement>,
        keys: &BTreeMap<String, Sensitive<String>>,
        ctx: &Context,
    ) -> Result<Result<(), cluster::Error>, Failure> {
        let Some(name) = &self.name else {
            if announcement.is_none() && keys.is_empty() {
                return Ok(Ok(()));
            }
            let message =
                "internal error: no Secret is named to keep API keys in; this is a bug in the operator";
            return Err(Failure::transient(Reason::KeyNotStored, message));
        };
        if let Some(secret) = &self.secret {
            let what = format!("Secret {}/{name}", subject.owner.namespace);
            refuse_unless_ours(&secret.metadata, subject.owner, &what)?;
        }
        let next = self.next(subject, name, announcement, keys)?;
        let mut copy = next.clone();
        let OwnWrite { result, others } = write(next, &mut copy, self.secret.is_some(), ctx).await;
        if others {
            ctx.kinds.wake_owner(subject.owner);
        }
        Ok(result.map(|()| {
            if kept(self.secret.as_ref()).ne(kept(Some(&copy))) || !keys.is_empty() {
                say!(INFO, secret = name, keys = %NamesInLine(kept(Some(&copy)), ","), "wrote a Secret");
            }
            self.secret = Some(copy);
            self.announcement = announcement.cloned();
        }))
    }

    /// A load was refused: puts an earlier announcement into the Secret, or none. A Secret of which nothing is left goes, as it
    /// was last written; where someone has changed it since, the announcement is taken out of it instead. One whose load is
    /// tried `again` soon stays.
    ///
    /// # Errors
    /// As [`KeySecret::write`].
    pub async fn withdraw(
        &mut self,
        subject: Subject<'_>,
        earlier: Option<Announcement>,
        again: bool,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let gone = self.secret.as_ref().filter(|secret| earlier.is_none() && !again && is_ours_alone(secret));
        let Some(secret) = gone else { return self.write(subject, earlier, &BTreeMap::new(), ctx).await };
        match ctx.cluster.delete_secret(secret, Lane::Foreground).await {
            Ok(()) => {
                (self.secret, self.announcement) = (None, None);
                Ok(())
            }
            Err(cluster::Error::Conflict(_)) => {
                self.read_again(subject, ctx).await?;
                self.write(subject, None, &BTreeMap::new(), ctx).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The Secret as it should be: all keys that are in it, the new ones, and the announcement.
    fn next(
        &self,
        subject: Subject<'_>,
        name: &str,
        announcement: Option<&Announcement>,
        keys: &BTreeMap<String, Sensitive<String>>,
    ) -> Result<SecretRead, Failure> {
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
        if !keys.is_empty() || announcement.is_some_and(|a| !a.owed.is_empty()) {
            desired.annotations.insert(SERVER_ANNOTATION.to_owned(), subject.server.to_owned());
        }
        desired.check_size()?;
        Ok(desired.to_secret(subject.owner, self.secret.as_ref().map(|s| &s.metadata), &OwnKeys::default()))
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

    /// Refuses roles whose keys would not fit into the Secret, together with what `announced` says besides them.
    ///
    /// # Errors
    /// `SecretTooLarge`.
    pub fn check_room(&self, subject: Subject<'_>, mut announced: Announcement) -> Result<(), Failure> {
        // An owed role takes less room than its key, which has 50 to 60 characters.
        let roles = std::mem::take(&mut announced.owed);
        let keys = roles.into_iter().map(|role| (role, Sensitive::new("x".repeat(64)))).collect();
        let name = self.name.clone().unwrap_or_default();
        self.next(subject, &name, Some(&announced), &keys).map(drop)
    }

    /// Refuses to put keys beside, or in the place of, those of another server: there they still work. One Secret keeps
    /// the keys of one server, which an annotation names; so they are safe from an object that is made anew, too.
    /// A server that has all roles whose keys are stored is taken for the same under another address. `loaded_before`: the
    /// object loaded its branch on this server before; `may_tell_of`: whether it may learn if a role is there.
    ///
    /// # Errors
    /// `InvalidSpec`, naming the roles that are not there.
    pub async fn refuse_to_mix(
        &self,
        subject: Subject<'_>,
        loaded_before: bool,
        may_tell_of: impl Fn(&str) -> bool,
        through: &ReadyConnection,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let Some(secret) = &self.secret else { return Ok(()) };
        match made_on(secret) {
            Some(made) if made == subject.server => return Ok(()),
            // It was written before servers were told apart: the status may know.
            None if loaded_before => return Ok(()),
            _ => {}
        }
        let mut stored: BTreeSet<String> = roles_in(secret, &through.account).into_keys().collect();
        stored.retain(|role| self.has_key(role));
        if stored.is_empty() {
            return Ok(());
        }
        // What is asked of others' branches is told to no one: their roles count as not there, whether they are or not.
        let asked = stored.iter().filter(|role| may_tell_of(role)).cloned().collect();
        let there = evidence::existing(&asked, through, ctx).await?;
        let not_there = stored.iter().filter(|role| !there.contains_key(*role));
        let logins: Vec<String> = not_there.filter_map(|role| login_of(role)).collect();
        if logins.is_empty() {
            return Ok(());
        }
        let message = format!(
            "Secret {}/{} keeps the keys of {}, which were made on another server or account, or in a branch that is not loaded \
             here, and may still work there: name \
             another Secret in spec.createdRoles.secretName, or remove those keys",
            subject.owner.namespace,
            self.name.as_deref().unwrap_or_default(),
            logins.join(", ")
        );
        Err(Failure::stalled(Reason::InvalidSpec, message))
    }
}

/// Whether nothing but an announcement is in a Secret. One that was given to the operator is someone's, also when it is empty.
fn is_ours_alone(secret: &Secret) -> bool {
    let given = secret.annotations().contains_key(ADOPT_ANNOTATION);
    !given && secret.data.as_ref().is_some_and(|data| data.keys().all(|key| key == PENDING_KEY))
}

/// Names of the Secrets that were written for an object to keep keys.
pub fn secrets_of(owner: &Owner, ctx: &Context) -> BTreeSet<String> {
    let reference = owner.reference();
    let ours = |s: &PartialObjectMeta<Secret>| {
        s.metadata.namespace.as_ref() == Some(&owner.namespace)
            && s.annotations().get(OWNER_ANNOTATION) == Some(&reference)
    };
    let inventory = secret_name(&owner.name);
    let names = ctx.owned.state();
    names.iter().filter(|s| ours(s)).map(|s| s.name_any()).filter(|name| *name != inventory).collect()
}

/// A load that was announced in a Secret before the spec named another one would be forgotten with it.
async fn refuse_where_pending(subject: Subject<'_>, name: &str, ctx: &Context) -> Result<(), Failure> {
    let namespace = &subject.owner.namespace;
    let Some(secret) = ctx.cluster.read_secret(namespace, name).await? else { return Ok(()) };
    if announced_in(&secret).is_none() {
        return Ok(());
    }
    let message = format!(
        "a load was announced in Secret {namespace}/{name}, and its outcome is not yet known: set \
         spec.createdRoles.secretName back to {name} until this is Ready, or remove the key {PENDING_KEY} from it to give up \
         the API keys that it lists as owed"
    );
    Err(Failure::stalled(Reason::KeyNotStored, message))
}

/// Under which keys a Secret keeps the login and key of a role.
///
/// # Errors
/// `PolicyInvalid` for what has no API key, or too long an id.
pub fn keys_of(role: &str) -> Result<RoleKeys, Failure> {
    role_keys(role).map_err(|e| Failure::stalled(Reason::PolicyInvalid, e.to_string()))
}

/// A role by its full id.
///
/// # Errors
/// `PolicyInvalid` for what is none.
pub fn role_id(role: &str) -> Result<RoleId, Failure> {
    role.parse().map_err(|e| {
        Failure::stalled(Reason::PolicyInvalid, format!("{role} is not the full id of a host or user: {e}"))
    })
}

/// Whether a Secret holds the key of a role.
pub fn holds_key(secret: &Secret, role: &str) -> bool {
    let data = secret.data.as_ref();
    keys_of(role).is_ok_and(|k| data.and_then(|d| d.get(&k.api_key_key)).is_some_and(|v| !v.0.is_empty()))
}

/// Takes the login and key of a role out of a Secret's data, and wipes them. Says whether there was one.
pub fn take_out(data: &mut BTreeMap<String, ByteString>, keys: &RoleKeys) -> bool {
    let mut taken = false;
    for key in [&keys.login_key, &keys.api_key_key] {
        if let Some(mut value) = data.remove(key) {
            value.0.zeroize();
            taken = true;
        }
    }
    taken
}

/// The server on which the keys in a Secret were made (its hash); none where that was not written down.
pub fn made_on(secret: &Secret) -> Option<&str> {
    secret.annotations().get(SERVER_ANNOTATION).map(String::as_str)
}

/// The roles whose login is in a Secret under the key that the operator would put it under, with their keys.
pub fn roles_in(secret: &Secret, account: &str) -> BTreeMap<String, RoleKeys> {
    let role = |(key, login): (&String, &ByteString)| {
        let login = std::str::from_utf8(&login.0).ok()?;
        let role = RoleId::from_login(account, login).ok()?.to_string();
        let keys = role_keys(&role).ok().filter(|keys| keys.login_key == *key)?;
        Some((role, keys))
    };
    secret.data.iter().flatten().filter_map(role).collect()
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
