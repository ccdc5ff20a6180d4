use super::*;

fn note(namespace: &str, text: impl Into<String>) -> Note {
    let about = ObjectReference {
        namespace: Some(namespace.into()),
        name: Some("db".into()),
        ..ObjectReference::default()
    };
    Note { about, type_: "Warning", reason: "InvalidSpec", action: "Reconcile", text: text.into() }
}

/// A queue, and the time.
struct Run {
    queue: EventQueue,
    start: Instant,
    now: Instant,
}

impl Run {
    fn new() -> Self {
        let start = Instant::now();
        Self { queue: EventQueue::new(start), start, now: start }
    }

    fn say(&mut self, namespace: &str, text: impl Into<String>) -> bool {
        self.queue.offer(note(namespace, text), self.now)
    }

    /// Writes all that may be written in so many seconds from now; what, and when.
    fn write_for(&mut self, seconds: u64) -> Vec<(f64, DueEvent)> {
        let until = self.now + Duration::from_secs(seconds);
        let mut written = Vec::new();
        loop {
            match self.queue.next(self.now) {
                NextEvent::Write(due) => {
                    let name = due.name.clone().unwrap_or_else(|| format!("event-{:x}", due.id));
                    self.queue.written(due.id, Some(name), self.now);
                    written.push(((self.now - self.start).as_secs_f64(), *due));
                }
                NextEvent::Wait(at) if at < until => {
                    assert!(at > self.now, "it would spin");
                    self.now = at;
                }
                NextEvent::Wait(_) | NextEvent::Rest => {
                    self.now = until;
                    return written;
                }
            }
        }
    }
}

#[test]
fn a_namespace_has_three_hundred_at_once_and_five_a_second() {
    let mut run = Run::new();
    let taken = (0..1000).filter(|n| run.say("loud", n.to_string())).count();
    assert_eq!(taken, 300);
    assert!(run.say("quiet", "hello"), "another's budget is its own");
    run.now += Duration::from_secs(10);
    let taken = (1000..2000).filter(|n| run.say("loud", n.to_string())).count();
    assert_eq!(taken, 50);
}

#[test]
fn the_process_writes_fifty_a_second_and_each_namespace_has_its_turn() {
    let mut run = Run::new();
    for n in 0..300 {
        run.say("loud", n.to_string());
    }
    run.say("quiet", "hello");
    let written = run.write_for(4);
    let at = written.iter().position(|(_, due)| due.note.namespace().as_ref() == "quiet").unwrap();
    assert!(at <= 1, "it was number {at}");
    for second in 1..4 {
        let until = written.iter().filter(|(at, _)| *at <= f64::from(second)).count();
        assert!(until <= 50 + 50 * usize::try_from(second).unwrap(), "{until} in {second} s");
    }
    assert!((245..=250).contains(&written.len()), "{}", written.len());
    assert_eq!(run.write_for(10).len(), 301 - written.len(), "the rest comes later");
    assert_eq!(run.queue.next(run.now), NextEvent::Rest);
}

#[test]
fn a_hundred_of_the_same_are_one_with_a_count() {
    let mut run = Run::new();
    run.say("ns", "the same");
    assert_eq!(run.write_for(1).len(), 1);
    for _ in 1..100 {
        assert!(run.say("ns", "the same"));
    }
    let again = run.write_for(60);
    let counts: Vec<_> = again.iter().map(|(_, due)| (due.count, due.name.is_some())).collect();
    assert_eq!(counts, [(100, true)], "the one that was written before, with its number");
    // Those that come while it waits count, too, and take nothing of the budget.
    for _ in 0..1000 {
        assert!(run.say("other", "before it is written"));
    }
    assert_eq!(run.write_for(1).first().map(|(_, due)| due.count), Some(1000));
    assert!(run.say("other", "something else"));
}

#[test]
fn what_goes_on_for_ever_is_counted_twice_a_minute() {
    let mut run = Run::new();
    let mut writes = Vec::new();
    for _ in 0..600 {
        run.say("ns", "again");
        writes.extend(run.write_for(1));
    }
    assert!((18..=22).contains(&writes.len()), "{}", writes.len());
    let names: std::collections::HashSet<_> =
        writes.iter().skip(1).map(|(_, due)| due.name.clone()).collect();
    assert_eq!(names.len(), 1);
    assert!(writes.last().is_some_and(|(_, due)| due.count > 550));
}

#[test]
fn what_is_said_after_a_long_while_is_news() {
    let mut run = Run::new();
    run.say("ns", "again");
    run.write_for(1);
    run.now += SAME + Duration::from_secs(1);
    run.say("ns", "again");
    let written = run.write_for(1);
    assert_eq!((written[0].1.count, &written[0].1.name), (1, &None));
}

#[test]
fn one_that_was_not_taken_is_forgotten() {
    let mut run = Run::new();
    run.say("ns", "again");
    let NextEvent::Write(due) = run.queue.next(run.now) else { panic!("nothing to write") };
    run.say("ns", "again");
    run.queue.written(due.id, None, run.now);
    assert!(run.queue.series.is_empty());
    assert_eq!(run.queue.next(run.now), NextEvent::Rest);
}

#[test]
fn a_full_queue_drops_those_of_whoever_has_most_in_it() {
    let mut run = Run::new();
    for namespace in 0..20 {
        for n in 0..300 {
            run.say(&format!("loud-{namespace}"), n.to_string());
        }
    }
    assert_eq!(run.queue.waiting.len(), limits::EVENTS_QUEUE);
    assert!(run.say("quiet", "hello"));
    assert_eq!(run.queue.waiting.len(), limits::EVENTS_QUEUE);
    let first = run.write_for(1);
    assert!(first.iter().any(|(_, due)| due.note.text == "hello"), "it waited behind the others");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut run = Run::new();
    for n in 0..12_000 {
        run.say(&format!("ns-{}", n % 500), n.to_string());
        // Said again, it is to be counted.
        run.say(&format!("ns-{}", n % 500), (n / 60 * 59).to_string());
        if n % 40 == 0 {
            run.write_for(1);
        }
        assert!(run.queue.series.len() <= limits::EVENTS_QUEUE + limits::EVENTS_KEPT);
    }
    run.write_for(120);
    assert!(run.queue.later.is_empty() && run.queue.namespaces.len() <= 500);
}
