//! A seeded, believable Qlik Sense cluster: the load generator's, the demo's and the benches' source
//! of events.
//!
//! [`Cluster`] writes datagrams of all seven kinds, field by field as the log appenders on real
//! Sense servers lay them out. People start sessions, open apps, select, close; opening an app makes
//! the engine log 15 to 20 calls, a selection 10 to 15 (the volumes that Butler SOS documents);
//! reloads run with nobody behind them; services complain. Everything follows from the seed and the
//! times given to [`Cluster::set_time`], so the same seed gives the same bytes.
//!
//! [`load`] paces such events onto sockets.
//!
//! Envelope: about 400 ns and no allocation per datagram, so that on one core the sending system
//! call, at about a microsecond, and not the generator is the limit.

mod catalogue;
mod events;
mod line;
pub mod load;
mod recorded;
mod schedule;
mod wire;

use fastrand::Rng;

pub use recorded::Recorded;
pub use schedule::{Day, Mood, Pace, busy};

use crate::event::{Kind, Listener, ROW_MAX};
use catalogue::Call;
use line::Stamp;

/// When a seeded cluster's time begins unless told otherwise: Monday 6 January 2025, 08:00 UTC.
pub const MONDAY_MORNING_MS: u64 = 1_736_150_400_000;

/// In an incident one log event in so many is lost on its way, which its row number tells.
pub const LOST_ONE_IN: u32 = 200;

/// The servers that one cluster can have; enough for the largest multi-node sites.
pub const SERVERS_MAX: u8 = 64;

/// How often each kind of event comes: parts of a thousand, by [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    parts: [u32; Kind::COUNT],
}

impl Mix {
    /// What measurements use: 70 % performance, 15 % proxy, 10 % engine, 5 % scheduler events.
    pub const BENCHMARK: Self = Self { parts: [0, 0, 100, 150, 0, 50, 700] };
    /// What a busy cluster sends, all seven kinds.
    pub const CLUSTER: Self = Self { parts: [20, 40, 40, 50, 30, 20, 800] };

    /// What is left at night: reloads, and what goes wrong with them.
    const NIGHT: Self = Self { parts: [4, 6, 40, 10, 30, 110, 800] };
    /// While an engine fails: people open the app again and again, the services complain.
    const INCIDENT: Self = Self { parts: [60, 120, 160, 180, 60, 30, 390] };

    /// The same proportions without the kinds of the other listener.
    #[must_use]
    pub fn only(mut self, listener: Listener) -> Self {
        for kind in Kind::ALL {
            if kind.listener() != listener {
                self.parts[kind as usize] = 0;
            }
        }
        self
    }

    /// The same proportions without the kinds that another mix does not have.
    fn within(mut self, other: &Self) -> Self {
        for (part, others) in self.parts.iter_mut().zip(other.parts) {
            if others == 0 {
                *part = 0;
            }
        }
        self
    }

    /// Whether any event of the listener comes.
    #[must_use]
    pub fn has(&self, listener: Listener) -> bool {
        Kind::ALL.iter().any(|&kind| kind.listener() == listener && self.parts[kind as usize] > 0)
    }

    /// Draws a kind; a mix without parts gives performance events only.
    fn draw(&self, rng: &mut Rng) -> Kind {
        let total: u32 = self.parts.iter().sum();
        let mut at = rng.u32(0..total.max(1));
        for kind in Kind::ALL {
            let part = self.parts[kind as usize];
            if at < part {
                return kind;
            }
            at -= part;
        }
        Kind::QixPerf
    }
}

/// Where an event comes from: it says which socket sends it and to which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of the Sense server, below the number of servers.
    pub server: usize,
    /// Kind of event.
    pub kind: Kind,
}

/// Text of a UUID.
type Id = [u8; 36];

#[derive(Debug)]
struct Server {
    host: String,
    /// Engine process.
    process: Id,
    /// One row counter per appender.
    rows: [u16; Kind::COUNT],
}

#[derive(Debug)]
struct App {
    id: Id,
    name: &'static str,
    task: Id,
    task_name: String,
    /// Ids of the objects on its sheets.
    objects: [[u8; 6]; 16],
}

#[derive(Debug)]
struct Person {
    directory: &'static str,
    id: String,
    full: String,
    agent: &'static str,
    server: usize,
    app: usize,
    session: Id,
    engine_session: Id,
    requests: i64,
    /// The app is open in a browser tab.
    connected: bool,
    /// A session runs.
    active: bool,
}

