//! ConjurSecret: Conjur → Secret. `reconcile` → `observe` → `act`.

mod fetch;
mod target;

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{events::EventType, reflector::ObjectRef},
};
use serde_json::{Map, Value, json};

use super::{
    Context, Key, Outcome, Reconcile, Trouble,
    clients::{self, Named, Standing},
    inputs::{Input, User},
    memory::{Remembered, Target},
};
use crate::{
    api::{
        ConjurSecret, Reason, SYNC_NOW_ANNOTATION,
        condition::{READY, RECONCILING, is_true},
    },
    conjur::{Lane, Wanted},
    metrics::Kind,
    plan::{
        Class, Failure,
        access::Verb,
        schedule::{Cause, Due, OFFSETS, Observed, Slots, TargetSeen, due},
        secret::{Action, Desired, Owner},
    },
};

impl Reconcile for ConjurSecret {
    const KIND: Kind = Kind::Secret;
    const DEADLINE: Duration = Duration::from_secs(120);

    async fn reconcile(&self, ctx: &Context) -> Result<Outcome, Trouble> {
        // The garbage collector takes the Secret before the object where that is deleted in the foreground: made again,
        // it would hold the object's end up for ever.
        if self.meta().deletion_timestamp.is_some() {
            return Ok(Outcome::Untouched(None));
        }
        if self.spec.suspend == Some(true) {
            return Ok(Outcome::Suspended);
        }
        // Boxed, as what takes long below is: thousands may wait at once, each with all of its largest state.
        let seen = Box::new(Seen::observe(self, ctx));
        let now = Timestamp::now();
        match seen.due(self, now) {
            Due::In(wait) => {
                let slot = seen.slots.current(now);
                ctx.memory.change(&seen.key, |m| {
                    m.slot.get_or_insert(slot);
                });
                Ok(Outcome::Untouched(Some(wait)))
            }
            Due::Now(cause) => {
                let (key, target) = (seen.key.clone(), seen.desired.name.clone());
                let result = Box::pin(seen.act(self, cause, ctx)).await;
                watch_foreign(&key, &target, &result, ctx);
                result.map_err(|trouble| looked_at(self, trouble))
            }
        }
    }

    fn api(client: kube::Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn gone(key: &Key, ctx: &Context) {
        ctx.memory.forget(key);
        ctx.inputs.want(&user(key), &[]);
    }
}

/// What waits for something else, or for the user, was looked at all the same: a `sync-now` counts as handled.
fn looked_at(object: &ConjurSecret, mut trouble: Trouble) -> Trouble {
    if matches!(trouble.failure.class, Class::Stalled | Class::Waiting(_)) {
        let sync_now = object.annotations().get(SYNC_NOW_ANNOTATION);
        trouble.fields.insert("lastHandledSyncNow".into(), json!(sync_now));
    }
    trouble
}

fn user(key: &Key) -> User {
    User::Secret(ObjectRef::new(&key.name).within(&key.namespace))
}

/// A foreign Secret has none of our labels, so that only a watch of its own tells when it may be adopted or is gone.
fn watch_foreign(key: &Key, target: &str, result: &Result<Outcome, Trouble>, ctx: &Context) {
    let foreign = matches!(result, Err(trouble) if trouble.failure.reason == Reason::ForeignSecret);
    let watched = foreign.then(|| Input::secret(&key.namespace, target));
    ctx.inputs.want(&user(key), watched.as_slice());
}

/// What was observed of one object, from the stores: no IO.
struct Seen {
    key: Key,
    owner: Owner,
    named: Result<Named, Failure>,
    slots: Slots,
    remembered: Remembered,
    target: TargetSeen,
    desired: Desired,
}

impl Seen {
    fn observe(object: &ConjurSecret, ctx: &Context) -> Self {
        let key = Key::of(object);
        let uid = object.uid().unwrap_or_default();
        let remembered = ctx.memory.of_object(&key, &uid);
        let desired = target::desired(object);
        let status = object.status.clone().unwrap_or_default();
        // What we wrote last beats what the watch says of it; after a restart the status stands for it.
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
        Self {
            owner: Owner {
                kind: "ConjurSecret",
                api_version: ConjurSecret::api_version(&()).into_owned(),
                name: key.name.clone(),
                namespace: key.namespace.clone(),
                uid: uid.clone(),
            },
            named: clients::named(&object.spec.connection_ref, &key, ctx),
            slots: Slots::new(object.spec.interval(), &uid, OFFSETS),
            remembered,
            target,
            desired,
            key,
        }
    }

    fn due(&self, object: &ConjurSecret, now: Timestamp) -> Due {
        let status = object.status.clone().unwrap_or_default();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let observed = Observed {
            generation: object.meta().generation,
            observed_generation: status.observed_generation,
            sync_now: object.annotations().get(SYNC_NOW_ANNOTATION).map(String::as_str),
            handled_sync_now: status.last_handled_sync_now.as_deref(),
            inputs: self.named.as_ref().map_or("", |n| &n.inputs),
            handled_inputs: status.observed_inputs.as_deref(),
            ready: is_true(conditions, READY),
            retrying: is_true(conditions, RECONCILING),
            target: self.target,
            handled_slot: self.remembered.slot,
        };
        due(&observed, self.slots, now)
    }

