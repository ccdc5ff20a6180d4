//! `deletionPolicy: Delete`: a finalizer keeps the object until the host that it made is removed from Conjur. A host that it took
//! over stays, and so does a Secret whose host stays: it is the only copy of the key.

mod announced;

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{events::EventType, reflector::ObjectRef},
};
use tokio::time::timeout;

pub use self::announced::own_pending;
use self::announced::{enrols_for, says_of};
use super::{caller, claims, identities, object::is_going, object::target_name, seen, target};
use crate::{
    api::{
        ConjurHost, ConjurHostStatus, HOST_FINALIZER, Reason, SERVER_ANNOTATION,
        host::{Enrolment, PendingHost},
    },
    conjur::{Error, LoadError, LoadMode, Ownership, PolicyBranch},
    controllers::{
        Context, cluster_uid,
        connection::{
            access::{self, BoundConnection},
            pool::{ConnectionState, ReadyConnection},
        },
    },
    effect::{
        branch_locks::{Loader, Turn},
        evidence,
        host::{AskedHost, tokens},
        perform,
    },
    limits::{LONGEST_LOAD, REFUSED_AGAIN, TURN_WAIT},
    plan::{
        Failure, LOOK_AGAIN,
        connection::access::Verb,
        effect::evidence::Origin,
        host::{
            document::{self, parent},
            owner::HostOwnership,
            step::{HostFact, HostLook, HostQuestion, HostRequest, Maker},
            view::HostView,
        },
        policy::{branch_claims::BranchPlace, statements::path_in},
        secret::Owner,
    },
    runtime::{Key, Object, Outcome, ReconcileError},
};

/// What there is to do about the finalizer before anything else. Says whether the reconcile goes on.
///
/// # Errors
/// The API server's.
pub async fn ensure_finalizer(object: &ConjurHost, ctx: &Context) -> Result<bool, Failure> {
    let deleting = is_going(object);
    let wanted = object.spec.deletes();
    let there = object.finalizers().iter().any(|f| f == HOST_FINALIZER);
    if there && !wanted {
        set_finalizer(object, false, ctx).await?;
    }
    if wanted && !there && !deleting && object.spec.suspend != Some(true) {
        return set_finalizer(object, true, ctx).await;
    }
    Ok(!deleting)
}

async fn set_finalizer(object: &ConjurHost, there: bool, ctx: &Context) -> Result<bool, Failure> {
    let key = Key::of(object);
    let api = <ConjurHost as Object>::api(ctx.cluster.client(), &key.namespace);
    let uid = object.uid().unwrap_or_default();
    Ok(ctx.cluster.set_finalizer(&api, &key.name, &uid, HOST_FINALIZER, there).await?)
}

/// Whether the object is being deleted and waits for the operator.
pub fn is_due(object: &ConjurHost) -> bool {
    is_going(object) && object.spec.deletes() && object.finalizers().iter().any(|f| f == HOST_FINALIZER)
}

/// Removes the host that the object made, and lets the object go.
pub async fn reconcile(
    object: &ConjurHost,
    status: &ConjurHostStatus,
    ctx: &Context,
) -> Result<Outcome, ReconcileError> {
    if object.spec.suspend == Some(true) {
        let message = "it is being deleted, but suspended: set spec.suspend to false to remove its host from Conjur, or \
                       deletionPolicy to Retain to leave Conjur as it is";
        return Err(Failure::waiting(Reason::Suspended, LOOK_AGAIN, message).into());
    }
    match remove(object, status, ctx).await {
        Ok(None) => Ok(Outcome::NotDue(None)),
        Ok(Some(HostRemoval::Gone { removed })) => {
            if removed {
                let note = format!("host/{} was removed from Conjur", object.spec.id);
                ctx.events.publish(object, EventType::Normal, Reason::Removed, "Delete", note);
            }
            set_finalizer(object, false, ctx).await?;
            Ok(Outcome::NotDue(None))
        }
        Ok(Some(HostRemoval::Left(why))) => {
            let note = format!("host/{} stays in Conjur, and its key in its Secret: {why}", object.spec.id);
            ctx.events.publish(object, EventType::Warning, Reason::LeftInConjur, "Delete", note);
            set_finalizer(object, false, ctx).await?;
            Ok(Outcome::NotDue(None))
        }
        Err(failure) => {
            let message = format!(
                "it is being deleted, and host/{} is still in Conjur: {}. To leave Conjur as it is, set deletionPolicy to Retain",
                object.spec.id, failure.message
            );
            // What keeps it may be mended in Conjur, which tells no one.
            Err(ReconcileError { again: Some(REFUSED_AGAIN), ..Failure { message, ..failure }.into() })
        }
    }
}

