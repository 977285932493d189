//! Those whom Ringside talks to: is there such a name, do they answer, and do they let us in?

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Finding, Level, Place, certificate};
use crate::deliver::influxdb::{self, InfluxSettings};
use crate::deliver::mqtt::{self, MqttSettings};
use crate::deliver::new_relic::{self, Account};
use crate::deliver::probe::{Probed, Verdict};
use crate::enrich::app_names::Refresher;

/// Longest wait for the name service: what most resolvers wait for one name server, and half of the
/// next.
const NAME_TIMEOUT: Duration = Duration::from_secs(7);

/// Names are looked up anew for each connection; a slow answer holds it up.
const NAME_SLOW: Duration = Duration::from_secs(1);

/// Longest wait for an answer, whatever the configuration allows.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// Clocks that differ by more show it in dashboards. A server's `Date` is in whole seconds, and of the
/// moment at which it began to answer.
const CLOCK_SECONDS: u64 = 5;

/// A name that is looked up.
#[derive(Clone, Debug)]
pub struct Host {
    /// Name or address.
    pub name: String,
    /// The key that has it.
    pub place: Place,
}

/// Somebody to connect to.
#[derive(Debug)]
pub struct Server {
    /// What it is, for people.
    pub what: String,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it is to speak TLS.
    pub tls: bool,
    /// The key that names it.
    pub place: Place,
    /// The section with its credentials.
    pub credentials: Place,
    /// What it is asked.
    pub question: Question,
}

/// What a server is asked.
#[derive(Debug)]
pub enum Question {
    /// A write of no lines.
    Influx(Box<InfluxSettings>),
    /// To let us in.
    Mqtt(Box<MqttSettings>),
    /// Anything.
    NewRelic(Box<Account>),
    /// For the names of all apps.
    AppNames(Box<Refresher>),
    /// Nothing: it is connected to.
    Nothing,
}

impl Host {
    pub(super) async fn examine(self) -> Vec<Finding> {
        let (finding, _) = look_up(&self.name, 0).await;
        finding.map(|finding| finding.at(&self.place)).into_iter().collect()
    }
}

impl Server {
    pub(super) async fn examine(self) -> Vec<Finding> {
        let (name, addresses) = look_up(&self.host, self.port).await;
        let mut findings: Vec<_> =
            name.map(|finding| finding.at(&self.place)).into_iter().collect();
        if addresses.is_empty() {
            return findings;
        }
        if self.tls {
            let (host, addresses) = (self.host.clone(), addresses.clone());
            let look =
                tokio::task::spawn_blocking(move || certificate::of_server(&host, &addresses));
            if let Ok(Ok(finding)) = timeout(ANSWER_TIMEOUT, look).await {
                findings.push(finding.at(&self.place));
            }
        }
        let Self { what, place, credentials, question, .. } = self;
        let answer = timeout(ANSWER_TIMEOUT, question.ask(&addresses)).await;
        let probed = answer.unwrap_or_else(|_| {
            let what = format!("does not answer within {ANSWER_TIMEOUT:?}");
            Probed::new(Verdict::Refuses, what, "check that it is well, and the network in between")
        });
        let at = if probed.verdict == Verdict::Forbids { &credentials } else { &place };
        findings.push(answered(&what, &probed).at(at));
        findings.extend(probed.clock_ahead.map(|ahead| clock(&what, ahead).at(&place)));
        findings
    }
}

impl Question {
    async fn ask(self, addresses: &[SocketAddr]) -> Probed {
        let unusable =
            |error: String| Probed::new(Verdict::Refuses, error, "correct the configuration");
        match self {
            Self::Influx(settings) => influxdb::probe::probe(&settings)
                .await
                .unwrap_or_else(|error| unusable(error.to_string())),
            Self::Mqtt(settings) => mqtt::probe::probe(&settings)
                .await
                .unwrap_or_else(|error| unusable(error.to_string())),
            Self::NewRelic(account) => new_relic::probe::probe(&account)
                .await
                .unwrap_or_else(|error| unusable(error.to_string())),
            Self::AppNames(refresher) => match refresher.probe(ANSWER_TIMEOUT).await {
                Ok(apps) => {
                    Probed::new(Verdict::Takes, format!("lets us in, and names {apps} apps"), "")
                }
                Err((error, hint)) => {
                    Probed::new(Verdict::Unsure, format!("gives no names of apps: {error}"), hint)
                }
            },
            Self::Nothing => match TcpStream::connect(addresses).await {
                Ok(_) => Probed::new(Verdict::Takes, "can be reached; it was asked nothing", ""),
                Err(error) => Probed::new(
                    Verdict::Unsure,
                    format!("cannot be reached: {error}"),
                    "check the URL, and that no firewall is in between",
                ),
            },
        }
    }
}

