//! ConjurSecret: Conjur → Secret. `reconcile` → `observe` → `act`.

pub mod cache;
mod change_detection;
pub mod circles;
mod create_once;
mod fetch;
mod found;
mod merge;
mod recheck;
mod rollout;
mod seen;
mod target;
mod template;
mod told;
mod trouble;
mod write;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{events::EventType, reflector::ObjectRef},
};

use self::{
    change_detection::{LookOutcome, PriorLook},
    seen::ObservedSecret,
    trouble::Trouble,
};
use super::{
    Context,
    connection::{access, pool::ConnectionState, users::Users},
    dependencies::{Dependency, Dependent},
    handle::{Listed, seconds},
    secret::cache::{Target, Unconfirmed},
};
use crate::{
    api::{
        ConjurSecret, ConjurSecretSpec, ConjurSecretStatus, ConnectionId, ConnectionRef, Reason,
        SYNC_NOW_ANNOTATION,
        condition::{READY, RECONCILING, is_true},
        secret::{RefreshPolicy, WrittenTarget},
    },
    conjur::{Client, Lane},
    heavy::Whose,
    limits::{RUNNING_SECRETS, SECRET_DEADLINE},
    metrics::{Kind, ObjectState},
    plan::{
        self, Failure,
        connection::access::Verb,
        schedule::{Cause, Due, Observed, Slots, TargetSeen, due},
        secret::{Action, Fingerprint, Owner},
    },
    runtime::{Key, Object, Outcome, Reconcile, ReconcileError, api_of_part, concurrency::Line},
};

impl Object for ConjurSecret {
    const KIND: Kind = Kind::Secret;
    const CONNECTION: Option<fn(&Self) -> &ConnectionRef> = Some(|secret| &secret.spec.connection_ref);

    fn api(client: kube::Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn watched(client: kube::Client, part: &str) -> Api<DeserializeGuard<Self>> {
        api_of_part(client, part)
    }

    fn compact(&mut self) {
        self.spec.data.iter_mut().for_each(Vec::shrink_to_fit);
        self.spec.data_from.iter_mut().for_each(Vec::shrink_to_fit);
        let statuses = self.status.iter_mut();
        statuses.flat_map(|status| &mut status.conditions).for_each(Vec::shrink_to_fit);
    }

    fn shorten(spec: &mut ConjurSecretSpec) {
        spec.data = None;
        spec.data_from = None;
        spec.rollout_restart = None;
        if let Some(target) = &mut spec.target {
            target.labels = None;
            target.annotations = None;
            target.template = None;
        }
    }

    fn check_references(&self) -> Result<(), Failure> {
        plan::references::of_secret(&self.spec)
    }
}

impl Reconcile for ConjurSecret {
    type Context = Context;
    const DEADLINE: Duration = SECRET_DEADLINE;
    const AT_ONCE: usize = RUNNING_SECRETS;

    async fn reconcile(
        &self,
        status: &mut ConjurSecretStatus,
        ctx: &Context,
    ) -> Result<Outcome, ReconcileError> {
        // The garbage collector takes the Secret before the object where that is deleted in the foreground: made again,
        // it would hold the object's end up for ever.
        if self.meta().deletion_timestamp.is_some() {
            return Ok(Outcome::NotDue(None));
        }
        if self.spec.suspend == Some(true) {
            return Ok(Outcome::Suspended);
        }
        // Boxed, as what takes long below is: thousands may wait at once, each with all of its largest state.
        let seen = Box::new(ObservedSecret::observe(self, ctx));
        // A start must learn of what changed meanwhile. Who may not use the connection gets nothing looked at.
        let sources = if seen.may_use(ctx) { seen.sources.clone() } else { Vec::new() };
        ctx.inputs.want_also(&user(&seen.key), &sources);
        let now = Timestamp::now();
        match seen.due(self, now, ctx) {
            Due::In(wait) => {
                let slot = seen.slot(now);
                ctx.memory.change(&seen.key, |m| m.slot = m.slot.or(slot));
                Ok(Outcome::NotDue(Some(wait)))
            }
            Due::WhenWoken => Ok(Outcome::NotDue(None)),
            Due::Now(cause) => {
                let key = seen.key.clone();
                let target = Dependency::secret(&key.namespace, &seen.desired.name);
                let revision = seen.revision(ctx);
                let result = match Box::pin(seen.act(self, cause, status, ctx)).await {
                    Ok(outcome) => {
                        Box::pin(rollout::follow(self, &key, revision, outcome, status, ctx)).await
                    }
                    Err(trouble) => Err(trouble.mark_handled(self, status)),
                };
                if ctx.inputs.want(&user(&key), &watched(sources, target, &result)) {
                    // It may have changed after it was looked at.
                    ctx.kinds.secrets.wake(key.clone());
                }
                result
            }
        }
    }

