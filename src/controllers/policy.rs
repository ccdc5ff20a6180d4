//! ConjurPolicy: policy → Conjur. `reconcile` → `observe` → `act`.
//!
//! # Flow
//! Find out the document's hash (`document`); see that the branch is not another's (`claims`); look at the
//! `createdRoles` Secret; load what is not loaded (`load`): see what would be deleted (`plan`), announce, load, store
//! the keys, clear the announcement; look for drift in what is loaded (`drift`); then see that every role that this
//! policy made has its key (`keys`). With `action: DryRun` only what a load would change is asked (`plan`).
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

mod branches;
mod claims;
mod deletions;
mod document;
mod drift;
mod inventory;
mod keys;
mod load;
mod look;
mod notes;
mod places;
mod plan;
mod progress;
mod refusal;
mod remove;
mod retry;
mod settle;
mod turn;
mod writes;

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{reflector::Store, watcher::Event},
};
use serde_json::{Map, Value};

pub use self::{branches::Branches, notes::Notes, writes::KeyWrites};
use self::{
    branches::Made,
    document::{Content, Looked},
    keys::KeySecret,
    load::Run,
    retry::{Earned, Refused},
};
use super::{
    Context, Key, Outcome, Reconcile, Trouble,
    clients::{self, Connected, Named, Standing},
    slim,
};
use crate::{
    api::{
        ConjurPolicy, ConjurPolicySpec, Reason,
        condition::{READY, find, is_true},
        policy::{LoadMode, PolicyAction},
    },
    conjur::{Lane, PolicyBranch},
    limits::POLICY_DEADLINE,
    metrics::Kind,
    plan::{
        Failure,
        access::Verb,
        branches::server,
        full_id::lies_in,
        inputs,
        refusal::looked_again,
        role_key::{RoleKeys, role_keys},
        schedule::{OFFSETS, Slots},
        secret::Owner,
    },
};

impl Reconcile for ConjurPolicy {
    const KIND: Kind = Kind::Policy;
    const DEADLINE: Duration = POLICY_DEADLINE;

    async fn reconcile(&self, ctx: &Context) -> Result<Outcome, Trouble> {
        if self.meta().deletion_timestamp.is_some() {
            claims::forget(&Key::of(self), ctx);
        }
        if remove::is_due(self) {
            return remove::reconcile(self, ctx).await;
        }
        if !remove::see_to_finalizer(self, ctx).await? {
            return Ok(Outcome::Untouched(None));
        }
        let result = if self.spec.suspend == Some(true) {
            Ok(Outcome::Suspended)
        } else {
            look_and_act(self, ctx).await
        };
        claims::note(self, &result, ctx);
        result
    }

    fn api(client: kube::Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn store(ctx: &Context) -> &Store<DeserializeGuard<Self>> {
        &ctx.policies
    }

    fn shown(event: &Event<DeserializeGuard<Self>>, ctx: &Context) {
        ctx.policy_notes.claims.policies_show(event);
    }

    fn slim(&mut self) {
        slim::policy(self);
        if let Some(conditions) = self.status.as_mut().and_then(|status| status.conditions.as_mut()) {
            conditions.shrink_to_fit();
        }
    }

    fn shorten(spec: &mut ConjurPolicySpec) {
        spec.document_from = None;
    }

    fn check_references(&self) -> Result<(), Failure> {
        crate::plan::references::of_policy(&self.spec)
    }

    fn gone(key: &Key, ctx: &Context) {
        ctx.heavy.forget(Self::KIND.as_str(), &key.namespace, &key.name);
        document::forget(key, ctx);
        claims::forget(key, ctx);
        ctx.policy_notes.forget(key);
        ctx.branches.waiting.forget(key);
    }
}

impl ConjurPolicy {
    fn loaded_hash(&self) -> Option<&str> {
        self.status.as_ref().and_then(|s| s.loaded_hash.as_deref())
    }

