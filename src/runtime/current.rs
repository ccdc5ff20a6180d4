//! Which object the task at hand reconciles, for what is logged on its behalf far from where it is known.

use std::{fmt, sync::Arc};

use super::Key;
use crate::{
    conjur::request_id::{self, RequestId},
    metrics::Kind,
};

/// The object, and the id of the requests that are made for it.
#[derive(Clone)]
struct Current {
    kind: Kind,
    key: Arc<Key>,
    id: RequestId,
}

tokio::task_local! {
    static CURRENT: Current;
}

/// Runs what is done for an object, with a new request id.
pub async fn reconciling<F: Future>(kind: Kind, key: Arc<Key>, work: F) -> F::Output {
    let id = RequestId::new();
    request_id::scope(id, CURRENT.scope(Current { kind, key, id }, work)).await
}

/// What each line on behalf of an object has, as fields of a log line.
pub struct LineFields {
    /// The kind; none where no object is reconciled.
    pub kind: Option<&'static str>,
    /// The namespace; none where the kind has none.
    pub namespace: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The id that the requests to Conjur have.
    pub request_id: Option<String>,
    /// The id of the batch that brought the values, which several objects may share.
    pub batch_id: Option<String>,
}

impl LineFields {
    /// Those of the task at hand. Made only for a line that is written.
    pub fn now() -> Self {
        let batch_id = request_id::batch().map(|id| id.to_string());
        let current = CURRENT.try_with(Current::clone).ok();
        let Some(Current { kind, key, id }) = current else {
            let request_id = request_id::current().map(|id| id.to_string());
            return Self { kind: None, namespace: None, name: None, request_id, batch_id };
        };
        Self {
            kind: Some(kind.as_str()),
            namespace: Some(key.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(key.name.clone()),
            request_id: Some(id.to_string()),
            batch_id,
        }
    }
}

/// Things in a row, as a line names them: so many of them at most.
pub struct NamesInLine<'a, I>(pub I, pub &'a str);

/// Most things that a line names.
const NAMED: usize = 50;

impl<I> fmt::Display for NamesInLine<'_, I>
where
    I: Iterator<Item: AsRef<str>> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, item) in self.0.clone().take(NAMED).enumerate() {
            if nth > 0 {
                f.write_str(self.1)?;
            }
            f.write_str(item.as_ref())?;
        }
        match self.0.clone().count().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "{}and {more} more", self.1),
        }
    }
}

/// A line about a change that was made, or a state that begins or ends, for the object of the task at hand. Takes a level, and the
/// fields and the message as `tracing::info!` does.
macro_rules! say {
    ($level:ident, $($fields:tt)+) => {
        if tracing::enabled!(tracing::Level::$level) {
            let of = $crate::runtime::current::LineFields::now();
            tracing::event!(
                tracing::Level::$level,
                kind = of.kind,
                namespace = of.namespace,
                name = of.name,
                request_id = of.request_id,
                batch_id = of.batch_id,
                $($fields)+
            );
        }
    };
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_some_and_counts_the_rest() {
        let names: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
        assert_eq!(NamesInLine(names[..3].iter(), ", ").to_string(), "k0, k1, k2");
        assert_eq!(NamesInLine(names[..0].iter(), ", ").to_string(), "");
        let long = NamesInLine(names.iter(), ", ").to_string();
        assert!(long.ends_with("k49, and 10 more") && !long.contains("k50"), "{long}");
    }

    #[tokio::test]
    async fn what_is_logged_for_an_object_names_it() {
        let key = Arc::new(Key { namespace: "billing".into(), name: "db".into() });
        let of = reconciling(Kind::Secret, key, async { LineFields::now() }).await;
        assert_eq!((of.kind, of.name.as_deref()), (Some("ConjurSecret"), Some("db")));
        assert_eq!(of.namespace.as_deref(), Some("billing"));
        assert!(of.request_id.is_some() && of.batch_id.is_none());
        assert!(LineFields::now().kind.is_none());
    }
}
