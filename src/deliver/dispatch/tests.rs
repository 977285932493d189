//! Dispatch against simulated destinations. Every publication of the ledger asserts its equation.

mod spool;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use super::{Parts, Settings, Spooling, run};
use crate::deliver::batch::{Batch, Buffer, queue};
use crate::deliver::line::Line;
use crate::deliver::spool::faults::FaultyDisk;
use crate::deliver::{Clock, Outcome};
use crate::observe::ledger::{DeliverCounts, DestinationLedger, Ledger, LossReason};
use crate::simulation::clock::{SimulatedClock, drive};
use crate::simulation::scripted::{Answer, Scripted, Seen};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A batch every `gap`, each of as many lines as `sizes` says: "0", "1", "2", …
struct Feed {
    gap: Duration,
    sizes: Vec<u32>,
}

impl Feed {
    fn at_once(sizes: impl Into<Vec<u32>>) -> Self {
        Self { gap: Duration::ZERO, sizes: sizes.into() }
    }
}

/// What became of it.
struct Ended {
    counts: DeliverCounts,
    seen: Vec<Seen>,
    stored: Vec<String>,
    under_way_max: usize,
    latencies: Vec<(u64, u64)>,
    last_errors: Vec<Option<String>>,
    /// The ledger at those moments.
    looks: Vec<DeliverCounts>,
}

impl Ended {
    fn lost(&self, reason: LossReason) -> u64 {
        self.counts.lost.get(reason)
    }
}

struct World {
    clock: SimulatedClock,
    settings: Settings,
    unordered: bool,
    deadline: Option<Duration>,
    /// When to look at the ledger.
    looks: Vec<Duration>,
    spool: Option<Spooling<FaultyDisk>>,
}

impl Default for World {
    fn default() -> Self {
        // Nothing is merged, so that a request is a batch.
        let settings = Settings { seed: 1, request_bytes_max: 0, ..Settings::default() };
        let clock = SimulatedClock::default();
        Self { clock, settings, unordered: true, deadline: None, looks: Vec::new(), spool: None }
    }
}

impl World {
    fn run(&self, feed: &Feed, script: impl Fn(usize, &[&str]) -> Answer) -> Ended {
        let clock = self.clock.clone();
        let mut transport = Scripted::new(&clock, script);
        transport.unordered = self.unordered;
        let (seen, stored) = (transport.seen.clone(), transport.stored.clone());
        let under_way = transport.under_way.clone();
        let (mut senders, receiver) = queue(1);
        let mut sender = senders.pop().unwrap();
        let ledger = Arc::clone(&Ledger::new(1, 1, &["simulated".into()]).destinations[0]);
        let latencies = RefCell::new(Vec::new());
        let feeder = async {
            let mut line = 0;
            for &events in &feed.sizes {
                clock.sleep(feed.gap).await;
                let mut bytes = sender.buffer(1024);
                assert!(bytes.is_empty());
                write_lines(&mut bytes, &mut line, events);
                let bytes = bytes.freeze();
                let batch = Batch { bytes, events, oldest_ns: clock.wall_ns().max(1), shard: 0 };
                while !sender.has_room() {
                    clock.sleep(MS).await;
                }
                sender.try_send(batch).unwrap();
            }
            drop(sender);
        };
        let deadline = async {
            match self.deadline {
                Some(deadline) => clock.sleep(deadline).await,
                None => pending().await,
            }
        };
        let dispatch = run(
            Parts {
                ledger: Arc::clone(&ledger),
                receiver,
                clock: &clock,
                settings: self.settings,
                spooling: self.spool.clone(),
            },
            transport,
            deadline,
            |age, events| latencies.borrow_mut().push((age, events)),
        );
        let looks = look(&ledger, &clock, &self.looks);
        let ((), (), looks) =
            drive(&clock, async { tokio::join!(biased; feeder, dispatch, looks) });
        let counts = ledger.delivered.read();
        assert!(counts.balanced());
        assert_eq!(counts.held, 0, "every event has an outcome, or is on disk");
        assert_eq!(counts.oldest_ns == 0, counts.spooled == 0, "{counts:?}");
        assert_eq!(counts.taken, feed.sizes.iter().map(|&events| u64::from(events)).sum::<u64>());
        let (seen, stored) = (seen.borrow().clone(), stored.borrow().clone());
        let latencies = latencies.into_inner();
        let (last_errors, looks) = looks.into_iter().unzip();
        let under_way_max = under_way.get().1;
        Ended { counts, seen, stored, under_way_max, latencies, last_errors, looks }
    }
}

