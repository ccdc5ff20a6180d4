//! ConjurPolicy: policy → Conjur. `reconcile` → `observe` → `act`.
//!
//! # Flow
//! Read the document; look at the `createdRoles` Secret; load what is not loaded (`load`): announce, load, store
//! the keys, clear the announcement; then see that every role that this policy made has its key (`keys`).
//!
//! # Guarantees
//! - The key of a role that a load made is stored, or can be found out to be owed after a crash at any line.
//! - No key is rotated but of a role that an announced load of ours made and whose key nobody ever had, or that
//!   the user named in `rotate-keys`.
//! - One load at a time per branch.
//!
//! # Assumptions
//! - One replica acts: the Lease, and within it [`Branches`].
//! - Versions of a branch and roles in it carry the time of the transaction that made them (recordings 701, 702).

mod keys;
mod load;
mod refusal;
mod settle;
mod writes;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use kube::{Api, Resource, ResourceExt, runtime::reflector::ObjectRef};
use serde_json::{Map, Value};
use tokio::sync::Mutex as AsyncMutex;

use self::keys::KeySecret;
pub use self::writes::KeyWrites;
use super::{
    Context, Key, Outcome, Reconcile, Trouble,
    clients::{self, Connected, Named, Standing},
};
use crate::{
    api::{
        ConjurPolicy, Reason,
        condition::{READY, find},
        policy::LoadMode,
    },
    conjur::{Lane, PolicyBranch},
    metrics::Kind,
    plan::{
        Failure,
        access::Verb,
        document::{self, Document},
        inputs,
        role_key::{RoleKeys, role_keys},
        secret::Owner,
    },
};

impl Reconcile for ConjurPolicy {
    const KIND: Kind = Kind::Policy;
    // Longer than the longest load, which has its own deadline: one that is cut off has probably happened.
    const DEADLINE: Duration = Duration::from_secs(900);

    async fn reconcile(&self, ctx: &Context) -> Result<Outcome, Trouble> {
        if self.meta().deletion_timestamp.is_some() {
            return Ok(Outcome::Untouched(None));
        }
        if self.spec.suspend == Some(true) {
            return Ok(Outcome::Suspended);
        }
        let mut fields = Map::new();
        let hash = inputs::document_hash(self.document().as_bytes());
        fields.insert("documentHash".into(), hash.clone().into());
        let asked = self.conditions().0 != self.meta().generation || self.loaded_hash() != Some(&hash);
        match observe_and_act(self, hash, &mut fields, ctx).await {
            Ok(None) => Ok(Outcome::Untouched(None)),
            Ok(Some(message)) => Ok(Outcome::Done {
                again: None,
                reason: Reason::Loaded,
                message,
                fields,
                lane: Lane::Foreground,
            }),
            Err(failure) => Err(Trouble { failure, asked, fields }),
        }
    }

    fn api(client: kube::Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn gone(_: &Key, _: &Context) {}
}

impl ConjurPolicy {
    fn loaded_hash(&self) -> Option<&str> {
        self.status.as_ref().and_then(|s| s.loaded_hash.as_deref())
    }

    fn document(&self) -> &str {
        self.spec.document.as_deref().unwrap_or_default()
    }

    fn mode(&self) -> LoadMode {
        self.spec.mode.unwrap_or_default()
    }
}

/// What was observed of one policy before anything is done.
struct Seen<'a> {
    object: &'a ConjurPolicy,
    owner: Owner,
    branch: PolicyBranch,
    document: Document,
    /// Hex SHA-256 of the document.
    hash: String,
    /// A hash over the address and account.
    server: String,
    /// The same with branch and mode: what a load is good for.
    inputs: String,
    named: Named,
}

/// What a reconcile says when it is done; none where nothing can be said yet.
async fn observe_and_act(
    object: &ConjurPolicy,
    hash: String,
    fields: &mut Map<String, Value>,
    ctx: &Context,
) -> Result<Option<String>, Failure> {
    let seen = observe(object, hash, ctx)?;
    let mut kept = KeySecret::read(&seen, ctx).await?;
    let mut say = seen.standing_message();
    if !seen.is_loaded(&kept) {
        let Some(through) = seen.through(ctx)? else { return Ok(None) };
        say = load::load(&seen, &through, &mut kept, fields, ctx).await?;
        wake_those_who_wait(&seen, ctx);
    }
    let all_stored = keys::see_that_all_are_stored(&seen, &mut kept, fields, ctx).await?;
    Ok(all_stored.then_some(say))
}

/// Reads the document and everything from the stores. No IO.
fn observe<'a>(object: &'a ConjurPolicy, hash: String, ctx: &Context) -> Result<Seen<'a>, Failure> {
    let key = Key::of(object);
    let spec = &object.spec;
    let branch = PolicyBranch::new(&spec.branch)
        .map_err(|e| Failure::stalled(Reason::InvalidSpec, format!("spec.branch: {e}")))?;
    let named = clients::named(&spec.connection_ref, &key, ctx)?;
    let settings = &named.facts.settings;
    let account = &settings.account;
    let document = document::read(object.document(), branch.as_str(), account)
        .map_err(|e| Failure::stalled(Reason::PolicyInvalid, format!("spec.document, {e}")))?;
    check_document(object, &document)?;
    let server = server(&settings.url, account);
    Ok(Seen {
        owner: Owner {
            kind: "ConjurPolicy",
            api_version: ConjurPolicy::api_version(&()).into_owned(),
            uid: object.uid().unwrap_or_default(),
            name: key.name,
            namespace: key.namespace,
        },
        inputs: load_inputs(object, &server),
        object,
        branch,
        document,
        hash,
        server,
        named,
    })
}