    async fn act(
        mut self: Box<Self>,
        object: &ConjurSecret,
        cause: Cause,
        ctx: &Context,
    ) -> Result<Outcome, Trouble> {
        let wanted = fetch::wanted(&object.spec.data)?;
        let asked = matches!(cause, Cause::Generation | Cause::SyncNow | Cause::Inputs);
        let looked = Box::pin(self.is_disturbed(cause, ctx)).await;
        let disturbed = looked.map_err(|failure| Trouble { asked, ..failure.into() })?;
        if cause == Cause::Drift && !disturbed {
            return Ok(Outcome::Untouched(Some(self.slots.next_in(Timestamp::now()))));
        }
        let asked = asked || disturbed;
        self.bring_about(object, cause, &wanted, ctx).await.map_err(|trouble| Trouble { asked, ..trouble })
    }

    async fn bring_about(
        mut self: Box<Self>,
        object: &ConjurSecret,
        cause: Cause,
        wanted: &[Wanted],
        ctx: &Context,
    ) -> Result<Outcome, Trouble> {
        let named =
            std::mem::replace(&mut self.named, Err(Failure::transient(Reason::ConnectionNotReady, "")))?;
        let ids: Vec<&str> = object.spec.data.iter().map(|entry| entry.variable.as_str()).collect();
        named.check_access(Verb::Read, &ids, &self.key, ctx)?;
        let through = match named.standing {
            Standing::Connected(connected) => connected,
            Standing::Failing(why) => return Err(clients::not_ready(&named.facts, &why).into()),
            // Its first try wakes us.
            Standing::Untried => return Ok(Outcome::Untouched(None)),
        };
        let lane = if cause.is_foreground() { Lane::Foreground } else { Lane::Refresh };
        let slot = self.slots.current(Timestamp::now());
        self.desired.data = fetch::data(&object.spec.data, wanted, cause, lane, &through, ctx).await?;
        self.desired.check_size()?;
        let (action, target) = target::bring_about(&self, object, lane, ctx).await?;
        Box::pin(target::remove_former(&self, object, lane, ctx)).await?;
        ctx.memory.change(&self.key, |m| {
            m.target = Some(target.clone());
            m.slot = Some(slot);
        });
        if action != Action::Unchanged && cause == Cause::Drift {
            let note = format!("Secret {} was edited or deleted by hand, and was written again", target.name);
            ctx.events.publish(object, EventType::Normal, Reason::DriftRepaired, "Repair", note);
        }
        Ok(self.done(object, cause, action, &target, &named.inputs, lane))
    }

    /// Whether the Secret is not as it should be, so that the last good state stands no more while Conjur can't be
    /// asked. What of it is another's does not count.
    async fn is_disturbed(&mut self, cause: Cause, ctx: &Context) -> Result<bool, Failure> {
        if !matches!(cause, Cause::Drift | Cause::Unfinished) || self.target == TargetSeen::AsLeft {
            return Ok(false);
        }
        let only_anothers = self.only_anothers_label(ctx).await?;
        self.remembered = ctx.memory.of(&self.key);
        Ok(!only_anothers)
    }

    /// Whether all that changed of the Secret is what others put there. Needs what we remember: after a restart it
    /// can't tell.
    async fn only_anothers_label(&self, ctx: &Context) -> Result<bool, Failure> {
        let Some(target) = self.remembered.target.as_ref().filter(|t| t.name == self.desired.name) else {
            return Ok(false);
        };
        let Some(mut secret) = ctx.cluster.read_secret(&self.key.namespace, &target.name).await? else {
            return Ok(false);
        };
        let same = secret.metadata.uid.as_deref() == Some(&target.uid)
            && ctx.fingerprints.of_existing(&secret, &self.desired, &self.owner) == target.fingerprint;
        crate::plan::secret::wipe(&mut secret);
        if same {
            let version = secret.metadata.resource_version.unwrap_or_default();
            ctx.memory.change(&self.key, |m| {
                if let Some(target) = &mut m.target {
                    target.resource_version = version;
                }
            });
        }
        Ok(same)
    }

    fn done(
        &self,
        object: &ConjurSecret,
        cause: Cause,
        action: Action,
        target: &Target,
        inputs: &str,
        lane: Lane,
    ) -> Outcome {
        let status = object.status.clone().unwrap_or_default();
        let mut fields = Map::new();
        // A label of somebody moves the resource version without a write of ours. The status follows only when it
        // was looked at anyway, after a restart.
        let follow = cause == Cause::Drift || status.target.as_ref().is_none_or(|t| t.uid != target.uid);
        if action != Action::Unchanged || follow {
            let written =
                json!({ "name": target.name, "uid": target.uid, "resourceVersion": target.resource_version });
            fields.insert("target".into(), written);
        }
        if action != Action::Unchanged || status.last_sync_time.is_none() {
            let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
            fields.insert("lastSyncTime".into(), now.to_string().into());
        }
        let sync_now = object.annotations().get(SYNC_NOW_ANNOTATION);
        fields.insert("lastHandledSyncNow".into(), json!(sync_now));
        fields.insert("keys".into(), self.desired.data.len().into());
        fields.insert("missing".into(), Value::Null);
        fields.insert("observedInputs".into(), inputs.into());
        Outcome::Done {
            again: Some(self.slots.next_in(Timestamp::now())),
            reason: Reason::Synced,
            message: format!("Secret {} holds what Conjur holds", target.name),
            fields,
            lane,
        }
    }
}
