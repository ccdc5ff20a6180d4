//! Who is to be woken and when: each object once, with the earliest of the times that it was woken for. However often
//! something changes that thousands use, what waits here is never more than the objects that there are.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use futures::Stream;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use super::Key;
use crate::lock::lock;

type Times = Arc<Mutex<HashMap<Key, Instant>>>;

/// Wakes objects of one kind.
#[derive(Clone)]
pub struct Waker {
    times: Times,
    keys: UnboundedSender<Key>,
}

/// Where they arrive, in the order in which they were woken first.
pub struct Woken {
    times: Times,
    keys: UnboundedReceiver<Key>,
}

/// Both ends.
pub fn pending() -> (Waker, Woken) {
    let (times, (sender, receiver)) = (Times::default(), unbounded_channel());
    (Waker { times: times.clone(), keys: sender }, Woken { times, keys: receiver })
}

impl Waker {
    /// The object is to have its turn at a time.
    pub fn wake(&self, key: Key, at: Instant) {
        self.wake_all([(key, at)]);
    }

    /// The same for many.
    pub fn wake_all(&self, all: impl IntoIterator<Item = (Key, Instant)>) {
        let mut times = lock(&self.times);
        for (key, at) in all {
            if let Some(known) = times.get_mut(&key) {
                *known = at.min(*known);
                continue;
            }
            times.insert(key.clone(), at);
            // A closed channel means that the process ends.
            drop(self.keys.send(key));
        }
    }
}

/// Each with the time at which it is to have its turn; ends when no one is left who could wake one.
impl Stream for Woken {
    type Item = (Key, Instant);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let key = ready!(self.keys.poll_recv(cx));
        Poll::Ready(key.map(|key| self.timed(key)))
    }
}

impl Woken {
    /// The next one, if there is one.
    #[cfg(test)]
    pub fn try_recv(&mut self) -> Option<(Key, Instant)> {
        let key = self.keys.try_recv().ok()?;
        Some(self.timed(key))
    }

    /// How many wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.keys.len()
    }

    fn timed(&self, key: Key) -> (Key, Instant) {
        let at = lock(&self.times).remove(&key).unwrap_or_else(Instant::now);
        (key, at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_object_that_is_woken_many_times_waits_once_for_the_earliest() {
        let key = |name: &str| Key { namespace: "n".into(), name: name.into() };
        let (waker, mut woken) = pending();
        let now = Instant::now();
        for seconds in [5, 1, 9] {
            waker.wake_all(["a", "b"].map(|name| (key(name), now + Duration::from_secs(seconds))));
        }
        assert_eq!(woken.waiting(), 2);
        let soon = now + Duration::from_secs(1);
        assert_eq!(woken.try_recv(), Some((key("a"), soon)));
        waker.wake(key("a"), now);
        assert_eq!(woken.try_recv(), Some((key("b"), soon)));
        assert_eq!(woken.try_recv(), Some((key("a"), now)), "it came after it was taken: it counts anew");
        assert_eq!(woken.try_recv(), None);
        assert!(lock(&woken.times).is_empty());
    }
}