async fn look(
    ledger: &DestinationLedger,
    clock: &SimulatedClock,
    looks: &[Duration],
) -> Vec<(Option<String>, DeliverCounts)> {
    let mut found = Vec::new();
    for at in looks {
        clock.sleep(at.saturating_sub(clock.now())).await;
        found.push((ledger.last_error.get(), ledger.delivered.read()));
    }
    found
}

fn write_lines(bytes: &mut Buffer, line: &mut u32, events: u32) {
    for _ in 0..events {
        Line::append(bytes, 20, |out| out.bytes(line.to_string().as_bytes()));
        *line += 1;
    }
}

fn delivered() -> Answer {
    (20 * MS, Some(Outcome::Delivered))
}

fn unavailable(after: Option<Duration>) -> Answer {
    (MS, Some(Outcome::Unavailable { reason: "busy".into(), after }))
}

fn reason() -> String {
    "because".into()
}

#[test]
fn delivers_with_several_under_way() {
    let ended = World::default().run(&Feed::at_once([10; 20]), |_, _| delivered());
    assert_eq!(ended.counts.delivered, 200);
    assert_eq!(ended.counts.batches, 20);
    assert_eq!(ended.counts.retries, 0);
    assert_eq!(ended.under_way_max, 4);
    assert_eq!(ended.latencies.iter().map(|(_, events)| events).sum::<u64>(), 200);
    assert!(ended.latencies.iter().all(|(age, _)| *age >= 19_000_000), "{:?}", ended.latencies);
    assert_eq!(ended.counts.bytes, ended.seen.iter().map(|s| s.body.len() as u64).sum::<u64>());
}

#[test]
fn keeps_the_order_where_it_matters() {
    let world = World { unordered: false, ..World::default() };
    let ended = world.run(&Feed::at_once([3; 20]), |number, _| match number % 3 {
        0 => unavailable(None),
        _ => delivered(),
    });
    assert_eq!(ended.under_way_max, 1);
    let expected: Vec<String> = (0..60).map(|line| line.to_string()).collect();
    assert_eq!(ended.stored, expected);
    assert!(ended.counts.retries > 0);
}

#[test]
fn counts_a_partial_write() {
    let ended = World::default().run(&Feed::at_once([10, 4]), |number, _| {
        let refused = [3, 99][number]; // More than the batch has is all of it.
        (MS, Some(Outcome::Partial { refused, reason: reason() }))
    });
    assert_eq!((ended.counts.delivered, ended.lost(LossReason::Refused)), (7, 7));
    assert_eq!(ended.seen.len(), 2);
}

#[test]
fn drops_named_lines_and_sends_the_rest() {
    let ended = World::default().run(&Feed::at_once([10]), |number, _| match number {
        // Out of order, twice, and one that is not there.
        0 => (MS, Some(Outcome::RefusedLines { lines: vec![7, 2, 7, 10], reason: reason() })),
        _ => delivered(),
    });
    assert_eq!((ended.counts.delivered, ended.lost(LossReason::Refused)), (8, 2));
    assert_eq!(ended.stored.join(","), "0,1,3,4,5,6,8,9");
    assert_eq!(ended.seen.len(), 2);
}