/// What came of a removal.
enum HostRemoval {
    /// The host is not there any more, nor is its Secret.
    Gone {
        /// It was removed just now.
        removed: bool,
    },
    /// It stays, for this reason.
    Left(String),
}

/// None where the connection was not tried yet, whose first try wakes the object.
async fn remove(
    object: &ConjurHost,
    status: &ConjurHostStatus,
    ctx: &Context,
) -> Result<Option<HostRemoval>, Failure> {
    let key = Key::of(object);
    if status.applied.is_none() && status.pending.is_none() {
        return Ok(Some(HostRemoval::Left("this object never enrolled it".to_owned())));
    }
    let named = match access::named(&object.spec.connection_ref, &key, ctx) {
        Ok(named) => named,
        Err(failure) if failure.reason == Reason::ConnectionNotFound => {
            return Ok(Some(HostRemoval::Left(failure.message)));
        }
        Err(failure) => return Err(failure),
    };
    claims::check_access(&named, object, &key, ctx)?;
    let through = match &named.standing {
        ConnectionState::Ready(connected) => connected.clone(),
        ConnectionState::Failing(why) => {
            let namespace = ctx.namespaces.get(&ObjectRef::new(&key.namespace));
            let going = namespace.is_some_and(|n| n.metadata.deletion_timestamp.is_some());
            let failure = access::not_ready(&named.facts, why);
            return if going {
                let why = format!("namespace {} is going, and {}", key.namespace, failure.message);
                Ok(Some(HostRemoval::Left(why)))
            } else {
                Err(failure)
            };
        }
        ConnectionState::Untried => return Ok(None),
    };
    let server = named.server();
    if !says_of(status, &server) {
        return Ok(Some(HostRemoval::Left(
            "it was enrolled on another server than the connection leads to now".to_owned(),
        )));
    }
    identities::refuse_own(&through, object)?;
    identities::check_on(&server, &named, object, &key, ctx)?;
    let enrolment = object.spec.enrolment();
    let bare = enrolment.as_ref().and_then(|way| caller::bare(object, way, &through.account).ok().flatten());
    let pending =
        status.pending.as_ref().and_then(|it| own_pending(it, &server, enrolment.as_ref(), bare.as_ref()));
    let now = Timestamp::now().as_second();
    let since = pending.as_ref().map_or(now, |pending| ctx.host_notes.removal_found(&key, pending.at, now));
    let run = RemovalOfHost {
        object,
        status,
        pending,
        since,
        document: AskedHost::document(bare.as_ref()),
        named: &named,
        through: &through,
        server,
        key: &key,
        ctx,
    };
    run.revoke_token().await?;
    let rest = run.pending.as_ref().and_then(|it| enrols_for(it, run.since, Timestamp::now().as_second()));
    if let Some(rest) = rest {
        let message = format!("its enrolment was announced, and may still come through for {rest} s");
        return Err(Failure::waiting(Reason::LoadInProgress, Duration::from_secs(rest.min(30)), message));
    }
    run.remove().await.map(Some)
}

struct RemovalOfHost<'a> {
    object: &'a ConjurHost,
    status: &'a ConjurHostStatus,
    /// What was announced and may be left.
    pending: Option<PendingHost>,
    /// Since when the removal knows of it: nothing is sent for it any more.
    since: i64,
    /// Hex SHA-256 of the document that makes the host.
    document: String,
    named: &'a BoundConnection,
    through: &'a ReadyConnection,
    server: String,
    key: &'a Key,
    ctx: &'a Context,
}

