//! What a reconcile of a policy goes by: what was observed of it, and what it says in the end.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use kube::{Resource, runtime::events::EventType};

use crate::{
    api::{
        ConjurPolicy, Reason,
        condition::{READY, find, is_true},
        policy::{LoadMode, MendedBy},
    },
    conjur::PolicyBranch,
    controllers::{
        Context,
        connection::{
            access::{self, BoundConnection},
            pool::{ConnectionState, ReadyConnection},
        },
    },
    effect::Subject,
    plan::{
        Failure,
        connection::access::Verb,
        full_id::lies_in,
        hash,
        policy::branch_claims::server,
        schedule::{OFFSETS, Slots},
        secret::Owner,
    },
    runtime::{Key, Object},
};

/// What was observed of one policy before anything is done.
pub struct ObservedPolicy<'a> {
    pub object: &'a ConjurPolicy,
    pub owner: Owner,
    pub branch: PolicyBranch,
    /// Hex SHA-256 of the document.
    pub hash: String,
    /// A hash over the address and account.
    pub server: String,
    /// The same with branch and mode: what a load is good for.
    pub inputs: String,
    pub named: BoundConnection,
    /// What Conjur refused.
    pub refused: Mutex<Option<Refused>>,
}

/// What Conjur refused in this reconcile.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What can mend it.
    pub mended_by: MendedBy,
    /// Full id of the record that is not there.
    pub record: Option<String>,
    /// What the identity is to the branch.
    pub has: Option<Vec<String>>,
    /// The document lies in a Secret, so that its ids are told to no one.
    pub secret: bool,
}

/// What a reconcile says.
pub enum Say {
    /// Nothing: it stands as it is, or nothing can be said yet; looked at again after the time.
    Nothing(Option<Duration>),
    /// It is as it should be.
    Is { reason: Reason, message: String, again: Option<Duration> },
}

/// Takes everything from the stores. No IO.
pub fn observe<'a>(
    object: &'a ConjurPolicy,
    hash: String,
    ctx: &Context,
) -> Result<ObservedPolicy<'a>, Failure> {
    let key = Key::of(object);
    let spec = &object.spec;
    let branch = PolicyBranch::new(&spec.branch)
        .map_err(|e| Failure::stalled(Reason::InvalidSpec, format!("spec.branch: {e}")))?;
    let named = access::named(&spec.connection_ref, &key, ctx)?;
    let settings = &named.facts.settings;
    let account = &settings.account;
    let server = server(&settings.url, account);
    Ok(ObservedPolicy {
        owner: Owner::of(object),
        inputs: load_inputs(object, &server),
        refused: Mutex::default(),
        object,
        branch,
        hash,
        server,
        named,
    })
}

/// A hash over where and how a policy is loaded.
pub fn load_inputs(policy: &ConjurPolicy, server_hash: &str) -> String {
    load_inputs_by(&policy.spec.branch, policy.mode(), server_hash)
}

pub fn load_inputs_by(branch: &str, mode: LoadMode, server_hash: &str) -> String {
    hash::hash([server_hash, branch, mode.as_str()])
}

/// Whether a policy goes to that server and account; where its connection is unknown, it may.
pub fn may_load_through(policy: &ConjurPolicy, server_hash: &str, ctx: &Context) -> bool {
    access::named(&policy.spec.connection_ref, &Key::of(policy), ctx)
        .map_or(true, |named| server(&named.facts.settings.url, &named.facts.settings.account) == server_hash)
}

impl ObservedPolicy<'_> {
    pub fn says_loaded(&self) -> bool {
        self.object.status.as_ref().is_some_and(|s| {
            s.loaded_hash.as_deref() == Some(&self.hash)
                && s.observed_inputs.as_deref() == Some(&self.inputs)
                && s.pending.is_none()
        })
    }

    /// The policy, as effects see it.
    pub fn subject(&self) -> Subject<'_> {
        Subject { owner: &self.owner, server: &self.server }
    }

    /// Whether it is loaded, and was Ready with this spec.
    pub fn is_settled(&self) -> bool {
        let (observed, conditions) = self.object.conditions();
        self.says_loaded() && observed == self.object.meta().generation && is_true(conditions, READY)
    }

    /// The grid of its looks for drift; none where there are none.
    pub fn slots(&self) -> Option<Slots> {
        self.object.spec.drift_check().map(|interval| drift_slots(interval, &self.owner.uid))
    }

    /// Refuses what the connection does not let this policy do.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn check_access(&self, verb: Verb, ctx: &Context) -> Result<(), Failure> {
        self.check_access_to(self.branch.as_str(), verb, ctx)
    }

    /// The same for another branch, which something else than the spec names.
    pub fn check_access_to(&self, branch: &str, verb: Verb, ctx: &Context) -> Result<(), Failure> {
        let user = Key { namespace: self.owner.namespace.clone(), name: self.owner.name.clone() };
        self.named.check_access(verb, &[branch], &user, ctx)
    }

    /// Whether this namespace may learn whether a role is there. Who may write Secrets may have named it.
    pub fn may_tell_of(&self, role: &str) -> bool {
        let facts = &self.named.facts;
        facts.access.is_none() || lies_in(role, &facts.settings.account, self.branch.as_str())
    }

    /// The client; none where the connection was not tried yet, whose first try wakes the object.
    ///
    /// # Errors
    /// `AccessDenied` before anything is asked of Conjur; `ConnectionNotReady`.
    pub fn through(&self, verb: Verb, ctx: &Context) -> Result<Option<ReadyConnection>, Failure> {
        self.check_access(verb, ctx)?;
        match &self.named.standing {
            ConnectionState::Ready(connected) => Ok(Some(connected.clone())),
            ConnectionState::Failing(why) => Err(access::not_ready(&self.named.facts, why)),
            ConnectionState::Untried => Ok(None),
        }
    }

    /// What was said when it was loaded or looked at, so that looking at it again changes nothing.
    pub fn standing(&self) -> (Reason, String) {
        let ready = find(self.object.conditions().1, READY).filter(|c| c.status == "True");
        let said = |reason: Reason| {
            ready.filter(|c| c.reason == reason.as_str()).map(|c| (reason, c.message.clone()))
        };
        said(Reason::Loaded)
            .or_else(|| said(Reason::PolicyDrifted))
            .unwrap_or_else(|| (Reason::Loaded, format!("branch {} holds the document", self.branch)))
    }

    /// Tells, in an Event, that the key of a role was rotated, and why.
    pub fn tell_rotated(&self, login: &str, why: &str, ctx: &Context) {
        let note = format!("the key that Conjur gave for {login} {why}; it was rotated and stored");
        ctx.events.publish(self.object, EventType::Warning, Reason::KeyRotated, "Rotate", note);
    }

    /// The roles that this policy made before, or was about to make.
    pub fn known_roles(&self) -> BTreeSet<String> {
        let status = self.object.status.as_ref();
        status.and_then(|s| s.created_roles.clone()).unwrap_or_default().into_iter().collect()
    }
}

/// The grid of a policy's looks for drift.
pub fn drift_slots(interval: Duration, uid: &str) -> Slots {
    Slots::new(interval, uid, OFFSETS)
}
