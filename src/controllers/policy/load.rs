//! Announce, load, store, clear; and after a crash: look, then go on from there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::runtime::events::EventType;
use serde_json::{Map, Value, json};

use super::{Seen, keys, keys::KeySecret};
use crate::{
    api::{Reason, policy::LoadMode},
    conjur::{self, Error, Lane, LoadError, Loaded, Ownership, Page, PolicyBranch, RoleId},
    controllers::{Context, clients::Connected, failure::LOOK_AGAIN, report},
    plan::{
        Failure,
        load::{Announcement, BranchVersion, Resolution, newest, resolve},
    },
    sensitive::Sensitive,
};

/// Up to so many roles are looked up one by one; more by the pages of the list.
const ONE_BY_ONE: usize = 20;

/// Loads the document, or finds out that an announced load of it happened; what there is to say then.
///
/// # Errors
/// Any that keeps the document from being loaded. An announcement stays as long as the outcome is not known.
pub async fn load(
    seen: &Seen<'_>,
    through: &Connected,
    kept: &mut KeySecret,
    fields: &mut Map<String, Value>,
    ctx: &Context,
) -> Result<String, Failure> {
    let spec = &seen.named.connection.spec;
    let lock = ctx.branches.lock(&spec.url, &spec.account, seen.branch.as_str());
    let _one_at_a_time = lock.lock().await;
    let run = Run { seen, through, ctx };
    let made: BTreeSet<String> = seen.document.roles.iter().map(|r| r.id.clone()).collect();
    if !made.is_empty() {
        run.must_own_the_branch().await?;
        kept.check_room(seen, &made)?;
    }
    let before = match kept.announcement().cloned() {
        Some(announced) => run.settle(announced, kept).await?,
        None => run.settle_without_roles().await?,
    };
    let (message, version) = match before {
        Before::Loaded(version) => {
            (format!("branch {} holds the document since its version {version}", seen.branch), version)
        }
        Before::Open { carried, repeated } => {
            let version = run.announce_and_load(&made, carried, kept).await?;
            let again = if repeated {
                "; loaded again, since the outcome of an earlier try can't be read"
            } else {
                ""
            };
            (format!("loaded as version {version} of branch {}{again}", seen.branch), version)
        }
    };
    run.say_loaded(fields, version, &made, kept);
    ctx.events.publish(seen.object, EventType::Normal, Reason::Loaded, "Load", &message);
    Ok(message)
}

/// How things stand before a load.
enum Before {
    /// An announced load of this very document happened, as this version.
    Loaded(i64),
    /// It is to be loaded.
    Open {
        /// An earlier announcement whose load may still happen.
        carried: Option<Announcement>,
        /// An earlier try may have happened, and can't be looked up.
        repeated: bool,
    },
}

struct Run<'a> {
    seen: &'a Seen<'a>,
    through: &'a Connected,
    ctx: &'a Context,
}

