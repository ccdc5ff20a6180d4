//! From a verdict to the conditions that tell of it.

use crate::api::condition::State;

use super::Class;

impl Class {
    /// The state that a failure of this class puts an object into. `asked`: something new is asked of it (a
    /// generation, a `sync-now`), so that the last good state is no answer.
    pub fn state(self, asked: bool) -> State {
        match self {
            Class::Stalled => State::Stalled,
            Class::Waiting(_) => State::Waiting,
            Class::Transient | Class::Connection => State::Retrying { still_good: !asked },
        }
    }
}
