//! What goes to disk, what comes back, and in which order.

use super::*;
use crate::deliver::spool::faults::at_once;
use crate::deliver::spool::{self, Spool};

fn spooling(disk: &FaultyDisk) -> Spooling<FaultyDisk> {
    Spooling {
        disk: disk.clone(),
        settings: spool::Settings {
            folder: "/spool/simulated".into(),
            destination: "simulated".into(),
            max_bytes: 1 << 30,
            max_age: Duration::from_hours(24),
        },
        sync_interval: SECOND,
        strict: false,
        always: false,
    }
}

fn world(disk: &FaultyDisk) -> World {
    World { spool: Some(spooling(disk)), ..World::default() }
}

fn segments(disk: &FaultyDisk) -> usize {
    disk.paths().iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).count()
}

/// Lines that lie on disk.
fn on_disk(disk: &FaultyDisk) -> Vec<String> {
    let settings = spooling(disk).settings;
    let (mut spool, _) = at_once(Spool::open(disk.clone(), settings)).unwrap();
    let mut lines = Vec::new();
    while let Some(record) = at_once(spool.next(0)).unwrap() {
        let text = std::str::from_utf8(&record.lines).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

fn numbers(count: u32) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_by_key(|line| line.parse::<u32>().unwrap());
    lines
}

/// A second of each batch; the destination is away until `back`.
fn away_until(back: usize) -> impl Fn(usize, &[&str]) -> Answer {
    move |number, _| if number < back { unavailable(None) } else { delivered() }
}

#[test]
fn a_healthy_destination_leaves_no_trace() {
    let disk = FaultyDisk::new(1);
    let ended = world(&disk).run(&Feed::at_once([10; 20]), |_, _| delivered());
    assert_eq!((ended.counts.delivered, ended.counts.spooled), (200, 0));
    assert!(disk.paths().is_empty(), "{:?}", disk.paths());
}

#[test]
fn an_outage_goes_to_disk_within_three_seconds_and_comes_back() {
    let disk = FaultyDisk::new(1);
    let mut world = world(&disk);
    world.settings.request_bytes_max = 1000;
    world.looks = vec![5 * SECOND, 10 * SECOND];
    let feed = Feed { gap: 100 * MS, sizes: vec![1; 2000] };
    let ended = world.run(&feed, away_until(20));
    for (look, at) in ended.looks.iter().zip([5, 10]) {
        assert!(look.held <= 31, "what came in the last three seconds: {look:?}");
        assert_eq!(look.held + look.spooled, look.taken, "at {at} s");
    }
    assert_eq!(ended.counts.delivered + ended.counts.spooled, 2000);
    assert_eq!(ended.counts.spooled, 0, "came back beside what was new");
    assert_eq!(sorted(ended.stored), numbers(2000), "each once");
    assert_eq!(segments(&disk), 0);
}

#[test]
fn a_stop_during_an_outage_and_the_next_start() {
    let disk = FaultyDisk::new(1);
    let down =
        world(&disk).run(&Feed { gap: 100 * MS, sizes: vec![2; 50] }, |_, _| unavailable(None));
    assert_eq!((down.counts.spooled, down.counts.lost.sum()), (100, 0));
    assert!(down.counts.spool_bytes > 0);
    let up = world(&disk).run(&Feed { gap: 10 * SECOND, sizes: vec![1] }, |_, _| delivered());
    assert_eq!((up.counts.found, up.counts.delivered, up.counts.spooled), (100, 101, 0));
    // The new batch is called 0 too.
    let mut expected = numbers(100);
    expected.push("0".into());
    assert_eq!(sorted(up.stored), sorted(expected), "each once");
    assert_eq!((segments(&disk), up.counts.spool_bytes), (0, 0));
}

#[test]
fn order_is_kept_where_it_matters() {
    for always in [false, true] {
        let disk = FaultyDisk::new(1);
        let mut world = World { unordered: false, ..world(&disk) };
        world.spool.as_mut().unwrap().always = always;
        let feed = Feed { gap: 500 * MS, sizes: vec![3; 400] };
        let ended = world.run(&feed, |number, _| match number % 30 {
            0..4 => unavailable(None),
            _ => delivered(),
        });
        let stored = ended.stored.len();
        assert!(stored > 600, "{stored}");
        assert_eq!(ended.stored, numbers(u32::try_from(stored).unwrap()), "in order");
        let rest: Vec<String> = (stored..1200).map(|number| number.to_string()).collect();
        assert_eq!(on_disk(&disk), rest, "so is the rest");
    }
}

#[test]
fn strict_order_has_one_request_under_way() {
    let disk = FaultyDisk::new(1);
    let mut world = world(&disk);
    world.spool.as_mut().unwrap().strict = true;
    let ended = world.run(&Feed::at_once([10; 20]), |_, _| delivered());
    assert_eq!((ended.under_way_max, ended.counts.delivered), (1, 200));
    assert_eq!(ended.stored, numbers(200), "in order");
}

#[test]
fn the_rest_of_a_record_stays_at_the_front() {
    let disk = FaultyDisk::new(1);
    let strict = || World { unordered: false, ..world(&disk) };
    let down = strict().run(&Feed { gap: SECOND, sizes: vec![6; 5] }, |_, _| unavailable(None));
    assert_eq!(down.counts.spooled, 30);
    // Of the first record some events are delivered and one is refused, then the destination is gone.
    let part = World { deadline: Some(20 * SECOND), ..strict() };
    let part = part.run(&Feed { gap: SECOND, sizes: vec![] }, |number, _| match number {
        0 => (MS, Some(Outcome::RefusedLines { lines: vec![1], reason: reason() })),
        1 => (MS, Some(Outcome::TooLarge)),
        2 => delivered(),
        _ => unavailable(None),
    });
    assert_eq!(part.stored, ["0", "2"]);
    assert_eq!((part.counts.spooled, part.lost(LossReason::Refused)), (27, 1));
    let up = strict().run(&Feed { gap: 10 * SECOND, sizes: vec![1] }, |_, _| delivered());
    assert_eq!(up.counts.found, 27);
    // The new batch is called 0 too.
    assert_eq!(up.stored, [&numbers(30)[3..], &numbers(1)].concat(), "in its place");
}

#[test]
fn a_batch_that_is_larger_than_the_spool_is_cut() {
    let disk = FaultyDisk::new(1);
    let mut small = world(&disk);
    small.spool.as_mut().unwrap().settings.max_bytes = 2000;
    let ended = small.run(&Feed::at_once([5000]), |_, _| unavailable(None));
    let full = ended.lost(LossReason::SpoolFull);
    assert_eq!((ended.counts.spooled + full, ended.counts.lost.sum()), (5000, full));
    assert!(ended.counts.spooled > 200, "as many as fit: {}", ended.counts.spooled);
    // Not one event fits.
    let disk = FaultyDisk::new(1);
    let mut tiny = world(&disk);
    tiny.spool.as_mut().unwrap().settings.max_bytes = 30;
    let feed = Feed { gap: SECOND, sizes: vec![3; 10] };
    let ended = tiny.run(&feed, |_, _| unavailable(None));
    assert_eq!((ended.lost(LossReason::SpoolFull), ended.counts.lost.sum()), (30, 30));
}

#[test]
fn what_was_tried_before_it_was_written_is_tried_again() {
    let disk = FaultyDisk::new(1);
    let ended =
        world(&disk).run(&Feed { gap: 10 * SECOND, sizes: vec![1; 2] }, |number, _| match number {
            0 => (
                4 * SECOND,
                Some(Outcome::Unavailable { reason: reason(), after: Some(4 * SECOND) }),
            ),
            _ => delivered(),
        });
    assert_eq!((ended.counts.delivered, ended.counts.retries), (2, 1));
}

#[test]
fn what_waits_on_disk_has_an_age() {
    let disk = FaultyDisk::new(1);
    let mut world = world(&disk);
    world.looks = vec![60 * SECOND];
    world.deadline = Some(100 * SECOND);
    let down = world.run(&Feed { gap: SECOND, sizes: vec![1; 80] }, |_, _| unavailable(None));
    let second = 1_000_000_000;
    assert_eq!(down.looks[0].oldest_ns, second, "the first");
    assert_eq!(down.counts.oldest_ns, second);
    let mut world = self::world(&disk);
    world.looks = vec![SECOND];
    world.deadline = Some(15 * SECOND);
    let up = world.run(&Feed { gap: 10 * SECOND, sizes: vec![1] }, |number, _| match number {
        0..40 => delivered(),
        _ => (30 * SECOND, None),
    });
    let oldest = up.looks[0].oldest_ns;
    assert!(oldest > 10 * second && oldest < 60 * second, "some are delivered: {oldest}");
}

#[test]
fn what_is_new_does_not_wait_for_what_is_old() {
    let disk = FaultyDisk::new(1);
    let down = world(&disk).run(&Feed::at_once([100; 200]), |_, _| unavailable(None));
    assert_eq!(down.counts.spooled, 20_000);
    // As many requests as can be answered are wanted for what is new.
    let feed = Feed { gap: 7 * MS, sizes: vec![1; 1000] };
    let world = World { looks: vec![2 * SECOND], ..world(&disk) };
    let up = world.run(&feed, |_, _| delivered());
    let old = up.seen.iter().filter(|seen| seen.body.lines().count() == 100).count();
    assert_eq!(old, 200);
    assert!(up.looks[0].held < 20, "nothing new piles up: {:?}", up.looks[0]);
    assert_eq!((up.counts.delivered, up.counts.spooled), (21_000, 0));
}

#[test]
fn everything_is_written_first_when_asked_to() {
    let disk = FaultyDisk::new(1);
    let mut world = world(&disk);
    world.spool.as_mut().unwrap().always = true;
    world.looks = vec![1010 * MS];
    let ended = world.run(&Feed { gap: 100 * MS, sizes: vec![5; 40] }, |_, _| delivered());
    let look = &ended.looks[0];
    assert_eq!((look.held, look.spooled), (0, 5), "under way, and on disk: {look:?}");
    assert_eq!((ended.counts.delivered, ended.counts.retries), (200, 0));
    assert_eq!(sorted(ended.stored), numbers(200));
    assert_eq!(segments(&disk), 0);
}

#[test]
fn the_deadline_writes_what_is_left() {
    let disk = FaultyDisk::new(1);
    let world = World { deadline: Some(5 * SECOND), ..world(&disk) };
    let ended = world.run(&Feed::at_once([10; 12]), |number, _| match number {
        0..4 => delivered(),
        _ => (SECOND, None),
    });
    assert_eq!((ended.counts.delivered, ended.counts.spooled), (40, 80));
    assert_eq!(ended.counts.lost.sum(), 0);
    assert_eq!(sorted([ended.stored, on_disk(&disk)].concat()), numbers(120));
}

#[test]
fn a_full_disk_leaves_memory() {
    let disk = FaultyDisk::new(1);
    disk.set_capacity(10);
    let ended = world(&disk).run(&Feed { gap: SECOND, sizes: vec![5; 100] }, away_until(10));
    assert_eq!((ended.counts.delivered, ended.counts.lost.sum()), (500, 0));
    let world = World { deadline: Some(200 * SECOND), ..world(&disk) };
    let ended = world.run(&Feed { gap: SECOND, sizes: vec![5; 100] }, |_, _| unavailable(None));
    assert_eq!((ended.lost(LossReason::Shutdown), ended.counts.spooled), (500, 0));
}

#[test]
fn records_are_cut_as_batches_are() {
    let disk = FaultyDisk::new(1);
    let mut first = world(&disk);
    first.settings.request_bytes_max = 1000;
    let down = first.run(&Feed::at_once([10; 10]), |_, _| unavailable(None));
    assert_eq!(down.counts.spooled, 100);
    let up = world(&disk).run(&Feed { gap: 10 * SECOND, sizes: vec![1] }, |number, lines| {
        if lines.contains(&"17") {
            (MS, Some(Outcome::RefusedUnnamed { reason: reason() }))
        } else if number == 0 {
            (MS, Some(Outcome::RefusedLines { lines: vec![3], reason: reason() }))
        } else {
            delivered()
        }
    });
    let refused = up.lost(LossReason::Refused);
    assert!((1..=2).contains(&refused), "{refused}");
    assert_eq!((up.counts.delivered + refused, up.counts.spooled), (101, 0));
    assert_eq!(segments(&disk), 0);
}

/// Destinations that do anything at all, and disks that fail now and then: what is neither delivered
/// nor counted lies on disk, and the ledger was right at each moment.
#[test]
fn storms() {
    for seed in 0..60 {
        let disk = FaultyDisk::new(seed);
        let random = RefCell::new(fastrand::Rng::with_seed(seed));
        let sizes: Vec<u32> = (0..200).map(|_| random.borrow_mut().u32(1..60)).collect();
        let mut world = World { unordered: seed % 3 > 0, ..world(&disk) };
        world.settings.seed = seed;
        world.settings.request_bytes_max = [0, 2000][usize::from(seed % 2 == 1)];
        let plan = world.spool.as_mut().unwrap();
        (plan.always, plan.strict) = (seed % 5 == 0, seed % 7 == 0);
        // After the last batch, at 14 s.
        world.deadline = Some(Duration::from_secs(u64::from(random.borrow_mut().u32(16..60))));
        let ended = world.run(&Feed { gap: 70 * MS, sizes }, |_, lines| {
            let mut random = random.borrow_mut();
            if random.u8(..) < 20 {
                disk.fail_in(Some(random.u32(0..5)));
            }
            let delay = Duration::from_micros(random.u64(1..500_000));
            (delay, Some(storm_answer(&mut random, lines)))
        });
        disk.fail_in(None);
        let left = on_disk(&disk);
        assert_eq!(left.len() as u64, ended.counts.spooled, "seed {seed}");
        let all = sorted([ended.stored.clone(), left].concat());
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "twice, seed {seed}");
        let lost = ended.counts.lost.sum();
        assert_eq!(all.len() as u64 + lost, ended.counts.taken, "seed {seed}");
        let full = ended.lost(LossReason::SpoolFull) + ended.lost(LossReason::Crash);
        assert_eq!(full + ended.lost(LossReason::Expired), 0, "seed {seed}");
    }
}

