//! What a reconcile of a ConjurPush goes by: what was observed of it, without a call but for a selector's first list.

use std::time::Instant;

use jiff::Timestamp;
use kube::ResourceExt;

use super::object::{has_given_up, user};
use crate::{
    api::{
        ADOPT_CLUSTER_ANNOTATION, ConjurPush, ConjurPushStatus, SYNC_NOW_ANNOTATION,
        condition::{READY, RECONCILING, is_true},
        push::{ConflictPolicy, PushedSource, PushedVersion, UpdatePolicy},
    },
    controllers::{
        Context, cluster_uid,
        connection::{
            access::{self, BoundConnection},
            pool::{ConnectionState, ReadyConnection},
        },
        dependencies::Dependency,
    },
    effect::branch_locks::Loader,
    plan::{
        Failure,
        connection::access::Verb,
        policy::branch_claims::BranchPlace,
        push::{
            claims::Age,
            decide::{OwnerNow, PushTerms},
        },
        record_owner::RecordOwner,
        schedule::{Due, Observed, Slots, TargetSeen, VERSION_OFFSETS, due},
    },
    runtime::Key,
};

/// What was observed of one object before anything is done.
pub struct ObservedPush<'a> {
    pub object: &'a ConjurPush,
    pub key: Key,
    pub uid: String,
    pub named: Result<BoundConnection, Failure>,
    /// The object, as annotations in Conjur name it.
    pub me: RecordOwner,
    /// Its Secrets as they are now, by name and resource version; none while that is not known.
    pub sources: Option<Vec<PushedSource>>,
    /// The grid of its looks; none where there are none.
    pub slots: Option<Slots>,
}

/// Takes everything from the stores; what the object selects is asked for once.
///
/// # Errors
/// The API server's.
pub async fn observe<'a>(object: &'a ConjurPush, ctx: &Context) -> Result<ObservedPush<'a>, Failure> {
    let named = access::named(&object.spec.connection_ref, &Key::of(object), ctx);
    let mut seen = without_sources(object, named, ctx).await?;
    // Who may not use the connection gets nothing looked at.
    if seen.may_use(ctx) {
        seen.sources = seen.look_at_sources(ctx).await?;
    }
    Ok(seen)
}

/// The same of an object that is being deleted, whose Secrets do not matter any more.
///
/// # Errors
/// The API server's.
pub async fn of_departing<'a>(
    object: &'a ConjurPush,
    named: BoundConnection,
    ctx: &Context,
) -> Result<ObservedPush<'a>, Failure> {
    without_sources(object, Ok(named), ctx).await
}

async fn without_sources<'a>(
    object: &'a ConjurPush,
    named: Result<BoundConnection, Failure>,
    ctx: &Context,
) -> Result<ObservedPush<'a>, Failure> {
    let (key, uid) = (Key::of(object), object.uid().unwrap_or_default());
    let me = RecordOwner {
        cluster: cluster_uid(ctx).await?,
        namespace: key.namespace.clone(),
        kind: "ConjurPush".to_owned(),
        name: key.name.clone(),
    };
    let slots = object.spec.look_interval().map(|interval| Slots::new(interval, &uid, VERSION_OFFSETS));
    Ok(ObservedPush { object, key, uid, named, me, sources: None, slots })
}