/// The engine calls that one click causes, still to come.
#[derive(Debug)]
struct Burst {
    /// Who clicked; nobody, if it is a reload.
    person: Option<usize>,
    app: usize,
    server: usize,
    session: Id,
    calls: &'static [Call],
    next: u16,
    left: u16,
}

/// The cluster. See the module's documentation.
#[derive(Debug)]
pub struct Cluster {
    rng: Rng,
    mix: Mix,
    stamp: Stamp,
    servers: Vec<Server>,
    apps: Vec<App>,
    people: Vec<Person>,
    burst: Burst,
    mood: Mood,
    /// The mix of the mood.
    present: Mix,
}

impl Cluster {
    /// A cluster of one to [`SERVERS_MAX`] servers; other numbers are brought into that range.
    #[must_use]
    pub fn new(seed: u64, mix: Mix, servers: u8) -> Self {
        let mut rng = Rng::with_seed(seed);
        let servers: Vec<_> = (0..servers.clamp(1, SERVERS_MAX))
            .map(|index| Server {
                host: match index {
                    0 => "qs-central1".to_owned(),
                    _ => format!("qs-engine{index}"),
                },
                process: new_id(&mut rng),
                rows: std::array::from_fn(|_| rng.u16(0..ROW_MAX)),
            })
            .collect();
        let apps: Vec<_> = catalogue::APPS.iter().map(|name| App::new(name, &mut rng)).collect();
        let people = catalogue::GIVEN
            .iter()
            .flat_map(|given| catalogue::FAMILY.iter().map(move |family| (given, family)))
            .enumerate()
            .map(|(index, (given, family))| {
                let id = format!("{given}.{family}");
                Person::new(id, index % servers.len(), apps.len(), &mut rng)
            })
            .collect();
        let session = new_id(&mut rng);
        let burst = Burst {
            person: None,
            app: 0,
            server: 0,
            session,
            calls: catalogue::RELOAD,
            next: 0,
            left: 0,
        };
        let stamp = Stamp::new(MONDAY_MORNING_MS);
        Self { rng, mix, stamp, servers, apps, people, burst, mood: Mood::Work, present: mix }
    }

    /// Number of servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Sets the time that the next events carry, in ms since 1970.
    pub fn set_time(&mut self, unix_ms: u64) {
        self.stamp.set(unix_ms);
    }

    /// Ids and names of the apps.
    pub fn app_names(&self) -> impl Iterator<Item = (uuid::Uuid, String)> + '_ {
        self.apps.iter().filter_map(|app| {
            Some((uuid::Uuid::try_parse_ascii(&app.id).ok()?, app.name.to_owned()))
        })
    }

    /// Sets what the cluster goes through from the next event on.
    pub fn set_mood(&mut self, mood: Mood) {
        self.mood = mood;
        self.present = match mood {
            Mood::Work => self.mix,
            Mood::Night => Mix::NIGHT.within(&self.mix),
            Mood::Incident => Mix::INCIDENT.within(&self.mix),
        };
    }

    /// The server whose engine fails in an incident.
    fn troubled(&self) -> usize {
        self.servers.len().min(3) - 1
    }

    /// Whether the event of this origin is written and lost: some log events are in an incident.
    fn loses(&mut self, origin: Origin) -> bool {
        let lost = self.mood == Mood::Incident
            && origin.kind.listener() == Listener::LogEvents
            && self.rng.u32(0..LOST_ONE_IN) == 0;
        if lost {
            let mut nowhere = Vec::new();
            self.write(origin, &mut nowhere);
        }
        lost
    }

    /// Whether something is about the incident: three times in four while there is one.
    fn in_trouble(&mut self) -> bool {
        self.mood == Mood::Incident && self.rng.u8(0..4) > 0
    }

    /// Decides where the next event comes from; [`Cluster::write`] must follow.
    fn advance(&mut self) -> Origin {
        let kind = self.present.draw(&mut self.rng);
        let server = match kind {
            Kind::QixPerf => {
                if self.burst.left == 0 {
                    self.start_burst();
                }
                self.burst.server
            }
            // Tasks are run by the central server and by the last one.
            Kind::Scheduler => {
                if self.rng.bool() {
                    0
                } else {
                    self.servers.len() - 1
                }
            }
            _ if self.in_trouble() => self.troubled(),
            _ => self.rng.usize(0..self.servers.len()),
        };
        Origin { server, kind }
    }

    /// Appends the next datagram to `out` and says where it goes.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Origin {
        let origin = self.advance();
        self.write(origin, out);
        origin
    }

    /// The next `count` datagrams, for benches and tests.
    pub fn take(&mut self, count: usize) -> Vec<(Listener, Vec<u8>)> {
        let mut datagram = || {
            let mut payload = Vec::new();
            let origin = self.next(&mut payload);
            (origin.kind.listener(), payload)
        };
        (0..count).map(|_| datagram()).collect()
    }

    fn start_burst(&mut self) {
        let rng = &mut self.rng;
        // One click in sixteen is a scheduled reload instead, at night three in four are; one in four
        // opens an app.
        let reloads = if self.mood == Mood::Night { 12 } else { 1 };
        let (person, calls, left) = match rng.u32(0..16) {
            click if click < reloads => (None, catalogue::RELOAD, 12),
            1..=4 => (Some(rng.usize(0..self.people.len())), catalogue::OPENING, rng.u16(15..=20)),
            _ => (Some(rng.usize(0..self.people.len())), catalogue::SELECTION, rng.u16(10..=15)),
        };
        let (app, server, session) = match person {
            Some(index) => {
                let person = &self.people[index];
                (person.app, person.server, person.engine_session)
            }
            None => (rng.usize(0..self.apps.len()), self.servers.len() - 1, new_id(rng)),
        };
        self.burst = Burst { person, app, server, session, calls, next: 0, left };
    }
}

