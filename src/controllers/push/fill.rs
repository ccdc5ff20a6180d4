//! Variables get their values: announced in the status before the first one goes out.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::runtime::events::EventType;

use super::{
    run::Push,
    sources::{PushValue, Values},
};
use crate::{
    api::{
        ConjurPushStatus, Reason,
        push::{PushedVariable, PushedVersion},
    },
    conjur::{
        Error, Freshness, Lane, VariableId, Wanted,
        capabilities::{Capability, Support},
    },
    controllers::{Context, connection::pool::ReadyConnection},
    effect::perform,
    limits::PUSHES_AT_ONCE,
    plan::{Failure, LOOK_AGAIN, connection::access::Verb, push::decide::PushStep},
    runtime::{
        current::{NamesInLine, say},
        report,
    },
};

/// Sends one value.
async fn send(
    through: &ReadyConnection,
    id: &str,
    value: &PushValue,
    ctx: &Context,
) -> (String, Result<(), Error>) {
    (id.to_owned(), perform::fill(through, id, value.value.expose(), ctx).await)
}

impl Push<'_> {
    /// Fills what is to be filled. What was, as the status is to say it.
    ///
    /// # Errors
    /// The announcement can't be written.
    pub async fn fill(
        &mut self,
        values: &Values,
        which: impl Fn(&str) -> bool,
        status: &mut ConjurPushStatus,
    ) -> Result<BTreeMap<String, PushedVariable>, Failure> {
        let mut due: Vec<&String> = self
            .steps
            .iter()
            .filter(|(id, step)| {
                matches!(step, PushStep::Fill { .. }) && values.by_id.contains_key(*id) && which(id)
            })
            .map(|(id, _)| id)
            .collect();
        let mut done = BTreeMap::new();
        for id in self.equal(&due, values).await {
            due.retain(|other| **other != id);
            self.noted(&id, values);
            let shown = self.shown.get(&id).cloned().unwrap_or_default();
            let version = shown.version.unwrap_or_default();
            done.insert(id.clone(), self.pushed(&id, &shown, version));
        }
        // Kept until all are answered: a value that lands later would take the place of the next leader's.
        let _begun = self.ctx.in_flight.begin()?;
        self.announce(&due, status).await?;
        let mut sends = Vec::with_capacity(due.len());
        for id in due {
            // If its answer is lost, what Conjur holds is not known.
            self.ctx.push_notes.unsure(&self.seen.key, &self.seen.uid, id);
            if let Some(value) = values.by_id.get(id) {
                sends.push(send(self.through, id, value, self.ctx));
            }
        }
        let (mut waiting, mut sends) = (sends.into_iter(), FuturesUnordered::new());
        let mut answers = Vec::new();
        loop {
            while sends.len() < PUSHES_AT_ONCE && !self.ctx.in_flight.is_stopping() {
                let Some(send) = waiting.next() else { break };
                sends.push(send);
            }
            let Some((id, answer)) = sends.next().await else { break };
            let is_lost = answer.as_ref().is_err_and(Error::is_connection);
            answers.push((id, answer));
            if is_lost {
                // The others would fail the same way, one after the other.
                break;
            }
        }
        drop(sends);
        let filled = answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(id, _)| id);
        if filled.clone().next().is_some() {
            let connection = &self.through.connection;
            say!(INFO, %connection, variables = %NamesInLine(filled, ","), "pushed values");
        }
        let mut problems = Vec::new();
        for (id, answer) in answers {
            match answer {
                Ok(()) => {
                    self.noted(&id, values);
                    let shown = self.shown.get(&id).cloned().unwrap_or_default();
                    let version = shown.version.unwrap_or_default().saturating_add(1);
                    let pushed = self.pushed(&id, &shown, version);
                    done.insert(id, pushed);
                }
                Err(error) => problems.push(self.not_filled(&id, error, status)),
            }
        }
        self.problems.extend(problems);
        let overwritten =
            |id: &&String| matches!(self.steps.get(*id), Some(PushStep::Fill { overwritten: true, .. }));
        let overwritten: Vec<&str> = done.keys().filter(overwritten).map(String::as_str).collect();
        let what = "another writer changed these variables, and they were written again";
        self.tell_of(EventType::Warning, Reason::VariableOverwritten, what, &overwritten);
        Ok(done)
    }

    fn noted(&self, id: &str, values: &Values) {
        let seen = self.seen;
        if let Some(value) = values.by_id.get(id) {
            let mark = self.ctx.fingerprints.of_value(id, value.value.expose());
            self.ctx.push_notes.pushed(&seen.key, &seen.uid, id, mark);
        }
    }

    /// An id stands in the status before its first value goes out: whatever is lost afterwards, what stands there is the object's.
    /// One that does not say so itself stands there with the time that it was made: made anew by another, it is not the object's.
    async fn announce(&self, due: &[&String], status: &mut ConjurPushStatus) -> Result<(), Failure> {
        let me = self.seen.me.to_string();
        let standing: HashSet<&str> = status
            .variables
            .iter()
            .flatten()
            .filter(|variable| variable.made.is_some() || self.names(&variable.id, &me))
            .map(|variable| variable.id.as_str())
            .collect();
        let new: Vec<PushedVariable> = due
            .iter()
            .filter(|id| !standing.contains(id.as_str()))
            .map(|id| {
                let shown = self.shown.get(*id);
                let is_mine = shown.is_some_and(|shown| shown.owner.as_deref() == Some(&me));
                PushedVariable {
                    id: (*id).clone(),
                    created: is_mine && shown.is_some_and(|shown| shown.created),
                    version: PushedVersion::Announced,
                    made: shown.map(|shown| shown.made.clone()),
                }
            })
            .collect();
        self.announce_variables(new, status).await
    }

    /// Writes variables into the status, before anything is done with them.
    pub async fn announce_variables(
        &self,
        new: Vec<PushedVariable>,
        status: &mut ConjurPushStatus,
    ) -> Result<(), Failure> {
        if new.is_empty() {
            return Ok(());
        }
        let server = self.server.clone();
        let edit = |status: &mut ConjurPushStatus| {
            if status.applied.as_ref().is_some_and(|applied| applied.server != server) {
                // Of another server, and left there.
                (status.variables, status.applied) = (None, None);
            }
            let all = status.variables.get_or_insert_with(Vec::new);
            let is_new: HashSet<&str> = new.iter().map(|new| new.id.as_str()).collect();
            all.retain(|variable| !is_new.contains(variable.id.as_str()));
            all.extend(new.iter().cloned());
            all.sort_by(|a, b| a.id.cmp(&b.id));
            status.variable_count = i32::try_from(all.len()).ok();
            status.applied.get_or_insert_default().server.clone_from(&server);
        };
        report::write_announcement(self.seen.object, status, edit, Lane::Foreground, self.ctx).await?;
        self.claim_to_push(status);
        Ok(())
    }

    /// Of those that are to be filled the ones that hold the value already. Asked only where the server may make a new version
    /// of an equal value, and the object may read it.
    async fn equal(&self, due: &[&String], values: &Values) -> Vec<String> {
        let version = self.named.facts.status.server_version.as_deref();
        if Capability::EqualValueIsNoVersion.on(version) == Support::Has {
            return Vec::new();
        }
        let holds = |id: &&&String| self.shown.get(**id).is_some_and(|shown| shown.version.is_some());
        let may = |id: &&&String| {
            self.named.check_access(Verb::Read, &[id.as_str()], &self.seen.key, self.ctx).is_ok()
        };
        let ids = due.iter().filter(holds).filter(may);
        let wanted: Vec<Wanted> = ids.filter_map(|id| VariableId::new(id).ok()).map(Wanted::latest).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let fresh = Freshness::NoOlderThan(Duration::ZERO);
        let answers = self.through.client.fetch_variables(&wanted, Lane::Foreground, fresh).await;
        let is_equal = |wanted: &&Wanted| {
            let answer = answers.get(*wanted).and_then(|answer| answer.as_ref().ok());
            let value = values.by_id.get(wanted.id.as_str());
            answer.zip(value).is_some_and(|(answer, value)| answer.expose() == value.value.expose())
        };
        wanted.iter().filter(is_equal).map(|wanted| wanted.id.as_str().to_owned()).collect()
    }

    /// Why a variable was not filled. One that was merely announced and certainly got no value is not the object's.
    fn not_filled(&self, id: &str, error: Error, status: &mut ConjurPushStatus) -> Failure {
        let identity = &self.through.identity;
        let failure = match error {
            Error::Invalid { .. } => Failure::stalled(
                Reason::EmptyValue,
                format!("Conjur takes the value of variable {id} for none: it is empty or only white space"),
            ),
            Error::Forbidden { .. } => Failure::waiting(
                Reason::VariableForbidden,
                LOOK_AGAIN,
                format!(
                    "{identity} may see variable {id}, and not fill it: permit it `update` on the variable"
                ),
            ),
            Error::NotFound { .. } => Failure::waiting(
                Reason::VariableNotFound,
                LOOK_AGAIN,
                format!(
                    "variable {id} is gone, or {identity} lacks `update` on it: permit it `update` on the variable"
                ),
            ),
            error => return self.ctx.clients.failure(self.through, error),
        };
        if let Some(variables) = &mut status.variables {
            let is_it =
                |variable: &PushedVariable| variable.id == id && variable.version == PushedVersion::Announced;
            variables.retain(|variable| !is_it(variable) || self.known.contains_key(id));
        }
        failure
    }
}
