//! The Secret that keeps the inventory of what a policy made, and its entries before and after a load.
//!
//! It has no owner reference before the end: a foreground deletion would take it before what it lists is removed.

use std::collections::{BTreeMap, BTreeSet};

use super::{evidence, run::Run};
use crate::{
    api::{Reason, secret::DeletionPolicy},
    conjur::{Lane, Ownership},
    controllers::Context,
    metrics::SecretWrite,
    plan::{
        Failure,
        effect::{
            evidence::newest,
            inventory::{INVENTORY_KEY, InventoriedLoad, Inventory, secret_name},
        },
        secret::{Desired, OwnKeys, Owner, SecretRead, refuse_unless_ours},
    },
    runtime::Key,
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
        let mut secret = desired.to_secret(owner, standing, &OwnKeys::default());
        let mut copy = secret.clone();
        copy.data = None;
        let at = Key { namespace: owner.namespace.clone(), name: desired.name };
        let writing = ctx.key_writes.begin(&at);
        let created = self.secret.is_none();
        let written = if created {
            secret.metadata.resource_version = None;
            ctx.cluster.create_secret(secret, Lane::Foreground).await
        } else {
            ctx.cluster.replace_secret(secret, Lane::Foreground).await
        };
        writing.end(written.as_ref().ok().map(|w| w.resource_version.as_str()));
        let written = written?;
        ctx.metrics.secret_written(if created { SecretWrite::Create } else { SecretWrite::Update });
        (copy.metadata.uid, copy.metadata.resource_version) =
            (Some(written.uid), Some(written.resource_version));
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

/// A load's entry: how to take it back.
pub struct Recorded {
    kept: Kept,
    before: Inventory,
}

impl Run<'_> {
    fn deletes(&self) -> bool {
        self.seen.object.spec.deletion_policy == Some(DeletionPolicy::Delete)
    }

    /// With `deletionPolicy: Delete`, says durably which of the document's records don't exist, before it is loaded.
    pub async fn record_absent(&self) -> Result<Option<Recorded>, Failure> {
        if !self.deletes() {
            return Ok(None);
        }
        let seen = self.seen;
        let owns = self.through.client.owns_branch(&seen.branch).await.map_err(|e| self.failed(e))?;
        // Before anything is sent: the branch may be made in between, and nothing would be written down.
        let no_branch = || self.no_branch(&seen.branch);
        if owns == Ownership::NoBranch {
            return Err(no_branch());
        }
        if owns == Ownership::NotOwner {
            let message = format!(
                "deletionPolicy: Delete needs an identity that owns branch {}, for only its owner sees what existed before a \
                 load, and {} doesn't. Grant it the role that owns the branch, or set deletionPolicy: Retain",
                seen.branch, self.through.identity
            );
            self.lacks(&seen.branch, self.what_it_has(&seen.branch).await);
            return Err(Failure::stalled(Reason::NotBranchOwner, message));
        }
        let mut kept = Kept::read(&seen.owner, self.ctx).await?;
        let before = kept.inventory.clone();
        let ids: BTreeSet<String> = self.content.document.records.iter().map(|r| r.id.clone()).collect();
        let there = self.existing(&ids).await?;
        let absent: Vec<_> =
            self.content.document.records.iter().filter(|r| !there.contains_key(&r.id)).collect();
        let mut inventory = before.clone();
        if !absent.is_empty() {
            let versions = match self.versions(&seen.branch).await {
                Ok(versions) => versions,
                Err(crate::conjur::Error::NotFound { .. }) => return Err(no_branch()),
                Err(error) => return Err(self.failed(error)),
            };
            inventory.announce(self.inventoried(newest(&versions)), &absent);
        }
        kept.write(inventory, &seen.owner, self.ctx).await?;
        Ok(Some(Recorded { kept, before }))
    }

    /// The entry of a load of the document that is made after a version of the branch.
    fn inventoried(&self, since: i64) -> InventoriedLoad {
        InventoriedLoad {
            server: self.seen.server.clone(),
            branch: self.seen.branch.as_str().to_owned(),
            document: self.seen.hash.clone(),
            loader: self.our_role(),
            since,
            times: None,
            absent: BTreeMap::new(),
        }
    }

    /// The load certainly did not happen.
    pub async fn take_back(&self, recorded: Option<Recorded>) -> Result<(), Failure> {
        match recorded {
            Some(Recorded { mut kept, before }) => kept.write(before, &self.seen.owner, self.ctx).await,
            None => Ok(()),
        }
    }

    /// A load of the branch happened: writes down when.
    /// `made`: the hosts and users that its answer named.
    pub async fn resolve_inventory(&self, version: i64, made: &BTreeSet<String>) -> Result<(), Failure> {
        if !self.deletes() {
            return Ok(());
        }
        let seen = self.seen;
        let mut kept = Kept::read(&seen.owner, self.ctx).await?;
        let mut inventory = kept.inventory.clone();
        inventory.made(self.inventoried(version - 1), &self.through.account, made);
        if !inventory.is_open(&seen.server, seen.branch.as_str()) {
            return Ok(());
        }
        let versions = evidence::versions(self.through, &seen.branch).await.map_err(|e| self.failed(e))?;
        inventory.resolve(&seen.server, seen.branch.as_str(), &versions, true);
        kept.write(inventory, &seen.owner, self.ctx).await
    }
}
