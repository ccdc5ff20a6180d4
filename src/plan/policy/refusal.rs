//! What can mend a document that Conjur refused, and when it is looked at again: a retry is earned.
//!
//! What only an edit can mend is not sent again. What someone may mend in Conjur is looked at by a read every 10
//! minutes, and sent again when what is read is another; where nothing can be read, it is sent every 10 minutes. Another
//! policy's load counts only where it made what is missing. So K refused documents and N loads are K + N requests that
//! change something, and not K × N.

use std::time::Duration;

use crate::{
    api::{
        Reason,
        policy::{MendedBy, PolicyRefusal},
    },
    limits::{BRANCH_AGAIN, GIVEN_AGAIN, REFUSED_AGAIN},
};

use crate::plan::Class;

/// What can mend what Conjur calls invalid. `code` is its word for it, or the status where it has none; `placed`: it
/// names a place in the document (`innererror`); `missing`: it names a record that is not there; `cut`: its words were too
/// long to be kept whole.
pub fn mended_by(code: &str, placed: bool, missing: bool, cut: bool) -> MendedBy {
    let is_status = !code.is_empty() && code.bytes().all(|b| b.is_ascii_digit());
    if placed {
        MendedBy::Edit
    } else if missing {
        MendedBy::Record
    } else if is_status || cut {
        // No word of Conjur's: a proxy's limit, or a fault of the server. Or a long id of what is not there.
        MendedBy::Time
    } else {
        MendedBy::Edit
    }
}

/// What a policy waits for that Conjur refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wants {
    /// This record (its full id).
    Record(String),
    /// This branch, or to be given more on it.
    Branch {
        /// Its full id.
        id: String,
        /// It is not there, or not to be seen.
        missing: bool,
    },
}

/// What another policy's load means for one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// It may have got what it wants: it is to look.
    Look,
    /// It was made: it is to be sent again.
    Send,
}

impl Wants {
    /// What a load means that made what `made` says of, and that gave something to someone, or not.
    pub fn mark(&self, made: impl Fn(&str) -> bool, gives: bool) -> Option<Mark> {
        match self {
            Self::Record(id) => made(id).then_some(Mark::Send),
            Self::Branch { id, missing: true } if made(id) => Some(Mark::Send),
            // The load may have changed whose an existing branch is.
            Self::Branch { id, .. } => (gives || made(id)).then_some(Mark::Look),
        }
    }
}

/// The reason that the conditions gave.
pub fn reason(refusal: &PolicyRefusal) -> Reason {
    Reason::ALL.iter().copied().find(|r| r.as_str() == refusal.reason).unwrap_or(Reason::PolicyInvalid)
}

/// What a document that stays refused is: a branch may come by itself, all else a person must mend.
pub fn class(refusal: &PolicyRefusal) -> Class {
    match reason(refusal) {
        Reason::BranchNotFound => Class::Waiting(BRANCH_AGAIN),
        _ => Class::Stalled,
    }
}

/// How often a refused document is looked at, or sent; none where only an edit can mend it.
pub fn interval(refusal: &PolicyRefusal) -> Option<Duration> {
    match refusal.mended_by {
        MendedBy::Edit => None,
        MendedBy::Privilege if reason(refusal) == Reason::BranchNotFound => Some(BRANCH_AGAIN),
        MendedBy::Privilege | MendedBy::Record | MendedBy::Time => Some(REFUSED_AGAIN),
    }
}

/// When a policy that a person must mend is looked at again, where what mends it may happen in Conjur or on the server, and
/// nothing announces it there; none where it announces itself, or is looked at in a time of its own.
pub fn looked_again(reason: Reason) -> Option<Duration> {
    // The records may go, and the server may be another; what the branch's owner or a privilege mends is in
    // `status.refusal`.
    let by_others = matches!(reason, Reason::DeletionsNotAllowed | Reason::DryRunUnsupported);
    by_others.then_some(REFUSED_AGAIN)
}

/// What is due for a refused document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something changes.
    Nothing,
    /// Nothing before that time is over.
    In(Duration),
    /// A look whether it is mended.
    Look,
    /// Another try.
    Send,
}

/// Decides what is due. `looked`: how long ago it was last sent or looked at; `mark`: what others' loads mean for it.
pub fn next(refusal: &PolicyRefusal, looked: Duration, mark: Option<Mark>) -> Next {
    let Some(interval) = interval(refusal) else { return Next::Nothing };
    let left = match mark {
        Some(Mark::Send) => return Next::Send,
        Some(Mark::Look) => interval.min(GIVEN_AGAIN).saturating_sub(looked),
        None => interval.saturating_sub(looked),
    };
    match (left.is_zero(), refusal.mended_by) {
        (false, _) => Next::In(left),
        (true, MendedBy::Time) => Next::Send,
        (true, _) => Next::Look,
    }
}

