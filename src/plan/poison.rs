//! Objects whose work ends the process that does it: counted, tried alone, set aside. Pure, the clock passed in.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    time::{Duration, Instant},
};

use crate::limits::{POISON_ASIDE, POISON_DEATHS};

/// How a process ended in some work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Died {
    /// By a fault of its own: an abort, for want of memory, too, or a wrong access of memory, as where the stack ends.
    Fault(i32),
    /// By an exit that no one asked for, as of a panic.
    Exit(i32),
    /// By a signal from outside: it tells nothing of the work.
    Ended(i32),
}

impl Died {
    /// Of the number of a signal.
    pub fn of_signal(signal: i32) -> Self {
        // SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: what a process does to itself. The numbers are those
        // of all Linux ports that the operator is built for.
        match signal {
            4 | 5 | 6 | 7 | 8 | 11 | 31 => Self::Fault(signal),
            _ => Self::Ended(signal),
        }
    }
}

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(6) => f.write_str("it aborted, as for want of memory or stack"),
            Self::Fault(11) => f.write_str("it was at the end of its stack"),
            Self::Fault(signal) => write!(f, "signal {signal}"),
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Ended(signal) => write!(f, "signal {signal} from outside"),
        }
    }
}

/// How an object may be tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// As all others.
    AsOthers,
    /// With nothing else at work, so that nothing else can be what dies.
    Alone,
    /// Not at all.
    SetAside {
        /// How often a process died of it.
        deaths: u32,
        /// When it is tried again.
        again: Duration,
    },
}

/// What is known of the objects in whose work a process died.
#[derive(Debug)]
pub struct Suspects<W>(HashMap<W, Suspect>);

impl<W> Default for Suspects<W> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    deaths: u32,
    aside_since: Option<Instant>,
    last: Instant,
}

/// What is not heard of for so long is forgotten, so that objects that come and go leave nothing behind.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

impl<W: Clone + Eq + Hash> Suspects<W> {
    /// How the object may be tried. An edit makes another `W` of it.
    pub fn next(&mut self, whose: &W, now: Instant) -> Try {
        let Some(known) = self.0.get(whose).copied() else { return Try::AsOthers };
        match known.aside_since {
            Some(since) if now.saturating_duration_since(since) < POISON_ASIDE => {
                let again = POISON_ASIDE.saturating_sub(now.saturating_duration_since(since));
                Try::SetAside { deaths: known.deaths, again }
            }
            // Once in an hour it may die once more, alone.
            Some(_) => Try::Alone,
            None if known.deaths >= POISON_DEATHS => Try::Alone,
            None => Try::AsOthers,
        }
    }

    /// A process died in its work. False where that says nothing of the object.
    pub fn died(&mut self, whose: &W, how: Died, now: Instant) -> bool {
        if matches!(how, Died::Ended(_)) {
            return false;
        }
        self.0.retain(|_, known| now.saturating_duration_since(known.last) < FORGOTTEN);
        let known =
            self.0.entry(whose.clone()).or_insert(Suspect { deaths: 0, aside_since: None, last: now });
        if known.deaths >= POISON_DEATHS {
            known.aside_since = Some(now);
        }
        known.deaths = known.deaths.saturating_add(1);
        known.last = now;
        true
    }

    /// Its work was done.
    pub fn lived(&mut self, whose: &W) {
        self.0.remove(whose);
    }

    /// Forgets objects.
    pub fn forget(&mut self, is_gone: impl Fn(&W) -> bool) {
        self.0.retain(|whose, _| !is_gone(whose));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABORT: Died = Died::Fault(6);

    #[test]
    fn an_object_is_set_aside_when_it_dies_alone_and_is_tried_again_after_an_hour_or_an_edit() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        let mut now = start;
        for expected in [Try::AsOthers, Try::AsOthers, Try::Alone] {
            assert_eq!(suspects.next(&("a", 1), now), expected);
            assert!(suspects.died(&("a", 1), ABORT, now));
            now += Duration::from_secs(1);
        }
        let aside = |again| Try::SetAside { deaths: 3, again: Duration::from_secs(again) };
        assert_eq!(suspects.next(&("a", 1), now), aside(3599));
        assert_eq!(suspects.next(&("a", 2), now), Try::AsOthers, "an edit");
        assert_eq!(suspects.next(&("b", 1), now), Try::AsOthers, "another object");
        now += POISON_ASIDE;
        assert_eq!(suspects.next(&("a", 1), now), Try::Alone);
        assert!(suspects.died(&("a", 1), ABORT, now));
        assert!(matches!(suspects.next(&("a", 1), now), Try::SetAside { deaths: 4, .. }));
        suspects.lived(&("a", 1));
        assert_eq!(suspects.next(&("a", 1), now), Try::AsOthers);
    }

    #[test]
    fn a_hundred_kills_from_outside_set_nothing_aside() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        for signal in [9, 15].repeat(50) {
            assert!(!suspects.died(&"a", Died::of_signal(signal), now));
        }
        assert_eq!(suspects.next(&"a", now), Try::AsOthers);
    }

    #[test]
    fn who_lives_once_is_no_suspect_any_more() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        for _ in 0..10 {
            suspects.died(&"a", Died::of_signal(11), now);
            suspects.died(&"a", Died::Exit(101), now);
            suspects.lived(&"a");
            assert_eq!(suspects.next(&"a", now), Try::AsOthers);
        }
    }

    #[test]
    fn objects_that_come_and_go_leave_nothing_behind() {
        let (mut suspects, mut now) = (Suspects::default(), Instant::now());
        for object in 0..1_000 {
            suspects.died(&object, ABORT, now);
            now += Duration::from_secs(60);
        }
        assert!(suspects.0.len() <= 121, "{}", suspects.0.len());
    }
}