    /// Hash of the document that the status is about.
    fn answered_hash(&self) -> Option<&str> {
        match self.spec.action.unwrap_or_default() {
            PolicyAction::Load => self.loaded_hash(),
            PolicyAction::DryRun => self.status.as_ref().and_then(|s| s.document_hash.as_deref()),
        }
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
    /// Hex SHA-256 of the document.
    hash: String,
    /// A hash over the address and account.
    server: String,
    /// The same with branch and mode: what a load is good for.
    inputs: String,
    named: Named,
    /// What Conjur refused.
    refused: Mutex<Option<Refused>>,
}

/// What a reconcile says.
enum Say {
    /// Nothing: it stands as it is, or nothing can be said yet; looked at again after the time.
    Nothing(Option<Duration>),
    /// It is as it should be.
    Is { reason: Reason, message: String, again: Option<Duration> },
}

async fn look_and_act(object: &ConjurPolicy, ctx: &Context) -> Result<Outcome, Trouble> {
    let unobserved = object.conditions().0 != object.meta().generation;
    may_begin(object, ctx).map_err(|failure| Trouble { asked: unobserved, ..failure.into() })?;
    let result = begin(object, unobserved, ctx).await;
    document::watch(object, result.as_ref().err().map(|trouble| &trouble.failure), ctx);
    result
}

async fn begin(object: &ConjurPolicy, unobserved: bool, ctx: &Context) -> Result<Outcome, Trouble> {
    let looked = document::look(object, ctx).await;
    let looked = looked.map_err(|failure| Trouble { asked: unobserved, ..failure.into() })?;
    let mut fields = Map::new();
    fields.insert("documentHash".into(), looked.hash.clone().into());
    let asked = unobserved || object.answered_hash() != Some(&looked.hash);
    let hash = looked.hash.clone();
    let mut again = None;
    match observe_and_act(object, looked, &mut fields, &mut again, ctx).await {
        Ok(Say::Nothing(again)) => Ok(Outcome::Untouched(again)),
        Ok(Say::Is { reason, message, again }) => {
            Ok(Outcome::Done { again, reason, message, fields, lane: Lane::Foreground })
        }
        Err(failure) => {
            // What is loaded may have drifted, and is looked at in its time though a person must act.
            let slots = object.spec.drift_check().filter(|_| object.loaded_hash() == Some(&hash));
            let slots = slots.map(|interval| drift_slots(interval, &object.uid().unwrap_or_default()));
            let slots = slots.map(|slots| slots.next_in(Timestamp::now()));
            let again = slots.into_iter().chain(again).chain(looked_again(failure.reason)).min();
            Err(Trouble { failure, asked, fields, again })
        }
    }
}

/// Nothing is read for a policy that never loaded anything before it is known that it may.
///
/// # Errors
/// `ConnectionNotFound`, `AccessDenied`; `InvalidSpec` for a branch that can't be.
fn may_begin(object: &ConjurPolicy, ctx: &Context) -> Result<(), Failure> {
    if object.loaded_hash().is_some() {
        return Ok(());
    }
    let key = Key::of(object);
    let verb = match object.spec.action.unwrap_or_default() {
        PolicyAction::Load => Verb::Load,
        PolicyAction::DryRun => Verb::Plan,
    };
    let branch = PolicyBranch::new(&object.spec.branch)
        .map_err(|e| Failure::stalled(Reason::InvalidSpec, format!("spec.branch: {e}")))?;
    clients::named(&object.spec.connection_ref, &key, ctx)?.check_access(verb, &[branch.as_str()], &key, ctx)
}

async fn observe_and_act(
    object: &ConjurPolicy,
    looked: Looked,
    fields: &mut Map<String, Value>,
    again: &mut Option<Duration>,
    ctx: &Context,
) -> Result<Say, Failure> {
    let seen = observe(object, looked.hash.clone(), ctx)?;
    let loads = ctx.branches.waiting.loads();
    match retry::earned(&seen, ctx).await? {
        Earned::Yes => {}
        Earned::NotYet => return Ok(Say::Nothing(None)),
        Earned::No(failure, after) => {
            *again = after;
            return Err(failure);
        }
    }
    let said = match object.spec.action.unwrap_or_default() {
        PolicyAction::DryRun => plan::dry_run(&seen, looked, fields, ctx).await,
        PolicyAction::Load => act(&seen, looked, fields, ctx).await,
    };
    *again = retry::note(&seen, &said, loads, fields, ctx);
    said
}

async fn act(
    seen: &Seen<'_>,
    mut looked: Looked,
    fields: &mut Map<String, Value>,
    ctx: &Context,
) -> Result<Say, Failure> {
    let object = seen.object;
    claims::check(seen, ctx)?;
    // What is loaded and was looked at with this spec needs no document to say so.
    let content = if seen.is_settled() {
        None
    } else {
        let content = seen.content(looked.text.take(), ctx).await?;
        content.check_roles(object)?;
        Some(content)
    };
    let mut kept = KeySecret::read(seen, ctx).await?;
    let say = if seen.is_loaded(&kept) {
        looked.text = looked.text.or(content.map(|content| content.text));
        drift::check(seen, looked, &mut kept, fields, ctx).await?
    } else {
        let content = match content {
            Some(content) => content,
            None => seen.content(looked.text, ctx).await?,
        };
        let Some(through) = seen.through(Verb::Load, ctx)? else { return Ok(Say::Nothing(None)) };
        let run = Run { seen, content: &content, through: &through, ctx };
        let loaded = load::load(&run, &mut kept, fields).await;
        if loaded.is_err() && kept.announcement().is_some() {
            seen.while_announced();
        }
        let Some(message) = loaded? else { return Ok(Say::Nothing(None)) };
        wake_those_who_wait(seen, &content, fields, ctx);
        let again = seen.slots().map(|slots| ctx.policy_notes.handled(&Key::of(object), slots));
        Say::Is { reason: Reason::Loaded, message, again }
    };
    let all_stored = keys::see_that_all_are_stored(seen, &mut kept, fields, ctx).await?;
    Ok(if all_stored { say } else { Say::Nothing(None) })
}

/// Takes everything from the stores. No IO.
fn observe<'a>(object: &'a ConjurPolicy, hash: String, ctx: &Context) -> Result<Seen<'a>, Failure> {
    let key = Key::of(object);
    let spec = &object.spec;
    let branch = PolicyBranch::new(&spec.branch)
        .map_err(|e| Failure::stalled(Reason::InvalidSpec, format!("spec.branch: {e}")))?;
    let named = clients::named(&spec.connection_ref, &key, ctx)?;
    let settings = &named.facts.settings;
    let account = &settings.account;
    let server = server(&settings.url, account);
    Ok(Seen {
        owner: owner_of(object),
        inputs: load_inputs(object, &server),
        refused: Mutex::default(),
        object,
        branch,
        hash,
        server,
        named,
    })
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

/// A hash over where and how a policy is loaded.
fn load_inputs(policy: &ConjurPolicy, server_hash: &str) -> String {
    load_inputs_by(&policy.spec.branch, policy.mode(), server_hash)
}

fn load_inputs_by(branch: &str, mode: LoadMode, server_hash: &str) -> String {
    let mode = match mode {
        LoadMode::Append => "Append",
        LoadMode::Update => "Update",
        LoadMode::Replace => "Replace",
    };
    inputs::hash([server_hash, branch, mode])
}

/// Whether a policy goes to that server and account; where its connection is unknown, it may.
fn may_load_through(policy: &ConjurPolicy, server_hash: &str, ctx: &Context) -> bool {
    clients::named(&policy.spec.connection_ref, &Key::of(policy), ctx)
        .map_or(true, |named| server(&named.facts.settings.url, &named.facts.settings.account) == server_hash)
}

impl Seen<'_> {
    /// Whether the document is loaded as it is asked for, and nothing is left open.
    fn is_loaded(&self, kept: &KeySecret) -> bool {
        self.says_loaded() && kept.announcement().is_none()
    }

