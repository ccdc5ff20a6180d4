//! What a removal takes of an announcement in the status of the object.

use crate::{
    api::{
        ConjurHostStatus,
        host::{Enrolment, PendingEnrolment, PendingHost, PendingLoadOfHost, PendingStep},
    },
    effect::host::AskedHost,
    plan::host::{document::HostDocument, view::LANDS_WITHIN},
};

/// Whether the status says that the object has, or may have, the host on this server.
pub fn says_of(status: &ConjurHostStatus, server: &str) -> bool {
    match (&status.applied, &status.pending) {
        (Some(applied), _) => applied.server == server,
        (None, pending) => pending.as_ref().is_some_and(|pending| pending.server == server),
    }
}

/// What of an announcement can be the object's own: who may write its status may name any server, factory and branch there.
pub fn own_pending(
    pending: &PendingHost,
    server: &str,
    enrolment: Option<&Enrolment<'_>>,
    bare: Option<&HostDocument>,
) -> Option<PendingHost> {
    let document = AskedHost::document(bare);
    let is_own_load = |load: &PendingLoadOfHost| {
        bare.is_some_and(|bare| bare.branch == load.branch) && load.document == document
    };
    let is_own_token = |token: &PendingEnrolment| matches!(enrolment, Some(Enrolment::Factory(factory)) if token.factory == **factory);
    (pending.server == server).then(|| PendingHost {
        load: pending.load.clone().filter(is_own_load),
        token: pending.token.clone().filter(is_own_token),
        ..pending.clone()
    })
}

/// For how many seconds an enrolment that was announced may still make the host; none where it can't, or not any more. `since`: when
/// the removal found the announcement, after which nothing is sent for it any more. When it was announced does not tell, for it may
/// have waited for its turn.
pub fn enrols_for(pending: &PendingHost, since: i64, now: i64) -> Option<u64> {
    if pending.step != PendingStep::Enrol && pending.token.is_none() {
        return None;
    }
    let rest = since.saturating_add(LANDS_WITHIN).saturating_sub(now).min(LANDS_WITHIN);
    u64::try_from(rest).ok().filter(|rest| *rest > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(step: PendingStep, at: i64) -> PendingHost {
        PendingHost {
            step,
            at,
            number: 1,
            server: "s".to_owned(),
            until: None,
            asked: None,
            load: None,
            token: None,
            grants: None,
        }
    }

    #[test]
    fn what_the_status_names_of_another_server_branch_document_or_factory_is_not_believed() {
        let bare = HostDocument { branch: "apps".to_owned(), text: "- !host web\n".to_owned() };
        let load = |branch: &str, document: &str| PendingLoadOfHost {
            branch: branch.to_owned(),
            version: 1,
            document: document.to_owned(),
            loaders: Vec::new(),
        };
        let token = PendingEnrolment { factory: "apps/factory".to_owned(), expires: 1 };
        let own = AskedHost::document(Some(&bare));
        let kept = |load: PendingLoadOfHost,
                    server: &str,
                    way: Enrolment<'_>,
                    bare: Option<&HostDocument>| {
            let pending =
                PendingHost { load: Some(load), token: Some(token.clone()), ..pending(PendingStep::Make, 1) };
            let kept = own_pending(&pending, server, Some(&way), bare)?;
            Some((kept.load.is_some(), kept.token.is_some()))
        };
        let branch = || Enrolment::Branch("apps");
        let (theirs, factory) = (Enrolment::Factory("other"), Enrolment::Factory("apps/factory"));
        assert_eq!(kept(load("apps", &own), "s", branch(), Some(&bare)), Some((true, false)));
        assert_eq!(kept(load("apps", "theirs"), "s", branch(), Some(&bare)), Some((false, false)));
        assert_eq!(kept(load("other", &own), "s", branch(), Some(&bare)), Some((false, false)));
        assert_eq!(kept(load("apps", &own), "another", branch(), Some(&bare)), None);
        assert_eq!(kept(load("apps", ""), "s", factory, None), Some((false, true)));
        assert_eq!(kept(load("apps", ""), "s", theirs, None), Some((false, false)));
    }

    #[test]
    fn a_removal_waits_for_an_enrolment_that_may_still_come_through() {
        let now = 10_000;
        for (step, since, expected) in [
            (PendingStep::Enrol, now, Some(120)),
            (PendingStep::Enrol, now - 100, Some(20)),
            (PendingStep::Enrol, now - 120, None),
            (PendingStep::Enrol, now + 1, Some(120)),
            (PendingStep::Rotate, now, None),
        ] {
            // It was announced long before, and sent late.
            assert_eq!(enrols_for(&pending(step, 1), since, now), expected, "{step:?} since {since}");
        }
        let token = Some(PendingEnrolment { factory: "f".to_owned(), expires: now + 60 });
        let pending = PendingHost { token, ..pending(PendingStep::Rotate, now) };
        assert_eq!(enrols_for(&pending, now, now), Some(120));
    }
}
