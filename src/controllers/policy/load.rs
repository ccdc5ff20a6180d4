//! A document is loaded for a ConjurPolicy: what the effect (`effect::load`) is told of it, and what is said of it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::events::EventType;

use super::{
    claims, progress,
    run::{Run, for_client, some_roles},
};
use crate::{
    api::{
        ConjurPolicyStatus, Reason,
        policy::{LoadMode, PendingLoad, PolicyPlan},
        secret::DeletionPolicy,
    },
    conjur::{Error, Lane, Ownership, PolicyBranch},
    effect::{
        branch_locks::Loader,
        keys::{KeySecret, login_of},
        load::{self, Asked, Caller, Entry},
    },
    plan::{
        Failure,
        connection::access::Verb,
        effect::step::{Known, Said},
        policy::{document::DeletionKind, removed_roles::may_go},
    },
    runtime::{Key, Outcome, report},
};

/// Loads the document, or finds out that an announced load of it happened; what there is to say then. None where
/// something else was asked for before it had its turn. `drifted`: what had drifted, if that is why it is loaded.
///
/// # Errors
/// Any that keeps the document from being loaded. An announcement stays as long as the outcome is not known.
pub async fn load(
    run: &Run<'_>,
    kept: &mut KeySecret,
    drifted: Option<PolicyPlan>,
    status: &mut ConjurPolicyStatus,
) -> Result<Option<String>, Failure> {
    let Run { seen, ctx, .. } = *run;
    let Some(turn) = run.turn(status).await? else { return Ok(None) };
    let mut policy = Policy { run, status, drifted };
    let (version, how) = load::load(run.asked(), kept, &mut policy, &turn, ctx).await?;
    let branch = &seen.branch;
    let message = match how {
        Known::Found => format!("branch {branch} holds the document since its version {version}"),
        Known::Answered => format!("loaded as version {version} of branch {branch}"),
        Known::Again => format!(
            "loaded as version {version} of branch {branch}; loaded again, since the outcome of an earlier try can't be read"
        ),
    };
    ctx.events.publish(seen.object, EventType::Normal, Reason::Loaded, "Load", &message);
    ctx.policy_notes.stands_as_loaded(&Key::of(seen.object), true);
    // While the branch is still locked: who waits for it looks at once whose it is.
    claims::note(seen.object, &Ok(Outcome::NotDue(None)), ctx);
    Ok(Some(message))
}

impl Run<'_> {
    fn asked(&self) -> Asked<'_> {
        let (seen, document) = (self.seen, &self.content.document);
        let mode = seen.object.mode();
        let deletes = document.deletions.iter().any(|d| d.statement == DeletionKind::Delete);
        let pending = seen.object.status.as_ref().and_then(|status| status.pending.clone());
        Asked {
            subject: seen.subject(),
            through: self.through,
            branch: &seen.branch,
            mode: for_client(mode),
            text: self.content.text.as_str().as_bytes(),
            hash: &seen.hash,
            document,
            inputs: &seen.inputs,
            known: seen.known_roles(),
            takes_roles: may_go(mode, deletes),
            needs_permission: mode == LoadMode::Replace,
            inventoried: seen.object.spec.deletion_policy == Some(DeletionPolicy::Delete),
            said: pending.map(|pending| Said {
                document: pending.document_hash,
                inputs: pending.inputs,
                version: pending.version,
                loader: pending.loader,
            }),
        }
    }
}

/// A ConjurPolicy, as a load sees it.
struct Policy<'a> {
    run: &'a Run<'a>,
    status: &'a mut ConjurPolicyStatus,
    drifted: Option<PolicyPlan>,
}

impl Caller for Policy<'_> {
    fn check_access_to(&self, branch: &str) -> Result<(), Failure> {
        self.run.seen.check_access_to(branch, Verb::Load, self.run.ctx)
    }

    fn may_tell_of(&self, role: &str) -> bool {
        self.run.seen.may_tell_of(role)
    }

    fn has_loaded(&self) -> bool {
        claims::has_loaded(self.run.seen.object, self.run.ctx)
    }

    fn loader(&self, branch: &PolicyBranch) -> Loader {
        self.run.loader(branch)
    }

    async fn not_owned(&self, branch: &PolicyBranch, is: Ownership) -> Failure {
        self.run.not_owned(branch, is).await
    }

    async fn lacks(&self, branch: &PolicyBranch) {
        self.run.lacks(branch, self.run.what_it_has(branch).await);
    }

    async fn refused(&self, error: Error) -> Failure {
        self.run.refused(error).await
    }

    async fn failed_at_document(&mut self, error: Error, roles: &BTreeSet<String>) -> Failure {
        match self.write(Entry::Roles(roles)).await {
            Ok(()) => self.run.server_failed(error),
            Err(failure) => failure,
        }
    }

    async fn may_delete(&mut self) -> Result<(), Failure> {
        self.run.check_deletions_allowed(self.status).await
    }

    async fn kept_elsewhere(
        &self,
        roles: &BTreeSet<String>,
        after: i64,
    ) -> Result<BTreeSet<String>, Failure> {
        self.run.stored_elsewhere(roles, after).await
    }

    async fn write(&mut self, entry: Entry<'_>) -> Result<(), Failure> {
        let Run { seen, ctx, .. } = *self.run;
        if let Entry::Loaded(version, roles) = entry {
            self.note_loaded(version, roles);
            return Ok(report::write_status(seen.object, self.status, Lane::Foreground, ctx).await?);
        }
        let edit = |status: &mut ConjurPolicyStatus| match entry {
            Entry::Said(said) => status.pending = Some(pending(said)),
            Entry::Roles(roles) => status.created_roles = some_roles(roles),
            Entry::Unsaid(roles) | Entry::Loaded(_, roles) => {
                status.pending = None;
                status.created_roles = some_roles(roles);
            }
        };
        Ok(report::write_edit(seen.object, self.status, edit, Lane::Foreground, ctx).await?)
    }

    async fn wait<T: Send>(&mut self, load: impl Future<Output = T> + Send, message: &str) -> T {
        let Run { seen, ctx, .. } = *self.run;
        progress::shown(load, seen, Reason::Loading, message, self.status, ctx).await
    }

    fn tell_rotated(&self, role: &str) {
        let Run { seen, ctx, .. } = *self.run;
        let login = login_of(role).unwrap_or_default();
        seen.tell_rotated(&login, "was lost before it was stored", ctx);
    }
}

impl Policy<'_> {
    fn note_loaded(&mut self, version: i64, roles: &BTreeSet<String>) {
        let (seen, status) = (self.run.seen, &mut *self.status);
        // What a load would change, by the last look, is done now; but what drifted stays to be seen.
        status.plan = self.drifted.take();
        if status.version != Some(version) {
            let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
            status.last_load_time = Some(Time(now));
        }
        status.version = Some(version);
        status.loaded_hash = Some(seen.hash.clone());
        status.observed_inputs = Some(seen.inputs.clone());
        status.pending = None;
        status.created_roles = some_roles(roles);
    }
}

fn pending(said: &Said) -> PendingLoad {
    PendingLoad {
        document_hash: said.document.clone(),
        version: said.version,
        inputs: said.inputs.clone(),
        loader: said.loader.clone(),
    }
}
