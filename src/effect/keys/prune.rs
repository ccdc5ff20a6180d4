//! The keys of roles that a load took out of Conjur.

use std::collections::{BTreeMap, BTreeSet};

use super::{KeySecret, keys_of, made_on, take_out};
use crate::{controllers::Context, effect::Subject, plan::Failure};

/// A write that others were faster than is made again so often.
const TRIES: u32 = 3;

impl KeySecret {
    /// Those of the roles whose keys are stored, and were made on the server: a role of the same id on another server says
    /// nothing of the one whose key is stored.
    pub fn stored_here(&self, subject: Subject<'_>, roles: &BTreeSet<String>) -> BTreeSet<String> {
        let made_on = self.secret.as_ref().and_then(|secret| made_on(secret));
        let here = made_on == Some(subject.server);
        roles.iter().filter(|role| here && self.has_key(role)).cloned().collect()
    }

    /// Takes the logins and keys of roles that are gone out of the Secret.
    ///
    /// # Errors
    /// As [`KeySecret::write`].
    pub async fn drop_keys(
        &mut self,
        gone: &BTreeSet<String>,
        subject: Subject<'_>,
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
            self.write(subject, self.announcement.clone(), &BTreeMap::new(), ctx).await?;
        }
        Ok(())
    }
}