/// Away for so long that what was read back has been tried again for more than a day.
#[test]
fn what_is_on_disk_does_not_expire_in_memory() {
    let hour = Duration::from_hours(1);
    for (max_age, delivered_then) in [(Duration::from_hours(7 * 24), 9), (30 * hour, 6)] {
        let disk = FaultyDisk::new(1);
        let mut world = world(&disk);
        world.settings.backoff_max = hour;
        world.spool.as_mut().unwrap().settings.max_age = max_age;
        world.looks = vec![40 * hour];
        let feed = Feed { gap: 30 * hour, sizes: vec![3; 3] };
        let (away, attempts) = (75 * hour, Cell::new(0));
        let clock = world.clock.clone();
        let ended = world.run(&feed, |_, _| {
            attempts.set(attempts.get() + 1);
            if clock.now() < away { unavailable(None) } else { delivered() }
        });
        assert!(attempts.get() > 40, "tried again and again: {}", attempts.get());
        let look = &ended.looks[0];
        assert_eq!((look.spooled, look.lost.sum()), (3, 0), "kept for a night");
        assert_eq!(ended.counts.delivered, delivered_then, "{max_age:?}: {:?}", ended.counts);
        assert_eq!(ended.lost(LossReason::Expired), 9 - delivered_then);
    }
}

