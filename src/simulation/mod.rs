//! The engine without threads, sockets and files: its real shards, dispatch and spool on simulated
//! time, network and disk, all of it decided by one seed.
//!
//! | part | what it stands for |
//! |---|---|
//! | [`clock`] | time, which passes when everybody waits; the order in which things go on |
//! | [`broker`] | an MQTT broker that closes the connection in the middle of messages |
//! | [`network`] | servers that refuse, hang, are slow or late, and close in the middle of an answer |
//! | [`checkpoint`] | the totals that a run leaves in a file, and how old they are at the next start |
//! | [`disk`] | disks that are slow, fail, fill up, tear, corrupt and lie about a sync |
//! | [`truth`] | what really became of each event |
//! | [`life`] | one run of the engine, from its start to a stop, a kill or a power failure |
//! | [`world`] | the runs of one seed, and what must be true at their end |
//! | [`scripted`] | a destination that does what a test of dispatch says |
//!
//! What is sent, and what an answer means to dispatch, is decided by real code: the encoders, and for
//! MQTT also the queue before the connection and all that publishes a batch, looks for the message at
//! which a connection is closed, and refuses it. Simulated are the HTTP clients (a [`network::Server`]
//! gives outcomes, not responses) and the MQTT library with the protocol and its connections (a
//! [`broker::Broker`] takes messages, not packets, and pauses on simulated time).
//!
//! After every poll of every future the equations of the ledger hold, and it says exactly as many
//! delivered and refused events as the servers told it of. At the end every event that was accepted
//! was stored, or refused, or counted as lost; and a crash has lost only what was in memory, or, when
//! the power failed, what had not been synced. What a crash has lost is counted by the next run, and
//! right to within what happened after the last checkpoint.
//!
//! `RINGSIDE_SEEDS=10000 cargo test --lib simulation` tries more seeds; `RINGSIDE_SEED=7` that one
//! alone.

mod broker;
mod checkpoint;
pub mod clock;
mod disk;
mod life;
mod network;
pub mod scripted;
mod truth;
mod world;

use std::collections::BTreeSet;
use std::env;

use world::{Crash, End, Summary, World};

/// Seeds that are tried unless `RINGSIDE_SEEDS` says otherwise.
const SEEDS: u64 = 2_000;

/// Steps of a first life at which it crashes.
const STEPS: u64 = 75;

/// So many times somebody waits for the disk until its crashes are enough.
const WAITS: usize = 75;

/// Says what failed, and how it is replayed.
struct Replay(String);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

#[test]
fn every_event_is_delivered_or_spooled_or_counted() {
    let one = number("RINGSIDE_SEED");
    let seeds = one.map_or(0..number("RINGSIDE_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let mut total = Summary::default();
    for seed in seeds {
        let _replay = Replay(format!(
            "seed {seed} fails; replay: RINGSIDE_SEED={seed} cargo test --lib simulation"
        ));
        total += World::new(seed).run();
    }
    println!("{total:?}");
}

/// The same world again and again, each time until one step later.
#[test]
fn a_crash_at_every_await_point() {
    if number("RINGSIDE_SEED").is_some() {
        return;
    }
    for seed in [3, 4, 11] {
        for end in [End::Kill, End::PowerOff] {
            let steps =
                (0..STEPS).take_while(|&step| crash(seed, Crash { life: 0, end, step })).count();
            assert!(steps > 20, "the life is over after {steps}");
        }
    }
}

/// Lives that find what others have left, again and again, each time until they wait for the disk once
/// more: at every step of looking at a folder, completing what is torn, and removing what is done.
#[test]
fn a_crash_at_every_operation_of_a_disk() {
    if number("RINGSIDE_SEED").is_some() {
        return;
    }
    let mut seen = BTreeSet::new();
    for (seed, life) in [(3, 1), (4, 1), (11, 2)] {
        for end in [End::Kill, End::PowerOff] {
            let mut whole = World::new(seed);
            whole.run_to(Crash { life, end, step: u64::MAX });
            for &(step, operation) in whole.waits.iter().take(WAITS) {
                assert!(crash(seed, Crash { life, end, step }), "seed {seed}: over before {step}");
                seen.insert(operation);
            }
        }
    }
    let all = [
        "append",
        "create",
        "create_folder",
        "free",
        "list",
        "lock",
        "read",
        "remove",
        "rename",
        "sync",
        "sync_folder",
        "truncate",
    ];
    assert!(all.iter().all(|it| seen.contains(it)), "{seen:?}");
}

/// A world with this crash; false when the life was over before.
fn crash(seed: u64, crash: Crash) -> bool {
    let _replay = Replay(format!("seed {seed}, {crash:?} fails"));
    let mut world = World::new(seed);
    let summary = world.run_to(crash);
    let reached = world.reached;
    world.end(summary);
    reached
}
