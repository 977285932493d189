//! A name service whose answers change, and time that passes when a test says so.

use super::*;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

const INTERVAL: Duration = Duration::from_mins(5);

/// A name service that knows one host at a time.
#[derive(Clone, Debug, Default)]
struct Service(Arc<Mutex<Option<(&'static str, &'static str)>>>);

impl Service {
    /// From now on only this host has an address.
    fn knows(&self, host: &'static str, address: &'static str) {
        *self.0.lock().unwrap() = Some((host, address));
    }

    fn is_down(&self) {
        *self.0.lock().unwrap() = None;
    }
}

/// The service, and waits that are reported and end when the test says so.
#[derive(Clone, Debug)]
struct Scripted {
    service: Service,
    waits: UnboundedSender<(Duration, oneshot::Sender<()>)>,
}

impl Resolve for Scripted {
    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match *self.service.0.lock().unwrap() {
            Some((name, address)) if name == host => Ok(vec![ip(address)]),
            _ => Err(io::ErrorKind::HostUnreachable.into()),
        }
    }

    async fn wait(&self, duration: Duration) {
        let (end, ended) = oneshot::channel();
        let _ = self.waits.send((duration, end));
        // An error means that the test has ended.
        let _ = ended.await;
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn allowed(entries: &[&str], fail_closed: bool) -> AllowedSources<Scripted> {
    let (waits, _) = mpsc::unbounded_channel();
    let scripted = Scripted { service: Service::default(), waits };
    with(entries, fail_closed, &Arc::default(), &Answers::default(), scripted)
}

fn with(
    entries: &[&str],
    fail_closed: bool,
    gate: &Arc<Gate>,
    answers: &Answers,
    scripted: Scripted,
) -> AllowedSources<Scripted> {
    let server = config::UserUdpServer {
        enable_source_validation: true,
        allowed_sources: entries.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let settings = SourceValidation { fail_closed, ..Default::default() };
    assert_eq!(settings.resolve_interval.duration(), INTERVAL);
    let listener = config::Listener::from(&server);
    AllowedSources::of(Listener::UserEvents, &listener, &settings, gate, answers, scripted)
        .expect("senders are checked")
}

fn answer(allowed: &mut AllowedSources<Scripted>, addresses: &[&str]) {
    let addresses = addresses.iter().map(|text| ip(text)).collect();
    allowed.answered(0, Ok(addresses));
    allowed.apply();
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
}

#[test]
fn the_check_goes_on_when_a_name_resolves_and_stays_on() {
    let mut open = allowed(&["sense1"], false);
    open.apply();
    assert!(!open.gate.checks_sources(), "nothing resolved: everybody may send");
    answer(&mut open, &["10.0.0.1"]);
    assert!(open.gate.checks_sources());
    answer(&mut open, &[]);
    assert!(open.sources().contains(ip("10.0.0.1")), "the last answer");
}

#[test]
fn fail_closed_lets_nobody_in_before_a_name_resolves() {
    let mut closed = allowed(&["sense1"], true);
    closed.apply();
    assert!(closed.gate.checks_sources() && closed.sources().is_empty());
}

#[test]
fn addresses_need_no_answer() {
    let mut open = allowed(&["10.0.0.1", "fd00::/8", "sense1"], false);
    open.apply();
    assert!(open.gate.checks_sources());
    assert_eq!(open.names.len(), 1);
}

#[test]
fn names_are_looked_up_again_after_each_interval() {
    block_on(async {
        let (service, gate) = (Service::default(), Arc::<Gate>::default());
        let (waits, mut waited) = mpsc::unbounded_channel();
        let scripted = Scripted { service: service.clone(), waits };
        let mut sources = with(&["sense1"], false, &gate, &Answers::default(), scripted);
        sources.begin().await.expect("not closed");
        assert!(!gate.checks_sources());
        let task = tokio::spawn(sources.keep());

        let (duration, end) = waited.recv().await.unwrap();
        assert_eq!(duration, RETRY, "a name without any answer");
        service.knows("sense1", "10.0.0.1");
        end.send(()).unwrap();

        let (duration, end) = waited.recv().await.unwrap();
        assert_eq!(duration, INTERVAL);
        assert!(gate.allows(ip("10.0.0.1")) && !gate.allows(ip("10.0.0.2")));
        service.knows("sense1", "10.0.0.2");
        end.send(()).unwrap();

        let (_, end) = waited.recv().await.unwrap();
        assert!(gate.allows(ip("10.0.0.2")) && !gate.allows(ip("10.0.0.1")), "the new answer");
        service.is_down();
        end.send(()).unwrap();

        waited.recv().await.unwrap();
        assert!(gate.allows(ip("10.0.0.2")), "the last answer");
        task.abort();
    });
}

/// What SIGHUP does, with the name service down at that moment.
#[test]
fn answers_outlive_the_settings() {
    block_on(async {
        let (service, gate, answers) = (Service::default(), Arc::default(), Answers::default());
        let scripted = || {
            let (waits, waited) = mpsc::unbounded_channel();
            (Scripted { service: service.clone(), waits }, waited)
        };
        service.knows("sense1", "10.0.0.1");
        let mut sources = with(&["sense1"], false, &gate, &answers, scripted().0);
        sources.begin().await.expect("not closed");
        assert!(gate.allows(ip("10.0.0.1")));

        service.is_down();
        let (scripted, mut waited) = scripted();
        let sources = with(&["sense1", "sense2"], false, &gate, &answers, scripted);
        let task = tokio::spawn(sources.renew());
        waited.recv().await.unwrap();
        assert!(gate.checks_sources() && gate.allows(ip("10.0.0.1")), "from before");
        assert!(!gate.allows(ip("10.0.0.9")));
        task.abort();

        answers.retain(&[]);
        assert!(answers.of("sense1").is_empty(), "no longer in the file");
    });
}
