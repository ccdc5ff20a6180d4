//! What is said of a host after a reconcile, and what follows from the Secret that was written.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, runtime::events::EventType};

use super::{seen::ObservedHost, target::HostWritten};
use crate::{
    api::{ConjurHost, ConjurHostStatus, ROTATE_NOW_ANNOTATION, Reason, host::Enrolment},
    conjur::Lane,
    controllers::{
        Context,
        connection::pool::ReadyConnection,
        rollout::{SWITCHED_OFF, restart},
    },
    limits::REFUSED_AGAIN,
    plan::{
        Class, Failure, LOOK_AGAIN, host::step::HostVerdict, record_owner::RecordOwner,
        secret::rollout::Lineage,
    },
};

/// What the end of a run means: when the host is to be looked at again, or why it is not done.
///
/// # Errors
/// `ForeignHost`, `HostNotFound`, `KeyNotStored`, `KeyInvalid`.
pub fn verdict(
    object: &ConjurHost,
    verdict: &HostVerdict,
    secret: &str,
    cluster: &str,
) -> Result<Option<Duration>, Failure> {
    let id = &object.spec.id;
    let namespace = object.namespace().unwrap_or_default();
    let rotate = format!(
        "kubectl annotate --overwrite -n {namespace} conjurhost {} {ROTATE_NOW_ANNOTATION}=\"$(date)\"",
        object.name_any()
    );
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
    match verdict {
        HostVerdict::Done { again } => Ok(again.map(seconds)),
        HostVerdict::Foreign { unclear: true, .. } => Err(Failure::stalled(
            Reason::ForeignHost,
            format!(
                "host/{id} exists in Conjur, and may be the one that this object made: too many loads of its branch have happened since to \
                 tell. Look at it, and take it over with conflictPolicy: Adopt, which kills its key, or delete it in Conjur"
            ),
        )),
        HostVerdict::Foreign { of: Some(of), .. } => Err(Failure::stalled(
            Reason::ForeignHost,
            format!(
                "host/{id} exists in Conjur, and its annotation conjur-operator.io/owner names another object{}. Use another spec.id; \
                 or permit the take-over, which kills its key, with conflictPolicy: Adopt and, through a ClusterConjurConnection, the \
                 annotation conjur-operator.io/adopt on the host in Conjur",
                neighbour(of, cluster, &namespace)
            ),
        )),
        HostVerdict::Foreign { of: None, .. } => Err(Failure::stalled(
            Reason::ForeignHost,
            format!(
                "host/{id} exists in Conjur, and this object did not make it. Use another spec.id, or permit the take-over, which kills \
                 its key, with conflictPolicy: Adopt"
            ),
        )),
        HostVerdict::NotFound if matches!(object.spec.enrolment(), Some(Enrolment::Factory(_))) => {
            Err(Failure::waiting(
                Reason::HostNotFound,
                LOOK_AGAIN,
                format!(
                    "the key of host/{id} is in Secret {namespace}/{secret}, but the host is not visible to the connection's identity: it \
                     was deleted, or the identity does not own its host factory any more. Have it enrolled again: {rotate}"
                ),
            ))
        }
        HostVerdict::NotFound => Err(Failure::waiting(
            Reason::HostNotFound,
            LOOK_AGAIN,
            format!(
                "host/{id} does not exist, or is not visible to the connection's identity: make it, let the identity own it, or correct \
                 spec.id"
            ),
        )),
        HostVerdict::KeyGone => Err(Failure::stalled(
            Reason::KeyNotStored,
            format!(
                "Secret {namespace}/{secret} has no key of host/{id} any more, and is its only copy. Restore the Secret, or have a new key \
                 made, which ends the old one: {rotate}"
            ),
        )),
        HostVerdict::KeyInvalid => Err(Failure::stalled(
            Reason::KeyInvalid,
            format!(
                "Conjur refuses the API key of host/{id} in Secret {namespace}/{secret}: another rotated it, or the Secret was edited. \
                 Restore the Secret, or have a new key made, which ends the present one: {rotate}"
            ),
        )),
        HostVerdict::Vanished => Err(Failure::transient(
            Reason::HostNotFound,
            format!(
                "host/{id} was made a moment ago, and is not visible to the connection's identity: it was deleted again, or a read-only \
                 replica answers. It is looked at again"
            ),
        )),
        HostVerdict::Wait(rest) => Err(Failure::waiting(
            Reason::LoadInProgress,
            seconds(*rest),
            format!(
                "an earlier request for host/{id} may still come through in Conjur; this continues in {} s",
                seconds(*rest).as_secs()
            ),
        )),
        HostVerdict::Refused => Err(Failure::transient(Reason::ConjurUnavailable, "Conjur refused it")),
    }
}

