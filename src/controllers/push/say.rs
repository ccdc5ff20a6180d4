//! What is said of a push: its status and message, and Events.

use kube::runtime::events::EventType;

use super::{run::Push, sources::ReadSources};
use crate::{
    api::{ConjurPushStatus, Reason},
    conjur::Lane,
    plan::{
        Class, Failure,
        push::{
            decide::PushStep,
            outcome::{combine, counted, problem},
        },
    },
    runtime::{Outcome, ReconcileError},
};

/// Most ids that an Event names.
const NAMED: usize = 5;

impl Push<'_> {
    /// Says what came of it.
    pub fn finish(
        mut self,
        sources: &ReadSources,
        status: &mut ConjurPushStatus,
    ) -> Result<Outcome, ReconcileError> {
        for (id, step) in &self.steps {
            let told = problem(id, step, &self.seen.me, self.named.facts.access.is_some());
            self.problems.extend(told);
        }
        let skipped =
            self.steps.values().filter(|step| matches!(step, PushStep::Leave { mine: false })).count();
        status.skipped = (skipped > 0).then(|| i32::try_from(skipped).unwrap_or(i32::MAX));
        status.variable_count =
            Some(i32::try_from(status.variables.iter().flatten().count()).unwrap_or(i32::MAX));
        let passes = |problem: &Failure| matches!(problem.class, Class::Connection | Class::Transient);
        if !self.problems.iter().any(passes) {
            self.seen.handle_slot(true, self.ctx);
        }
        // After a start only this tells which values Conjur has: a Secret of which one could not be pushed does not stand here.
        let whole = sources.versions.iter().enumerate().filter(|(at, _)| !self.not_pushed.contains(at));
        status.sources = Some(whole.map(|(_, version)| version.clone()).collect());
        let Some((failure, again)) = combine(std::mem::take(&mut self.problems)) else {
            self.seen.mark_inputs(status);
            let message = self.message(status);
            return Ok(self.done(message, Lane::Foreground));
        };
        let again = again.into_iter().chain(self.seen.next_look()).min();
        Err(ReconcileError { failure, asked: true, again })
    }

    pub fn message(&self, status: &ConjurPushStatus) -> String {
        let number = |count: Option<i32>| usize::try_from(count.unwrap_or_default()).unwrap_or_default();
        let (count, skipped) = (number(status.variable_count), number(status.skipped));
        let hold = |count: usize| if count == 1 { "holds" } else { "hold" };
        let filled = format!("{} {}", counted(count, "variable"), hold(count));
        let left = if skipped > 0 {
            let left = if skipped == 1 { "was left as it is" } else { "were left as they are" };
            format!("; {} that held a value already {left}", counted(skipped, "variable"))
        } else {
            String::new()
        };
        if let Some(secret) = &self.seen.object.spec.source.secret_ref {
            return format!("{filled} what Secret {} holds{left}", secret.name);
        }
        let secrets = status.sources.as_ref().map_or(0, Vec::len);
        format!("{filled} what {} {}{left}", counted(secrets, "Secret"), hold(secrets))
    }

    pub fn done(&self, message: String, lane: Lane) -> Outcome {
        Outcome::Done { again: self.seen.next_look(), reason: Reason::Pushed, message, lane }
    }

    /// Tells of Secrets of the selector that are left out, once.
    pub fn tell_left_out(&self, left_out: Vec<String>) {
        let seen = self.seen;
        for news in self.ctx.push_notes.skipped(&seen.key, &seen.uid, left_out) {
            self.event(EventType::Warning, Reason::SourceSkipped, "Push", &news);
        }
    }

    /// Tells something of several variables.
    pub fn tell_of(&self, type_: EventType, reason: Reason, what: &str, ids: &[&str]) {
        if ids.is_empty() {
            return;
        }
        let named = ids.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = if ids.len() > NAMED { format!(" and {} more", ids.len() - NAMED) } else { String::new() };
        self.event(type_, reason, "Push", &format!("{what}: {named}{more}"));
    }

    pub fn event(&self, type_: EventType, reason: Reason, action: &'static str, note: &str) {
        self.ctx.events.publish(self.seen.object, type_, reason, action, note);
    }
}
