//! ConjurHost: a machine identity in Conjur whose key is kept in a Secret and rotated. `reconcile` → `observe` → `act`.
//!
//! What is to be done about the host itself `plan::host` decides and `effect::host` does; here is what it is told
//! ([`caller`](self::caller)), whose the host is ([`claims`](self::claims)), the Secret ([`target`](self::target)), and what is
//! said of it.

mod caller;
mod claims;
mod identities;
mod notes;
mod object;
mod refused;
mod remove;
mod say;
mod seen;
mod target;
mod tokens;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher::Event,
};

use self::{caller::Host, seen::ObservedHost, target::HostSecret};
use super::{
    Context, cluster_uid,
    handle::{Listed, seconds},
    template,
};
use crate::{
    api::{ConjurHost, ConjurHostSpec, ConjurHostStatus, ConnectionRef, Reason},
    conjur::Lane,
    effect::host::{AskedHost, keep},
    heavy::Whose,
    limits::POLICY_DEADLINE,
    metrics::{Kind, ObjectState},
    plan::{Failure, host::view::HostView},
    runtime::{Key, Object, Outcome, Reconcile, ReconcileError, api_of_part},
};

pub use self::notes::HostNotes;

impl Object for ConjurHost {
    const KIND: Kind = Kind::Host;
    const CONNECTION: Option<fn(&Self) -> &ConnectionRef> = Some(|host| &host.spec.connection_ref);

    fn api(client: kube::Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn watched(client: kube::Client, part: &str) -> Api<DeserializeGuard<Self>> {
        api_of_part(client, part)
    }

    fn compact(&mut self) {
        if let Some(conditions) = self.status.as_mut().and_then(|status| status.conditions.as_mut()) {
            conditions.shrink_to_fit();
        }
    }

    fn shorten(spec: &mut ConjurHostSpec) {
        spec.annotations = None;
        spec.rollout_restart = None;
        if let Some(target) = &mut spec.target {
            target.labels = None;
            target.annotations = None;
            target.template = None;
        }
    }

    fn check_references(&self) -> Result<(), Failure> {
        crate::plan::references::of_host(&self.spec)
    }
}

impl Reconcile for ConjurHost {
    type Context = Context;
    const DEADLINE: Duration = POLICY_DEADLINE;

    async fn reconcile(
        &self,
        status: &mut ConjurHostStatus,
        ctx: &Context,
    ) -> Result<Outcome, ReconcileError> {
        if remove::is_due(self) {
            return remove::reconcile(self, status, ctx).await;
        }
        if !remove::ensure_finalizer(self, ctx).await? {
            return Ok(Outcome::NotDue(None));
        }
        if self.spec.suspend == Some(true) {
            return Ok(Outcome::Suspended);
        }
        let key = Key::of(self);
        let seen = Box::new(ObservedHost::observe(self, status, ctx));
        let sources = if seen.may_use(ctx) { seen.sources.clone() } else { Vec::new() };
        let wanted = seen.wanted(&sources);
        if ctx.inputs.want(&seen::user(&key), &wanted) {
            ctx.kinds.hosts.wake(key.clone());
        }
        let now = Timestamp::now();
        if let Some(wait) = seen.look_in(now) {
            return Ok(Outcome::NotDue((wait < Duration::MAX).then_some(wait)));
        }
        let unanswered = seen.is_asked();
        let mut is_let = false;
        let done = Box::pin(act(self, &seen, status, &mut is_let, ctx)).await;
        let done = match done {
            Ok(outcome) => outcome,
            Err(failure) => {
                if !is_let {
                    tokens::revoke_left(self, &seen, status, ctx).await;
                }
                let again = say::look_again(&failure);
                ctx.host_notes.fails(&key);
                return Err(ReconcileError { failure, asked: unanswered, again });
            }
        };
        Ok(done)
    }

    fn shown(event: &Event<DeserializeGuard<Self>>, ctx: &Context) {
        for other in ctx.host_notes.hosts_show(event) {
            ctx.kinds.hosts.wake(other);
        }
    }

