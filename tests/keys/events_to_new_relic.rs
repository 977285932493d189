//! Which events go to which accounts of New Relic.

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::sink::{Reply, Sink};
use crate::support::{Ringside, send_all};
use crate::{ALL_SOURCES, file, log_event, settled, user_event};

const SERVICES: [&str; 4] = ["engine", "proxy", "repository", "scheduler"];
const LEVELS: [&str; 3] = ["fatal", "error", "warn"];

/// A run's settings of `sendToNewRelic`.
struct Case {
    /// `enable` of user and of log events.
    enable: [bool; 2],
    /// `destinationAccount` of user and of log events.
    accounts: [&'static str; 2],
    scramble: bool,
    /// `enable` of a service.
    service: fn(usize) -> bool,
    /// The switch of a level of a service.
    level: fn(usize, usize) -> bool,
}

/// What an account got: users, and `SERVICE LEVEL` of each log event; in order.
type Got = [Vec<String>; 2];

impl Case {
    fn text(&self, sink: &Sink) -> String {
        let [to_user, to_log] = [0, 1].map(|kind| {
            let (enable, account) = (self.enable[kind], self.accounts[kind]);
            format!(
                "    sendToNewRelic:\n      enable: {enable}\n      destinationAccount: [{account}]\n"
            )
        });
        let user = format!("{to_user}      scramble: {}", self.scramble);
        let mut log = format!("{ALL_SOURCES}{to_log}      source:\n");
        for (s, service) in SERVICES.iter().enumerate() {
            let levels = LEVELS.iter().enumerate();
            let levels: Vec<_> =
                levels.map(|(l, level)| format!("{level}: {}", (self.level)(s, l))).collect();
            let (enable, levels) = ((self.service)(s), levels.join(", "));
            writeln!(log, "        {service}: {{ enable: {enable}, logLevel: {{ {levels} }} }}")
                .expect("a string");
        }
        let rest = format!(
            "  newRelic: {{ enable: true, event: {{ url: '{}' }} }}
  thirdPartyToolsCredentials:
    newRelic:
      - {{ accountName: one, insertApiKey: key-1, accountId: '1' }}
      - {{ accountName: two, insertApiKey: key-2, accountId: '2' }}",
            sink.url()
        );
        file(&user, &log, &rest)
    }

    /// What the two accounts get of one user event and one log event per service and level.
    fn run(&self) -> [Got; 2] {
        let sink = Sink::answering(|_| Reply::json(202, r#"{"success":true}"#));
        let mut ringside = Ringside::start_with(&self.text(&sink), &[]);
        send_all(ringside.user_events, [user_event("Start session", "anna")]);
        for service in SERVICES {
            send_all(
                ringside.log_events,
                LEVELS.map(|level| {
                    log_event(service, &level.to_uppercase(), &format!("{service} {level}"))
                }),
            );
        }
        settled(&ringside, 1, 12);
        assert!(ringside.stop().success(), "{}", ringside.log());
        ["/v1/accounts/1/events", "/v1/accounts/2/events"].map(|path| {
            let requests = sink.requests();
            let of_path = requests.iter().filter(|request| request.path == path);
            let events: Vec<Value> = of_path
                .flat_map(|it| serde_json::from_str::<Vec<Value>>(it.text()).expect("an array"))
                .collect();
            ["qs_userId", "qs_message"].map(|member| {
                let kind = if member == "qs_userId" { "qs_userEvent" } else { "qs_logEvent" };
                let of_kind = events.iter().filter(|event| event["eventType"] == kind);
                let mut texts: Vec<String> =
                    of_kind.map(|event| event[member].as_str().expect("text").to_owned()).collect();
                texts.sort();
                texts
            })
        })
    }

    /// The messages of the log events that the file asks for.
    fn wanted(&self) -> Vec<String> {
        let mut wanted = Vec::new();
        for (s, service) in SERVICES.iter().enumerate() {
            for (l, level) in LEVELS.iter().enumerate() {
                if (self.service)(s) && (self.level)(s, l) {
                    wanted.push(format!("{service} {level}"));
                }
            }
        }
        wanted.sort();
        wanted
    }
}

#[test]
fn levels_and_services_are_chosen_one_by_one() {
    let base = |service, level| Case {
        enable: [false, true],
        accounts: ["one", "two"],
        scramble: false,
        service,
        level,
    };
    let cases = [
        // `fatal` is as `error` when it is missing: here it never is.
        base(|_| true, |_, level| level == 1),
        base(|_| true, |_, level| level != 1),
        // Two services each have the same levels, but not the same switches.
        base(|_| true, |service, level| service / 2 == 0 || level == 2),
        base(|service| service % 2 == 0, |_, _| true),
        base(|service| service % 2 == 1, |_, _| true),
    ];
    for case in cases {
        let wanted = case.wanted();
        assert!(!wanted.is_empty() && wanted.len() < 12);
        assert_eq!(case.run(), [[vec![], vec![]], [vec![], wanted]]);
    }
}

#[test]
fn each_kind_of_events_has_a_switch_and_accounts() {
    let case = |enable, accounts, scramble| Case {
        enable,
        accounts,
        scramble,
        service: |service| service == 0,
        level: |_, level| level == 2,
    };
    let (users, logs) = (vec!["anna".to_owned()], vec!["engine warn".to_owned()]);
    let none = Vec::new;
    let both = case([true, true], ["one", "two"], false).run();
    assert_eq!(both, [[users.clone(), none()], [none(), logs.clone()]]);
    let swapped = case([true, true], ["two", "one"], false).run();
    assert_eq!(swapped, [[none(), logs.clone()], [users.clone(), none()]]);
    let only_users = case([true, false], ["one", "one"], false).run();
    assert_eq!(only_users, [[users.clone(), none()], [none(), none()]]);
    let only_logs = case([false, true], ["one", "one"], false).run();
    assert_eq!(only_logs, [[none(), logs], [none(), none()]]);
    let [[scrambled, _], _] = case([true, false], ["one", "one"], true).run();
    assert!(scrambled.len() == 1 && scrambled != users, "{scrambled:?}");
}
