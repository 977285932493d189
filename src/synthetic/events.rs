//! The seven layouts as the appenders on Sense servers write them.
//!
//! Source: the `conversionpattern` of each `LocalLogConfig.xml` that comes with Butler SOS, and the
//! UDP payload format reference.

use fastrand::Rng;

use super::catalogue::{self, Call, Complaint};
use super::line::{Line, Stamp};
use super::{App, Cluster, Mood, Origin, Person, Server, new_id};
use crate::event::Kind;

/// The Windows account of all services.
const SERVICE_ACCOUNT: &str = "CORP\\svc-qlik";
const ENGINE_VERSION: &str = "14.173.21.0";
const SERVER_STARTED: &str = "20250105T021407.411+0100";

impl Cluster {
    /// Appends the datagram of an origin to `out`.
    pub fn write(&mut self, origin: Origin, out: &mut Vec<u8>) {
        match origin.kind {
            Kind::ProxySession => self.write_session(origin, out),
            Kind::ProxyConnection => self.write_connection(origin, out),
            Kind::QixPerf => self.write_performance(origin, out),
            Kind::Engine => self.write_engine(origin, out),
            Kind::Proxy => self.write_service(origin, catalogue::PROXY, out),
            Kind::Repository => self.write_service(origin, catalogue::REPOSITORY, out),
            Kind::Scheduler => self.write_scheduler(origin, out),
        }
    }

    fn write_session(&mut self, origin: Origin, out: &mut Vec<u8>) {
        let index = self.someone(origin.server);
        let person = &mut self.people[index];
        person.active = !person.active;
        person.connected = false;
        if person.active {
            person.session = new_id(&mut self.rng);
            person.requests = 0;
        }
        let command = if person.active { "Start session" } else { "Stop session" };
        user_head(out, &self.servers[origin.server], origin.kind, command, person)
            .text("/hub/")
            .parts(&[command.as_bytes(), b" for user: '", person.full.as_bytes(), b"'"]);
    }

    fn write_connection(&mut self, origin: Origin, out: &mut Vec<u8>) {
        let index = self.someone(origin.server);
        let person = &mut self.people[index];
        person.connected = !person.connected;
        if person.connected {
            person.active = true;
            person.app = self.rng.usize(0..self.apps.len());
            person.engine_session = new_id(&mut self.rng);
        }
        let (command, happened): (_, &[u8]) = if person.connected {
            ("Open connection", b"connection Opened for session '")
        } else {
            ("Close connection", b"connection Closed for session '")
        };
        let app: &[u8] = &self.apps[person.app].id;
        let agent = person.agent.as_bytes();
        user_head(out, &self.servers[origin.server], origin.kind, command, person)
            .parts(&[b"/app/", app])
            .parts(&[happened, &person.session, b"'; path '/app/", app])
            .append(&[b"'; UserAgent: '", agent, b"'"]);
    }

    fn write_performance(&mut self, origin: Origin, out: &mut Vec<u8>) {
        let waits = self.mood == Mood::Incident && origin.server == self.troubled();
        let burst = &mut self.burst;
        let call = &burst.calls[usize::from(burst.next) % burst.calls.len()];
        burst.next += 1;
        burst.left = burst.left.saturating_sub(1);
        let (proxy_session, directory, user, request): (&[u8], _, _, _) = match burst.person {
            Some(person) => {
                let person = &mut self.people[person];
                person.requests += 1;
                (&person.session, person.directory, person.id.as_str(), person.requests)
            }
            // `0` is how the engine says that nobody is behind a call.
            None => (b"0", "INTERNAL", "sa_scheduler", i64::from(burst.next)),
        };
        let mut times = Times::draw(call, &mut self.rng);
        if waits {
            times.wait_for_locks();
        }
        let app = &self.apps[burst.app];
        let net_ram = i64::from(call.ram_kib) * self.rng.i64(512..2048);
        // A call about no object goes to the global handle.
        let (handle, object): (_, &[u8]) = match call.object_type {
            "" => (-1, b""),
            object_type => (i64::from(burst.next) + 1, app.object(object_type)),
        };
        let server = &mut self.servers[origin.server];
        let head = Head {
            row: server.next_row(origin.kind),
            level: "INFO",
            subsystem: "QixPerformance.Engine.Engine",
        };
        head.write(out, server, origin.kind, &self.stamp)
            .bytes(proxy_session)
            .text(directory)
            .text(user)
            .bytes(self.stamp.compact())
            .bytes(&burst.session)
            .bytes(&app.id)
            .int(request)
            .text(call.method)
            .millis(times.process)
            .millis(times.work)
            .millis(times.lock)
            .millis(times.validate)
            .millis(times.traverse)
            .int(handle)
            .bytes(object)
            .int(net_ram)
            .int(net_ram + net_ram / 8)
            .text(call.object_type);
    }

    fn write_engine(&mut self, origin: Origin, out: &mut Vec<u8>) {
        let (complaint, subject, mut line) = self.complain(origin, catalogue::ENGINE, out);
        line.bytes(&subject.person.session)
            .text(subject.person.directory)
            .text(&subject.person.id)
            .bytes(subject.time)
            .bytes(&subject.server.process)
            .text(ENGINE_VERSION)
            .text(SERVER_STARTED)
            .text(complaint.command)
            .bytes(&subject.person.engine_session)
            .bytes(&subject.app.id);
    }

