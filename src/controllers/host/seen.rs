//! What a reconcile of a ConjurHost goes by.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

use super::{notes::HostLooked, object::target_name};
use crate::{
    api::{
        ADOPT_CLUSTER_ANNOTATION, ConjurHost, ConjurHostStatus, ROTATE_NOW_ANNOTATION, Reason,
        condition::{READY, RECONCILING, is_true},
        host::Enrolment,
    },
    controllers::{
        Context,
        connection::{
            access::{self, BoundConnection},
            pool::{ConnectionState, ReadyConnection},
        },
        dependencies::{Dependency, Dependent},
        template,
    },
    effect::Subject,
    plan::{
        Failure, hash,
        host::{
            due::{HostObserved, look_in, rotation_asked},
            owner::owner_of,
            step::RotationAsked,
        },
        schedule::{OFFSETS, Slots, TargetSeen},
        secret::{Owner, rollout::Lineage},
    },
    runtime::{Key, Object},
};

/// What was observed of one object, from the stores: no IO.
pub struct ObservedHost {
    pub key: Key,
    pub owner: Owner,
    pub named: Result<BoundConnection, Failure>,
    /// A hash over the address and account of the server; empty where there is no connection.
    pub server: String,
    /// What its templates lie in.
    pub sources: Vec<Dependency>,
    /// The Secret with the token that was given.
    token: Option<Dependency>,
    /// The Secret that it writes.
    pub target_name: String,
    /// The rotation that is asked for.
    pub rotation: RotationAsked,
    /// The stored key is to be tried.
    pub tries: bool,
    /// The object was asked to look, by `sync-now`.
    pub sync_now: bool,
    inputs: String,
    slots: Option<Slots>,
    due: HostObserved,
    unobserved: bool,
    stored: Option<(String, String)>,
}

pub fn user(key: &Key) -> Dependent {
    Dependent::Object(ConjurHost::KIND, key.clone())
}

/// How the owner annotation names an object: in this cluster, and in the one that it was before it was restored.
pub fn owner_texts(object: &ConjurHost, cluster: &str) -> Vec<String> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let before = object.annotations().get(ADOPT_CLUSTER_ANNOTATION).map(String::as_str);
    std::iter::once(cluster)
        .chain(before)
        .map(|cluster| owner_of(cluster, &namespace, &name).to_string())
        .collect()
}

impl ObservedHost {
    /// Takes everything from the stores.
    pub fn observe(object: &ConjurHost, status: &ConjurHostStatus, ctx: &Context) -> Self {
        let key = Key::of(object);
        let uid = object.uid().unwrap_or_default();
        let named = access::named(&object.spec.connection_ref, &key, ctx);
        let server = named.as_ref().map(BoundConnection::server).unwrap_or_default();
        let target_name = if object.spec.keeps_key() {
            target_name(object)
        } else {
            // The one that it had.
            status.target.as_ref().map_or_else(|| target_name(object), |target| target.name.clone())
        };
        let sources = template::sources(object.spec.target().template.as_ref(), &key);
        let token = match object.spec.enrolment() {
            Some(Enrolment::Token(from)) => Some(Dependency::secret(&key.namespace, &from.name)),
            _ => None,
        };
        let slots = object.spec.rotation_interval().map(|interval| Slots::new(interval, &uid, OFFSETS));
        let now = Timestamp::now();
        let applied = status.applied.as_ref().filter(|applied| applied.server == server);
        let last = status.last_rotation_time.as_ref().map(|at| at.0.as_second());
        let rotation = rotation_asked(
            object.annotations().get(ROTATE_NOW_ANNOTATION).map(String::as_str),
            status.last_handled_rotate_now.as_deref(),
            last.filter(|_| applied.is_some_and(|applied| applied.key.is_some())),
            slots,
            now,
        );
        let sync_now = ctx.sync_nows.take(ConjurHost::KIND, &key);
        let stored = ctx.owned.get(&ObjectRef::new(&target_name).within(&key.namespace));
        let stored = stored.map(|stored| {
            let meta = &stored.metadata;
            (meta.uid.clone().unwrap_or_default(), meta.resource_version.clone().unwrap_or_default())
        });
        let inputs = inputs(&named, &sources, ctx);
        let looked = ctx.host_notes.of(&key).filter(|looked| looked.uid == uid);
        let target = match (&stored, looked.as_ref().and_then(|looked| looked.target.as_ref())) {
            (None, _) => TargetSeen::Gone,
            (Some(stored), Some(left)) if is_as_left(stored, left) => TargetSeen::AsLeft,
            (Some(_), _) => TargetSeen::Changed,
        };
        let looked = looked.is_some_and(|looked| Some(&looked.inputs) == inputs.as_ref());
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let unobserved = status.observed_generation != object.meta().generation;
        let done = !unobserved && is_true(conditions, READY) && !is_true(conditions, RECONCILING);
        let rollout = !object.spec.rollouts().is_empty()
            && Lineage::of(&uid).is_pending(status.revision.as_deref(), status.rolled_out.as_deref());
        let due = HostObserved {
            done,
            asked: sync_now || rotation.text.is_some(),
            looked,
            pending: status.pending.as_ref().map(|pending| pending.until),
            rotates: rotation.since.is_some(),
            target,
            keeps_key: object.spec.keeps_key(),
            rollout,
        };
        Self {
            tries: !looked || sync_now || !done || target != TargetSeen::AsLeft,
            owner: Owner::of(object),
            inputs: inputs.unwrap_or_default(),
            key,
            named,
            server,
            sources,
            token,
            target_name,
            rotation,
            sync_now,
            slots,
            due,
            unobserved,
            stored,
        }
    }

