//! A reconcile that did not get there, and what its status says then.

use kube::ResourceExt;

use crate::{
    api::{ConjurSecret, ConjurSecretStatus, SYNC_NOW_ANNOTATION, secret::MissingVariable},
    plan::Class,
    runtime::ReconcileError,
};

/// What went wrong.
#[derive(Debug)]
pub struct Trouble {
    pub error: ReconcileError,
    /// The variables that could not be read, where that is it.
    pub missing: Option<Vec<MissingVariable>>,
}

impl<E: Into<ReconcileError>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self { error: error.into(), missing: None }
    }
}

impl Trouble {
    /// What waits for something else, or for the user, was looked at all the same: a `sync-now` counts as handled, and what
    /// was missing before is not what is wrong now.
    pub fn mark_handled(self, object: &ConjurSecret, status: &mut ConjurSecretStatus) -> ReconcileError {
        let mut error = self.error;
        if matches!(error.failure.class, Class::Stalled | Class::Waiting(_)) {
            status.last_handled_sync_now = object.annotations().get(SYNC_NOW_ANNOTATION).cloned();
            status.missing = self.missing;
        }
        if error.failure.class == Class::Stalled {
            // What only the user can mend may lie in Conjur: a value that a template can't take, a key that is none.
            error.again = Some(object.spec.interval());
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Reason,
        plan::{Failure, LOOK_AGAIN},
    };

    #[test]
    fn what_was_missing_stands_until_it_is_known_to_be_otherwise() {
        let object: ConjurSecret = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "s", "annotations": { (SYNC_NOW_ANNOTATION): "now" } },
            "spec": { "connectionRef": { "name": "conjur" } },
        }))
        .unwrap();
        let missing =
            |name: &str| Some(vec![MissingVariable { variable: name.into(), reason: "NotFound".into() }]);
        let stalled = || Failure::stalled(Reason::InvalidValue, "");
        let waiting = || Failure::waiting(Reason::VariableNotFound, LOOK_AGAIN, "");
        let transient = || Failure::transient(Reason::ApiServerError, "");
        for (failure, found, expected, handled) in [
            (stalled(), None, None, true),
            (waiting(), None, None, true),
            (waiting(), missing("new"), missing("new"), true),
            (transient(), None, missing("old"), false),
        ] {
            let mut status = ConjurSecretStatus { missing: missing("old"), ..ConjurSecretStatus::default() };
            let what = format!("{failure:?}");
            let error = Trouble { missing: found, ..failure.into() }.mark_handled(&object, &mut status);
            assert_eq!(status.missing, expected, "{what}");
            assert_eq!(status.last_handled_sync_now.is_some(), handled, "{what}");
            assert_eq!(error.again.is_some(), error.failure.class == Class::Stalled, "{what}");
        }
    }
}
