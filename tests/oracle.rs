//! pending
mod butler_sos;

use base64::Engine as _;
use butler_sos::*;
use ringside::event::{Kind, Listener};

#[derive(serde::Deserialize)]
struct Recording {
    id: String,
    port: String,
    payload_b64: String,
    influx_v1: Vec<String>,
    influx_v1_nomqtt: Vec<String>,
    influx_v2: Vec<String>,
    influx_v3: Vec<String>,
}

fn recordings() -> Vec<Recording> {
    let bytes = std::fs::read("tests/oracle/events.jsonl.zst").expect("recordings");
    let text = zstd::decode_all(&bytes[..]).expect("zstd");
    text.split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("json"))
        .collect()
}

#[test]
fn model() {
    let apps: Vec<App> = serde_json::from_str(include_str!("oracle/apps.json")).unwrap();
    let rules = Rules::new(include_str!("oracle/config-v1.yaml"), apps);
    let mut bad = 0;
    for r in recordings() {
        let datagram = Datagram {
            listener: if r.port == "user" { Listener::UserEvents } else { Listener::LogEvents },
            payload: base64::engine::general_purpose::STANDARD.decode(&r.payload_b64).unwrap(),
        };
        for (version, mqtt, seen) in [
            (Version::V1, true, &r.influx_v1),
            (Version::V1, false, &r.influx_v1_nomqtt),
            (Version::V2, true, &r.influx_v2),
            (Version::V3, true, &r.influx_v3),
        ] {
            let mine: Vec<String> = read(&datagram)
                .and_then(|event| {
                    let ua = |line: Option<&String>| {
                        let mut v = vec![];
                        for n in
                            ["uaBrowserName", "uaBrowserMajorVersion", "uaOsName", "uaOsVersion"]
                        {
                            let Some(line) = line else { continue };
                            if let Some(at) = line.find(&format!(",{n}=")) {
                                let rest = &line[at + n.len() + 2..];
                                let mut out = String::new();
                                let mut c = rest.chars();
                                while let Some(x) = c.next() {
                                    match x {
                                        ',' | ' ' => break,
                                        '\\' => {
                                            out.push(c.next().unwrap());
                                        }
                                        x => out.push(x),
                                    }
                                }
                                v.push((n.to_owned(), out));
                            }
                        }
                        v
                    };
                    let mut extras = Extras {
                        static_tags: rules.static_tags(datagram.listener),
                        categories: None,
                        app_id: vec![],
                        app_name: vec![],
                        user_agent: ua(seen.first()),
                        mqtt,
                    };
                    match rules.judge(&event) {
                        Verdict::Wanted(c) => {
                            extras.categories =
                                (datagram.listener == Listener::LogEvents).then_some(c);
                        }
                        _ => return None,
                    }
                    if datagram.listener == Listener::UserEvents {
                        extras.app_id = app_of_context(&event.text("context"));
                        if !extras.app_id.is_empty() {
                            extras.app_name = rules
                                .app_name(&extras.app_id)
                                .unwrap_or_else(|| wide("<unknown app name>"));
                        }
                    }
                    if event.kind == Kind::QixPerf {
                        extras.app_name =
                            rules.app_name(&event.text("app_id")).unwrap_or_default();
                    }
                    let (p, l) = write(&event, &extras, version);
                    l.is_empty().then(|| p.line(version))
                })
                .into_iter()
                .collect();
            if &mine != seen {
                bad += 1;
                if bad < 30 {
                    println!("{} {version:?} {mqtt}\n  mine {mine:?}\n  seen {seen:?}", r.id);
                }
            }
        }
    }
    assert_eq!(bad, 0);
}