    /// Proxy and repository write the same fields.
    fn write_service(
        &mut self,
        origin: Origin,
        complaints: &'static [Complaint],
        out: &mut Vec<u8>,
    ) {
        let (complaint, subject, mut line) = self.complain(origin, complaints, out);
        line.text(complaint.exception)
            .text(subject.person.directory)
            .text(&subject.person.id)
            .text(complaint.command)
            .text(complaint.result)
            .text(complaint.origin)
            .template(complaint.context, |name| subject.value(name));
    }

    fn write_scheduler(&mut self, origin: Origin, out: &mut Vec<u8>) {
        let execution = new_id(&mut self.rng);
        let (complaint, subject, mut line) = self.complain(origin, catalogue::SCHEDULER, out);
        line.text(complaint.exception)
            .text("INTERNAL")
            .text("sa_scheduler")
            .text("INTERNAL\\sa_scheduler")
            .text(&subject.app.task_name)
            .text(subject.app.name)
            .bytes(&subject.app.task)
            .bytes(&subject.app.id)
            .bytes(&execution);
    }

    /// Draws a complaint and what it is about, and writes the fields up to the message.
    fn complain<'a>(
        &'a mut self,
        origin: Origin,
        complaints: &'static [Complaint],
        out: &'a mut Vec<u8>,
    ) -> (&'static Complaint, Subject<'a>, Line<'a>) {
        let mut complaint = &complaints[self.rng.usize(0..complaints.len())];
        let trouble = self.in_trouble();
        if trouble {
            complaint = complaints.iter().find(|one| one.incident).unwrap_or(complaint);
        }
        let troubled = self.troubled();
        let row = self.servers[origin.server].next_row(origin.kind);
        let person = &self.people[self.rng.usize(0..self.people.len())];
        let subject = Subject {
            person,
            app: &self.apps[person.app],
            server: &self.servers[origin.server],
            other: &self.servers
                [if trouble { troubled } else { self.rng.usize(0..self.servers.len()) }],
            time: self.stamp.compact(),
        };
        let head = Head { row, level: complaint.level, subsystem: complaint.subsystem };
        let mut line = head.write(out, subject.server, origin.kind, &self.stamp);
        line.template(complaint.message, |name| subject.value(name));
        (complaint, subject, line)
    }

    /// Somebody whose sessions run on a server.
    fn someone(&mut self, server: usize) -> usize {
        let per_server = self.people.len() / self.servers.len();
        self.rng.usize(0..per_server) * self.servers.len() + server
    }
}

/// What a complaint is about.
struct Subject<'a> {
    person: &'a Person,
    app: &'a App,
    server: &'a Server,
    other: &'a Server,
    time: &'a [u8],
}

impl Subject<'_> {
    /// What a placeholder of [`Complaint`]'s texts stands for.
    fn value(&self, name: u8) -> &[u8] {
        match name {
            b'a' => &self.app.id,
            b'n' => self.app.name.as_bytes(),
            b'u' => self.person.full.as_bytes(),
            b's' => &self.person.session,
            b't' => self.app.task_name.as_bytes(),
            b'h' => self.other.host.as_bytes(),
            _ => b"",
        }
    }
}

/// What differs among the first eight fields, which all log events share.
struct Head {
    row: u16,
    level: &'static str,
    subsystem: &'static str,
}

impl Head {
    fn write<'a>(
        &self,
        out: &'a mut Vec<u8>,
        server: &Server,
        kind: Kind,
        stamp: &Stamp,
    ) -> Line<'a> {
        let mut line = Line::begin(out, kind.name());
        line.int(i64::from(self.row))
            .bytes(stamp.compact())
            .bytes(stamp.local())
            .text(self.level)
            .text(&server.host)
            .text(self.subsystem)
            .text(SERVICE_ACCOUNT);
        line
    }
}

/// The first six fields of user events, which have neither row nor time.
fn user_head<'a>(
    out: &'a mut Vec<u8>,
    server: &Server,
    kind: Kind,
    command: &str,
    person: &Person,
) -> Line<'a> {
    let mut line = Line::begin(out, kind.name());
    line.text(&server.host).text(command).text(person.directory).text(&person.id).text("AppAccess");
    line
}

/// How long an engine call took, in microseconds.
struct Times {
    process: u32,
    work: u32,
    lock: u32,
    validate: u32,
    traverse: u32,
}

impl Times {
    /// Half to twice the usual time; one call in 64 is 32 times slower, as the long tail of real
    /// engines is what their operators look for.
    fn draw(call: &Call, rng: &mut Rng) -> Self {
        let noise = rng.u32(..);
        let scale = 256 + noise % 768;
        let slow = if noise >> 26 == 0 { 32 } else { 1 };
        let process = call.micros / 512 * scale * slow + noise % 512;
        let part = |shift: u32| process / 64 * (noise >> shift & 15) / 16;
        let (lock, validate, traverse) = (part(10), part(14), part(18));
        Self { process, work: process - lock - validate - traverse, lock, validate, traverse }
    }

    /// A call that waits for others, ten times as long as it works.
    fn wait_for_locks(&mut self) {
        let wait = self.process.saturating_mul(10);
        self.lock = self.lock.saturating_add(wait);
        self.process = self.process.saturating_add(wait);
    }
}
