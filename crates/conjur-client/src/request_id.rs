//! Which requests belong together: an id that goes with each of them in the header `X-Request-Id`, which Conjur takes over
//! into its own log. It is made here, and costs no request.
//!
//! A task says by [`scope`] that all it asks for belongs together. A batch is asked for on behalf of several tasks and has an id
//! of its own, which each of them finds by [`batch`] afterwards.
//!
//! ```
//! # async fn example(client: conjur_client::Client) {
//! use conjur_client::request_id::{self, RequestId};
//!
//! let id = RequestId::new();
//! let who = request_id::scope(id, client.whoami()).await;
//! println!("{id}: {who:?}");
//! # }
//! ```

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderName, HeaderValue};

/// The header that Rails takes a request's id from.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id of one request, or of several that belong together: letters, digits and a hyphen. No two of a process are the same,
/// and those of two processes hardly ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// As the value of the header.
    pub(crate) fn header(self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.to_string()).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No secret: it only tells processes apart.
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
        write!(f, "{:016x}-{:x}", *PROCESS, self.0)
    }
}

/// What a task asks for.
struct Scope {
    id: RequestId,
    batch: Cell<Option<RequestId>>,
}

tokio::task_local! {
    static SCOPE: Scope;
}

/// All requests that the future makes itself have this id.
pub async fn scope<F: Future>(id: RequestId, future: F) -> F::Output {
    SCOPE.scope(Scope { id, batch: Cell::new(None) }, future).await
}

/// The id of what is asked for now, where one is set.
pub fn current() -> Option<RequestId> {
    SCOPE.try_with(|scope| scope.id).ok()
}

/// The id of the batch that last brought a value to this scope.
pub fn batch() -> Option<RequestId> {
    SCOPE.try_with(|scope| scope.batch.get()).ok().flatten()
}

/// A value came by this request.
pub(crate) fn came_by(id: Option<RequestId>) {
    if id.is_some() {
        // Outside of a scope no one asks.
        SCOPE.try_with(|scope| scope.batch.set(id)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_belongs_together_has_one_id_and_knows_its_batch() {
        assert_eq!((current(), batch()), (None, None));
        let (one, other) = (RequestId::new(), RequestId::new());
        assert_ne!(one.to_string(), other.to_string());
        scope(one, async {
            assert_eq!((current(), batch()), (Some(one), None));
            came_by(None);
            came_by(Some(other));
            scope(other, async { assert_eq!((current(), batch()), (Some(other), None)) }).await;
            assert_eq!((current(), batch()), (Some(one), Some(other)));
        })
        .await;
        came_by(Some(one));
        let text = one.header().unwrap();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        assert!(text.to_str().is_ok_and(|text| text.len() < 255 && text.chars().all(is_plain)));
    }
}
