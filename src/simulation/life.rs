//! One life of the engine: its shards and what delivers, each polled when the seed says so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::broker::Broker;
use super::clock::{SimulatedClock, Tasks};
use super::network::Server;
use super::truth::Noting;
use super::world::{End, Place, World};
use crate::deliver::batch::{self, BatchReceiver};
use crate::deliver::mqtt::MqttTransport;
use crate::deliver::mqtt::connection::Connection;
use crate::deliver::{Clock, dispatch};
use crate::event::{Kind, Listener};
use crate::observe::ledger::{
    DestinationLedger, DropReason, Ledger, LossReason, ReceiveCounts, Snapshot,
};
use crate::rules::{EnabledKinds, Rules};
use crate::shard::{Lookups, Output, Shard};
use crate::synthetic::Cluster;

/// Events of one life at most.
const EVENTS: usize = 24;

/// When everything works, what is on disk is delivered within this time.
const PEACE_MAX: Duration = Duration::from_hours(1);

/// After the time to shut down the engine waits so much longer for what is left to be counted.
const LAST_COUNT: Duration = Duration::from_secs(2);

/// How it goes.
pub struct Life {
    end: End,
    /// Polls until it crashes, if it is to.
    steps: u64,
}

impl Life {
    pub fn draw(end: End, steps: u64) -> Self {
        Self { end, steps }
    }
}

/// A datagram that a receiver has taken.
struct Datagram {
    listener: Listener,
    payload: Vec<u8>,
    received_ns: u64,
}

/// What the senders send, and what the receiver counts; all shards take from it.
struct Source<'a> {
    random: fastrand::Rng,
    cluster: &'a mut Cluster,
    left: usize,
    next_at: Duration,
    last_ns: &'a mut u64,
    queue: VecDeque<Datagram>,
    counts: [ReceiveCounts; Listener::COUNT],
    ledger: Arc<Ledger>,
}

impl Source<'_> {
    /// Receives what has come until now.
    fn receive(&mut self, clock: &SimulatedClock) {
        let now = clock.now();
        while self.left > 0 && self.next_at <= now {
            let burst = self.random.usize(1..8).min(self.left);
            self.left -= burst;
            self.next_at = now + Duration::from_millis(self.random.u64(0..=3_000));
            for _ in 0..burst {
                self.receive_one(clock);
            }
        }
        for listener in Listener::ALL {
            self.ledger.receivers[0][listener as usize].publish(&self.counts[listener as usize]);
        }
    }

    /// Until more comes.
    fn next_in(&self, now: Duration) -> Duration {
        if self.left == 0 { Duration::MAX } else { self.next_at.saturating_sub(now) }
    }

    fn receive_one(&mut self, clock: &SimulatedClock) {
        let mut payload = Vec::new();
        let listener = self.cluster.next(&mut payload).kind.listener();
        let counts = &mut self.counts[listener as usize];
        counts.received += 1;
        match self.random.u32(0..40) {
            0 => return counts.dropped.add(DropReason::QueueFull, 1),
            1 => payload.clear(),
            2 => payload.insert(1, b'x'),
            3 => payload[0] = 0xff,
            _ => {}
        }
        counts.handed += 1;
        *self.last_ns = clock.wall_ns().max(*self.last_ns + 1);
        self.queue.push_back(Datagram { listener, payload, received_ns: *self.last_ns });
    }
}

/// When a life is to end, as its parts see it.
#[derive(Clone)]
struct Stop {
    /// Nothing is received any more.
    told: Rc<Cell<bool>>,
    /// What is left then is given up.
    over: Rc<Cell<Option<Duration>>>,
}

impl Stop {
    async fn over(&self, clock: &SimulatedClock) {
        match self.over.get() {
            Some(at) => clock.sleep(at.saturating_sub(clock.now())).await,
            None => pending().await,
        }
    }

    fn is_over(&self, now: Duration) -> bool {
        self.told.get() && self.over.get().is_some_and(|at| now >= at)
    }
}

