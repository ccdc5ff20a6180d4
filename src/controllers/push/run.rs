//! One push: whose the variables are, what is to be done with each, and doing it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::events::EventType;

use super::{
    seen::{ObservedPush, has_filled},
    sources::{self, ReadSources, Values},
};
use crate::{
    api::{
        ConjurPushStatus, Reason,
        push::{PushedVariable, PushedVersion},
    },
    conjur::{Error, Freshness, Lane},
    controllers::{
        Context,
        connection::{access::BoundConnection, pool::ReadyConnection},
    },
    effect::variables::{ShownVariables, each, shown, shown_in},
    plan::{
        Failure,
        connection::access::Verb,
        push::{
            decide::{PushStep, PushTerms, ShownVariable, decide},
            outcome::{counted, stays, taken},
        },
        record_owner::RecordOwner,
        schedule::Cause,
    },
    runtime::{Key, Outcome, ReconcileError},
};

/// A new object shares a list that was begun at most this long before it with those that come one after the other.
const FRESH_LIST: Duration = Duration::from_secs(5);
/// How long what a person waits for is held up by the list, where the variables can be shown one by one.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// So many variables are shown one by one, where the list takes long.
const SHOWN_ALONE: usize = 100;

/// What one push works with.
pub struct Push<'a> {
    pub seen: &'a ObservedPush<'a>,
    pub named: &'a BoundConnection,
    pub through: &'a ReadyConnection,
    /// A hash over the server.
    pub server: String,
    pub ctx: &'a Context,
    /// What can't be done, and why.
    pub problems: Vec<Failure>,
    /// How Conjur shows the variables.
    pub shown: ShownVariables,
    /// What is to be done with each.
    pub steps: BTreeMap<String, PushStep>,
    /// Those that were missing, and were made just now as the spec says.
    pub made: BTreeSet<String>,
    /// The numbers of Secrets of which a value is not in Conjur.
    pub not_pushed: BTreeSet<usize>,
    /// What the status said of each variable when this began.
    pub known: HashMap<String, PushedVariable>,
    /// Those of them that the spec still names, and that the object may push to.
    pub kept: BTreeSet<String>,
}

impl ObservedPush<'_> {
    /// Does what is due.
    ///
    /// # Errors
    /// Of the object: the first of what is wrong with it; all else is done.
    pub async fn act(
        &self,
        cause: Cause,
        status: &mut ConjurPushStatus,
        ctx: &Context,
    ) -> Result<Outcome, ReconcileError> {
        let asked = matches!(cause, Cause::Generation | Cause::SyncNow | Cause::Inputs | Cause::Drift);
        let result = self.try_to_act(cause, status, ctx).await;
        result.map_err(|trouble| ReconcileError { asked, ..trouble })
    }

    async fn try_to_act(
        &self,
        cause: Cause,
        status: &mut ConjurPushStatus,
        ctx: &Context,
    ) -> Result<Outcome, ReconcileError> {
        let Some((named, through)) = self.connect(ctx)? else { return Ok(Outcome::NotDue(None)) };
        let mut push = Push::new(self, named, through, named.server(), ctx);
        push.known = status.variables.iter().flatten().map(|v| (v.id.clone(), v.clone())).collect();
        if cause == Cause::Slot
            && !self.has_new_sources(status, ctx)
            && let Some(done) = Box::pin(push.look(status)).await?
        {
            return Ok(done);
        }
        let sources = Box::pin(sources::read(self, ctx)).await?;
        let values = Box::pin(sources.values(self.object, ctx)).await?;
        Box::pin(push.all(cause, &sources, values, status)).await
    }

    /// When it is looked at again by its grid.
    pub fn next_look(&self) -> Option<Duration> {
        self.slots.map(|slots| slots.next_in(Timestamp::now()))
    }
}