/// The object that an owner annotation names, where it lies in the namespace of the one that is told of it: what there is in others
/// is not told.
fn neighbour(of: &str, cluster: &str, namespace: &str) -> String {
    let owner = RecordOwner::parse(of).filter(|of| of.cluster == cluster && of.namespace == namespace);
    owner.map(|of| format!(", {} {}/{}", of.kind, of.namespace, of.name)).unwrap_or_default()
}

/// What is said of a host that is done.
pub fn done(object: &ConjurHost, through: &ReadyConnection, written: Option<&HostWritten>) -> String {
    let id = &object.spec.id;
    match written {
        Some(written) => {
            format!("host/{id} of account {} has its key in Secret {}", through.account, written.target.name)
        }
        None => format!("host/{id} of account {} exists, and no key of it is kept", through.account),
    }
}

/// Restarts workloads for another key, and fills in the rest of the status.
///
/// # Errors
/// The API server's: the restarts are tried again.
pub async fn finish(
    object: &ConjurHost,
    seen: &ObservedHost,
    written: Option<HostWritten>,
    mut message: String,
    status: &mut ConjurHostStatus,
    ctx: &Context,
) -> Result<String, Failure> {
    status.next_rotation_time =
        seen.next_rotation(Timestamp::now()).map(Time).filter(|_| object.spec.keeps_key());
    let Some(written) = written else {
        (status.target, status.revision, status.rolled_out) = (None, None, None);
        return Ok(message);
    };
    if written.repaired && status.target.as_ref().is_some_and(|before| before.uid == written.target.uid) {
        let note = format!(
            "Secret {} was not as spec.target says, and was written again; its key is as it was",
            written.target.name
        );
        ctx.events.publish(object, EventType::Normal, Reason::DriftRepaired, "Repair", note);
    }
    status.target = Some(written.target);
    if status.last_rotation_time.is_none() {
        // A key that was found again, in the Secret of an earlier object or status: its age counts from now.
        status.last_rotation_time = Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time);
    }
    let Some(revision) = written.revision else {
        (status.revision, status.rolled_out) = (None, None);
        return Ok(message);
    };
    status.revision = Some(revision.clone());
    let uid = object.uid().unwrap_or_default();
    if !ctx.rollout_restart {
        message.push_str(SWITCHED_OFF);
    } else if Lineage::of(&uid).is_pending(Some(&revision), status.rolled_out.as_deref()) {
        restart(object, object.spec.rollouts(), &seen.key, &revision, Lane::Foreground, ctx).await?;
    }
    // Also where it is switched off: on again, it is to restart nothing for what changed in between.
    status.rolled_out = Some(revision);
    Ok(message)
}

/// Annotations that left the spec can't be removed.
pub fn tell_left(object: &ConjurHost, left: &[String], ctx: &Context) {
    if left.is_empty() {
        return;
    }
    let note = format!(
        "annotations {} of host/{} left the spec, and stay in Conjur, which can't remove an annotation by policy",
        left.join(", "),
        object.spec.id
    );
    ctx.events.publish(object, EventType::Warning, Reason::LeftInConjur, "Load", note);
}

/// An enrolment that ran into the host of another ended its key: the next look only finds that it is another's.
pub fn tell_rekeyed(object: &ConjurHost, verdict: &HostVerdict, ctx: &Context) {
    if !matches!(verdict, HostVerdict::Foreign { rekeyed: true, .. }) {
        return;
    }
    let note = format!(
        "host/{} was made by another at the same time, and the host factory gave it a new API key, which is thrown away: its former \
         key no longer works. Whoever keeps it needs a new one, by a rotation",
        object.spec.id
    );
    ctx.events.publish(object, EventType::Warning, Reason::ForeignHost, "Enrol", note);
}

/// When it is looked at again that is not done: what keeps it may be mended in Conjur, which tells no one.
pub fn look_again(failure: &Failure) -> Option<Duration> {
    (failure.class == Class::Stalled).then_some(REFUSED_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_host_is_named_in_its_namespace_only() {
        assert_eq!(neighbour("c/n/ConjurHost/web", "c", "n"), ", ConjurHost n/web");
        for of in ["c/m/ConjurHost/web", "d/n/ConjurHost/web", "the lottery numbers", "c/n/ConjurHost/web/x"]
        {
            assert_eq!(neighbour(of, "c", "n"), "", "{of}");
        }
    }
}
