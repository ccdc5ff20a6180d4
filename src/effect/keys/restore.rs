//! Keys and logins that were edited, or that lie in other Secrets of the same object.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;

use super::{KeySecret, keys_of, made_on, secrets_of};
use crate::{
    controllers::Context,
    effect::Subject,
    plan::{Failure, secret::refuse_unless_ours},
    sensitive::Sensitive,
};

impl KeySecret {
    /// Stores the keys of roles that lie in other Secrets of this policy, which were named before: there they stay.
    pub async fn take_over(
        &mut self,
        roles: &BTreeSet<String>,
        subject: Subject<'_>,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let mut keys = BTreeMap::new();
        for name in secrets_of(subject.owner, ctx).iter().filter(|name| self.name.as_ref() != Some(name)) {
            let Some(secret) = ctx.cluster.read_secret(&subject.owner.namespace, name).await? else {
                continue;
            };
            let of_this_server = made_on(&secret).is_none_or(|made| made == subject.server);
            if of_this_server && refuse_unless_ours(&secret.metadata, subject.owner, name).is_ok() {
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
        if keys.is_empty() {
            Ok(())
        } else {
            self.write(subject, self.announcement.clone(), &keys, ctx).await
        }
    }

    /// Puts the logins of roles beside their keys again, where they were edited or removed.
    ///
    /// # Errors
    /// As [`KeySecret::write`].
    pub async fn restore_logins(
        &mut self,
        roles: &BTreeSet<String>,
        subject: Subject<'_>,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let wrong = self.wrong_logins(roles);
        let Some(secret) = self.secret.as_mut().filter(|_| !wrong.is_empty()) else { return Ok(()) };
        let data = secret.data.get_or_insert_default();
        data.extend(wrong.into_iter().map(|(key, login)| (key, ByteString(login.into_bytes()))));
        self.write(subject, self.announcement.clone(), &BTreeMap::new(), ctx).await
    }
}