/// The thread of a shard.
async fn serve_shard(
    mut shard: Shard,
    source: Rc<RefCell<Source<'_>>>,
    clock: SimulatedClock,
    stop: Stop,
) {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
    loop {
        source.borrow_mut().receive(&clock);
        // What a receiver has handed over waits a moment.
        clock.sleep(Duration::from_micros(300)).await;
        let now = clock.now();
        shard.begin_turn();
        let most = source.borrow_mut().random.usize(1..8);
        let mut taken = 0;
        while taken < most
            && let Some(it) = source.borrow_mut().queue.pop_front()
        {
            if stop.is_over(now) {
                shard.abandon(it.listener);
            } else {
                shard.take(it.listener, &it.payload, address, it.received_ns, now);
            }
            taken += 1;
        }
        shard.end_turn(&clock);
        if taken > 0 {
            continue;
        }
        if stop.told.get() {
            break;
        }
        let wait = shard.deadline().map_or(Duration::from_secs(1), |at| at.saturating_sub(now));
        let next = source.borrow().next_in(now);
        clock.sleep(wait.min(next).clamp(Duration::from_millis(1), Duration::from_secs(1))).await;
    }
    while !shard.flush(clock.now(), stop.is_over(clock.now())) {
        clock.sleep(Duration::from_millis(1)).await;
    }
}

/// Ends the life when it is time.
async fn watch(
    end: End,
    stop: Stop,
    stop_at: Duration,
    source: Rc<RefCell<Source<'_>>>,
    ledger: Arc<Ledger>,
    clock: SimulatedClock,
) {
    clock.sleep(stop_at.saturating_sub(clock.now())).await;
    if end == End::Peace {
        let limit = clock.now() + PEACE_MAX;
        let is_done = || {
            let snapshot = ledger.snapshot();
            let spooled = snapshot.destinations.iter().any(|it| it.counts.spooled > 0);
            source.borrow().left == 0 && snapshot.at_rest() && !spooled
        };
        while !is_done() {
            assert!(clock.now() < limit, "nothing moves any more: {:?}", ledger.snapshot());
            clock.sleep(Duration::from_secs(1)).await;
        }
    } else {
        // The socket is closed to what comes later.
        source.borrow_mut().left = 0;
    }
    stop.told.set(true);
}

/// Starts what delivers, and returns what each shard writes to.
fn start_places<'a>(
    places: &[Place],
    (shards, calm): (usize, bool),
    (ledger, clock, stop): (&Ledger, &'a SimulatedClock, &Stop),
    random: &mut fastrand::Rng,
    tasks: &mut Tasks<'a>,
) -> Vec<Vec<Output>> {
    let mut outputs: Vec<Vec<Output>> = (0..shards).map(|_| Vec::new()).collect();
    for (place, ledger) in places.iter().zip(&ledger.destinations) {
        let (senders, receiver) = batch::queue(shards);
        for (index, (outputs, sender)) in outputs.iter_mut().zip(senders).enumerate() {
            let encoder = place.encoder();
            let truth = Arc::clone(&place.truth);
            let encoder = Box::new(Noting { encoder, truth, shard: index });
            outputs.push(Output { encoder, sender, ledger: Arc::clone(ledger) });
        }
        let seed = random.u64(..);
        let broker = place.broker(clock, (seed, calm));
        let mut server = Server::new(clock, &place.truth, seed);
        server.calm = calm;
        server.unordered = place.unordered;
        let servers = (server, broker);
        tasks.spawn(serve(place, receiver, Arc::clone(ledger), servers, clock, stop.clone()));
    }
    outputs
}