    fn says_loaded(&self) -> bool {
        self.object.status.as_ref().is_some_and(|s| {
            s.loaded_hash.as_deref() == Some(&self.hash)
                && s.observed_inputs.as_deref() == Some(&self.inputs)
                && s.pending.is_none()
        })
    }

    /// Whether it is loaded, and was Ready with this spec.
    fn is_settled(&self) -> bool {
        let (observed, conditions) = self.object.conditions();
        self.says_loaded() && observed == self.object.meta().generation && is_true(conditions, READY)
    }

    /// The grid of its looks for drift; none where there are none.
    fn slots(&self) -> Option<Slots> {
        self.object.spec.drift_check().map(|interval| drift_slots(interval, &self.owner.uid))
    }

    /// Refuses what the connection does not let this policy do.
    ///
    /// # Errors
    /// `AccessDenied`.
    fn check_access(&self, verb: Verb, ctx: &Context) -> Result<(), Failure> {
        self.check_access_to(self.branch.as_str(), verb, ctx)
    }

    /// The same for another branch, which something else than the spec names.
    fn check_access_to(&self, branch: &str, verb: Verb, ctx: &Context) -> Result<(), Failure> {
        let user = Key { namespace: self.owner.namespace.clone(), name: self.owner.name.clone() };
        self.named.check_access(verb, &[branch], &user, ctx)
    }

