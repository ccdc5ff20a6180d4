//! What a ConjurPush made is removed from Conjur where its spec says so: with the object, by a finalizer, and with the key, Secret or
//! label that it came from. Only what carries both annotations of the object goes.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Resource, ResourceExt, runtime::events::EventType};

use super::{
    run::Push,
    seen,
    sources::{ReadSources, Values},
    variables::owners,
};
use crate::{
    api::{ConjurPush, ConjurPushStatus, PUSH_FINALIZER, Reason, push::PushedVariable},
    controllers::{
        Context,
        connection::removal::{NoWay, connect},
    },
    effect::variables::{ShownVariables, Statement, each, shown},
    limits::{REFUSED_AGAIN, SELECTED_SECRETS},
    plan::{
        Failure, LOOK_AGAIN,
        policy::statements::path_in,
        push::{
            documents::VariablesWish,
            outcome::{counted, stays},
        },
    },
    runtime::{Key, Object, Outcome, ReconcileError},
};

/// Sets the finalizer, or takes it off, as the spec says. Says whether the reconcile goes on.
///
/// # Errors
/// The API server's.
pub async fn ensure_finalizer(object: &ConjurPush, ctx: &Context) -> Result<bool, Failure> {
    let deleting = object.meta().deletion_timestamp.is_some();
    let wanted = object.spec.deletes();
    let there = object.finalizers().iter().any(|f| f == PUSH_FINALIZER);
    if there && !wanted {
        set_finalizer(object, false, ctx).await?;
    }
    let made = object.status.iter().flat_map(|status| status.variables.iter().flatten()).any(|v| v.created);
    // A suspended object that made nothing has nothing to be removed.
    if wanted && !there && !deleting && (made || object.spec.suspend != Some(true)) {
        return set_finalizer(object, true, ctx).await;
    }
    Ok(!deleting)
}

async fn set_finalizer(object: &ConjurPush, there: bool, ctx: &Context) -> Result<bool, Failure> {
    let key = Key::of(object);
    let api = ConjurPush::api(ctx.cluster.client(), &key.namespace);
    let uid = object.uid().unwrap_or_default();
    Ok(ctx.cluster.set_finalizer(&api, &key.name, &uid, PUSH_FINALIZER, there).await?)
}

/// Removes what the object made, and lets it go.
///
/// # Errors
/// Any that keeps what it made in Conjur.
pub async fn reconcile(
    object: &ConjurPush,
    status: &mut ConjurPushStatus,
    ctx: &Context,
) -> Result<Outcome, ReconcileError> {
    if !object.spec.deletes() {
        set_finalizer(object, false, ctx).await?;
        return Ok(Outcome::NotDue(None));
    }
    if object.spec.suspend == Some(true) {
        let message = "it is being deleted, but suspended: set spec.suspend to false to remove from Conjur what it made, or \
                       deletionPolicy to Retain to leave Conjur as it is";
        return Err(Failure::waiting(Reason::Suspended, LOOK_AGAIN, message).into());
    }
    match Box::pin(remove_all(object, status, ctx)).await {
        Ok(true) => {
            set_finalizer(object, false, ctx).await?;
            Ok(Outcome::NotDue(None))
        }
        Ok(false) => Ok(Outcome::NotDue(None)),
        Err(failure) => {
            let message = format!(
                "it is being deleted, and what it made is still in Conjur: {}. To leave Conjur as it is, set deletionPolicy to \
                 Retain",
                failure.message
            );
            // What keeps it may be mended in Conjur, which tells no one.
            Err(ReconcileError { again: Some(REFUSED_AGAIN), ..Failure { message, ..failure }.into() })
        }
    }
}

/// Whether nothing is left to be done; not where the connection was not tried yet, whose first try wakes the object.
async fn remove_all(
    object: &ConjurPush,
    status: &mut ConjurPushStatus,
    ctx: &Context,
) -> Result<bool, Failure> {
    let made: Vec<PushedVariable> =
        status.variables.iter().flatten().filter(|variable| variable.created).cloned().collect();
    let applied = status.applied.clone().unwrap_or_default();
    if made.is_empty() {
        return Ok(true);
    }
    let branches: Vec<&str> = applied.branch.as_deref().into_iter().collect();
    let key = Key::of(object);
    let tell = |note: &str| {
        ctx.events.publish(object, EventType::Warning, Reason::LeftInConjur, "Delete", note);
    };
    let left = |why: &str| {
        let (count, stay) = (counted(made.len(), "variable"), stays(made.len()));
        format!("{why}; {count} that ConjurPush {} made {stay} in Conjur", key.name)
    };
    let (named, through) = match connect(&object.spec.connection_ref, &branches, &key, ctx) {
        Ok(Some(connected)) => connected,
        Ok(None) => return Ok(false),
        Err(NoWay::Ever(message)) => {
            tell(&left(&message));
            return Ok(true);
        }
        Err(NoWay::Now(failure)) => return Err(failure),
    };
    let server = named.server();
    if server != applied.server {
        tell(&left("spec.connectionRef leads to another server now"));
        return Ok(true);
    }
    let seen = seen::of_departing(object, named, ctx).await?;
    let Ok(named) = &seen.named else { return Ok(false) };
    let push = Push::new(&seen, named, &through, server, ctx);
    push.remove(&made, applied.branch.as_deref()).await?;
    Ok(true)
}

