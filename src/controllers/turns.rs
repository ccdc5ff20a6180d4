//! How many objects of one connection are worked on at once.
//!
//! A reconcile that waits, for a batch or for its turn to write, holds some 13 KB. Ten thousand at once are 130 MB, and
//! the pieces that are kept of each lie between what is freed. More than fill the batches and the writes under way gain
//! nothing: the others wait before they have taken anything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::facts::ConnectionId;
use crate::conjur::Lane;

/// Enough for several full batches, whatever the size of the objects, while as many objects write.
const AT_ONCE: usize = 1024;

/// Who waits for one another: one connection's fault holds up none of another's, and a refresh nothing that is new.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// The connection that the objects use.
    pub connection: ConnectionId,
    /// What is new, or what is repeated.
    pub lane: Lane,
}

/// The lines there are.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<Line, Arc<Semaphore>>>);

impl Turns {
    /// Waits for an object's turn, which lasts until the permit is dropped; none if turns are given no more.
    pub fn wait(&self, line: Line) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + use<> {
        let turns = self.of(line);
        async move { turns.acquire_owned().await.ok() }
    }

    fn of(&self, line: Line) -> Arc<Semaphore> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = lines.get(&line) {
            return turns.clone();
        }
        // Nobody stands in the lines of a connection that is gone.
        lines.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        lines.insert(line, turns.clone());
        turns
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::api::ConnectionKind;

    fn line(name: &str, lane: Lane) -> Line {
        let connection = ConnectionId {
            kind: ConnectionKind::ConjurConnection,
            namespace: "billing".into(),
            name: name.into(),
        };
        Line { connection, lane }
    }

    #[test]
    fn a_full_line_holds_up_only_itself() {
        let turns = Turns::default();
        let mut taken: Vec<_> = (0..AT_ONCE)
            .map(|_| turns.wait(line("a", Lane::Refresh)).now_or_never().unwrap().unwrap())
            .collect();
        let mut next = Box::pin(turns.wait(line("a", Lane::Refresh)));
        assert!((&mut next).now_or_never().is_none());
        assert!(turns.wait(line("a", Lane::Foreground)).now_or_never().is_some());
        assert!(turns.wait(line("b", Lane::Refresh)).now_or_never().is_some());
        taken.pop();
        assert!((&mut next).now_or_never().is_some());
    }

    #[test]
    fn an_empty_line_is_forgotten_and_one_with_somebody_in_it_is_not() {
        let turns = Turns::default();
        let stays = turns.wait(line("a", Lane::Refresh)).now_or_never().unwrap();
        drop(turns.wait(line("b", Lane::Refresh)).now_or_never());
        drop(turns.wait(line("c", Lane::Refresh)));
        assert_eq!(turns.0.lock().unwrap().len(), 2, "a and c");
        drop(stays);
    }
}
