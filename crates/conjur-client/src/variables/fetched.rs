//! What is asked for, and what comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::id::VariableId;
use crate::memory_budget::Share;
use crate::request_id::{self, RequestId};
use crate::sensitive::Sensitive;

/// What is asked for: a variable, its newest version or a pinned one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wanted {
    /// The variable.
    pub id: VariableId,
    /// `None`: the newest. The server keeps 20.
    pub version: Option<u32>,
}

impl Wanted {
    /// The newest version of `id`.
    pub fn latest(id: VariableId) -> Self {
        Self { id, version: None }
    }

    /// Whether it can travel with others.
    pub(super) fn fits_a_batch(&self) -> bool {
        self.version.is_none() && self.id.fits_a_batch()
    }

    /// How messages name it.
    pub(super) fn target(&self) -> String {
        match self.version {
            Some(version) => format!("version {version} of variable {}", self.id),
            None => format!("variable {}", self.id),
        }
    }
}

/// A value; wiped when the last holder drops it.
pub type Value = Arc<Fetched>;

/// A value as it was fetched, with what it takes of the budget of bytes in flight.
#[derive(Debug)]
pub struct Fetched {
    value: Sensitive<Vec<u8>>,
    pub(super) share: Option<Arc<Share>>,
    /// Which request it came by.
    pub(super) request: Option<RequestId>,
}

impl Fetched {
    pub(crate) fn new(value: Sensitive<Vec<u8>>, share: Option<Share>) -> Self {
        Self { value, share: share.map(Arc::new), request: request_id::current() }
    }

    /// The bytes.
    pub fn expose(&self) -> &Vec<u8> {
        self.value.expose()
    }
}

/// The answer for one id.
pub type Answer = Result<Value, Error>;

/// How old what is known of a bad id, or the catalogue, may be. Values are never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A remembered `NotFound` or `Forbidden` will do: the client looks again by itself. So will any catalogue that is
    /// still kept.
    Remembered,
    /// Only if it was seen, or its walk begun, within this time; zero asks the server.
    NoOlderThan(Duration),
    /// What is remembered of a bad id will do, but a value must be asked for, and a walk begun, after this: who knows a
    /// newer version's number must not get the value before it.
    Since(Instant),
}

impl Freshness {
    /// The same, with values that are asked for after `at`.
    #[must_use]
    pub fn and_since(self, at: Instant) -> Self {
        match self {
            Self::Remembered => Self::Since(at),
            Self::NoOlderThan(age) => {
                Self::NoOlderThan(age.min(tokio::time::Instant::from_std(at).elapsed()))
            }
            Self::Since(earlier) => Self::Since(earlier.max(at)),
        }
    }
}