    fn on_deleted(key: &Key, ctx: &Context) {
        ctx.heavy.forget(Self::KIND.as_str(), &key.namespace, &key.name);
        ctx.inputs.want(&seen::user(key), &[]);
        for other in ctx.host_notes.forget(key) {
            ctx.kinds.hosts.wake(other);
        }
    }
}

impl Listed for ConjurHost {
    const WRITES_SECRETS: bool = true;

    fn is_news(secret: &PartialObjectMeta<Secret>, ctx: &Context) -> bool {
        ctx.key_writes.shown(&Key::of(secret), secret.metadata.resource_version.as_deref())
    }

    fn rotates(secrets: &[Key], login: Option<&str>, server: &str, ctx: &Context) -> Option<String> {
        identities::rotating(secrets, login, server, ctx)
    }

    fn add_state(&self, state: &mut ObjectState<'_>, _: &Context) {
        let next = self.status.as_ref().and_then(|status| status.next_rotation_time.as_ref());
        state.rotation = next.filter(|_| !state.suspended).map(|next| seconds(Timestamp::now(), next.0));
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }
}

/// `is_let`: nothing kept the object from its host before Conjur was looked at.
async fn act(
    object: &ConjurHost,
    seen: &ObservedHost,
    status: &mut ConjurHostStatus,
    is_let: &mut bool,
    ctx: &Context,
) -> Result<Outcome, Failure> {
    let named = seen.named.as_ref().map_err(Clone::clone)?;
    let enrolment = object.spec.enrolment().ok_or_else(|| {
        let message = "spec.via: say how the host is enrolled, exactly one of branch, hostFactory, hostFactoryTokenSecretRef and \
                       existing; an id without a slash has no parent branch";
        Failure::stalled(Reason::InvalidSpec, message)
    })?;
    claims::check(seen, object, ctx)?;
    let Some(through) = seen.through(ctx)? else { return Ok(Outcome::NotDue(None)) };
    identities::refuse_own(&through, object)?;
    // Not before it is known that the object may: reading and checking cost.
    let target = object.spec.target();
    let templates =
        template::gather(target.template.as_ref(), &seen.target_name, &seen.key, &seen.sources, ctx).await?;
    let whose = Whose::of(ConjurHost::KIND.as_str(), &object.metadata, &templates.versions);
    templates.check(&whose, ctx).await?;
    let cluster = cluster_uid(ctx).await?;
    let mine = seen::owner_texts(object, &cluster);
    let ca = target::ca_bundle(&named.facts, object, ctx).await?;
    let secret = HostSecret::new(object, seen, &through, named, (templates, whose), ca);
    let bare = caller::bare(object, &enrolment, &through.account)?;
    let annotations = caller::enrolment_annotations(object, &mine);
    let request = caller::request(object, seen, &through, &enrolment, AskedHost::document(bare.as_ref()));
    let view = HostView::new(request, status.pending.clone(), status.applied.clone(), status.created);
    let found = status.pending.clone();
    let mut host = Host {
        object,
        seen,
        through: &through,
        cluster: &cluster,
        mine: &mine,
        secret,
        status,
        ctx,
        found,
        has_announced: false,
        left: Vec::new(),
    };
    let asked = AskedHost {
        subject: seen.subject(),
        through: &through,
        id: &object.spec.id,
        bare: bare.as_ref(),
        annotations: &annotations,
    };
    *is_let = true;
    let verdict = match keep(view, asked, &mut host, ctx).await {
        Ok(verdict) => verdict,
        Err(failure) => {
            host.note_refused(&failure).await;
            return Err(failure);
        }
    };
    ctx.host_notes.note_refused(&seen.key, None);
    let (left, mut secret) = (std::mem::take(&mut host.left), host.secret);
    say::tell_left(object, &left, ctx);
    say::tell_rekeyed(object, &verdict, ctx);
    let again = say::verdict(object, &verdict, &seen.target_name, &cluster)?;
    let written = if object.spec.keeps_key() { Some(secret.ensure(ctx).await?) } else { None };
    let message = say::done(object, &through, written.as_ref());
    let message = say::finish(object, seen, written, message, status, ctx).await?;
    let again = [again, seen.next_look(Timestamp::now())].into_iter().flatten().min();
    ctx.host_notes.looked(&seen.key, seen.looked_at(status));
    Ok(Outcome::Done { again, reason: Reason::Enrolled, message, lane: Lane::Foreground })
}
