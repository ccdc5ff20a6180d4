//! `deletionPolicy: Delete`: a finalizer keeps the object until what its document made is removed from Conjur.
//!
//! What goes is read from the inventory and looked up anew at each try, so that a try which was cut off is simply
//! repeated. The finalizer goes last.

mod stored;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use kube::{Resource, ResourceExt, runtime::events::EventType, runtime::reflector::ObjectRef};

use super::{inventory::Kept, keys::failed, look, server};
use crate::{
    api::{ConjurPolicy, FINALIZER, Reason, secret::DeletionPolicy},
    conjur::{Error, LoadError, LoadMode, Ownership, PolicyBranch},
    controllers::{
        Context, Key, Outcome, Trouble,
        clients::{self, Connected, Named, Standing},
        failure::LOOK_AGAIN,
    },
    plan::{
        Failure,
        access::Verb,
        removal::{self, Removal, branches_that_stay},
        secret::Owner,
    },
};

/// `kubectl delete -f folder` marks its objects one by one: those who load into a branch that this one made are given
/// so long to be deleted too.
const GRACE: i64 = 60;
/// A list of what was left, in an Event.
const NAMED: usize = 10;

/// What there is to do about the finalizer before anything else. Says whether the reconcile goes on.
///
/// # Errors
/// The API server's.
pub async fn see_to_finalizer(object: &ConjurPolicy, ctx: &Context) -> Result<bool, Failure> {
    let deleting = object.meta().deletion_timestamp.is_some();
    let wanted = object.spec.deletion_policy == Some(DeletionPolicy::Delete);
    let there = object.finalizers().iter().any(|f| f == FINALIZER);
    if there && !wanted {
        // Nothing is to be removed any more: what was written down for that goes, too.
        let kept = Kept::read(&owner_of(object), ctx).await;
        if let Ok(kept) = kept {
            kept.delete(ctx).await?;
        }
        set_finalizer(object, false, ctx).await?;
    }
    if wanted && !there && !deleting && object.spec.suspend != Some(true) {
        return set_finalizer(object, true, ctx).await;
    }
    Ok(!deleting)
}

async fn set_finalizer(object: &ConjurPolicy, there: bool, ctx: &Context) -> Result<bool, Failure> {
    let key = Key::of(object);
    let api = <ConjurPolicy as crate::controllers::Reconcile>::api(ctx.cluster.client(), &key.namespace);
    let uid = object.uid().unwrap_or_default();
    Ok(ctx.cluster.set_finalizer(&api, &key.name, &uid, FINALIZER, there).await?)
}

/// Whether the object is being deleted and waits for us.
pub fn is_due(object: &ConjurPolicy) -> bool {
    object.meta().deletion_timestamp.is_some()
        && object.spec.deletion_policy == Some(DeletionPolicy::Delete)
        && object.finalizers().iter().any(|f| f == FINALIZER)
}

/// Removes what the document made, and lets the object go.
pub async fn reconcile(object: &ConjurPolicy, ctx: &Context) -> Result<Outcome, Trouble> {
    if object.spec.suspend == Some(true) {
        let message = "it is being deleted, but suspended: set spec.suspend to false to remove from Conjur what it made, or \
                       deletionPolicy to Retain to leave Conjur as it is";
        return Err(Failure::waiting(Reason::Suspended, LOOK_AGAIN, message).into());
    }
    match remove(object, ctx).await {
        Ok(Some(done)) => {
            for message in done.left {
                ctx.events.publish(object, EventType::Warning, Reason::LeftInConjur, "Delete", message);
            }
            if done.removed > 0 {
                let note = format!("{} records were removed from Conjur", done.removed);
                ctx.events.publish(object, EventType::Normal, Reason::Removed, "Delete", note);
            }
            set_finalizer(object, false, ctx).await?;
            wake_those_who_wait(object, ctx);
            Ok(Outcome::Untouched(None))
        }
        Ok(None) => Ok(Outcome::Untouched(None)),
        Err(failure) => Err(Failure {
            message: format!(
                "it is being deleted, and what it made is still in Conjur: {}. To leave Conjur as it is, set deletionPolicy to \
                 Retain",
                failure.message
            ),
            ..failure
        }
        .into()),
    }
}

/// What came of a removal.
#[derive(Default)]
struct Done {
    removed: usize,
    /// What a person should know of what stayed.
    left: Vec<String>,
}