    fn line(&self) -> Option<Line> {
        let connection = ConnectionId::of(
            &self.spec.connection_ref,
            self.metadata.namespace.as_deref().unwrap_or_default(),
        );
        let status = self.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation);
        let sync_now = self.metadata.annotations.as_ref().and_then(|all| all.get(SYNC_NOW_ANNOTATION));
        let new = observed != self.metadata.generation
            || sync_now != status.and_then(|status| status.last_handled_sync_now.as_ref());
        Some(Line { connection, lane: if new { Lane::Foreground } else { Lane::Refresh } })
    }

    fn on_deleted(key: &Key, ctx: &Context) {
        ctx.heavy.forget(Self::KIND.as_str(), &key.namespace, &key.name);
        ctx.memory.forget(key);
        template::look_again(ctx.memory.circles().set(key, None), ctx);
        ctx.inputs.want(&user(key), &[]);
    }
}

impl Listed for ConjurSecret {
    const WRITES_SECRETS: bool = true;
    const TOLD_AT_ONCE: bool = true;

    fn merging_into(secret: &Key, ctx: &Context) -> Vec<Key> {
        ctx.memory.merging_into(secret)
    }

    fn client_made(client: &Client, users: &Users, ctx: &Context) {
        found::listen(client, users, ctx);
    }

    fn add_state(&self, state: &mut ObjectState<'_>, ctx: &Context) {
        let ends = ctx.memory.certificate(&Key::of(self));
        let ends = ends.and_then(|ends| Timestamp::from_second(ends).ok());
        state.certificate = ends.map(|ends| seconds(Timestamp::now(), ends));
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }
}

fn user(key: &Key) -> Dependent {
    Dependent::Object(ConjurSecret::KIND, key.clone())
}

/// What wakes an object: the sources of its templates, and its target where that stands in the way or is to be merged
/// into and is not there. Such a Secret has none of the operator's labels, so that only a watch of its own tells of it.
fn watched(
    sources: Vec<Dependency>,
    target: Dependency,
    result: &Result<Outcome, ReconcileError>,
) -> Vec<Dependency> {
    let unlabelled = matches!(result, Err(trouble) if matches!(
        trouble.failure.reason,
        Reason::ForeignSecret | Reason::TargetNotFound | Reason::FieldConflict
    ));
    let also = (unlabelled && !sources.contains(&target)).then_some(target);
    sources.into_iter().chain(also).collect()
}

impl ObservedSecret {
    fn observe(object: &ConjurSecret, ctx: &Context) -> Self {
        let key = Key::of(object);
        let uid = object.uid().unwrap_or_default();
        let remembered = ctx.memory.of_object(&key, &uid);
        let desired = target::desired(object);
        let into = Key { namespace: key.namespace.clone(), name: desired.name.clone() };
        ctx.memory.merges(&key, target::merges(object).then_some(into));
        let reader = template::reader(object, &desired.name, desired.once);
        template::look_again(ctx.memory.circles().set(&key, reader), ctx);
        let status = object.status.clone().unwrap_or_default();
        // What the operator wrote last beats what the watch says of it; after a restart the status stands for it.
        let left = match &remembered.target {
            Some(target) => Some((target.uid.as_str(), target.resource_version.as_str())),
            None => status.target.as_ref().map(|t| (t.uid.as_str(), t.resource_version.as_str())),
        };
        let stored = ctx.owned.get(&ObjectRef::new(&desired.name).within(&key.namespace));
        let target = match (left, stored) {
            (Some((uid, version)), Some(stored)) => {
                let same = stored.metadata.uid.as_deref() == Some(uid)
                    && stored.metadata.resource_version.as_deref() == Some(version);
                if same { TargetSeen::AsLeft } else { TargetSeen::Changed }
            }
            (None, Some(_)) => TargetSeen::Changed,
            (_, None) => TargetSeen::Gone,
        };
        let periodic = object.spec.policy() == RefreshPolicy::Periodic;
        let mut seen = Self {
            owner: Owner::of(object),
            named: access::named(&object.spec.connection_ref, &key, ctx),
            slots: periodic
                .then(|| Slots::new(object.spec.interval(), &uid, change_detection::offsets(object))),
            sources: template::sources(object, &key),
            remembered,
            target,
            desired,
            key,
            made_once: false,
            only_rollout: false,
        };
        seen.made_once = seen.is_made_once(object, ctx);
        seen.only_rollout = seen.is_only_rollout(object, ctx);
        seen
    }