impl ObservedPush<'_> {
    fn may_use(&self, ctx: &Context) -> bool {
        let named = self.named.as_ref();
        named.is_ok_and(|named| named.check_access(Verb::Push, &[], &self.key, ctx).is_ok())
    }

    /// Watches the Secrets from now on, and says how they are.
    async fn look_at_sources(&self, ctx: &Context) -> Result<Option<Vec<PushedSource>>, Failure> {
        let source = &self.object.spec.source;
        let secret = source.secret_ref.as_ref().map(|of| Dependency::secret(&self.key.namespace, &of.name));
        ctx.inputs.want(&user(&self.key), secret.as_slice());
        ctx.inputs.select(&self.key, source.selector.as_ref(), &ctx.cluster).await?;
        let named = |(name, resource_version)| PushedSource { name, resource_version };
        let Some(secret) = secret else {
            return Ok(ctx.inputs.selected(&self.key).map(|all| all.into_iter().map(named).collect()));
        };
        let versions = ctx.inputs.versions(std::slice::from_ref(&secret));
        let version = versions.and_then(|versions| versions.into_iter().next());
        Ok(version.map(|version| match version.rsplit_once('/') {
            Some((_, version)) => vec![named((secret.name.clone(), version.to_owned()))],
            None => Vec::new(),
        }))
    }

    /// The status as it stands.
    pub fn status(&self) -> ConjurPushStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// A hash over what of the connection matters; empty where there is none.
    fn inputs(&self) -> &str {
        self.named.as_ref().map_or("", |named| named.inputs.as_str())
    }

    /// Whether, and why, it is to be looked at now.
    pub fn due(&self, now: Timestamp, ctx: &Context) -> Due {
        let status = self.status();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let (retrying, ready) = (is_true(conditions, RECONCILING), is_true(conditions, READY));
        let changed = self.has_new_sources(&status, ctx) || self.is_pushed_out(&status, ctx);
        let observed = Observed {
            generation: self.object.metadata.generation,
            observed_generation: status.observed_generation,
            sync_now: self.object.annotations().get(SYNC_NOW_ANNOTATION).map(String::as_str),
            handled_sync_now: status.last_handled_sync_now.as_deref(),
            inputs: self.inputs(),
            handled_inputs: status.observed_inputs.as_deref(),
            ready,
            retrying,
            target: if changed { TargetSeen::Changed } else { TargetSeen::AsLeft },
            handled_slot: ctx.push_notes.slot(&self.key, &self.uid),
            look_again: None,
            made_once: false,
            only_rollout: false,
        };
        due(&observed, self.slots, now)
    }

    /// Whether an older object claims a variable that this one has.
    fn is_pushed_out(&self, status: &ConjurPushStatus, ctx: &Context) -> bool {
        let Ok(named) = &self.named else { return false };
        let server = named.server();
        status.variables.iter().flatten().any(|variable| self.taken_by(&variable.id, &server, ctx).is_some())
    }

    /// Whether a Secret is another than the one that was pushed.
    pub fn has_new_sources(&self, status: &ConjurPushStatus, ctx: &Context) -> bool {
        match &self.sources {
            Some(sources) => status.sources.as_deref().unwrap_or_default() != sources.as_slice(),
            // It may be: only a read tells.
            None => ctx.inputs.cannot_be_watched(&Dependency::secret(&self.key.namespace, "")),
        }
    }

    /// Takes note that the slot that lies now was handled; `always`: also where another was noted.
    pub fn handle_slot(&self, always: bool, ctx: &Context) {
        let slot = self.slots.map(|slots| slots.current(Timestamp::now()));
        if always || ctx.push_notes.slot(&self.key, &self.uid).is_none() {
            ctx.push_notes.handled(&self.key, &self.uid, slot);
        }
    }

    /// Writes into the status what was handled: `sync-now`, and the connection.
    pub fn mark_inputs(&self, status: &mut ConjurPushStatus) {
        status.last_handled_sync_now = self.object.annotations().get(SYNC_NOW_ANNOTATION).cloned();
        status.observed_inputs = Some(self.inputs().to_owned());
    }

    /// The connection, where it works; none where it was not tried yet, whose first try wakes the object.
    ///
    /// # Errors
    /// `ConnectionNotFound`, `AccessDenied`, `ConnectionNotReady`.
    pub fn connect(&self, ctx: &Context) -> Result<Option<(&BoundConnection, &ReadyConnection)>, Failure> {
        let named = self.named.as_ref().map_err(Clone::clone)?;
        named.check_access(Verb::Push, &[], &self.key, ctx)?;
        match &named.standing {
            ConnectionState::Ready(through) => Ok(Some((named, through))),
            ConnectionState::Failing(why) => Err(access::not_ready(&named.facts, why)),
            ConnectionState::Untried => Ok(None),
        }
    }

    /// What the object asks for of a variable.
    pub fn terms(&self, named: &BoundConnection, looked: Instant, ctx: &Context) -> PushTerms {
        let spec = &self.object.spec;
        PushTerms {
            me: self.me.clone(),
            former: self.former(),
            adopts: spec.conflict_policy == Some(ConflictPolicy::Adopt),
            is_tenant: named.facts.access.is_some(),
            only_empty: spec.update_policy == Some(UpdatePolicy::IfNotExists),
            makes: spec.create_variables.is_some(),
            look_is_newer: ctx.push_notes.wrote(&self.key).is_none_or(|wrote| wrote < looked),
        }
    }

    /// The object in the cluster that this one was restored from, where an annotation names that.
    fn former(&self) -> Option<RecordOwner> {
        let cluster = self.object.annotations().get(ADOPT_CLUSTER_ANNOTATION)?;
        Some(RecordOwner { cluster: cluster.clone(), ..self.me.clone() })
    }

    /// What is asked for: an edit or a new `sync-now` is another try of what was refused.
    pub fn asked_for(&self) -> String {
        let generation = self.object.metadata.generation.unwrap_or_default();
        let sync_now = self.object.annotations().get(SYNC_NOW_ANNOTATION).map_or("", String::as_str);
        format!("{generation} {sync_now}")
    }

    /// How old it is.
    pub fn age(&self) -> Age {
        age(self.object)
    }
}