impl Server {
    fn next_row(&mut self, kind: Kind) -> u16 {
        let row = &mut self.rows[kind as usize];
        *row = *row % ROW_MAX + 1;
        *row
    }
}

impl App {
    fn new(name: &'static str, rng: &mut Rng) -> Self {
        let object = |rng: &mut Rng| std::array::from_fn(|_| rng.alphanumeric() as u8);
        Self {
            id: new_id(rng),
            name,
            task: new_id(rng),
            task_name: format!("Reload task of {name}"),
            objects: std::array::from_fn(|_| object(rng)),
        }
    }

    /// The object of a type that the app shows; each app has one or two of each.
    fn object(&self, object_type: &str) -> &[u8] {
        let sum: usize = object_type.bytes().map(usize::from).sum();
        &self.objects[sum % self.objects.len()]
    }
}

impl Person {
    fn new(id: String, server: usize, apps: usize, rng: &mut Rng) -> Self {
        let directory = pick(catalogue::DIRECTORIES, rng);
        Self {
            directory,
            full: format!("{directory}\\{id}"),
            id,
            agent: pick(catalogue::AGENTS, rng),
            server,
            app: rng.usize(0..apps),
            session: new_id(rng),
            engine_session: new_id(rng),
            requests: 0,
            connected: rng.bool(),
            active: true,
        }
    }
}

fn pick<T: Copy>(items: &[T], rng: &mut Rng) -> T {
    items[rng.usize(0..items.len())]
}