    /// Whether there is the connection, and it may be used from here.
    fn may_use(&self, ctx: &Context) -> bool {
        let named = self.named.as_ref();
        named.is_ok_and(|named| named.check_access(Verb::Read, &[], &self.key, ctx).is_ok())
    }

    fn slot(&self, now: Timestamp) -> Option<i128> {
        self.slots.map(|slots| slots.current(now))
    }

    /// The hash over what the object refers to, as far as it is known: while a watch of a template has not listed,
    /// that counts as it was when last handled.
    fn inputs(&self, handled: Option<&str>, ctx: &Context) -> String {
        let Ok(named) = &self.named else { return String::new() };
        match ctx.inputs.versions(&self.sources) {
            Some(versions) => template::hash(&named.inputs, &self.sources, &versions),
            None => handled.unwrap_or_default().to_owned(),
        }
    }

    fn due(&self, object: &ConjurSecret, now: Timestamp, ctx: &Context) -> Due {
        let status = object.status.clone().unwrap_or_default();
        let inputs = self.inputs(status.observed_inputs.as_deref(), ctx);
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let observed = Observed {
            generation: object.meta().generation,
            observed_generation: status.observed_generation,
            sync_now: object.annotations().get(SYNC_NOW_ANNOTATION).map(String::as_str),
            handled_sync_now: status.last_handled_sync_now.as_deref(),
            inputs: &inputs,
            handled_inputs: status.observed_inputs.as_deref(),
            ready: is_true(conditions, READY),
            retrying: is_true(conditions, RECONCILING),
            target: self.target,
            handled_slot: self.remembered.slot,
            look_again: self.remembered.unconfirmed.map(|unconfirmed| unconfirmed.again),
            made_once: self.made_once,
            only_rollout: self.only_rollout,
        };
        due(&observed, self.slots, now)
    }

    async fn act(
        mut self: Box<Self>,
        object: &ConjurSecret,
        cause: Cause,
        status: &mut ConjurSecretStatus,
        ctx: &Context,
    ) -> Result<Outcome, Trouble> {
        if self.made_once {
            // A crash may have left it between the two.
            Box::pin(target::remove_former(&self, object, Lane::Foreground, ctx)).await?;
            return Ok(self.left_alone(object, status, ctx));
        }
        if cause == Cause::Rollout {
            return Ok(self.written_before(ctx));
        }
        ctx.memory.change(&self.key, |m| m.only_rollout = false);
        let plan = fetch::plan(object)?;
        let asked = matches!(cause, Cause::Generation | Cause::SyncNow | Cause::Inputs);
        let looked = Box::pin(self.is_disturbed(object, cause, ctx)).await;
        let disturbed = looked.map_err(|failure| ReconcileError { asked, ..failure.into() })?;
        if cause == Cause::Drift && !disturbed {
            return Ok(Outcome::NotDue(self.again(ctx)));
        }
        let now = Timestamp::now();
        if disturbed && let Some(pause) = self.remembered.repairs.pause(now) {
            return Err(self.contested(pause).into());
        }
        if cause == Cause::Inputs
            && let Some(pause) = self.remembered.rewrites.pause(now)
        {
            return Err(self.rewritten(pause).into());
        }
        let repairs = disturbed.then(|| self.remembered.repairs.and_one(now));
        let key = self.key.clone();
        let asked = asked || disturbed;
        let done = self
            .ensure_secret(object, cause, plan, status, ctx)
            .await
            .map_err(|trouble| Trouble { error: ReconcileError { asked, ..trouble.error }, ..trouble })?;
        if let Some(repairs) = repairs {
            ctx.memory.change(&key, |m| m.repairs = repairs);
        }
        Ok(done)
    }