#[test]
fn all_lines_named() {
    let ended = World::default().run(&Feed::at_once([2]), |_, _| {
        (MS, Some(Outcome::RefusedLines { lines: vec![0, 1], reason: reason() }))
    });
    assert_eq!(ended.lost(LossReason::Refused), 2);
    assert_eq!(ended.seen.len(), 1);
}

#[test]
fn finds_the_events_that_nobody_names() {
    let bad: HashSet<&str> = ["17", "18", "63", "99"].into();
    for named in [false, true] {
        let ended = World::default().run(&Feed::at_once([100]), |_, lines| {
            if !lines.iter().any(|line| bad.contains(line)) {
                return delivered();
            }
            // A destination that names lines that are not there gets the same treatment.
            let outcome = if named {
                Outcome::RefusedLines { lines: vec![1000], reason: reason() }
            } else {
                Outcome::RefusedUnnamed { reason: reason() }
            };
            (MS, Some(outcome))
        });
        assert_eq!((ended.counts.delivered, ended.lost(LossReason::Refused)), (96, 4));
        assert!(ended.stored.iter().all(|line| !bad.contains(line.as_str())));
        assert!(ended.seen.len() < 60, "two requests a level for each: {}", ended.seen.len());
    }
}

#[test]
fn halves_what_is_too_large() {
    let ended = World::default().run(&Feed::at_once([10]), |_, lines| match lines {
        _ if lines.len() > 3 => (MS, Some(Outcome::TooLarge)),
        _ if lines.contains(&"5") => (MS, Some(Outcome::TooLarge)),
        _ => delivered(),
    });
    assert_eq!((ended.counts.delivered, ended.lost(LossReason::Refused)), (9, 1));
}

#[test]
fn leaves_a_dead_destination_alone_ever_longer() {
    // The second batch keeps the queue open: while draining, waits are short.
    let feed = Feed { gap: 10_000 * SECOND, sizes: vec![1; 2] };
    let ended = World::default().run(&feed, |number, _| match number {
        0..200 => unavailable(None),
        _ => delivered(),
    });
    assert_eq!(ended.counts.delivered, 2);
    let gaps: Vec<Duration> =
        ended.seen.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at)).collect();
    let (early, late) = (&gaps[..3], &gaps[99..199]);
    assert!(early.iter().all(|gap| *gap <= SECOND + MS), "{early:?}");
    let mean = late.iter().sum::<Duration>() / 100;
    assert!(mean > 12 * SECOND && mean < 18 * SECOND, "half of 30 s: {mean:?}");
    assert!(late.iter().all(|gap| *gap <= 30 * SECOND + MS), "{late:?}");
}

#[test]
fn four_that_fail_together_are_one_failure() {
    let ended = World::default().run(&Feed::at_once([1; 4]), |number, _| match number {
        0..4 => unavailable(None),
        _ => delivered(),
    });
    // One probe first, within one first wait.
    assert_eq!(ended.seen[4].at.min(251 * MS), ended.seen[4].at);
    assert!(ended.seen[5].at >= ended.seen[4].at + 20 * MS, "the others wait for the probe");
    assert_eq!(ended.counts.retries, 4);
}

#[test]
fn comes_back_when_asked() {
    let ended = World::default().run(&Feed::at_once([1]), |number, _| match number {
        0 => unavailable(Some(70 * SECOND)),
        _ => delivered(),
    });
    assert!(ended.seen[1].at >= 70 * SECOND);
}

#[test]
fn a_wrong_configuration_keeps_the_events_and_is_shown() {
    let looks = vec![10 * MS, 100_000 * SECOND];
    let world = World { looks, ..World::default() };
    let ended = world.run(&Feed { gap: MS, sizes: vec![5; 3] }, |number, _| match number {
        0..50 => (MS, Some(Outcome::Misconfigured { reason: "no such database".into() })),
        _ => delivered(),
    });
    assert_eq!(ended.counts.delivered, 15);
    assert_eq!(ended.last_errors, [Some("no such database".into()), None]);
}