/// The text of a random UUID (version 4).
fn new_id(rng: &mut Rng) -> Id {
    let mut text = [0; 36];
    uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes())
        .into_uuid()
        .hyphenated()
        .encode_lower(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Separators in a datagram: one fewer than the fields that the payload reference lists.
    fn separators(kind: Kind) -> usize {
        match kind {
            Kind::ProxySession => 7,
            // Its message, `…; path '…'; UserAgent: '…'`, holds two more, as real ones do, and the
            // user agent those of the browser.
            Kind::ProxyConnection => 9,
            Kind::Engine => 18,
            Kind::Proxy | Kind::Repository => 15,
            Kind::Scheduler => 17,
            Kind::QixPerf => 25,
        }
    }

    fn texts(cluster: &mut Cluster, count: usize) -> Vec<(Origin, String)> {
        let mut buffer = Vec::new();
        (0..count)
            .map(|_| {
                buffer.clear();
                let origin = cluster.next(&mut buffer);
                (origin, String::from_utf8(buffer.clone()).unwrap())
            })
            .collect()
    }

    #[test]
    fn every_kind_has_its_type_and_number_of_fields() {
        let mut seen = HashMap::new();
        for (origin, text) in texts(&mut Cluster::new(1, Mix::CLUSTER, 4), 20_000) {
            *seen.entry(origin.kind).or_insert(0) += 1;
            assert!(text.starts_with(&format!("/{}/;", origin.kind.name())), "{text}");
            let before_agent = text.split(": 'Mozilla").next().unwrap();
            let found = before_agent.matches(';').count();
            assert_eq!(found, separators(origin.kind), "{text}");
            assert!(!text.contains(char::is_control), "{text}");
        }
        assert_eq!(seen.len(), Kind::COUNT);
    }

    #[test]
    fn the_seed_and_the_times_decide_everything() {
        let bytes = |seed| Cluster::new(seed, Mix::CLUSTER, 3).take(2000);
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
        let mut later = Cluster::new(7, Mix::CLUSTER, 3);
        later.set_time(MONDAY_MORNING_MS + 1);
        assert_ne!(bytes(7), later.take(2000));
    }

    #[test]
    fn rows_count_up_per_server_and_kind_and_wrap() {
        let mut rows: HashMap<(usize, Kind), u16> = HashMap::new();
        let mut wraps = 0;
        for (origin, text) in texts(&mut Cluster::new(2, Mix::BENCHMARK, 2), 60_000) {
            let row: u16 = text.split(';').nth(1).unwrap().parse().unwrap();
            if let Some(before) = rows.insert((origin.server, origin.kind), row) {
                let expected = if before == ROW_MAX { 1 } else { before + 1 };
                assert_eq!(row, expected);
                wraps += u32::from(before == ROW_MAX);
            }
        }
        assert!(wraps >= 4, "{wraps}");
    }

    #[test]
    fn the_benchmark_mix_has_its_proportions_and_size() {
        let count = 40_000;
        let texts = texts(&mut Cluster::new(3, Mix::BENCHMARK, 1), count);
        let share = |kind| {
            let found = texts.iter().filter(|(origin, _)| origin.kind == kind).count();
            (100 * found + count / 2) / count
        };
        let kinds = [Kind::QixPerf, Kind::Proxy, Kind::Engine, Kind::Scheduler];
        assert_eq!(kinds.map(share), [70, 15, 10, 5]);
        let mean = texts.iter().map(|(_, text)| text.len()).sum::<usize>() / count;
        assert!((365..=379).contains(&mean), "{mean}");
    }

    #[test]
    fn a_mix_can_be_held_to_one_listener() {
        let mix = Mix::CLUSTER.only(Listener::UserEvents);
        assert!(mix.has(Listener::UserEvents) && !mix.has(Listener::LogEvents));
        let events = Cluster::new(4, mix, 1).take(200);
        assert!(events.iter().all(|(listener, _)| *listener == Listener::UserEvents));
    }

    #[test]
    fn an_incident_makes_one_server_slow_and_its_neighbours_complain() {
        let mut cluster = Cluster::new(6, Mix::CLUSTER, 4);
        let mut measure = |mood| {
            cluster.set_mood(mood);
            let texts = texts(&mut cluster, 20_000);
            let with = |text: &str| texts.iter().filter(|(_, line)| line.contains(text)).count();
            let slow = texts.iter().filter(|(origin, line)| {
                let process = line.split(';').nth(16).and_then(|ms| ms.parse::<f64>().ok());
                origin.kind == Kind::QixPerf && origin.server == 2 && process > Some(5_000.0)
            });
            (with(";ERROR;"), with("No answer from the engine at qs-engine2"), slow.count())
        };
        let (work, incident) = (measure(Mood::Work), measure(Mood::Incident));
        assert!(incident.0 > 3 * work.0 && incident.1 > 10 * work.1, "{work:?} {incident:?}");
        assert!(incident.2 > 3 * work.2, "{work:?} {incident:?}");
        let night = measure(Mood::Night);
        assert!(night.0 < incident.0, "{night:?}");
    }

    #[test]
    fn apps_have_names() {
        let names: Vec<_> = Cluster::new(1, Mix::CLUSTER, 1).app_names().collect();
        assert_eq!(names.len(), catalogue::APPS.len());
    }

    #[test]
    fn opening_an_app_is_a_burst_of_one_person() {
        let texts = texts(&mut Cluster::new(5, Mix::BENCHMARK, 1), 5000);
        let calls: Vec<Vec<&str>> = texts
            .iter()
            .filter(|(origin, _)| origin.kind == Kind::QixPerf)
            .map(|(_, text)| text.split(';').collect())
            .collect();
        // Method is the 16th field, proxy session, app and request are the 9th, 14th and 15th.
        let opened = calls.iter().position(|f| f[15] == "Global::OpenApp" && f[8] != "0").unwrap();
        let burst = &calls[opened..opened + 15];
        assert!(burst.iter().all(|f| f[8] == burst[0][8] && f[13] == burst[0][13]));
        let requests: Vec<i64> = burst.iter().map(|f| f[14].parse().unwrap()).collect();
        assert!(requests.windows(2).all(|pair| pair[1] == pair[0] + 1), "{requests:?}");
    }
}
