//! Datagrams that nobody recorded: for differences that no recording shows. What Butler SOS would
//! write for them is what the model says.

use ringside::event::Listener;

use crate::butler_sos::Datagram;

const UUID: &str = "e7af59a0-c243-480d-9571-08727551a66f";
const TIMES: &str = "20211109T153726.028+0200;2021-11-09 15:37:26,028";

/// Name and datagram.
pub fn all() -> Vec<(&'static str, Datagram)> {
    let engine = |message: &str, app: &str| {
        format!(
            "/qseow-engine/;14;{TIMES};WARN;host;System.Engine;LAB\\svc;{message};{UUID};LAB;jdoe;\
             20211109T153726.028+0200;{UUID};12.1;20211101T080000.000+0200;System;{UUID};{app}"
        )
    };
    let scheduler = |message: &str, exception: &str, user: &str, task: &str, app: &str| {
        format!(
            "/qseow-scheduler/;14;{TIMES};WARN;host;System.Scheduler;LAB\\svc;{message};{exception};\
             {user};{task};{app};{UUID};{UUID};{UUID}"
        )
    };
    let user = |fields: &str| format!("/qseow-proxy-session/;{fields}");
    let log: Vec<(&str, String)> = vec![
        ("message with a separator", engine("one; two", UUID)),
        ("message with separators, no app", engine(";;", "")),
        ("newer engine with two more columns", engine("message", &format!("{UUID};new;columns"))),
        ("separator in the message of a newer engine", engine("a;b", &format!("{UUID};new"))),
        ("engine without a user's session", engine("message", UUID).replacen(UUID, "0", 1)),
        ("separator in the scheduler's message", scheduler("a;b", "", "LAB;jdoe;", "t", "a")),
        ("separator in the exception", scheduler("a", "b;c", "LAB;jdoe;LAB\\jdoe", "t", "a")),
        ("separator in the task's name", scheduler("a", "", "LAB;jdoe;LAB\\jdoe", "t;t", "a")),
        ("separator in the app's name", scheduler("a", "", "LAB;jdoe;LAB\\jdoe", "t", "a;a")),
        ("newer scheduler", scheduler("a", "", "LAB;jdoe;LAB\\jdoe", "t", "a") + ";new"),
        (
            "newer proxy: nothing tells it from a message with separators",
            format!(
                "/qseow-proxy/;14;{TIMES};WARN;host;Proxy;svc;m;e;LAB;jdoe;Open;403;App;/app/x;new"
            ),
        ),
        (
            "properties that are not set",
            engine("(null)", "(null)").replace("LAB;jdoe", "(null);(null)"),
        ),
        ("a control character in what is not set", engine("(nu\u{1}ll)", UUID)),
        (
            "no user in one column",
            scheduler("a", "", "(null);(null);LAB\\jdoe", "(null)", "(null)"),
        ),
        ("full name in three parts", scheduler("a", "", ";;LAB\\sub\\jdoe", "t", "a")),
    ];
    let users: Vec<(&str, String)> = vec![
        ("user that is not set", user("host;Start session;(null);(null);(null);(null);(null)")),
        ("path without the first slash", user(&format!("h;Open;LAB;jdoe;o;app/{UUID}/sheet/x;m"))),
        (
            "upper case in a path",
            user(&format!("h;Open;LAB;jdoe;o;/app/{}?x#y;m", UUID.to_uppercase())),
        ),
    ];
    let datagram = |listener| {
        move |(name, text): (&'static str, String)| {
            (name, Datagram { listener, payload: text.into_bytes() })
        }
    };
    log.into_iter()
        .map(datagram(Listener::LogEvents))
        .chain(users.into_iter().map(datagram(Listener::UserEvents)))
        .collect()
}
