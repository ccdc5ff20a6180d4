//! The Secret that keeps the inventory of what an object's loads made.
//!
//! It has no owner reference before the end: a foreground deletion would take it before what it lists is removed.

use std::collections::BTreeMap;

use super::write::write;
use crate::{
    api::Reason,
    conjur::Lane,
    controllers::Context,
    plan::{
        Failure,
        effect::inventory::{INVENTORY_KEY, Inventory, secret_name},
        secret::{Desired, OwnKeys, Owner, SecretRead, refuse_unless_ours},
    },
    sensitive::Sensitive,
};

const SECRET_TYPE: &str = "conjur-operator.io/inventory";

/// The inventory, as it was last read or written.
#[derive(Clone)]
pub struct Kept {
    /// What it says.
    pub inventory: Inventory,
    secret: Option<SecretRead>,
}

impl Kept {
    /// Reads it.
    ///
    /// # Errors
    /// `ForeignSecret`; `InventoryUnreadable` where it was edited.
    pub async fn read(owner: &Owner, ctx: &Context) -> Result<Self, Failure> {
        let name = secret_name(&owner.name);
        let Some(secret) = ctx.cluster.read_secret(&owner.namespace, &name).await? else {
            return Ok(Self { inventory: Inventory::default(), secret: None });
        };
        let what = format!("Secret {}/{name}", owner.namespace);
        refuse_unless_ours(&secret.metadata, owner, &what)?;
        let json = secret.data.as_ref().and_then(|data| data.get(INVENTORY_KEY));
        let read = json.and_then(|json| serde_json::from_slice(&json.0).ok());
        let inventory = read.ok_or_else(|| {
            let message = format!(
                "key {INVENTORY_KEY} of {what} was edited and can't be read: it says what this policy made, which is what \
                 deletionPolicy: Delete may remove. Restore it, or delete that Secret: what it listed then stays in Conjur"
            );
            Failure::stalled(Reason::InventoryUnreadable, message)
        })?;
        Ok(Self { inventory, secret: Some(secret) })
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.secret.is_some()
    }

    /// Writes another inventory, where it differs.
    ///
    /// # Errors
    /// `SecretTooLarge`; the API server's.
    pub async fn write(&mut self, inventory: Inventory, owner: &Owner, ctx: &Context) -> Result<(), Failure> {
        if self.is_there() && self.inventory == inventory {
            return Ok(());
        }
        self.put(inventory, owner, false, ctx).await
    }

    /// Nothing of what it lists is to be removed any more: it goes with its object, of which nothing but the finalizer
    /// is left. Gone before that, it would look as if someone had deleted it.
    ///
    /// # Errors
    /// The API server's.
    pub async fn hand_over(&mut self, owner: &Owner, ctx: &Context) -> Result<(), Failure> {
        if self.is_there() { self.put(Inventory::default(), owner, true, ctx).await } else { Ok(()) }
    }

    async fn put(
        &mut self,
        inventory: Inventory,
        owner: &Owner,
        goes_with_it: bool,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let json = serde_json::to_vec(&inventory).map_err(|e| {
            Failure::transient(Reason::ApiServerError, format!("cannot write an inventory: {e}"))
        })?;
        let desired = Desired {
            name: secret_name(&owner.name),
            type_: SECRET_TYPE.to_owned(),
            owned: goes_with_it,
            data: BTreeMap::from([(INVENTORY_KEY.to_owned(), Sensitive::new(json))]),
            ..Desired::default()
        };
        desired.check_size().map_err(|failure| Failure {
            message: format!(
                "with deletionPolicy: Delete an inventory of what the document makes is kept, and it is too large: {}, or \
                 set deletionPolicy: Retain",
                failure.message
            ),
            ..failure
        })?;
        let standing = self.secret.as_ref().map(|s| &s.metadata);
        let secret = desired.to_secret(owner, standing, &OwnKeys::default());
        let mut copy = secret.clone();
        copy.data = None;
        // What others do to it is looked at when it is read next.
        write(secret, &mut copy, self.is_there(), ctx).await.result?;
        (self.secret, self.inventory) = (Some(copy), inventory);
        Ok(())
    }

    /// Removes it: nothing of what it lists will be removed any more.
    pub async fn delete(self, ctx: &Context) -> Result<(), Failure> {
        if let Some(secret) = &self.secret {
            ctx.cluster.delete_secret(secret, Lane::Foreground).await?;
        }
        Ok(())
    }
}
