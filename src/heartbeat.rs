//! Whether the runtimes that do the work still do any. Each beats once a second; who keeps the Lease or answers probes
//! has a thread apart from them, and looks at when they last did.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a runtime is to beat.
const EVERY: Duration = Duration::from_secs(1);

/// A runtime has not beaten for too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {runtime} did nothing for {silent:?}")]
pub struct Silent {
    /// Which.
    pub runtime: &'static str,
    /// For how long.
    pub silent: Duration,
}

/// The heartbeats of all runtimes; clones share them. Where none was added, all is well.
#[derive(Debug, Clone)]
pub struct Heartbeats {
    /// What the beats are counted from, in milliseconds.
    origin: Instant,
    beats: Arc<Mutex<Vec<Heartbeat>>>,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self { origin: Instant::now(), beats: Arc::default() }
    }
}

impl Heartbeats {
    /// Adds a runtime, which has just beaten.
    pub fn add(&self, runtime: &'static str) -> Heartbeat {
        let heartbeat = Heartbeat { runtime, origin: self.origin, last: Arc::default() };
        heartbeat.beat(Instant::now());
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).push(heartbeat.clone());
        heartbeat
    }

    /// Whether each runtime has beaten less than `patience` ago; else the one that has been silent for longest.
    pub fn check(&self, now: Instant, patience: Duration) -> Result<(), Silent> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = beats.iter().map(|beat| Silent { runtime: beat.runtime, silent: beat.silent_for(now) });
        match silent.max_by_key(|silent| silent.silent) {
            Some(longest) if longest.silent >= patience => Err(longest),
            _ => Ok(()),
        }
    }
}

/// The heartbeat of one runtime.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    runtime: &'static str,
    origin: Instant,
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// The runtime did something at `now`.
    pub fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.origin).as_millis();
        self.last.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Beats for ever, on the runtime that this is run on.
    pub async fn keep(self) {
        loop {
            self.beat(Instant::now());
            tokio::time::sleep(EVERY).await;
        }
    }

    fn silent_for(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.origin).saturating_sub(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn the_runtime_that_is_silent_for_longest_is_named() {
        let heartbeats = Heartbeats::default();
        let at = |seconds: u64| heartbeats.origin + Duration::from_secs(seconds);
        assert_eq!(heartbeats.check(at(10_000), PATIENCE), Ok(()), "there is none");
        let (workers, heavy) = (heartbeats.add("workers"), heartbeats.add("heavy threads"));
        let silent = |runtime, seconds| Err(Silent { runtime, silent: Duration::from_secs(seconds) });
        // What beats, when it is looked at, and what is seen then.
        let (both, first) = (vec![&workers, &heavy], vec![&workers]);
        for (beats, at_second, look, expected) in [
            (&both, 100, 100, Ok(())),
            (&first, 130, 159, Ok(())),
            (&first, 155, 160, silent("heavy threads", 60)),
            (&first, 155, 300, silent("heavy threads", 200)),
            (&both, 300, 359, Ok(())),
            // An older beat takes nothing back, and a clock that seems to go back is no silence.
            (&both, 200, 300, Ok(())),
            (&both, 300, 299, Ok(())),
        ] {
            for beat in beats {
                beat.beat(at(at_second));
            }
            let seen = heartbeats.check(at(look), PATIENCE);
            // Beats are kept in whole milliseconds.
            let rounded = seen.map_err(|s| Silent { silent: Duration::from_secs(s.silent.as_secs()), ..s });
            assert_eq!(rounded, expected, "beaten at {at_second}, looked at {look}");
        }
    }

    #[test]
    fn workers_that_are_all_busy_do_not_beat() {
        let patience = Duration::from_millis(1500);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let heartbeats = Heartbeats::default();
        runtime.spawn(heartbeats.add("workers").keep());
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            assert_eq!(heartbeats.check(Instant::now(), patience), Ok(()));
            std::thread::sleep(Duration::from_millis(20));
        }
        for _ in 0..2 {
            runtime.spawn(async { std::thread::sleep(Duration::from_secs(4)) });
        }
        let wedged = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(20));
            heartbeats.check(Instant::now(), patience)
        });
        let silent = wedged.take(200).find_map(Result::err).unwrap();
        assert_eq!(silent.runtime, "workers");
        runtime.shutdown_background();
    }
}