fn answered(what: &str, probed: &Probed) -> Finding {
    let text = format!("{what} {}", probed.what);
    let level = match probed.verdict {
        Verdict::Takes => Level::Ok,
        Verdict::Unsure => Level::Warning,
        Verdict::Refuses | Verdict::Forbids => Level::Error,
    };
    Finding { level, ..Finding::error("destination", text, probed.hint.clone()) }
}

fn clock(what: &str, ahead: i64) -> Finding {
    const TOPIC: &str = "clock";
    let seconds = ahead.unsigned_abs();
    if seconds <= CLOCK_SECONDS {
        return Finding::ok(TOPIC, format!("that of {what} agrees with ours"));
    }
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    Finding::warning(
        TOPIC,
        format!("that of {what} is {seconds} s {side} ours"),
        "find out which of them is wrong, and run an NTP client there",
    )
}

/// What is said about a name, nothing about an address, and the addresses that it stands for.
async fn look_up(host: &str, port: u16) -> (Option<Finding>, Vec<SocketAddr>) {
    const TOPIC: &str = "name";
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return (None, vec![SocketAddr::new(address, port)]);
    }
    let start = Instant::now();
    let answer = timeout(NAME_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let took = start.elapsed();
    let hint = "check the spelling, and this machine's name service: /etc/resolv.conf, /etc/hosts";
    let failed = |why: String| (Some(Finding::error(TOPIC, why, hint)), Vec::new());
    let addresses: Vec<SocketAddr> = match answer {
        Err(_) => return failed(format!("{host}: no answer within {NAME_TIMEOUT:?}")),
        Ok(Err(error)) => return failed(format!("{host} is not known, after {took:.1?}: {error}")),
        Ok(Ok(addresses)) => addresses.collect(),
    };
    let mut shown: Vec<String> = addresses.iter().map(|it| it.ip().to_string()).collect();
    shown.dedup();
    let what = format!("{host} is {}, after {took:.1?}", shown.join(", "));
    let finding = if took > NAME_SLOW {
        Finding::warning(TOPIC, what, "use a name server nearby, or an entry in /etc/hosts")
    } else {
        Finding::ok(TOPIC, what)
    };
    (Some(finding), addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_say_which_way() {
        assert_eq!(clock("InfluxDB", -5).level, Level::Ok);
        assert!(clock("InfluxDB", 60).what.contains("60 s ahead of ours"));
        let behind = clock("InfluxDB", -3600);
        assert_eq!(behind.level, Level::Warning);
        assert!(behind.what.contains("3600 s behind ours"), "{behind}");
    }

    #[test]
    fn answers_have_levels() {
        let level = |verdict| answered("X", &Probed::new(verdict, "says so", "do")).level;
        assert_eq!(level(Verdict::Takes), Level::Ok);
        assert_eq!(level(Verdict::Unsure), Level::Warning);
        assert_eq!(level(Verdict::Refuses), Level::Error);
        assert_eq!(level(Verdict::Forbids), Level::Error);
    }

    #[tokio::test]
    async fn addresses_are_not_looked_up() {
        for (host, address) in
            [("127.0.0.1", "127.0.0.1:5"), ("::1", "[::1]:5"), ("[::1]", "[::1]:5")]
        {
            let (finding, addresses) = look_up(host, 5).await;
            assert_eq!((finding, addresses), (None, vec![address.parse().unwrap()]));
        }
    }
}