/// Runs the engine until this life ends, and returns the ledger of that moment.
pub fn run(world: &mut World, life: &Life) -> Snapshot {
    let clock = world.clock.clone();
    let random = &mut world.random;
    let names: Vec<String> = world.places.iter().map(|place| place.name.clone()).collect();
    let ledger = Arc::new(Ledger::new(1, world.shards, &names));
    if let Some(last_run) = world.checkpoints.begin_life(clock.now()) {
        last_run.hand_over(&ledger);
    }
    let queued = ledger.crashed.each_ref().map(|crashed| crashed.load(Ordering::Relaxed));
    world.left.check_queued(queued);
    let stop_at = clock.now() + Duration::from_millis(random.u64(1_000..40_000));
    // A timeout of nothing is a second signal.
    let over = stop_at + Duration::from_millis(random.u64(0..15_000));
    let over = (life.end != End::Peace).then_some(over);
    let stop = Stop { told: Rc::default(), over: Rc::new(Cell::new(over)) };
    let source = Rc::new(RefCell::new(Source {
        random: random.fork(),
        cluster: &mut world.cluster,
        left: random.usize(0..=EVENTS),
        next_at: clock.now(),
        last_ns: &mut world.last_ns,
        queue: VecDeque::new(),
        counts: Default::default(),
        ledger: Arc::clone(&ledger),
    }));
    let mut tasks = Tasks::default();
    let kind = (world.shards, life.end == End::Peace);
    let parts = (&*ledger, &clock, &stop);
    let outputs = start_places(&world.places, kind, parts, random, &mut tasks);
    let mut enabled = EnabledKinds([true; Kind::COUNT]);
    enabled.0[Kind::Repository as usize] = false;
    let rules = Arc::new(ArcSwap::from_pointee(Rules::accepting(enabled)));
    for (index, outputs) in outputs.into_iter().enumerate() {
        let lookups = Lookups { rules: Arc::clone(&rules), app_names: Arc::default() };
        let ledger = Arc::clone(&ledger);
        let shard = Shard::new(index, world.shard, lookups, ledger, outputs, Arc::default());
        tasks.spawn(serve_shard(shard, Rc::clone(&source), clock.clone(), stop.clone()));
    }
    let (end, watched) = (life.end, Rc::clone(&source));
    tasks.spawn(watch(end, stop.clone(), stop_at, watched, Arc::clone(&ledger), clock.clone()));
    world.waits.clear();
    let mut steps = 0;
    let crashes = matches!(end, End::Kill | End::PowerOff);
    let mut snapshot = ledger.snapshot();
    while !(crashes && (steps >= life.steps || clock.now() > stop_at)) && tasks.step(&clock, random)
    {
        steps += 1;
        let waits = world.places.iter().flat_map(|place| place.disk.waits());
        world.waits.extend(waits.map(|operation| (steps, operation)));
        world.checkpoints.look(clock.now(), &snapshot, &world.places);
        for place in &world.places {
            place.truth.lock().unwrap().now = clock.now();
        }
        snapshot = ledger.snapshot();
        let received = source.borrow().counts;
        check(&snapshot, &world.places, &received, &queued);
        world.left.check_settled(&snapshot);
        let late = over.filter(|_| !crashes).is_some_and(|over| clock.now() > over + LAST_COUNT);
        assert!(!late, "the time to shut down is over: {snapshot:?}");
    }
    world.steps += steps;
    world.reached = steps >= life.steps;
    snapshot
}

/// The future of one destination.
fn serve<'a>(
    place: &Place,
    receiver: BatchReceiver,
    ledger: Arc<DestinationLedger>,
    (server, broker): (Server, Option<Broker>),
    clock: &'a SimulatedClock,
    stop: Stop,
) -> impl Future<Output = ()> + use<'a> {
    let (settings, spooling) = (place.settings, place.spooling.clone());
    async move {
        let parts = dispatch::Parts { ledger, receiver, clock, settings, spooling };
        let Some(broker) = broker else {
            return dispatch::run(parts, server, stop.over(clock), |_, _| {}).await;
        };
        let (transport, batches) = MqttTransport::new();
        let transport = broker.noting(transport);
        tokio::join!(
            dispatch::run(parts, transport, stop.over(clock), |_, _| {}),
            Connection::over(broker).run(batches),
        );
    }
}

/// What holds after every step.
fn check(
    snapshot: &Snapshot,
    places: &[Place],
    received: &[ReceiveCounts; Listener::COUNT],
    crashed: &[u64; Listener::COUNT],
) {
    assert!(snapshot.balanced(), "out of balance: {snapshot:?}");
    for ((listener, received), crashed) in snapshot.listeners.iter().zip(received).zip(crashed) {
        assert_eq!(listener.received, received.received + crashed, "{snapshot:?}");
    }
    for (counted, place) in snapshot.destinations.iter().zip(places) {
        let truth = place.truth.lock().unwrap();
        let new = truth.assigned_now + counted.counts.found;
        assert_eq!(counted.assigned, new, "assigned: {snapshot:?}");
        assert_eq!(counted.counts.delivered, truth.acknowledged_now, "{snapshot:?}");
        let refused = counted.counts.lost.get(LossReason::Refused);
        assert_eq!(refused, truth.refused_now, "refused: {snapshot:?}");
    }
}