/// Whether an object has filled a variable of a server, by its status.
pub fn has_filled(object: &Key, id: &str, server: &str, ctx: &Context) -> bool {
    let found = ctx.statuses.freshest(object, &ctx.kinds.pushes.store);
    let status = found.and_then(|found| found.ok()?.status);
    let status =
        status.filter(|status| status.applied.as_ref().is_some_and(|applied| applied.server == server));
    let mut variables = status.iter().flat_map(|status| status.variables.iter().flatten());
    variables.any(|variable| variable.id == id && matches!(variable.version, PushedVersion::Number(_)))
}

/// How old an object is.
pub fn age(object: &ConjurPush) -> Age {
    let created = object.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |at| at.0.as_second());
    Age { created, uid: object.uid().unwrap_or_default() }
}

/// A branch, as the operator loads it through a connection.
pub fn loader(named: &BoundConnection, through: &ReadyConnection, branch: &str) -> Loader {
    let settings = &named.facts.settings;
    Loader {
        place: BranchPlace::new(&settings.url, &settings.account, branch),
        identity: through.identity.to_string(),
    }
}

impl ObservedPush<'_> {
    fn claims(&self, other: &Key, id: &str, ctx: &Context) -> bool {
        let server = self.named.as_ref().map(BoundConnection::server).unwrap_or_default();
        ctx.push_notes.claims(|all| all.claims(other, &server, id))
    }

    /// What has become of an object of this cluster that a variable names as its owner.
    pub fn owner_now(&self, owner: &RecordOwner, id: &str, ctx: &Context) -> OwnerNow {
        let key = Key { namespace: owner.namespace.clone(), name: owner.name.clone() };
        if owner.kind == self.me.kind {
            let pushes = &ctx.kinds.pushes;
            let Some(found) = pushes.store.get(&key.reference()) else {
                return if pushes.is_gone(&key, &ctx.scope) { OwnerNow::Gone } else { OwnerNow::Keeps };
            };
            return match &found.0 {
                Ok(other) if has_given_up(other) || !self.claims(&key, id, ctx) => OwnerNow::Gone,
                Ok(other) if self.age() < age(other) => OwnerNow::Yields,
                _ => OwnerNow::Keeps,
            };
        }
        // Of a kind that this version does not know nothing can be told.
        let kind = ctx.kinds.all().find(|kind| kind.name() == owner.kind);
        if kind.is_some_and(|kind| kind.is_gone(&key, &ctx.scope)) { OwnerNow::Gone } else { OwnerNow::Keeps }
    }
}