/// Memory is full of what is on disk too, and was tried: it can be read again.
#[test]
fn what_is_on_disk_is_not_pushed_out_of_memory() {
    let disk = FaultyDisk::new(1);
    let mut world = World { unordered: false, ..world(&disk) };
    world.settings.held_bytes_max = 3000;
    let feed = Feed { gap: SECOND, sizes: vec![400; 40] };
    let ended = world.run(&feed, |_, _| unavailable(None));
    assert_eq!((ended.counts.spooled, ended.counts.lost.sum()), (16_000, 0));
    assert_eq!(on_disk(&disk), numbers(16_000), "in order");
}

/// Where order matters, a request hangs until memory would be full many times.
#[test]
fn what_waits_behind_a_request_that_hangs_goes_to_disk_in_order() {
    let minute = 60 * SECOND;
    let away = Outcome::Unavailable { reason: reason(), after: None };
    let refused = Outcome::RefusedLines { lines: vec![3], reason: reason() };
    let answers = [Outcome::Delivered, away, Outcome::TooLarge, refused];
    for (answer, request_bytes_max) in
        answers.into_iter().flat_map(|it| [(it.clone(), 0), (it, 500)])
    {
        let lost = u64::from(matches!(answer, Outcome::RefusedLines { .. }));
        let disk = FaultyDisk::new(1);
        let mut world = World { unordered: false, ..world(&disk) };
        world.settings.held_bytes_max = 3000;
        world.settings.request_bytes_max = request_bytes_max;
        world.looks = vec![minute];
        // The second, so that it is one of several batches.
        let feed = Feed { gap: 500 * MS, sizes: vec![20; 200] };
        let ended = world.run(&feed, |number, _| match number {
            0 => (2 * SECOND, Some(Outcome::Delivered)),
            1 => (minute, Some(answer.clone())),
            _ => delivered(),
        });
        assert!(ended.looks[0].spooled > 1500, "while it hangs: {:?}", ended.looks[0]);
        assert_eq!((ended.counts.lost.sum(), ended.lost(LossReason::Refused)), (lost, lost));
        let merged = ended.seen[1].body.lines().count();
        assert_eq!(merged > 20, request_bytes_max > 0, "{merged} events in the request");
        let stored = [ended.stored, on_disk(&disk)].concat();
        let mut expected = numbers(4000);
        if lost > 0 {
            expected.remove(23);
        }
        assert_eq!(stored, expected, "in order, each once, after {answer:?}");
    }
}