#[test]
fn memory_is_bounded_and_the_oldest_go_first() {
    let mut world = World { deadline: Some(2 * SECOND), ..World::default() };
    world.settings.held_bytes_max = 100;
    world.settings.in_flight = 1;
    // 100 lines of two bytes and more, one by one; the first is under way for ever.
    let ended = world.run(&Feed { gap: MS, sizes: vec![1; 100] }, |_, _| (SECOND, None));
    // Under way: "0\n". Waiting: the last of "10\n" … "99\n" that fit 98 bytes.
    assert_eq!(ended.lost(LossReason::Shutdown), 1 + 32);
    assert_eq!(ended.lost(LossReason::Expired), 100 - 33);
}

#[test]
fn events_grow_too_old() {
    let mut world = World { deadline: Some(100 * SECOND), ..World::default() };
    world.settings.age_max = 10 * SECOND;
    let ended = world.run(&Feed { gap: SECOND, sizes: vec![1; 50] }, |_, _| unavailable(None));
    assert_eq!(ended.lost(LossReason::Expired), 50);
    assert_eq!(ended.lost(LossReason::Shutdown), 0);
}

#[test]
fn one_that_chokes_the_destination_does_not_hold_up_the_others() {
    let mut world = World { deadline: Some(3600 * SECOND), ..World::default() };
    world.settings.age_max = 600 * SECOND;
    let ended = world.run(&Feed::at_once([1; 50]), |_, lines| match lines {
        ["0"] => unavailable(None),
        _ => delivered(),
    });
    assert_eq!((ended.counts.delivered, ended.lost(LossReason::Expired)), (49, 1));
}

#[test]
fn shutdown_flushes_what_it_can() {
    // The senders go with the second batch, at 2 h, amid waits of up to 30 s. From then on attempts
    // come soon, and the sixth finds the destination back.
    let end = 7200 * SECOND;
    let world = World { deadline: Some(end + 10 * SECOND), ..World::default() };
    let since_end = Cell::new(0);
    let ended = world.run(&Feed { gap: 3600 * SECOND, sizes: vec![7; 2] }, |_, lines| {
        if lines[0] == "7" || since_end.get() > 0 {
            since_end.set(since_end.get() + 1);
        }
        if since_end.get() > 5 { delivered() } else { unavailable(None) }
    });
    assert_eq!((ended.counts.delivered, ended.lost(LossReason::Shutdown)), (14, 0));
}

#[test]
fn the_deadline_counts_what_is_left() {
    let world = World { deadline: Some(5 * SECOND), ..World::default() };
    let ended = world.run(&Feed::at_once([10; 12]), |number, _| match number {
        0..4 => delivered(),
        _ => (SECOND, None),
    });
    assert_eq!((ended.counts.delivered, ended.lost(LossReason::Shutdown)), (40, 80));
}

#[test]
fn a_backlog_makes_larger_requests() {
    let mut world = World::default();
    world.settings.held_bytes_max = 50_000;
    world.settings.request_bytes_max = 10_000;
    // 100 lines/ms into a destination that answers after 20 ms: 4 requests of 100 lines at a time
    // would be a fifth of that.
    let ended = world.run(&Feed { gap: MS, sizes: vec![100; 1000] }, |_, _| delivered());
    assert_eq!((ended.counts.delivered, ended.counts.retries), (100_000, 0));
    let longest = ended.seen.iter().map(|seen| seen.body.len()).max().unwrap();
    assert!(longest > 2_000 && longest <= 10_000, "{longest}");
    assert_eq!(ended.under_way_max, 4);
}