impl RemovalOfHost<'_> {
    fn failed(&self, error: Error) -> Failure {
        self.ctx.clients.failure(self.through, error)
    }

    /// The branch that the host is deleted in.
    fn branch(&self) -> Result<PolicyBranch, Failure> {
        let id = self.object.spec.id.as_str();
        let branch = match self.object.spec.enrolment() {
            Some(Enrolment::Branch(branch)) => branch,
            Some(Enrolment::Factory(factory)) if path_in(id, parent(factory)).is_some() => parent(factory),
            _ => parent(id),
        };
        PolicyBranch::new(branch)
            .map_err(|e| Failure::stalled(Reason::InvalidSpec, format!("spec.via.branch: {e}")))
    }

    /// A token of the factory that was announced and may be left.
    async fn revoke_token(&self) -> Result<(), Failure> {
        let Some(token) = self.pending.as_ref().and_then(|pending| pending.token.as_ref()) else {
            return Ok(());
        };
        tokens::revoke_announced(&self.through.client, token).await.map_err(|e| self.failed(e))
    }

    async fn look(&self) -> Result<HostLook, Failure> {
        let cluster = cluster_uid(self.ctx).await?;
        let mine = seen::owner_texts(self.object, &cluster);
        let shown = self.through.client.show_resource("host", &self.object.spec.id).await;
        Ok(match shown.map_err(|e| self.failed(e))? {
            None => HostLook::Absent,
            Some(shown) => {
                let is_former_believed = self.named.facts.access.is_none();
                let ownership = HostOwnership {
                    mine: &mine,
                    is_former_believed,
                    is_gone: &|_| false,
                    takes_marked: false,
                };
                let annotations: Vec<(&str, &str)> =
                    shown.annotations.iter().map(|a| (a.name.as_str(), a.value.as_str())).collect();
                HostLook::There {
                    maker: ownership.maker(&annotations),
                    origin: Origin { created_at: shown.created_at.clone(), policy: shown.policy.clone() },
                }
            }
        })
    }

    async fn remove(&self) -> Result<HostRemoval, Failure> {
        let branch = self.branch()?;
        let found = self.look().await?;
        self.named.check_access(Verb::Load, &[branch.as_str()], self.key, self.ctx)?;
        match self.through.client.owns_branch(&branch).await.map_err(|e| self.failed(e))? {
            Ownership::Owner => {}
            // To others what is there looks absent.
            Ownership::NoBranch if found == HostLook::Absent => {
                return Ok(HostRemoval::Left(format!("branch {branch} is gone, or not visible any more")));
            }
            Ownership::NoBranch | Ownership::NotOwner => {
                let message = format!(
                    "{} does not own branch {branch}, and only its owner can remove a host there",
                    self.through.identity
                );
                return Err(Failure::stalled(Reason::NotBranchOwner, message));
            }
        }
        if found == HostLook::Absent {
            return self.gone_already().await;
        }
        if !self.is_made_by_the_object(found).await? {
            return Ok(HostRemoval::Left("this object did not make it".to_owned()));
        }
        self.delete(&branch).await?;
        if self.look().await? != HostLook::Absent {
            let message = format!("a load of branch {branch} that deletes it had no effect");
            return Err(Failure::transient(Reason::ConjurUnavailable, message));
        }
        self.delete_secret().await?;
        Ok(HostRemoval::Gone { removed: true })
    }

    /// A load that was announced may still make it.
    async fn gone_already(&self) -> Result<HostRemoval, Failure> {
        let may_come = self.pending.as_ref().filter(|pending| pending.load.is_some());
        let longest = i64::try_from(LONGEST_LOAD.as_secs()).unwrap_or(i64::MAX);
        let now = Timestamp::now().as_second();
        let rest = may_come.map(|_| self.since.saturating_add(longest).saturating_sub(now));
        if let Some(rest) = rest.and_then(|rest| u64::try_from(rest).ok()).filter(|rest| *rest > 0) {
            let message =
                format!("a load that makes it was announced, and may still come through for {rest} s");
            return Err(Failure::waiting(Reason::LoadInProgress, Duration::from_secs(rest.min(30)), message));
        }
        self.delete_secret().await?;
        Ok(HostRemoval::Gone { removed: false })
    }

    /// By its annotations, or, where it has none yet, by what was announced of the load that makes it.
    async fn is_made_by_the_object(&self, found: HostLook) -> Result<bool, Failure> {
        // What its annotation says of another wins over all that was announced.
        if matches!(found, HostLook::There { maker: Maker::Another(_), .. }) {
            return Ok(false);
        }
        let request = HostRequest {
            server: self.server.clone(),
            way: self.object.spec.enrolment().as_ref().map(caller::way).unwrap_or_default(),
            document: self.document.clone(),
            ..HostRequest::default()
        };
        let mut view = HostView::new(request, self.pending.clone(), None, None);
        view.learned(&HostQuestion::Host, HostFact::Host(found));
        if let Some(load) = view.load_that_makes().cloned()
            && let Ok(branch) = PolicyBranch::new(&load.branch)
        {
            let versions = evidence::versions(self.through, &branch).await.map_err(|e| self.failed(e))?;
            view.learned(&HostQuestion::Versions(load.branch), HostFact::Versions(versions));
        }
        Ok(view.is_ours() && view.is_created() == Some(true))
    }

    async fn delete(&self, branch: &PolicyBranch) -> Result<(), Failure> {
        let settings = &self.named.facts.settings;
        let loader = Loader {
            place: BranchPlace::new(&settings.url, &settings.account, branch.as_str()),
            identity: self.through.identity.to_string(),
        };
        let text =
            document::removal(branch.as_str(), &self.object.spec.id, &settings.account).ok_or_else(|| {
                Failure::stalled(Reason::InvalidSpec, format!("spec.id does not lie below branch {branch}"))
            })?;
        let _turn = self.turn(&loader).await?;
        self.check_again(branch)?;
        let _begun = self.ctx.in_flight.begin()?;
        match perform::load(self.through, branch, LoadMode::Update, text.as_bytes(), self.ctx).await {
            Ok(_) => Ok(()),
            Err(LoadError::Refused(Error::Conflict { message, retry_after })) => {
                let pause = retry_after.unwrap_or(Duration::from_secs(5));
                self.ctx.branches.pause_for(&loader, pause, &message);
                Err(Failure::waiting(Reason::LoadInProgress, pause, message))
            }
            Err(LoadError::Refused(Error::Forbidden { message } | Error::Invalid { message, .. })) => {
                Err(Failure::stalled(Reason::PolicyForbidden, message))
            }
            Err(LoadError::Refused(error) | LoadError::Unknown(error)) => Err(self.failed(error)),
        }
    }

    /// Its turn in the branch, which Conjur may want to be left alone for a while.
    async fn turn(&self, loader: &Loader) -> Result<Turn, Failure> {
        let busy = |rest, message| Failure::waiting(Reason::LoadInProgress, rest, message);
        if let Some((rest, message)) = self.ctx.branches.pause(loader) {
            return Err(busy(rest, message));
        }
        let take = self.ctx.branches.take(loader, &self.key.namespace, &self.ctx.metrics);
        timeout(TURN_WAIT, take).await.map_err(|_| {
            let message = format!("another object is being loaded into branch {}", loader.place.branch());
            busy(Duration::from_secs(1), message)
        })
    }

    /// Whether the object may still remove the host: a turn can be long in coming.
    fn check_again(&self, branch: &PolicyBranch) -> Result<(), Failure> {
        let named = access::named(&self.object.spec.connection_ref, self.key, self.ctx)?;
        if named.server() != self.server {
            let message = "the connection leads to another server since a moment ago";
            return Err(Failure::waiting(Reason::ConnectionNotReady, Duration::from_secs(1), message));
        }
        claims::check_access(&named, self.object, self.key, self.ctx)?;
        named.check_access(Verb::Load, &[branch.as_str()], self.key, self.ctx)?;
        identities::check_on(&self.server, &named, self.object, self.key, self.ctx)
    }

    /// Its key is good for nothing any more.
    async fn delete_secret(&self) -> Result<(), Failure> {
        let owner = Owner::of(self.object);
        let written = self.status.target.as_ref().map(|target| target.name.clone());
        let name = written.unwrap_or_else(|| target_name(self.object));
        let Some(secret) = self.ctx.cluster.read_secret(&owner.namespace, &name).await? else {
            return Ok(());
        };
        if secret.annotations().get(SERVER_ANNOTATION) != Some(&self.server) {
            return Ok(());
        }
        target::delete_unless_adopted(&secret, &owner, self.ctx).await
    }
}