    /// Whether this namespace may learn whether a role is there. Who may write Secrets may have named it.
    fn may_tell_of(&self, role: &str) -> bool {
        let facts = &self.named.facts;
        facts.access.is_none() || lies_in(role, &facts.settings.account, self.branch.as_str())
    }

    /// The client; none where the connection was not tried yet, whose first try wakes us.
    ///
    /// # Errors
    /// `AccessDenied` before anything is asked of Conjur; `ConnectionNotReady`.
    fn through(&self, verb: Verb, ctx: &Context) -> Result<Option<Connected>, Failure> {
        self.check_access(verb, ctx)?;
        match &self.named.standing {
            Standing::Connected(connected) => Ok(Some(connected.clone())),
            Standing::Failing(why) => Err(clients::not_ready(&self.named.facts, why)),
            Standing::Untried => Ok(None),
        }
    }

    /// What was said when it was loaded or looked at, so that looking at it again changes nothing.
    fn standing(&self) -> (Reason, String) {
        let ready = find(self.object.conditions().1, READY).filter(|c| c.status == "True");
        let said = |reason: Reason| {
            ready.filter(|c| c.reason == reason.as_str()).map(|c| (reason, c.message.clone()))
        };
        said(Reason::Loaded)
            .or_else(|| said(Reason::PolicyDrifted))
            .unwrap_or_else(|| (Reason::Loaded, format!("branch {} holds the document", self.branch)))
    }

    /// The roles that this policy made before, or was about to make.
    fn known_roles(&self) -> BTreeSet<String> {
        let status = self.object.status.as_ref();
        status.and_then(|s| s.created_roles.clone()).unwrap_or_default().into_iter().collect()
    }
}

/// The grid of a policy's looks for drift.
fn drift_slots(interval: Duration, uid: &str) -> Slots {
    Slots::new(interval, uid, OFFSETS)
}

fn keys_of(role: &str) -> Result<RoleKeys, Failure> {
    role_keys(role).map_err(|e| Failure::stalled(Reason::PolicyInvalid, e.to_string()))
}

/// A load makes branches, and what other documents refer to: those that were refused for want of it are tried again.
fn wake_those_who_wait(loaded: &Seen, content: &Content, fields: &Map<String, Value>, ctx: &Context) {
    let document = &content.document;
    let roles = fields.get("createdRoles").and_then(Value::as_array).into_iter().flatten();
    let records = document.records.iter().map(|record| record.id.as_str());
    let made = Made {
        server: &loaded.server,
        records: records.chain(roles.filter_map(Value::as_str)).collect(),
        gives: document.statements > document.records.len() + document.deletions.len(),
    };
    for key in ctx.branches.waiting.loaded(&made) {
        ctx.wakeups.policy(key);
    }
}
