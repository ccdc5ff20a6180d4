//! What Conjur refused an object is not sent again before something changed that it may have been refused for: the spec, a
//! `sync-now`, or what Conjur shows. It is looked at as often as anything, and looking changes nothing there.

use kube::ResourceExt;

use super::{
    caller::{Host, announces_load, branches},
    notes::{RefusedHost, RefusedRequest},
};
use crate::{
    api::{
        ROTATE_NOW_ANNOTATION, Reason, SYNC_NOW_ANNOTATION,
        host::{PendingHost, PendingStep},
    },
    conjur::{Error, PolicyBranch, RoleId},
    plan::{Class, Failure, hash, host::document::role_parts},
};

/// Which request a failure says that Conjur refused; none where it says nothing of one, or it may pass by itself.
fn refuses(failure: &Failure) -> Option<RefusedRequest> {
    match failure.reason {
        Reason::PolicyInvalid | Reason::PolicyForbidden => Some(RefusedRequest::Load),
        // What is only not there yet is waited for.
        Reason::HostNotFound if failure.class == Class::Stalled => Some(RefusedRequest::Rotation),
        _ => None,
    }
}

/// Which request is announced, of those that are not repeated.
fn announces(pending: &PendingHost, before: Option<&PendingHost>) -> Option<RefusedRequest> {
    if announces_load(pending, before) {
        return Some(RefusedRequest::Load);
    }
    matches!(pending.step, PendingStep::Rotate | PendingStep::Discard).then_some(RefusedRequest::Rotation)
}

impl Host<'_> {
    /// What is asked for: an edit and a new `sync-now` or `rotate-now` are another try.
    fn asked_for(&self) -> String {
        let text = |name: &str| self.object.annotations().get(name).cloned().unwrap_or_default();
        let generation = self.object.metadata.generation.unwrap_or_default().to_string();
        hash::hash([&*generation, &text(SYNC_NOW_ANNOTATION), &text(ROTATE_NOW_ANNOTATION)])
    }

    /// Refuses what was refused before, where nothing has changed since.
    ///
    /// # Errors
    /// As it was refused then; that Conjur can't be looked at.
    pub async fn refuse_again(&self, pending: &PendingHost) -> Result<(), Failure> {
        let Some(request) = announces(pending, self.status.pending.as_ref()) else { return Ok(()) };
        let Some(refused) = self.ctx.host_notes.refused(&self.seen.key) else { return Ok(()) };
        let is_same = refused.is_of(self.object.uid().as_deref(), &self.asked_for(), request);
        if is_same && self.look_for_reasons().await? == refused.seen {
            return Err(refused.failure);
        }
        Ok(())
    }

    /// Takes note of what was refused by this run.
    pub async fn note_refused(&self, failure: &Failure) {
        let Some(request) = refuses(failure).filter(|_| self.has_announced) else { return };
        // Where nothing can be seen it is sent again.
        let Ok(seen) = self.look_for_reasons().await else { return };
        let refused = RefusedHost {
            uid: self.object.uid(),
            asked_for: self.asked_for(),
            request,
            seen,
            failure: failure.clone(),
        };
        self.ctx.host_notes.note_refused(&self.seen.key, Some(refused));
    }

    /// A hash over what in Conjur decides about a load or a rotation: the host, its branches and roles, and who the identity is.
    async fn look_for_reasons(&self) -> Result<String, Failure> {
        let client = &self.through.client;
        let failed = |error: Error| self.ctx.clients.failure(self.through, error);
        let host = client.show_resource("host", &self.object.spec.id).await.map_err(failed)?;
        let host = host.map(|host| (host.created_at, host.owner, host.permissions));
        let mut all = vec![self.through.identity.to_string(), format!("{host:?}")];
        for branch in branches(self.object) {
            let Ok(branch) = PolicyBranch::new(branch) else { continue };
            all.push(format!("{:?}", client.owns_branch(&branch).await.map_err(failed)?));
        }
        for (kind, id) in self.object.spec.memberships().iter().filter_map(|role| role_parts(role)) {
            let role = client.show_resource(kind.as_str(), id).await.map_err(failed)?;
            all.push(format!("{:?}", role.map(|role| (role.created_at, role.owner))));
        }
        if let Ok(me) = RoleId::from_login(&self.through.account, &self.through.identity) {
            match client.all_role_memberships(&me.kind, &me.id).await {
                Ok(mut roles) => {
                    roles.sort_by_key(ToString::to_string);
                    all.extend(roles.iter().map(ToString::to_string));
                }
                // Not every identity sees itself.
                Err(Error::NotFound { .. } | Error::Forbidden { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(hash::hash(all.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_until_something_else_is_asked_for() {
        let failure = Failure::stalled(Reason::PolicyInvalid, "no");
        let refused = RefusedHost {
            uid: Some("u".to_owned()),
            asked_for: "1".to_owned(),
            request: RefusedRequest::Load,
            seen: String::new(),
            failure,
        };
        assert!(refused.is_of(Some("u"), "1", RefusedRequest::Load));
        assert!(!refused.is_of(Some("u"), "2", RefusedRequest::Load));
        assert!(!refused.is_of(Some("v"), "1", RefusedRequest::Load));
        assert!(
            !refused.is_of(Some("u"), "1", RefusedRequest::Rotation),
            "a key that is owed is made all the same"
        );
    }

    #[test]
    fn only_what_conjur_refused_for_good_is_not_sent_again() {
        for (failure, expected) in [
            (Failure::stalled(Reason::PolicyInvalid, ""), Some(RefusedRequest::Load)),
            (Failure::stalled(Reason::PolicyForbidden, ""), Some(RefusedRequest::Load)),
            (Failure::stalled(Reason::HostNotFound, ""), Some(RefusedRequest::Rotation)),
            (Failure::waiting(Reason::HostNotFound, crate::plan::LOOK_AGAIN, ""), None),
            (Failure::transient(Reason::ConjurUnavailable, ""), None),
            (Failure::stalled(Reason::KeyNotStored, ""), None),
        ] {
            assert_eq!(refuses(&failure), expected, "{failure:?}");
        }
    }
}