    /// Waits, with the Secret as someone left it.
    fn contested(&self, pause: Duration) -> Failure {
        let message = format!(
            "Secret {} is overwritten by another writer after each repair, so repairs are limited to one every 30 s. Find its field manager with `kubectl get secret --show-managed-fields`, and stop one of the two",
            self.desired.name
        );
        Failure::waiting(Reason::Contested, pause, message)
    }

    /// Waits, with the Secret as it was written last.
    fn rewritten(&self, pause: Duration) -> Failure {
        let message = format!(
            "what Secret {} is made from changes after each write of it, so writes are limited to one every 30 s. Make sure that whatever writes the sources of spec.target.template does not read this Secret",
            self.desired.name
        );
        Failure::waiting(Reason::Contested, pause, message)
    }

    async fn ensure_secret(
        mut self: Box<Self>,
        object: &ConjurSecret,
        cause: Cause,
        plan: fetch::Plan<'_>,
        status: &mut ConjurSecretStatus,
        ctx: &Context,
    ) -> Result<Outcome, Trouble> {
        let named =
            std::mem::replace(&mut self.named, Err(Failure::transient(Reason::ConnectionNotReady, "")))?;
        named.check_access(Verb::Read, &plan.ids(), &self.key, ctx)?;
        let through = match &named.standing {
            ConnectionState::Ready(connected) => connected,
            ConnectionState::Failing(why) => return Err(access::not_ready(&named.facts, why).into()),
            // Its first try wakes the object.
            ConnectionState::Untried => return Ok(Outcome::NotDue(None)),
        };
        // Not before it is known that the object may: reading and checking cost.
        let templates = Box::pin(template::gather(object, &self.key, &self.sources, ctx)).await?;
        let whose = Whose::of(ConjurSecret::KIND.as_str(), &object.metadata, &templates.versions);
        Box::pin(templates.check(&whose, ctx)).await?;
        let lane = if cause.is_foreground() { Lane::Foreground } else { Lane::Refresh };
        let slot = self.slot(Timestamp::now());
        let asked = Instant::now();
        let lists = fetch::lists(cause, self.slots.is_some(), self.remembered.unconfirmed.as_ref());
        let gathered = Box::pin(plan.gather(&self.key, lists, lane, &named, through, ctx)).await?;
        let left_out = gathered.left_out.with_keys_of(&self.remembered.left_out);
        if self.is_confirmed(&gathered, cause, slot) {
            self.note_left_out(object, left_out, ctx);
            return Ok(self.unchanged(cause, slot, None, lane, ctx));
        }
        let unconfirmed = self.unconfirmed(&gathered, cause, asked);
        let before =
            match Box::pin(change_detection::look(&self, object, &gathered, cause, lane, through, ctx))
                .await?
            {
                LookOutcome::Unchanged => {
                    self.note_left_out(object, left_out, ctx);
                    return Ok(self.unchanged(cause, slot, unconfirmed, lane, ctx));
                }
                LookOutcome::Fetch(before) => before,
            };
        // Known again when all is done: what fails from here on needs the values.
        ctx.memory.change(&self.key, |m| m.versions = None);
        let read = before.as_ref().map(PriorLook::read_at);
        let fetched = gathered.fetch(cause, lane, read, &self.key.namespace, through, ctx).await?;
        self.note_left_out(object, fetched.left_out, ctx);
        let versions = before.and_then(|before| before.after(gathered.wanted(), &fetched.brought));
        self.desired.data = Box::pin(templates.render(&whose, fetched.data, ctx)).await?;
        self.desired.check_keys()?;
        self.desired.check_size()?;
        let (action, target) = target::write_target(&self, object, status, lane, ctx).await?;
        Box::pin(target::remove_former(&self, object, lane, ctx)).await?;
        ctx.memory.change(&self.key, |m| {
            m.target = Some(target.clone());
            m.slot = slot;
            m.versions = versions;
            m.unconfirmed = unconfirmed;
            if cause == Cause::Inputs && action != Action::Unchanged {
                m.rewrites = m.rewrites.and_one(Timestamp::now());
            }
        });
        if action != Action::Unchanged && cause == Cause::Drift {
            let note = format!("Secret {} was edited or deleted by hand, and was written again", target.name);
            ctx.events.publish(object, EventType::Normal, Reason::DriftRepaired, "Repair", note);
        }
        let inputs = template::hash(&named.inputs, &self.sources, &templates.versions);
        self.say_done(object, cause, (action, &target), inputs, status);
        Ok(Outcome::Done { again: self.again(ctx), reason: Reason::Synced, message: self.synced(), lane })
    }