    /// Whether there is the connection, and it may be used from here.
    pub fn may_use(&self, ctx: &Context) -> bool {
        self.named.as_ref().is_ok_and(|named| named.judge_hosts(&[], &self.key, ctx).is_ok())
    }

    /// What wakes the object: the sources of its templates, and the Secrets that it waits for.
    pub fn wanted(&self, sources: &[Dependency]) -> Vec<Dependency> {
        let mut wanted = sources.to_vec();
        if !self.due.done {
            // A foreign one may go or be adopted, and a token may be put there.
            wanted.extend(self.token.clone());
            wanted.push(Dependency::secret(&self.key.namespace, &self.target_name));
        }
        wanted.sort();
        wanted.dedup();
        wanted
    }

    /// Whether something new is asked, so that the last good state is no answer.
    pub fn is_asked(&self) -> bool {
        self.unobserved || self.sync_now || self.rotation.text.is_some()
    }

    /// None where it is to be looked at now; else after which time.
    pub fn look_in(&self, now: Timestamp) -> Option<Duration> {
        look_in(&self.due, self.slots, now)
    }

    /// When it is looked at next by itself.
    pub fn next_look(&self, now: Timestamp) -> Option<Duration> {
        self.slots.map(|slots| slots.next_in(now))
    }

    /// When its key is rotated next.
    pub fn next_rotation(&self, now: Timestamp) -> Option<Timestamp> {
        let at = now.checked_add(self.slots?.next_in(now)).ok()?;
        Timestamp::from_second(at.as_second()).ok()
    }

    /// The object, as effects see it.
    pub fn subject(&self) -> Subject<'_> {
        Subject { owner: &self.owner, server: &self.server }
    }

    /// The client; none where the connection was not tried yet, whose first try wakes the object.
    ///
    /// # Errors
    /// `AccessDenied` before anything is asked of Conjur; `ConnectionNotReady`.
    pub fn through(&self, ctx: &Context) -> Result<Option<ReadyConnection>, Failure> {
        let named = self.named.as_ref().map_err(Clone::clone)?;
        named.check_hosts(&[], &self.key, ctx)?;
        match &named.standing {
            ConnectionState::Ready(connected) => Ok(Some(connected.clone())),
            ConnectionState::Failing(why) => Err(access::not_ready(&named.facts, why)),
            ConnectionState::Untried => Ok(None),
        }
    }

    /// What is remembered of this look.
    pub fn looked_at(&self, status: &ConjurHostStatus) -> HostLooked {
        let written = status.target.as_ref().map(|t| (t.uid.clone(), t.resource_version.clone()));
        HostLooked {
            uid: self.owner.uid.clone(),
            inputs: self.inputs.clone(),
            target: written.or_else(|| self.stored.clone()),
        }
    }
}

/// A write of the operator's own that the watch has not shown yet is none of another's.
fn is_as_left(stored: &(String, String), left: &(String, String)) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    stored.0 == left.0 && number(&stored.1) <= number(&left.1)
}

/// A hash over the connection and what the templates lie in; none while a watch has not listed, for then it is not known.
fn inputs(named: &Result<BoundConnection, Failure>, sources: &[Dependency], ctx: &Context) -> Option<String> {
    let Ok(named) = named else { return Some(String::new()) };
    let status = &named.facts.status;
    let connection =
        hash::hash([named.inputs.as_str(), status.observed_inputs.as_deref().unwrap_or_default()]);
    let versions = ctx.inputs.versions(sources)?;
    Some(template::hash(&connection, sources, &versions))
}

/// What an object says that lacks what it refers to.
pub fn not_found(message: String) -> Failure {
    Failure::waiting(Reason::CredentialsNotFound, crate::plan::LOOK_AGAIN, message)
}