impl Push<'_> {
    /// Removes what the object made and nothing names any more; of what stays, says so.
    ///
    /// # Errors
    /// Any that keeps it in Conjur: it is tried again.
    pub async fn remove_unnamed(
        &self,
        values: &Values,
        sources: &ReadSources,
        status: &mut ConjurPushStatus,
    ) -> Result<(), Failure> {
        let unnamed = |variable: &&PushedVariable| !values.named.contains(&variable.id);
        let orphans: Vec<PushedVariable> =
            status.variables.iter().flatten().filter(unnamed).cloned().collect();
        if orphans.is_empty() {
            return Ok(());
        }
        if sources.is_selected && sources.secrets.is_empty() {
            // Never all at once: who took the last label off may have meant something else.
            return Ok(());
        }
        if self.seen.object.spec.deletes() {
            let made: Vec<PushedVariable> = orphans.into_iter().filter(|variable| variable.created).collect();
            let branch = status.applied.as_ref().and_then(|applied| applied.branch.clone());
            if !made.is_empty() {
                self.see_that_nothing_came(sources).await?;
                self.remove(&made, branch.as_deref()).await?;
            }
        }
        if let Some(all) = &mut status.variables {
            all.retain(|variable| values.named.contains(&variable.id));
        }
        Ok(())
    }

    /// What the watch shows of labels may be old: before something is removed, the selector is asked once more.
    async fn see_that_nothing_came(&self, sources: &ReadSources) -> Result<(), Failure> {
        let Some(selector) = &self.seen.object.spec.source.selector else { return Ok(()) };
        let namespace = &self.seen.key.namespace;
        let found = self.ctx.cluster.list_selected(namespace, selector, SELECTED_SECRETS).await?;
        let read: BTreeSet<&str> = sources.versions.iter().map(|source| source.name.as_str()).collect();
        let mut names = found.iter().filter_map(|found| found.metadata.name.as_deref());
        if names.all(|name| read.contains(name)) {
            return Ok(());
        }
        let message = "the Secrets that spec.source.selector names are changing; before they are read again, nothing is removed from \
                       Conjur";
        Err(Failure::transient(Reason::SourceNotFound, message))
    }

    /// Removes variables: those of them that carry both annotations of the object. `branch`: where they were made, as far as that
    /// is known; of what does not lie below it Conjur tells.
    async fn remove(&self, made: &[PushedVariable], branch: Option<&str>) -> Result<(), Failure> {
        let ids: Vec<String> = made.iter().map(|variable| variable.id.clone()).collect();
        let standing = shown(&ids, self.through, self.ctx).await?;
        let (goes, mut left): (Vec<String>, Vec<String>) = ids
            .into_iter()
            .filter(|id| standing.contains_key(id))
            .partition(|id| self.is_made_by_me(&standing, id) && !self.is_anothers_now(id));
        let below = |id: &str| branch.filter(|branch| path_in(id, branch).is_some()).map(str::to_owned);
        let elsewhere: Vec<String> = goes.iter().filter(|id| below(id).is_none()).cloned().collect();
        let elsewhere = each(&elsewhere, self.through, self.ctx).await?;
        let mut by_branch: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in goes {
            let its = || elsewhere.get(&id)?.branch.clone().filter(|branch| path_in(&id, branch).is_some());
            match below(&id).or_else(its) {
                Some(branch) => by_branch.entry(branch).or_default().push(id),
                None => left.push(id),
            }
        }
        let left: Vec<&str> = left.iter().map(String::as_str).collect();
        let what = "these variables no longer say that this object made them, or another pushes to them, and stay in Conjur";
        self.tell_of(EventType::Warning, Reason::LeftInConjur, what, &left);
        let mut failed = None;
        for (branch, ids) in by_branch {
            failed = self.remove_from(&branch, ids, &standing).await.err().or(failed);
        }
        failed.map_or(Ok(()), Err)
    }

    async fn remove_from(
        &self,
        branch: &str,
        ids: Vec<String>,
        standing: &ShownVariables,
    ) -> Result<(), Failure> {
        let mut goes = ids.clone();
        let wish = VariablesWish {
            owner: self.seen.me.clone(),
            owners: owners(&ids, standing),
            ids,
            annotations: BTreeMap::new(),
            permit: Vec::new(),
            deny: Vec::new(),
            adopted: BTreeSet::new(),
            bare: BTreeSet::new(),
        };
        let of_others = self.load(branch, Statement::Remove, wish).await?;
        goes.retain(|id| !of_others.contains_key(id));
        let goes: Vec<&str> = goes.iter().map(String::as_str).collect();
        self.tell_of(EventType::Normal, Reason::Removed, "these variables were removed from Conjur", &goes);
        Ok(())
    }

    /// Whether an older object pushes to it by now.
    fn is_anothers_now(&self, id: &str) -> bool {
        self.seen.taken_by(id, &self.server, self.ctx).is_some()
    }

    fn is_made_by_me(&self, standing: &ShownVariables, id: &str) -> bool {
        standing.get(id).is_some_and(|shown| shown.created && self.is_own(shown))
    }
}