    /// No variable has another version: nothing is fetched or written. The status is told only what it may not know.
    fn unchanged(
        &self,
        cause: Cause,
        slot: Option<i128>,
        unconfirmed: Option<Unconfirmed>,
        lane: Lane,
        ctx: &Context,
    ) -> Outcome {
        ctx.memory.change(&self.key, |m| {
            m.slot = slot;
            m.unconfirmed = unconfirmed;
        });
        let again = self.again(ctx);
        if cause == Cause::Slot {
            return Outcome::NotDue(again);
        }
        Outcome::Done { again, reason: Reason::Synced, message: self.synced(), lane }
    }

    /// Whether the Secret is not as it should be, so that the last good state stands no more while Conjur can't be
    /// asked. What of it is another's does not count.
    async fn is_disturbed(
        &mut self,
        object: &ConjurSecret,
        cause: Cause,
        ctx: &Context,
    ) -> Result<bool, Failure> {
        if !matches!(cause, Cause::Drift | Cause::Unfinished) || self.target == TargetSeen::AsLeft {
            return Ok(false);
        }
        let only_anothers = self.only_anothers_label(object, ctx).await?;
        self.remembered = ctx.memory.of(&self.key);
        Ok(!only_anothers)
    }

    /// Whether all that changed of the Secret is what others put there. Needs what the operator remembers: after a restart it
    /// can't tell.
    async fn only_anothers_label(&self, object: &ConjurSecret, ctx: &Context) -> Result<bool, Failure> {
        let Some(target) = self.remembered.target.as_ref().filter(|t| t.name == self.desired.name) else {
            return Ok(false);
        };
        let Some(mut secret) = ctx.cluster.read_secret(&self.key.namespace, &target.name).await? else {
            return Ok(false);
        };
        let same = secret.metadata.uid.as_deref() == Some(&target.uid)
            && self.fingerprint(object, &secret, ctx) == target.fingerprint;
        if same {
            let version = secret.metadata.resource_version.take().unwrap_or_default();
            ctx.memory.change(&self.key, |m| {
                if let Some(target) = &mut m.target {
                    target.resource_version = version;
                }
            });
        }
        Ok(same)
    }

    fn fingerprint(&self, object: &ConjurSecret, secret: &Secret, ctx: &Context) -> Fingerprint {
        if target::merges(object) {
            ctx.fingerprints.of_merged(secret, &self.owner)
        } else {
            ctx.fingerprints.of_existing(secret, &self.desired, &self.owner)
        }
    }

    fn say_done(
        &self,
        object: &ConjurSecret,
        cause: Cause,
        (action, target): (Action, &Target),
        inputs: String,
        status: &mut ConjurSecretStatus,
    ) {
        // A label of someone moves the resource version without a write of the operator's. The status follows only when it
        // was looked at anyway, after a restart.
        let follow = cause == Cause::Drift || status.target.as_ref().is_none_or(|t| t.uid != target.uid);
        if action != Action::Unchanged || follow {
            status.target = Some(WrittenTarget {
                name: target.name.clone(),
                uid: target.uid.clone(),
                resource_version: target.resource_version.clone(),
            });
        }
        // Also where the Secret was written before and the status was not.
        if let Some(at) = target.data_at {
            status.last_sync_time = Some(Time(at));
        } else if status.last_sync_time.is_none() {
            let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
            status.last_sync_time = Some(Time(now));
        }
        status.last_handled_sync_now = object.annotations().get(SYNC_NOW_ANNOTATION).cloned();
        status.keys = i32::try_from(self.desired.data.len()).ok();
        status.missing = None;
        status.observed_inputs = Some(inputs);
    }
}