/// How long ago a refused document counts as looked at, by a process that did not look yet. Those whose time came while
/// none ran are spread over the interval, by `share` (0 to 1): a start sends nothing at once.
pub fn looked_before_start(refusal: &PolicyRefusal, now: i64, share: f64) -> Duration {
    let since = Duration::from_secs(u64::try_from(now.saturating_sub(refusal.tried)).unwrap_or(0));
    match interval(refusal) {
        Some(interval) if since >= interval => interval.mul_f64(share.clamp(0.0, 1.0)),
        _ => since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(mended_by: MendedBy, reason: Reason) -> PolicyRefusal {
        PolicyRefusal {
            of: "o".into(),
            asked: "a".into(),
            mended_by,
            reason: reason.as_str().into(),
            message: "m".into(),
            tried: 1000,
            record: None,
            has: None,
        }
    }

    #[test]
    fn what_may_be_mended_in_conjur_or_on_the_server_is_looked_at_again_within_ten_minutes() {
        for (reason, noted) in [
            (Reason::DeletionsNotAllowed, None),
            (Reason::DryRunUnsupported, None),
            (Reason::NotBranchOwner, Some(MendedBy::Privilege)),
            (Reason::PolicyForbidden, Some(MendedBy::Privilege)),
            (Reason::BranchNotFound, Some(MendedBy::Privilege)),
            (Reason::PolicyInvalid, Some(MendedBy::Record)),
            (Reason::PolicyInvalid, Some(MendedBy::Time)),
        ] {
            let noted = noted.and_then(|by| interval(&refusal(by, reason)));
            let again = noted.or(looked_again(reason));
            assert!(again.is_some_and(|again| again <= Duration::from_secs(600)), "{reason:?}: {again:?}");
        }
        // These the cluster mends, and it announces that.
        for reason in
            [Reason::CreatedRolesRequired, Reason::BranchTaken, Reason::AccessDenied, Reason::InvalidSpec]
        {
            assert_eq!(looked_again(reason), None, "{reason:?}");
        }
    }

    #[test]
    fn what_only_an_edit_can_mend_is_told_from_what_others_can() {
        for (code, placed, missing, cut, by) in [
            ("policy_invalid", true, false, false, MendedBy::Edit),
            ("policy_invalid", true, true, false, MendedBy::Edit),
            ("policy_invalid", true, false, true, MendedBy::Edit),
            ("policy_invalid", false, false, false, MendedBy::Edit),
            ("validation_failed", false, false, false, MendedBy::Edit),
            ("policy_invalid", false, true, false, MendedBy::Record),
            ("not_found", false, true, false, MendedBy::Record),
            ("policy_invalid", false, false, true, MendedBy::Time),
            ("413", false, false, false, MendedBy::Time),
            ("405", false, false, false, MendedBy::Time),
            ("", false, false, false, MendedBy::Edit),
        ] {
            assert_eq!(mended_by(code, placed, missing, cut), by, "{code} {placed} {missing} {cut}");
        }
    }

    #[test]
    fn a_refused_document_is_looked_at_every_ten_minutes_and_a_missing_branch_every_minute() {
        let s = Duration::from_secs;
        let edit = refusal(MendedBy::Edit, Reason::PolicyInvalid);
        let privilege = refusal(MendedBy::Privilege, Reason::PolicyForbidden);
        let branch = refusal(MendedBy::Privilege, Reason::BranchNotFound);
        let record = refusal(MendedBy::Record, Reason::PolicyInvalid);
        let time = refusal(MendedBy::Time, Reason::PolicyInvalid);
        for (refusal, looked, mark, due) in [
            (&edit, s(u64::MAX), None, Next::Nothing),
            (&edit, s(u64::MAX), Some(Mark::Send), Next::Nothing),
            (&privilege, s(0), None, Next::In(s(600))),
            (&privilege, s(599), None, Next::In(s(1))),
            (&privilege, s(600), None, Next::Look),
            (&privilege, s(4), Some(Mark::Look), Next::In(s(6))),
            (&privilege, s(10), Some(Mark::Look), Next::Look),
            (&branch, s(59), None, Next::In(s(1))),
            (&branch, s(60), None, Next::Look),
            (&record, s(0), Some(Mark::Send), Next::Send),
            (&record, s(600), None, Next::Look),
            (&time, s(599), None, Next::In(s(1))),
            (&time, s(600), None, Next::Send),
        ] {
            assert_eq!(next(refusal, looked, mark), due, "{refusal:?} {looked:?} {mark:?}");
        }
    }

    #[test]
    fn a_start_does_not_make_all_refused_documents_due_at_once() {
        let s = Duration::from_secs;
        let record = refusal(MendedBy::Record, Reason::PolicyInvalid);
        for (now, share, looked) in [
            (1000, 0.5, s(0)),
            (1100, 0.5, s(100)),
            (1599, 0.9, s(599)),
            (1600, 0.5, s(300)),
            (99_999, 0.0, s(0)),
            (0, 0.5, s(0)),
        ] {
            assert_eq!(looked_before_start(&record, now, share), looked, "{now} {share}");
        }
    }

    #[test]
    fn only_a_load_that_made_what_is_missing_sends_a_document_again() {
        let made = |id: &str| ["demo:group:app/later", "demo:policy:app/eu"].contains(&id);
        let record = |id: &str| Wants::Record(format!("demo:{id}"));
        let branch = |id: &str, missing| Wants::Branch { id: format!("demo:policy:{id}"), missing };
        for (wants, gives, mark) in [
            (record("group:app/later"), false, Some(Mark::Send)),
            (record("host:app/later"), true, None),
            (record("group:app/other"), true, None),
            (branch("app/eu", true), false, Some(Mark::Send)),
            (branch("app/eu", false), false, Some(Mark::Look)),
            (branch("app/us", true), false, None),
            (branch("app/us", true), true, Some(Mark::Look)),
            (branch("app/us", false), true, Some(Mark::Look)),
        ] {
            assert_eq!(wants.mark(made, gives), mark, "{wants:?} {gives}");
        }
    }
}