/// None where the connection was not tried yet, whose first try wakes us.
async fn remove(object: &ConjurPolicy, ctx: &Context) -> Result<Option<Done>, Failure> {
    let owner = owner_of(object);
    let key = Key::of(object);
    let mut kept = Kept::read(&owner, ctx).await?;
    let mut done = Done::default();
    if !kept.is_there() {
        if object.loaded_hash().is_some() {
            done.left.push(format!(
                "there is no inventory of what ConjurPolicy {} made: it was last loaded while deletionPolicy was Retain, or the \
                 inventory was deleted. Nothing more is removed from Conjur",
                key.name
            ));
        }
        return Ok(Some(done));
    }
    match way(object, &key, ctx) {
        Ok(None) => return Ok(None),
        Ok(Some((named, through))) => {
            let removal = Run { object, owner: &owner, named: &named, through: &through, ctx };
            removal.all(&mut kept, &mut done).await?;
            stored::drop_what_is_gone(&owner, object, &through, &mut done.left, ctx).await?;
        }
        Err(Gone::Connection(message)) => done.left.push(format!(
            "{message}; what ConjurPolicy {} made stays in Conjur, and the keys of its roles in their Secret",
            key.name
        )),
        Err(Gone::No(failure)) => return Err(failure),
    }
    kept.delete(ctx).await?;
    Ok(Some(done))
}

enum Gone {
    /// There is no way to Conjur any more, nor will there be.
    Connection(String),
    /// It fails now.
    No(Failure),
}

fn way(object: &ConjurPolicy, key: &Key, ctx: &Context) -> Result<Option<(Named, Connected)>, Gone> {
    let named = clients::named(&object.spec.connection_ref, key, ctx).map_err(|failure| {
        if failure.reason == Reason::ConnectionNotFound {
            Gone::Connection(failure.message)
        } else {
            Gone::No(failure)
        }
    })?;
    named.check_access(Verb::Load, &[object.spec.branch.as_str()], key, ctx).map_err(Gone::No)?;
    match &named.standing {
        Standing::Connected(connected) => {
            let connected = connected.clone();
            Ok(Some((named, connected)))
        }
        Standing::Failing(why) => {
            let namespace = ctx.namespaces.get(&ObjectRef::new(&key.namespace));
            let going = namespace.is_some_and(|n| n.metadata.deletion_timestamp.is_some());
            let failure = clients::not_ready(&named.facts, why);
            Err(if going {
                Gone::Connection(format!("namespace {} is going, and {}", key.namespace, failure.message))
            } else {
                Gone::No(failure)
            })
        }
        Standing::Untried => Ok(None),
    }
}

struct Run<'a> {
    object: &'a ConjurPolicy,
    owner: &'a Owner,
    named: &'a Named,
    through: &'a Connected,
    ctx: &'a Context,
}

