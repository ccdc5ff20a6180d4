//! What is asked for and not yet on its way. Pure: the clock is passed in.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::cut::BatchLimits;
use super::{Answer, Wanted};
use crate::conjur::pace::Lane;

/// Where a caller waits for its answers.
pub(super) type Waiter = mpsc::UnboundedSender<(Wanted, Answer)>;

#[derive(Debug)]
struct Entry {
    waiters: Vec<Waiter>,
    place: (Lane, u64),
    since: Instant,
    weight: usize,
}

/// What goes out together.
#[derive(Debug)]
pub(super) struct Cut {
    pub ids: Vec<(Wanted, Vec<Waiter>)>,
    pub lane: Lane,
}

/// The ids that wait, in the order in which they go out: the foreground first, then by age.
#[derive(Debug)]
pub(super) struct Waiting {
    entries: HashMap<Wanted, Entry>,
    together: BTreeMap<(Lane, u64), Wanted>,
    alone: BTreeMap<(Lane, u64), Wanted>,
    counter: u64,
    newest: Option<Instant>,
    quiet: Duration,
    longest: Duration,
}

impl Waiting {
    /// A batch that is not full goes `quiet` after the newest id came, or `longest` after the oldest.
    pub(super) fn new(quiet: Duration, longest: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            together: BTreeMap::new(),
            alone: BTreeMap::new(),
            counter: 0,
            newest: None,
            quiet,
            longest,
        }
    }

    /// Adds `waiter` to those of `wanted`. The foreground pulls an id of the refreshes forward.
    pub(super) fn add(
        &mut self,
        wanted: &Wanted,
        lane: Lane,
        waiter: Waiter,
        now: Instant,
        weight: impl FnOnce() -> usize,
    ) {
        let queue = if wanted.fits_a_batch() { &mut self.together } else { &mut self.alone };
        if let Some(entry) = self.entries.get_mut(wanted) {
            entry.waiters.push(waiter);
            if lane < entry.place.0 {
                queue.remove(&entry.place);
                entry.place.0 = lane;
                queue.insert(entry.place, wanted.clone());
            }
            return;
        }
        self.counter += 1;
        let place = (lane, self.counter);
        queue.insert(place, wanted.clone());
        let entry = Entry { waiters: vec![waiter], place, since: now, weight: weight() };
        self.entries.insert(wanted.clone(), entry);
        self.newest = Some(now);
    }

    /// The next thing to send, if there is one that may go now: one id alone, or a batch that is full or has waited.
    /// Without `refresh_too`, only what has the foreground in it. Looks at no more than what fits into one batch: tens
    /// of thousands may wait.
    pub(super) fn cut(&mut self, limits: BatchLimits, refresh_too: bool, now: Instant) -> Option<Cut> {
        let may_go = |lane: Lane| lane == Lane::Foreground || refresh_too;
        while let Some((place, id)) = self.alone.first_key_value()
            && may_go(place.0)
            && !self.is_awaited(id)
        {
            if let Some((_, id)) = self.alone.pop_first() {
                self.entries.remove(&id);
            }
        }
        let alone = self.alone.first_key_value().map(|(place, _)| place.0).filter(|lane| may_go(*lane));
        let batch = self.batch(limits, may_go, now);
        match (batch, alone) {
            (Some((lane, _)), Some(single)) if single < lane => self.take_alone(),
            (Some((lane, count)), _) => Some(self.take_batch(lane, count)),
            (None, Some(_)) => self.take_alone(),
            (None, None) => None,
        }
    }

    /// The lane and the size of the batch that may go now, from whose part of the queue the deserted are gone then.
    fn batch(
        &mut self,
        limits: BatchLimits,
        may_go: impl Fn(Lane) -> bool,
        now: Instant,
    ) -> Option<(Lane, usize)> {
        loop {
            let lane = self.together.first_key_value().map(|(place, _)| place.0).filter(|l| may_go(*l))?;
            let weights = self.together.values().filter_map(|wanted| Some(self.entries.get(wanted)?.weight));
            let count = limits.fitting(weights);
            let head = self.together.iter().take(count);
            let deserted: Vec<_> =
                head.filter(|(_, id)| !self.is_awaited(id)).map(|(place, _)| *place).collect();
            if deserted.is_empty() {
                let full = count < self.together.len() || count == limits.count;
                return (full || self.due()? <= now).then_some((lane, count));
            }
            for place in deserted {
                if let Some(id) = self.together.remove(&place) {
                    self.entries.remove(&id);
                }
            }
        }
    }

    /// Whether a caller still waits for it.
    fn is_awaited(&self, id: &Wanted) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.waiters.iter().any(|waiter| !waiter.is_closed()))
    }

    /// When a batch that is not full goes.
    pub(super) fn due(&self) -> Option<Instant> {
        let oldest = |lane: Lane| {
            let first = self.together.range((lane, 0)..=(lane, u64::MAX)).next();
            first.and_then(|(_, wanted)| self.entries.get(wanted)).map(|entry| entry.since)
        };
        let oldest = [Lane::Foreground, Lane::Refresh].into_iter().filter_map(oldest).min()?;
        Some((oldest + self.longest).min(self.newest? + self.quiet))
    }

    fn take_batch(&mut self, lane: Lane, count: usize) -> Cut {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count
            && let Some((_, wanted)) = self.together.pop_first()
        {
            let waiters = self.entries.remove(&wanted).map(|entry| entry.waiters).unwrap_or_default();
            ids.push((wanted, waiters));
        }
        Cut { ids, lane }
    }

    fn take_alone(&mut self) -> Option<Cut> {
        let ((lane, _), wanted) = self.alone.pop_first()?;
        let waiters = self.entries.remove(&wanted)?.waiters;
        Some(Cut { ids: vec![(wanted, waiters)], lane })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conjur::VariableId;

    const LIMITS: BatchLimits = BatchLimits { count: 3, bytes: 1000 };

    fn wanted(id: &str) -> Wanted {
        Wanted::latest(VariableId::new(id).unwrap())
    }

    fn waiting() -> Waiting {
        Waiting::new(Duration::from_millis(100), Duration::from_secs(1))
    }

    fn names(cut: Option<Cut>) -> String {
        cut.map_or("-".to_owned(), |cut| {
            cut.ids.iter().map(|(wanted, _)| wanted.id.as_str()).collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn a_full_batch_goes_at_once_and_the_rest_when_nothing_new_came() {
        let (sender, _keep) = mpsc::unbounded_channel();
        let (mut waiting, start) = (waiting(), Instant::now());
        let ms = |ms| start + Duration::from_millis(ms);
        for id in ["a", "b", "c", "d", "a"] {
            waiting.add(&wanted(id), Lane::Refresh, sender.clone(), start, || 10);
        }
        assert_eq!(names(waiting.cut(LIMITS, true, start)), "a b c");
        assert_eq!(names(waiting.cut(LIMITS, true, ms(50))), "-");
        waiting.add(&wanted("e"), Lane::Refresh, sender.clone(), ms(90), || 10);
        assert_eq!(names(waiting.cut(LIMITS, true, ms(150))), "-", "100 ms after the newest");
        assert_eq!(names(waiting.cut(LIMITS, true, ms(190))), "d e");
    }

    #[test]
    fn the_oldest_waits_a_second_at_most() {
        let (sender, _keep) = mpsc::unbounded_channel();
        let (mut waiting, start) = (waiting(), Instant::now());
        waiting.add(&wanted("a"), Lane::Refresh, sender.clone(), start, || 10);
        waiting.add(&wanted("b"), Lane::Refresh, sender, start + Duration::from_millis(950), || 10);
        assert_eq!(waiting.due(), Some(start + Duration::from_secs(1)));
    }

    #[test]
    fn the_foreground_goes_first_and_fills_up_with_refreshes() {
        let (sender, _keep) = mpsc::unbounded_channel();
        let (mut waiting, now) = (waiting(), Instant::now());
        for (id, lane) in [
            ("r1", Lane::Refresh),
            ("r2", Lane::Refresh),
            ("f1", Lane::Foreground),
            ("r3", Lane::Refresh),
            ("r2", Lane::Foreground),
        ] {
            waiting.add(&wanted(id), lane, sender.clone(), now, || 10);
        }
        assert_eq!(names(waiting.cut(LIMITS, false, now)), "r2 f1 r1");
        let later = now + Duration::from_secs(2);
        assert_eq!(names(waiting.cut(LIMITS, false, later)), "-", "only refreshes are left");
        assert_eq!(names(waiting.cut(LIMITS, true, later)), "r3");
    }

    #[test]
    fn commas_and_pinned_versions_go_alone_and_bytes_cut_too() {
        let (sender, _keep) = mpsc::unbounded_channel();
        let (mut waiting, now) = (waiting(), Instant::now());
        let pinned = Wanted { version: Some(3), ..wanted("p") };
        for wanted in [wanted("a"), wanted("x,y"), pinned, wanted("b")] {
            waiting.add(&wanted, Lane::Refresh, sender.clone(), now, || 600);
        }
        let cuts: Vec<_> = (0..5).map(|_| names(waiting.cut(LIMITS, true, now))).collect();
        assert_eq!(cuts, ["a", "x,y", "p", "-", "-"]);
        assert_eq!(names(waiting.cut(LIMITS, true, now + Duration::from_secs(1))), "b");
    }

    #[test]
    fn ids_whose_callers_have_gone_are_not_sent() {
        let (gone, receiver) = mpsc::unbounded_channel();
        let (sender, _keep) = mpsc::unbounded_channel();
        drop(receiver);
        let (mut waiting, now) = (waiting(), Instant::now());
        waiting.add(&wanted("a"), Lane::Refresh, gone.clone(), now, || 1);
        waiting.add(&wanted("b"), Lane::Refresh, gone, now, || 1);
        waiting.add(&wanted("b"), Lane::Refresh, sender, now, || 1);
        assert_eq!(names(waiting.cut(LIMITS, true, now + Duration::from_secs(1))), "b");
        assert_eq!(waiting.due(), None);
    }
}
