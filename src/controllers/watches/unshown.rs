//! What a watch can't show, and why.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

/// Why the API server shows nothing of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyUnshown {
    /// There is no such kind: its CRD is not installed.
    NoKind,
    /// The operator may not list it.
    Forbidden,
}

impl WhyUnshown {
    /// Where a watch failed for that.
    pub fn of(error: &watcher::Error) -> Option<Self> {
        match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status)) => match status.code {
                403 => Some(Self::Forbidden),
                404 => Some(Self::NoKind),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The parts of a kind (namespaces, or the whole cluster as an empty text) that its watch can't show; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Unshown {
    parts: Arc<Mutex<BTreeMap<String, WhyUnshown>>>,
    given_up: CancellationToken,
}

impl Unshown {
    /// A part can't be shown. Whether that is the first part for that reason.
    pub fn put(&self, part: &str, why: WhyUnshown) -> bool {
        let mut parts = self.lock();
        let is_first = !parts.values().any(|known| *known == why);
        parts.insert(part.to_owned(), why);
        is_first
    }

    /// A part is shown. Whether it was not before.
    pub fn take(&self, part: &str) -> bool {
        self.lock().remove(part).is_some()
    }

    /// Whether what lies in a namespace is kept from the operator, so that what is not shown may be there.
    pub fn is_hidden(&self, namespace: &str) -> bool {
        let parts = self.lock();
        let of = |part: &str| parts.get(part) == Some(&WhyUnshown::Forbidden);
        of("") || of(namespace)
    }

    /// No one waits for the list of the kind any more.
    pub fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Ends when no one need wait for the list of the kind: there is no such kind, or the operator may not list it.
    pub async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, WhyUnshown>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ConjurHost, controllers::handle, plan::scope::WatchScope, runtime::Key};

    #[test]
    fn only_what_has_no_crd_or_no_right_is_not_waited_for() {
        let failed = |code: u16| {
            let status = kube::core::Status::failure("", "").with_code(code);
            watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
        };
        for (error, expected) in [
            (failed(404), Some(WhyUnshown::NoKind)),
            (failed(403), Some(WhyUnshown::Forbidden)),
            (failed(500), None),
            (failed(429), None),
            (watcher::Error::NoResourceVersion, None),
        ] {
            assert_eq!(WhyUnshown::of(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn what_is_kept_from_the_operator_may_be_there_and_what_has_no_crd_is_not() {
        let unshown = Unshown::default();
        assert!(unshown.put("a", WhyUnshown::Forbidden));
        assert!(!unshown.put("b", WhyUnshown::Forbidden), "it was said of another");
        assert!(unshown.put("c", WhyUnshown::NoKind));
        let hidden = ["a", "b", "c", "d"].map(|namespace| unshown.is_hidden(namespace));
        assert_eq!(hidden, [true, true, false, false]);
        assert!(unshown.take("a") && !unshown.take("a"));
        assert!(!unshown.is_hidden("a"));
        unshown.put("", WhyUnshown::Forbidden);
        assert!(unshown.is_hidden("a"), "of the whole cluster");
    }

    #[test]
    fn what_no_watch_would_show_is_never_gone() {
        let (hosts, _end) = handle::handle::<ConjurHost>();
        let named = ["shown", "forbidden", "no-crd"].map(str::to_owned);
        let scope = WatchScope::new(&named, true).unwrap();
        hosts.unshown.put("forbidden", WhyUnshown::Forbidden);
        hosts.unshown.put("no-crd", WhyUnshown::NoKind);
        let is_gone = |namespace: &str, scope: &WatchScope| {
            hosts.is_gone(&Key { namespace: namespace.to_owned(), name: "web".to_owned() }, scope)
        };
        let of_others = ["shown", "forbidden", "no-crd", "not-watched"].map(|name| is_gone(name, &scope));
        assert_eq!(of_others, [true, false, true, false]);
        assert!(is_gone("not-watched", &WatchScope::default()), "all namespaces are watched");
    }
}