impl Run<'_> {
    fn failed(&self, error: Error) -> Failure {
        failed(error, self.through, self.ctx)
    }

    /// Removes what the loads into each branch made; first from those that lie deepest.
    async fn all(&self, kept: &mut Kept, done: &mut Done) -> Result<(), Failure> {
        let settings = &self.named.facts.settings;
        let server = server(&settings.url, &settings.account);
        if kept.inventory.has_others(&server) {
            done.left.push(format!(
                "ConjurPolicy {} was also loaded into another server or account than the one that its connection speaks to now: \
                 what it made there stays",
                self.owner.name
            ));
        }
        let mut branches: Vec<String> = kept.inventory.branches(&server).into_iter().collect();
        branches.sort_by_key(|branch| std::cmp::Reverse(branch.split('/').count()));
        for branch in branches {
            let branch = PolicyBranch::new(&branch)
                .map_err(|e| Failure::stalled(Reason::InventoryUnreadable, format!("inventory: {e}")))?;
            let lock = self.ctx.branches.lock(&settings.url, &settings.account, branch.as_str());
            let _one_at_a_time = lock.lock().await;
            self.branch(&server, &branch, kept, done).await?;
        }
        Ok(())
    }

    async fn branch(
        &self,
        server: &str,
        branch: &PolicyBranch,
        kept: &mut Kept,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let identity = &self.through.identity;
        match self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))? {
            Ownership::Owner => {}
            Ownership::NotOwner => {
                let message =
                    format!("{identity} does not own branch {branch} any more, so can't see what is in it");
                return Err(Failure::stalled(Reason::NotBranchOwner, message));
            }
            Ownership::NoBranch => {
                done.left.push(format!(
                    "branch {branch} is gone, and what was in it with it; or it is no longer visible to {identity}, and \
                     what ConjurPolicy {} made in it stays",
                    self.owner.name
                ));
                return Ok(());
            }
        }
        self.resolve(server, branch, kept).await?;
        for last in [false, true] {
            let all = look::all(self.through, self.ctx).await?;
            let ours = kept.inventory.ours(server, branch.as_str(), &self.through.account, &all.seen);
            let removal = removal::plan(&ours, &all.hangs);
            self.wait_for_others(server, &removal)?;
            if removal.goes.is_empty() || last {
                self.tell_what_stays(&removal, done);
                break;
            }
            self.load(branch, &removal.document).await?;
            done.removed += removal.goes.len();
        }
        Ok(())
    }

    /// Finds out what became of announced loads. Where nothing is to be seen of one, a load that changes nothing shows
    /// that it is not under way: Conjur takes one load of a branch at a time.
    async fn resolve(&self, server: &str, branch: &PolicyBranch, kept: &mut Kept) -> Result<(), Failure> {
        for no_other in [false, true] {
            if !kept.inventory.is_open(server, branch.as_str()) {
                break;
            }
            if no_other {
                self.load(branch, "[]\n").await?;
            }
            let versions = look::versions(self.through, branch).await.map_err(|e| self.failed(e))?;
            let mut inventory = kept.inventory.clone();
            inventory.resolve(server, branch.as_str(), &versions, no_other);
            // Not later: Conjur lists 20 versions.
            kept.write(inventory, self.owner, self.ctx).await?;
        }
        Ok(())
    }

    async fn load(&self, branch: &PolicyBranch, document: &str) -> Result<(), Failure> {
        let loaded = self.through.client.load_policy(branch, LoadMode::Update, document.as_bytes()).await;
        match loaded {
            Ok(_) => Ok(()),
            Err(LoadError::Refused(Error::Forbidden { message })) => {
                Err(Failure::stalled(Reason::PolicyForbidden, message))
            }
            Err(LoadError::Refused(Error::Invalid { message, .. })) => {
                let message = format!("Conjur refuses the !delete statements: {message}");
                Err(Failure::stalled(Reason::PolicyInvalid, message))
            }
            Err(LoadError::Refused(error) | LoadError::Unknown(error)) => Err(self.failed(error)),
        }
    }

    /// Others that load into a policy which this one made, and are deleted together with it, go first.
    fn wait_for_others(&self, server_hash: &str, removal: &Removal) -> Result<(), Failure> {
        let branches = branches_that_stay(&removal.stays);
        if branches.is_empty() {
            return Ok(());
        }
        let since = self.object.meta().deletion_timestamp.as_ref().map(|t| t.0);
        let young = since.is_some_and(|t| Timestamp::now().as_second() - t.as_second() < GRACE);
        for policy in self.ctx.policies.state() {
            let Ok(other) = &policy.0 else { continue };
            let going = other.meta().deletion_timestamp.is_some();
            let below = branches.iter().any(|b| is_at_or_below(&other.spec.branch, b));
            if below
                && (going || young)
                && other.finalizers().iter().any(|f| f == FINALIZER)
                && other.uid() != self.object.uid()
                && super::may_load_through(other, server_hash, self.ctx)
            {
                let other = Key::of(other);
                let message = format!(
                    "ConjurPolicy {}/{} loads into a policy that this one made, and goes first where it is deleted too",
                    other.namespace, other.name
                );
                return Err(Failure::waiting(Reason::LoadInProgress, Duration::from_secs(5), message));
            }
        }
        Ok(())
    }

    fn tell_what_stays(&self, removal: &Removal, done: &mut Done) {
        let name = &self.owner.name;
        if !removal.stays.is_empty() {
            let stays: Vec<String> =
                removal.stays.iter().take(NAMED).map(|(id, other)| format!("{id} (for {other})")).collect();
            done.left.push(format!(
                "{} records that ConjurPolicy {name} made stay in Conjur, for others' would go with them: {}",
                removal.stays.len(),
                stays.join(", ")
            ));
        }
        if !removal.goes.is_empty() {
            let goes: Vec<&str> = removal.goes.iter().take(NAMED).map(String::as_str).collect();
            done.removed = done.removed.saturating_sub(removal.goes.len());
            done.left.push(format!(
                "{} records that ConjurPolicy {name} made are still in Conjur, though it took their !delete: {}",
                removal.goes.len(),
                goes.join(", ")
            ));
        }
    }
}

fn is_at_or_below(branch: &str, policy: &str) -> bool {
    branch.strip_prefix(policy).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Those that are being deleted may have waited for this one.
fn wake_those_who_wait(gone: &ConjurPolicy, ctx: &Context) {
    for policy in ctx.policies.state() {
        if let Ok(other) = &policy.0
            && other.meta().deletion_timestamp.is_some()
            && other.uid() != gone.uid()
        {
            ctx.wakeups.policy(ObjectRef::from_obj(policy.as_ref()));
        }
    }
}

fn owner_of(object: &ConjurPolicy) -> Owner {
    let key = Key::of(object);
    Owner {
        kind: "ConjurPolicy",
        api_version: ConjurPolicy::api_version(&()).into_owned(),
        uid: object.uid().unwrap_or_default(),
        name: key.name,
        namespace: key.namespace,
    }
}

/// Names of the Secrets with keys that were written for a policy.
fn key_secrets(owner: &Owner, object: &ConjurPolicy, ctx: &Context) -> BTreeSet<String> {
    let reference = owner.reference();
    let state = ctx.owned.state();
    let ours = state.iter().filter(|s| {
        s.metadata.namespace.as_ref() == Some(&owner.namespace)
            && s.annotations().get(crate::api::OWNER_ANNOTATION) == Some(&reference)
    });
    let mut names: BTreeSet<String> = ours.map(|s| s.name_any()).collect();
    names.extend(object.spec.created_roles.as_ref().map(|c| c.secret_name.clone()));
    names.remove(&super::inventory::secret_name(&owner.name));
    names
}