#[test]
fn merging_keeps_the_order() {
    let mut world = World { unordered: false, ..World::default() };
    world.settings.request_bytes_max = 100;
    let ended = world.run(&Feed::at_once([3; 50]), |number, _| match number % 3 {
        2 => unavailable(None),
        _ => delivered(),
    });
    let expected: Vec<String> = (0..150).map(|line| line.to_string()).collect();
    assert_eq!(ended.stored, expected);
    assert!(ended.seen.len() < 50, "{}", ended.seen.len());
}

/// What was merged with an event that the destination chokes on gets through without it.
#[test]
fn merging_takes_no_others_along() {
    let mut world = World { deadline: Some(3600 * SECOND), ..World::default() };
    world.settings.request_bytes_max = 1000;
    world.settings.age_max = 600 * SECOND;
    let ended = world.run(&Feed::at_once([1; 50]), |_, lines| {
        if lines.contains(&"20") { unavailable(None) } else { delivered() }
    });
    assert_eq!((ended.counts.delivered, ended.lost(LossReason::Expired)), (49, 1));
}

#[test]
fn requests_shrink_for_good_when_too_large() {
    let mut world = World::default();
    world.settings.request_bytes_max = 10_000;
    let ended = world.run(&Feed { gap: MS, sizes: vec![50; 500] }, |_, lines| match lines.len() {
        301.. => (20 * MS, Some(Outcome::TooLarge)),
        _ => delivered(),
    });
    assert_eq!((ended.counts.delivered, ended.lost(LossReason::Refused)), (25_000, 0));
    let refused = ended.seen.iter().filter(|seen| seen.body.lines().count() > 300).count();
    assert!((1..=12).contains(&refused), "{refused} of {}", ended.seen.len());
}

/// Hundreds of batches against a destination that does anything at all: every good line arrives,
/// every bad one is counted, and the same seed gives the same run.
#[test]
fn storms() {
    for seed in 0..40 {
        let storm = || {
            let random = RefCell::new(fastrand::Rng::with_seed(seed));
            let sizes: Vec<u32> = (0..200).map(|_| random.borrow_mut().u32(1..60)).collect();
            let mut world = World::default();
            world.settings.seed = seed;
            world.settings.request_bytes_max = [0, 2000][usize::from(seed % 2 == 1)];
            world.run(&Feed { gap: 7 * MS, sizes }, |_, lines| {
                let mut random = random.borrow_mut();
                let delay = Duration::from_micros(random.u64(1..50_000));
                (delay, Some(storm_answer(&mut random, lines)))
            })
        };
        let ended = storm();
        let total = ended.counts.taken;
        let bad = (0..total).filter(|line| is_bad(&line.to_string())).count() as u64;
        assert_eq!(ended.lost(LossReason::Refused), bad, "seed {seed}");
        assert_eq!(ended.counts.delivered, total - bad, "seed {seed}");
        let stored: HashSet<&String> = ended.stored.iter().collect();
        assert_eq!(stored.len(), ended.stored.len(), "nothing is stored twice");
        assert_eq!(stored.len() as u64, total - bad, "seed {seed}");
        assert_eq!(ended.seen, storm().seen, "seed {seed} replays");
    }
}

fn is_bad(line: &str) -> bool {
    line.ends_with("13")
}

fn storm_answer(random: &mut fastrand::Rng, lines: &[&str]) -> Outcome {
    if random.u8(..) < 60 {
        return match random.u8(..4) {
            0 => Outcome::Misconfigured { reason: reason() },
            1 if lines.len() > 1 => Outcome::TooLarge,
            2 => Outcome::Unavailable { reason: reason(), after: Some(SECOND) },
            _ => Outcome::Unavailable { reason: reason(), after: None },
        };
    }
    let bad: Vec<u32> = (0..).zip(lines).filter(|(_, l)| is_bad(l)).map(|(n, _)| n).collect();
    match bad.len() {
        0 => Outcome::Delivered,
        _ if random.bool() => Outcome::RefusedUnnamed { reason: reason() },
        _ => Outcome::RefusedLines { lines: bad, reason: reason() },
    }
}