/// A hash that tells one account of one server from others.
fn server(url: &str, account: &str) -> String {
    inputs::hash([url.trim_end_matches('/'), account])
}

/// A hash over where and how a policy is loaded.
fn load_inputs(policy: &ConjurPolicy, server_hash: &str) -> String {
    let mode = match policy.mode() {
        LoadMode::Append => "Append",
        LoadMode::Update => "Update",
        LoadMode::Replace => "Replace",
    };
    inputs::hash([server_hash, &policy.spec.branch, mode])
}

/// Whether a policy goes to that server and account; where its connection is unknown, it may.
fn may_load_through(policy: &ConjurPolicy, server_hash: &str, ctx: &Context) -> bool {
    clients::named(&policy.spec.connection_ref, &Key::of(policy), ctx)
        .map_or(true, |named| server(&named.facts.settings.url, &named.facts.settings.account) == server_hash)
}

/// What can be told without asking Conjur.
fn check_document(object: &ConjurPolicy, document: &Document) -> Result<(), Failure> {
    if let (LoadMode::Append, Some(first)) = (object.mode(), document.deletions.first()) {
        let message = format!(
            "spec.document, line {}: Conjur refuses !delete, !deny and !revoke in mode Append; use mode Update or Replace",
            first.line
        );
        return Err(Failure::stalled(Reason::PolicyInvalid, message));
    }
    for role in &document.roles {
        if object.spec.created_roles.is_none() {
            let message = format!(
                "spec.document, line {}: this makes {}, and Conjur gives its API key only once. Say where the keys go: \
                 spec.createdRoles: {{secretName: <name of a new Secret>}}",
                role.line, role.id
            );
            return Err(Failure::stalled(Reason::CreatedRolesRequired, message));
        }
        role_keys(&role.id).map_err(|e| {
            Failure::stalled(Reason::PolicyInvalid, format!("spec.document, line {}: {e}", role.line))
        })?;
        if role.owner_outside_branch {
            let message = format!(
                "spec.document, line {}: {} would be owned from outside the branch ({}), so that its key could never be \
                 recovered here. Leave out that owner, or load it where its owner lives",
                role.line,
                role.id,
                role.owner.as_deref().unwrap_or("by an enclosing policy's owner"),
            );
            return Err(Failure::stalled(Reason::NotBranchOwner, message));
        }
    }
    Ok(())
}

impl Seen<'_> {
    /// Whether the document is loaded as it is asked for, and nothing is left open.
    fn is_loaded(&self, kept: &KeySecret) -> bool {
        self.object.status.as_ref().is_some_and(|s| {
            s.loaded_hash.as_deref() == Some(&self.hash)
                && s.observed_inputs.as_deref() == Some(&self.inputs)
                && s.pending.is_none()
        }) && kept.announcement().is_none()
    }

    /// The client; none where the connection was not tried yet, whose first try wakes us.
    ///
    /// # Errors
    /// `AccessDenied` before anything is asked of Conjur; `ConnectionNotReady`.
    fn through(&self, ctx: &Context) -> Result<Option<Connected>, Failure> {
        let user = Key { namespace: self.owner.namespace.clone(), name: self.owner.name.clone() };
        self.named.check_access(Verb::Load, &[self.branch.as_str()], &user, ctx)?;
        match &self.named.standing {
            Standing::Connected(connected) => Ok(Some(connected.clone())),
            Standing::Failing(why) => Err(clients::not_ready(&self.named.facts, why)),
            Standing::Untried => Ok(None),
        }
    }

    /// What was said when it was loaded, so that looking at it again changes nothing.
    fn standing_message(&self) -> String {
        let standing = find(self.object.conditions().1, READY)
            .filter(|c| c.status == "True" && c.reason == Reason::Loaded.as_str());
        standing.map_or_else(|| format!("branch {} holds the document", self.branch), |c| c.message.clone())
    }

    /// The roles that this policy made before, or was about to make.
    fn known_roles(&self) -> BTreeSet<String> {
        let status = self.object.status.as_ref();
        status.and_then(|s| s.created_roles.clone()).unwrap_or_default().into_iter().collect()
    }
}

fn keys_of(role: &str) -> Result<RoleKeys, Failure> {
    role_keys(role).map_err(|e| Failure::stalled(Reason::PolicyInvalid, e.to_string()))
}

/// A load makes branches, and what other documents refer to: those that failed for want of it are tried again.
fn wake_those_who_wait(loaded: &Seen, ctx: &Context) {
    for policy in ctx.policies.state() {
        let Ok(other) = &policy.0 else { continue };
        let reason = find(other.conditions().1, READY).map(|c| c.reason.as_str());
        let waits =
            [Reason::BranchNotFound, Reason::PolicyInvalid, Reason::PolicyForbidden, Reason::NotBranchOwner]
                .iter()
                .any(|r| reason == Some(r.as_str()));
        if waits && other.uid() != loaded.object.uid() && may_load_through(other, &loaded.server, ctx) {
            ctx.wakeups.policy(ObjectRef::from_obj(policy.as_ref()));
        }
    }
}

/// One load at a time per branch of a server's account, over all objects.
#[derive(Default)]
pub struct Branches(Mutex<HashMap<BranchOfServer, Weak<AsyncMutex<()>>>>);

/// Address, account and branch.
type BranchOfServer = (String, String, String);

impl Branches {
    fn lock(&self, url: &str, account: &str, branch: &str) -> Arc<AsyncMutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let key = (url.trim_end_matches('/').to_owned(), account.to_owned(), branch.to_owned());
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }
}