impl Run<'_> {
    /// Takes note of a connection that fails, and makes an error of Conjur a failure.
    fn failed(&self, error: Error) -> Failure {
        self.ctx.clients.call_failed(self.through, &error);
        error.into()
    }

    fn our_role(&self) -> String {
        let role = RoleId::from_login(&self.through.account, &self.through.identity);
        role.map(|r| r.to_string()).unwrap_or_default()
    }

    async fn must_own_the_branch(&self) -> Result<(), Failure> {
        let branch = &self.seen.branch;
        let ownership = self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))?;
        match ownership {
            Ownership::Owner => Ok(()),
            Ownership::NoBranch => Err(branch_not_found(branch, &self.through.identity)),
            Ownership::NotOwner => Err(not_owner(branch, &self.through.identity)),
        }
    }

    async fn versions(&self, branch: &PolicyBranch) -> Result<Vec<BranchVersion>, Error> {
        let versions = self.through.client.policy_versions(branch).await?;
        let number = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
        Ok(versions
            .into_iter()
            .map(|v| BranchVersion {
                version: number(v.version),
                sha256: v.sha256,
                role: v.role,
                created_at: v.created_at,
                finished_at: v.finished_at,
            })
            .collect())
    }

    /// The roles that exist, with the time of the transaction that made them.
    async fn existing(&self, roles: &BTreeSet<String>) -> Result<BTreeMap<String, String>, Failure> {
        let client = &self.through.client;
        let mut found = BTreeMap::new();
        let ids = roles.iter().filter_map(|r| r.parse::<RoleId>().ok());
        if roles.len() <= ONE_BY_ONE {
            for id in ids {
                let shown = client.show_resource(&id.kind, &id.id).await.map_err(|e| self.failed(e))?;
                found.extend(shown.map(|r| (id.to_string(), r.created_at)));
            }
            return Ok(found);
        }
        let kinds: BTreeSet<String> = ids.map(|id| id.kind).collect();
        for kind in kinds {
            let mut page = Page::FIRST;
            loop {
                let listed = client.list_resources(&kind, page).await.map_err(|e| self.failed(e))?;
                let last = listed.len() < page.limit as usize;
                found.extend(
                    listed.into_iter().filter(|r| roles.contains(&r.id)).map(|r| (r.id, r.created_at)),
                );
                if last {
                    break;
                }
                page = page.next();
            }
        }
        Ok(found)
    }

    /// Finds out what became of an announced load, and stores the keys that are owed for it.
    async fn settle(&self, announced: Announcement, kept: &mut KeySecret) -> Result<Before, Failure> {
        if announced.connection != self.seen.server {
            let message = "a load through another connection or server was announced, and its outcome is not known: its roles \
                           may be owed keys. Set spec.connectionRef and the connection back until this is Ready, or remove \
                           the key pending.json from the createdRoles Secret to give those keys up";
            return Err(Failure::stalled(Reason::KeyNotStored, message));
        }
        let branch = PolicyBranch::new(&announced.branch)
            .map_err(|e| Failure::stalled(Reason::KeyNotStored, format!("pending.json: {e}")))?;
        // In this order: a role that was absent, and no version since, was not made by us.
        let roles = self.existing(&announced.owed).await?;
        let versions = self.versions(&branch).await.map_err(|e| self.failed(e))?;
        let found = resolve(&announced, &roles, &versions, &self.our_role());
        let mut left = announced.clone();
        left.owed.retain(|role| found.rotate.contains(role) || found.absent.contains(role));
        for role in &found.rotate {
            left.owed.remove(role);
            keys::rotate_and_store(role, Some(left.clone()), self.seen, &self.through.client, kept, self.ctx)
                .await?;
        }
        self.after(announced, left, found, kept).await
    }

    async fn after(
        &self,
        announced: Announcement,
        left: Announcement,
        found: Resolution,
        kept: &mut KeySecret,
    ) -> Result<Before, Failure> {
        let Some((version, hash)) = found.happened else {
            // It may still be under way in the server: what it may make stays owed.
            return Ok(Before::Open { carried: Some(left), repeated: false });
        };
        if hash == self.seen.hash && announced.inputs == self.seen.inputs {
            kept.write(self.seen, None, &BTreeMap::new(), self.ctx).await?;
            return Ok(Before::Loaded(version));
        }
        Ok(Before::Open { carried: None, repeated: false })
    }

    /// The same for a document that makes no roles, whose announcement lies in the status.
    async fn settle_without_roles(&self) -> Result<Before, Failure> {
        let open = Before::Open { carried: None, repeated: false };
        let Some(pending) = self.seen.object.status.as_ref().and_then(|s| s.pending.clone()) else {
            return Ok(open);
        };
        if pending.document_hash != self.seen.hash || pending.inputs != self.seen.inputs {
            return Ok(open);
        }
        let versions = match self.versions(&self.seen.branch).await {
            Ok(versions) => versions,
            Err(Error::NotFound { .. } | Error::Forbidden { .. }) => {
                return Ok(Before::Open { carried: None, repeated: true });
            }
            Err(error) => return Err(self.failed(error)),
        };
        let Some(version) = pending.version else {
            return Ok(Before::Open { carried: None, repeated: true });
        };
        let announced = self.announcement(BTreeSet::new(), version);
        let found = resolve(&announced, &BTreeMap::new(), &versions, &self.our_role());
        Ok(found.happened.map_or(open, |(version, _)| Before::Loaded(version)))
    }

    fn announcement(&self, owed: BTreeSet<String>, version: i64) -> Announcement {
        Announcement {
            documents: BTreeSet::from([self.seen.hash.clone()]),
            connection: self.seen.server.clone(),
            inputs: self.seen.inputs.clone(),
            branch: self.seen.branch.as_str().to_owned(),
            version,
            owed,
        }
    }

    /// The load itself, with all that must be written before and after it. Gives the version that it made.
    async fn announce_and_load(
        &self,
        made: &BTreeSet<String>,
        carried: Option<Announcement>,
        kept: &mut KeySecret,
    ) -> Result<i64, Failure> {
        let seen = self.seen;
        let resumed = carried.is_some();
        let announced = self.announce(made, carried.clone(), kept).await?;
        let how = match seen.object.mode() {
            LoadMode::Append => conjur::LoadMode::Append,
            LoadMode::Update => conjur::LoadMode::Update,
            LoadMode::Replace => conjur::LoadMode::Replace,
        };
        let document = seen.object.spec.document.as_bytes();
        match self.through.client.load_policy(&seen.branch, how, document).await {
            Ok(loaded) => self.store(loaded, announced, resumed, kept).await,
            Err(LoadError::Refused(error)) => {
                let failure = self.refused(error);
                if failure.reason != Reason::LoadInProgress {
                    self.retract(carried, kept).await?;
                }
                Err(failure)
            }
            Err(LoadError::Unknown(error)) => {
                let failure = self.failed(error);
                let message = format!(
                    "{}. Whether the document was loaded is found out before it is tried again",
                    failure.message
                );
                Err(Failure { message, ..failure })
            }
        }
    }

    /// Says durably what is about to happen, before it does.
    async fn announce(
        &self,
        made: &BTreeSet<String>,
        carried: Option<Announcement>,
        kept: &mut KeySecret,
    ) -> Result<Announcement, Failure> {
        let (seen, ctx) = (self.seen, self.ctx);
        let mut fields = Map::new();
        if made.is_empty() && carried.is_none() {
            let version = match self.versions(&seen.branch).await {
                Ok(versions) => Some(newest(&versions)),
                // Who may load a branch may still not read it.
                Err(Error::NotFound { .. } | Error::Forbidden { .. }) => None,
                Err(error) => return Err(self.failed(error)),
            };
            let pending = json!({ "documentHash": seen.hash, "version": version, "inputs": seen.inputs });
            fields.insert("pending".into(), pending);
            report::write_fields(seen.object, fields, Lane::Foreground, ctx).await?;
            return Ok(self.announcement(BTreeSet::new(), version.unwrap_or(0)));
        }
        // Looked at before the version, so that a role made in between is not taken for one of ours.
        let existing = self.existing(made).await?;
        let version = newest(&self.versions(&seen.branch).await.map_err(|e| self.failed(e))?);
        let absent = made.iter().filter(|role| !existing.contains_key(*role)).cloned().collect();
        let mut announced = self.announcement(absent, version);
        if let Some(carried) = carried.filter(|c| c.branch == announced.branch) {
            announced.documents.extend(carried.documents);
            announced.owed.extend(carried.owed);
            announced.version = announced.version.min(carried.version);
        }
        kept.write(seen, Some(announced.clone()), &BTreeMap::new(), ctx).await?;
        let mut known = seen.known_roles();
        known.extend(announced.owed.iter().cloned());
        fields.insert("createdRoles".into(), json!(known));
        report::write_fields(seen.object, fields, Lane::Foreground, ctx).await?;
        Ok(announced)
    }

    /// Nothing was loaded: what was announced for it is taken back.
    async fn retract(&self, carried: Option<Announcement>, kept: &mut KeySecret) -> Result<(), Failure> {
        let mut fields = Map::new();
        fields.insert("pending".into(), Value::Null);
        fields.insert("createdRoles".into(), json!(self.seen.known_roles()));
        if kept.announcement().is_some() {
            kept.write(self.seen, carried, &BTreeMap::new(), self.ctx).await?;
        }
        Ok(report::write_fields(self.seen.object, fields, Lane::Foreground, self.ctx).await?)
    }

    /// Stores the keys that a load gave, and clears the announcement, in one write.
    async fn store(
        &self,
        loaded: Loaded,
        announced: Announcement,
        resumed: bool,
        kept: &mut KeySecret,
    ) -> Result<i64, Failure> {
        let version = i64::try_from(loaded.version).unwrap_or(i64::MAX);
        let keys: BTreeMap<String, Sensitive<String>> =
            loaded.created_roles.into_iter().map(|(role, key)| (role.to_string(), key)).collect();
        if !keys.is_empty() {
            kept.name_if_unnamed(self.seen);
        }
        let mut left = announced;
        left.owed.retain(|role| !keys.contains_key(role));
        // Without an earlier load of unknown outcome, the answer names every role that was made.
        let open = resumed && !left.owed.is_empty();
        if !keys.is_empty() || kept.announcement().is_some() {
            kept.write(self.seen, open.then(|| left.clone()), &keys, self.ctx).await?;
        }
        if open {
            self.settle(left, kept).await?;
            if kept.announcement().is_some() {
                kept.write(self.seen, None, &BTreeMap::new(), self.ctx).await?;
            }
        }
        Ok(version)
    }

    fn refused(&self, error: Error) -> Failure {
        let (branch, identity) = (&self.seen.branch, &self.through.identity);
        let privilege = if self.seen.object.mode() == LoadMode::Append { "create" } else { "update" };
        match error {
            Error::NotFound { .. } => branch_not_found(branch, identity),
            Error::Forbidden { message } => Failure::stalled(
                Reason::PolicyForbidden,
                format!(
                    "{message}. Grant it: - !permit {{role: !…, privileges: [{privilege}], resource: !policy {branch}}}"
                ),
            ),
            Error::Invalid { message, line: Some(line), column, .. } => Failure::stalled(
                Reason::PolicyInvalid,
                format!(
                    "Conjur refuses the document: line {line}, column {}: {message}",
                    column.unwrap_or(1)
                ),
            ),
            Error::Invalid { message, .. } => {
                Failure::stalled(Reason::PolicyInvalid, format!("Conjur refuses the document: {message}"))
            }
            error => self.failed(error),
        }
    }

    fn say_loaded(
        &self,
        fields: &mut Map<String, Value>,
        version: i64,
        made: &BTreeSet<String>,
        kept: &KeySecret,
    ) {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let mut known = self.seen.known_roles();
        known.extend(made.iter().filter(|role| kept.has_key(role)).cloned());
        fields.insert("version".into(), version.into());
        fields.insert("loadedHash".into(), self.seen.hash.clone().into());
        fields.insert("lastLoadTime".into(), now.to_string().into());
        fields.insert("observedInputs".into(), self.seen.inputs.clone().into());
        fields.insert("pending".into(), Value::Null);
        fields.insert("createdRoles".into(), if known.is_empty() { Value::Null } else { json!(known) });
    }
}

fn branch_not_found(branch: &PolicyBranch, identity: &str) -> Failure {
    let message = format!(
        "policy branch {branch} does not exist, or is not visible to {identity}: load the policy that makes it, or permit \
         {identity} to use it"
    );
    Failure::waiting(Reason::BranchNotFound, LOOK_AGAIN / 10, message)
}

fn not_owner(branch: &PolicyBranch, identity: &str) -> Failure {
    let (parent, name) = branch.as_str().rsplit_once('/').unwrap_or(("root", branch.as_str()));
    let owner = match identity.split_once('/') {
        Some((kind, id)) => format!("!{kind} /{id}"),
        None => format!("!user /{identity}"),
    };
    let message = format!(
        "the document makes hosts or users, and {identity} does not own branch {branch}: it could never see them or recover \
         their keys. Let somebody load this into branch {parent}: - !policy {{id: {name}, owner: {owner}}}; or grant {identity} \
         the role that owns the branch"
    );
    Failure::stalled(Reason::NotBranchOwner, message)
}