/// The same, and the engine stops while it hangs.
#[test]
fn a_stop_while_a_request_hangs() {
    let disk = FaultyDisk::new(1);
    let deadline = Some(105 * SECOND);
    let mut world = World { unordered: false, deadline, ..world(&disk) };
    world.settings.held_bytes_max = 3000;
    let feed = Feed { gap: 500 * MS, sizes: vec![20; 200] };
    let ended = world.run(&feed, |_, _| (SECOND, None));
    assert_eq!((ended.counts.spooled, ended.counts.lost.sum()), (4000, 0));
    assert_eq!(on_disk(&disk), numbers(4000), "in order");
}

/// The disk hangs, at the start or at a write; the destination works.
#[test]
fn nothing_waits_for_ever_for_a_disk_that_hangs() {
    for (ordered, always, at_start) in
        [(true, false, true), (false, true, true), (false, true, false), (true, true, false)]
    {
        let disk = FaultyDisk::new(1);
        disk.set_stalled(at_start);
        let mut world = World { unordered: !ordered, ..world(&disk) };
        world.spool.as_mut().unwrap().always = always;
        let feed = Feed { gap: SECOND, sizes: vec![5; 40] };
        let ended = world.run(&feed, |number, _| {
            match number {
                2 => disk.set_stalled(true),
                20 => disk.set_stalled(false),
                _ => {}
            }
            delivered()
        });
        let seen = ended.seen.iter().map(|seen| seen.at);
        let gap = seen.clone().zip(seen.skip(1)).map(|(a, b)| b.saturating_sub(a)).max().unwrap();
        assert!(gap < 12 * SECOND && ended.seen[0].at < 12 * SECOND, "{:?}", ended.seen);
        assert_eq!((ended.counts.delivered, ended.counts.lost.sum()), (200, 0));
        assert_eq!(sorted(ended.stored), numbers(200), "each once");
    }
    // Nothing is left to do when it stops, except that the disk has not answered.
    let disk = FaultyDisk::new(1);
    disk.set_stalled(true);
    let mut world = World { deadline: Some(60 * SECOND), unordered: false, ..world(&disk) };
    world.looks = vec![30 * SECOND];
    let ended = world.run(&Feed { gap: SECOND, sizes: vec![5; 20] }, |_, _| delivered());
    assert_eq!((ended.counts.delivered, ended.looks[0].held), (100, 0));
}