impl<'a> Push<'a> {
    /// Of an object of which nothing is known yet.
    pub fn new(
        seen: &'a ObservedPush<'a>,
        named: &'a BoundConnection,
        through: &'a ReadyConnection,
        server: String,
        ctx: &'a Context,
    ) -> Self {
        Self {
            seen,
            named,
            through,
            server,
            ctx,
            problems: Vec::new(),
            shown: ShownVariables::new(),
            steps: BTreeMap::new(),
            made: BTreeSet::new(),
            not_pushed: BTreeSet::new(),
            known: HashMap::new(),
            kept: BTreeSet::new(),
        }
    }
}

impl Push<'_> {
    /// A look at the versions, without reading a Secret; none where something is to be done.
    async fn look(&mut self, status: &mut ConjurPushStatus) -> Result<Option<Outcome>, Failure> {
        let since = self.seen.slots.map_or(Duration::ZERO, |slots| slots.since(Timestamp::now()));
        let ids: Vec<String> = self.known.keys().cloned().collect();
        let looked = self.list(&ids, Freshness::NoOlderThan(since), Lane::Refresh).await?;
        let terms = self.seen.terms(self.named, looked, self.ctx);
        let mut variables = status.variables.clone().unwrap_or_default();
        for variable in &mut variables {
            let step = self.decide(&variable.id, false, &terms);
            match step {
                PushStep::Settled(now) => variable.version = PushedVersion::Number(now),
                PushStep::Leave { mine: true } => {}
                _ => return Ok(None),
            }
        }
        self.seen.handle_slot(true, self.ctx);
        if status.variables.as_ref().is_some_and(|standing| *standing != variables) {
            status.variables = Some(variables);
            let message = self.message(status);
            return Ok(Some(self.done(message, Lane::Refresh)));
        }
        Ok(Some(Outcome::NotDue(self.seen.next_look())))
    }

    /// Finds out how Conjur shows some variables, by the pages of the list. When the look began.
    async fn list(&mut self, ids: &[String], freshness: Freshness, lane: Lane) -> Result<Instant, Failure> {
        let client = &self.through.client;
        let list = client.list_variables(None, lane, freshness);
        let wait =
            if lane == Lane::Foreground && ids.len() <= SHOWN_ALONE { LONGEST_WAIT } else { Duration::MAX };
        let asked = Instant::now();
        let began = match tokio::time::timeout(wait, list).await {
            Ok(Ok(list)) => {
                self.shown.extend(shown_in(&list, ids.iter()));
                list.began()
            }
            // The list is too large to be kept, for whatever others put there.
            Ok(Err(Error::TooLarge { .. })) => {
                self.shown.extend(each(ids, self.through, self.ctx).await?);
                return Ok(asked);
            }
            Ok(Err(error)) => return Err(self.ctx.clients.failure(self.through, error)),
            Err(_) => {
                self.shown.extend(shown(ids, self.through, self.ctx).await?);
                return Ok(asked);
            }
        };
        // What is the object's and is not on the pages is shown alone before it is taken for gone.
        let is_gone = |id: &&String| self.known.contains_key(*id) && !self.shown.contains_key(*id);
        let gone: Vec<String> = ids.iter().filter(is_gone).cloned().collect();
        if !gone.is_empty() {
            self.shown.extend(shown(&gone, self.through, self.ctx).await?);
        }
        Ok(began)
    }

    fn decide(&self, id: &str, changed: bool, terms: &PushTerms) -> PushStep {
        let now = |owner: &RecordOwner| self.seen.owner_now(owner, id, self.ctx);
        decide(self.shown.get(id), self.known.get(id), changed, terms, now)
    }

    /// Everything: what is to be made, changed, filled and removed.
    async fn all(
        mut self,
        cause: Cause,
        sources: &ReadSources,
        mut values: Values,
        status: &mut ConjurPushStatus,
    ) -> Result<Outcome, ReconcileError> {
        let began = Instant::now();
        self.problems.append(&mut values.problems);
        self.tell_left_out(std::mem::take(&mut values.left_out));
        self.leave_another_server(status);
        self.not_pushed.append(&mut values.dropped);
        self.refuse_what_is_not_granted(&mut values);
        let mut ids: BTreeSet<String> = values.by_id.keys().cloned().collect();
        if self.differs(status) {
            // Also what gets no value now is given what the spec says.
            ids.extend(self.kept.iter().cloned());
        }
        let ids: Vec<String> = ids.into_iter().collect();
        let changed = self.changed(&sources.versions, &values, status);
        let looked = self.look_at(cause, &ids, &changed).await?;
        let terms = self.seen.terms(self.named, looked, self.ctx);
        self.look_again(&ids, looked < began, &terms).await?;
        for id in &ids {
            let step = self.decide(id, changed.contains(id), &terms);
            let needs_value = matches!(step, PushStep::Make { .. } | PushStep::Fill { .. });
            if !needs_value || values.by_id.contains_key(id) {
                self.steps.insert(id.clone(), step);
            }
        }
        // First what it can push is claimed, then it is asked who else has that: of two that do so at once one sees the other.
        self.claim_to_push(status);
        let waited_for = self.leave_what_is_taken(&mut values);
        // What the other merely is about to fill it may not be let: until it has, this object has what it had.
        let is_filled = |(id, other): &&(String, Key)| has_filled(other, id, &self.server, self.ctx);
        let mut taken: Vec<String> = waited_for.iter().filter(is_filled).map(|(id, _)| id.clone()).collect();
        let is_taken =
            |(id, step): (&String, &PushStep)| matches!(step, PushStep::Taken(_)).then(|| id.clone());
        taken.extend(self.steps.iter().filter_map(is_taken));
        let waits = waited_for.iter().map(|(id, _)| id).chain(&taken).map(String::as_str);
        self.seen.wait_for(&self.server, waits, self.ctx);
        if waited_for.iter().any(|(id, _)| self.seen.taken_by(id, &self.server, self.ctx).is_none()) {
            // It was given up before it was waited for.
            self.ctx.kinds.pushes.wake(self.seen.key.clone());
        }
        let mut filled = BTreeMap::new();
        if !self.to_make().is_empty() {
            // What is there does not wait for the branch's turn.
            let at_once = |id: &String, step: &PushStep| {
                matches!(step, PushStep::Fill { takes_over: false, .. }) && !self.is_bare(id)
            };
            let at_once = self.steps.iter().filter(|(id, step)| at_once(id, step)).map(|(id, _)| id.clone());
            let at_once: BTreeSet<String> = at_once.collect();
            filled = self.fill(&values, |id| at_once.contains(id), status).await?;
            self.record(&values, &filled, &taken, status);
            for id in at_once {
                match filled.get(&id).map(|variable| variable.version) {
                    Some(PushedVersion::Number(now)) => _ = self.steps.insert(id, PushStep::Settled(now)),
                    _ => _ = self.steps.remove(&id),
                }
            }
        }
        self.make_missing(&terms, status).await?;
        self.claim_to_push(status);
        self.change_what_differs(status).await?;
        filled.extend(self.fill(&values, |_| true, status).await?);
        self.record(&values, &filled, &taken, status);
        let is_done = |id: &String| {
            filled.contains_key(id)
                || matches!(self.steps.get(id), Some(PushStep::Settled(_) | PushStep::Leave { .. }))
        };
        let not_pushed = values.by_id.iter().filter(|(id, _)| !is_done(id)).map(|(_, value)| value.source);
        self.not_pushed.extend(not_pushed);
        // What is there goes only when all that comes in its place has its value.
        let is_missing = |id: &String| !self.known.contains_key(id) && !is_done(id);
        if !values.named.iter().any(is_missing) {
            let removed = self.remove_unnamed(&values, sources, status).await;
            self.problems.extend(removed.err());
        }
        self.claim_pushed(status);
        self.finish(sources, status)
    }

    /// Variables on another server than this one are left there.
    fn leave_another_server(&mut self, status: &mut ConjurPushStatus) {
        let elsewhere =
            status.applied.as_ref().filter(|applied| applied.server != self.server && !self.known.is_empty());
        if elsewhere.is_none() {
            return;
        }
        let (count, stay) = (counted(self.known.len(), "variable"), stays(self.known.len()));
        let note = format!("{count} {stay} on the server that spec.connectionRef led to before");
        self.event(EventType::Warning, Reason::LeftInConjur, "Push", &note);
        self.known.clear();
        (status.variables, status.applied) = (None, None);
    }

    fn refuse_what_is_not_granted(&mut self, values: &mut Values) {
        let (named, key) = (self.named, &self.seen.key);
        let denied = values.by_id.keys().filter_map(|id| {
            let denied = named.check_access(Verb::Push, &[id], key, self.ctx).err()?;
            Some((id.clone(), denied))
        });
        for (id, failure) in denied.collect::<Vec<_>>() {
            self.leave_out(&id, values);
            self.problems.push(failure);
        }
        let may = |id: &&String| named.may_access(Verb::Push, &[id.as_str()], key, self.ctx);
        let kept = values.named.iter().filter(|id| self.known.contains_key(*id)).filter(may);
        self.kept = kept.cloned().collect();
    }

    /// Leaves the variables that an older object has to it.
    fn leave_what_is_taken(&mut self, values: &mut Values) -> Vec<(String, Key)> {
        let older = |id: &str| self.seen.taken_by(id, &self.server, self.ctx);
        let all: Vec<(String, Key)> =
            values.by_id.keys().filter_map(|id| Some((id.clone(), older(id)?))).collect();
        for (id, other) in &all {
            self.leave_out(id, values);
            self.steps.remove(id);
            let other = RecordOwner {
                namespace: other.namespace.clone(),
                name: other.name.clone(),
                ..self.seen.me.clone()
            };
            self.problems.push(taken(id, &other, &self.seen.key.namespace));
        }
        all
    }

    /// A value is not pushed now, and its Secret is not said to be in Conjur.
    fn leave_out(&mut self, id: &str, values: &mut Values) {
        let value = values.by_id.remove(id);
        self.not_pushed.extend(value.map(|value| value.source));
    }

    /// Finds out how Conjur shows the variables. Where only a Secret changed, those whose values did not need no look.
    async fn look_at(
        &mut self,
        cause: Cause,
        ids: &[String],
        changed: &BTreeSet<String>,
    ) -> Result<Instant, Failure> {
        let freshness = match cause {
            Cause::Drift => {
                let is_known = |id: &&String| {
                    !changed.contains(*id)
                        && self
                            .known
                            .get(*id)
                            .is_some_and(|known| matches!(known.version, PushedVersion::Number(_)))
                };
                let (known, new): (Vec<_>, Vec<_>) = ids.iter().partition(is_known);
                let me = self.seen.me.to_string();
                for id in known {
                    let as_known = self.known.get(id).map(|known| as_known(known, &me));
                    self.shown.extend(as_known.map(|shown| (id.clone(), shown)));
                }
                let new: Vec<String> = new.into_iter().cloned().collect();
                let asked = Instant::now();
                if !new.is_empty() {
                    self.shown.extend(shown(&new, self.through, self.ctx).await?);
                }
                // What was not looked at is not newer than anything.
                let long_ago = asked.checked_sub(FRESH_LIST).unwrap_or(asked);
                return Ok(if new.len() == ids.len() { asked } else { long_ago });
            }
            Cause::SyncNow => Freshness::NoOlderThan(Duration::ZERO),
            _ => Freshness::NoOlderThan(FRESH_LIST),
        };
        let lane = if cause.is_foreground() { Lane::Foreground } else { Lane::Refresh };
        if ids.is_empty() {
            return Ok(Instant::now());
        }
        self.list(ids, freshness, lane).await
    }

    /// A list that others asked for a moment ago may not show yet what made this object go on, nor what another filled since.
    /// `is_older`: than the reconcile.
    async fn look_again(&mut self, ids: &[String], is_older: bool, terms: &PushTerms) -> Result<(), Failure> {
        if !is_older {
            return Ok(());
        }
        let is_unsure = |id: &&String| match self.decide(id, false, terms) {
            PushStep::Foreign { .. } | PushStep::Taken(_) | PushStep::NotFound { .. } => true,
            PushStep::Fill { .. } => !self.shown.get(*id).is_some_and(|shown| terms.is_own(shown)),
            _ => false,
        };
        let unsure: Vec<String> = ids.iter().filter(is_unsure).cloned().collect();
        if !unsure.is_empty() {
            let now = shown(&unsure, self.through, self.ctx).await?;
            for id in &unsure {
                self.shown.remove(id);
            }
            self.shown.extend(now);
        }
        Ok(())
    }

    /// Whether a variable says that it is the object's.
    pub fn is_own(&self, shown: &ShownVariable) -> bool {
        self.seen.terms(self.named, Instant::now(), self.ctx).is_own(shown)
    }

    /// Those of the variables whose values may be others than what was pushed.
    fn changed(
        &self,
        versions: &[crate::api::push::PushedSource],
        values: &Values,
        status: &ConjurPushStatus,
    ) -> BTreeSet<String> {
        let seen = self.seen;
        let same_spec = status.observed_generation == seen.object.metadata.generation;
        let pushed = status.sources.as_deref().unwrap_or_default();
        let all = values.by_id.iter().filter(|(id, value)| {
            let mark = self.ctx.fingerprints.of_value(id, value.value.expose());
            match self.ctx.push_notes.is_as_pushed(&seen.key, &seen.uid, id, &mark) {
                Some(same) => !same,
                // After a start only the version of its Secret tells.
                None => !same_spec || versions.get(value.source).is_none_or(|now| !pushed.contains(now)),
            }
        });
        all.map(|(id, _)| id.clone()).collect()
    }

    /// Writes down what the object has by now.
    fn record(
        &self,
        values: &Values,
        filled: &BTreeMap<String, PushedVariable>,
        taken: &[String],
        status: &mut ConjurPushStatus,
    ) {
        let standing = status.variables.take().unwrap_or_default();
        let mut all: BTreeMap<String, PushedVariable> =
            standing.into_iter().map(|variable| (variable.id.clone(), variable)).collect();
        for (id, step) in &self.steps {
            match (step, self.shown.get(id)) {
                (PushStep::Settled(now), _) => {
                    if let Some(variable) = all.get_mut(id) {
                        variable.version = PushedVersion::Number(*now);
                    }
                }
                (PushStep::Leave { mine: true }, Some(shown)) => {
                    let variable = self.pushed(id, shown, shown.version.unwrap_or_default());
                    all.insert(id.clone(), variable);
                }
                (PushStep::Foreign { .. } | PushStep::Taken(_), _) => _ = all.remove(id),
                _ => {}
            }
        }
        all.retain(|id, _| !taken.contains(id));
        all.extend(filled.iter().map(|(id, variable)| (id.clone(), variable.clone())));
        if !filled.is_empty() {
            status.last_push_time = Some(Time(Timestamp::now()));
        }
        let seen = self.seen;
        self.ctx.push_notes.retain(&seen.key, &seen.uid, |id| values.named.contains(id));
        status.variables = Some(all.into_values().collect());
    }

    /// A variable of the object, which holds its value as this version.
    pub fn pushed(&self, id: &str, shown: &ShownVariable, version: u32) -> PushedVariable {
        let was_created = self
            .known
            .get(id)
            .is_some_and(|known| known.created && known.made.as_ref().is_none_or(|made| *made == shown.made));
        let takes_over = matches!(self.steps.get(id), Some(PushStep::Fill { takes_over: true, .. }));
        PushedVariable {
            id: id.to_owned(),
            created: !takes_over && (was_created || shown.created && self.is_own(shown)),
            version: PushedVersion::Number(version),
            made: Some(shown.made.clone()),
        }
    }
}

/// A variable that was not looked at, as the status knows it.
fn as_known(known: &PushedVariable, me: &str) -> ShownVariable {
    let PushedVersion::Number(version) = known.version else { return ShownVariable::default() };
    ShownVariable {
        owner: Some(me.to_owned()),
        created: known.created,
        adopt: None,
        version: Some(version),
        made: known.made.clone().unwrap_or_default(),
        branch: None,
    }
}
