//! Keys of the configuration file against the real program: each test has a file whose values are
//! none of the defaults, and fails when one of them is ignored. `tests/config/` holds which test
//! shows which key.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ringside::config::{self, Status};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use support::mosquitto::{Mosquitto, PASSWORD, Subscriber, USER};
use support::server::free_port;
use support::sink::{Options, Reply, Request, Sink};
use support::{
    Config, DEADLINE, Ringside, http_get, number, proxy_event, send_all, user_event, wait_for,
};

/// Longer than any test waits: what arrives has not waited for this.
const LATE: &str = "flushInterval: 60s";
const SOON: &str = "flushInterval: 10ms";

/// A file with more sections.
fn with(config: &Config, sections: &str) -> String {
    config.text() + sections
}

/// The same with events sent to InfluxDB; its section is one of `sections`.
fn to_influxdb(config: &Config, sections: &str) -> String {
    let off = "    sendToInfluxdb:\n      enable: false\n";
    with(config, sections).replace(off, &off.replace("false", "true"))
}

/// A sink at an address of loopback that is no default of anything.
fn sink_at(host: [u8; 4], options: Options) -> Sink {
    Sink::start(Options { bind: SocketAddr::from((host, 0)), record: true, ..options })
}

/// Method and path of each request.
fn asked(requests: &[Request]) -> Vec<(&str, &str)> {
    requests.iter().map(|request| (request.method.as_str(), request.path.as_str())).collect()
}

#[test]
fn influxdb_1_is_asked_as_the_file_says() {
    let sink = sink_at([127, 0, 0, 5], Options::default());
    let text = to_influxdb(
        &Config::default().ringside(SOON).ringside("influxdb: { gzip: true }"),
        &format!(
            "  influxdbConfig:\n    host: 127.0.0.5\n    port: {}\n    version: 1\n    v1Config:\n      \
             auth: {{ enable: true, username: anna, password: sesame }}\n      dbName: events\n      \
             retentionPolicy: {{ name: short, duration: 48h }}\n",
            sink.address().port()
        ),
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    // Small requests are never compressed.
    send_all(ringside.log_events, [proxy_event(&"m".repeat(900))]);
    assert!(sink.wait_for_lines(1, DEADLINE), "{}", ringside.log());
    assert!(ringside.stop().success());
    let requests = sink.requests();
    let create = "/query?q=CREATE%20DATABASE%20%22events%22%20WITH%20DURATION%2048h%20REPLICATION%201%20\
                  NAME%20%22short%22";
    assert_eq!(
        asked(&requests),
        [
            ("GET", "/query?q=SHOW%20DATABASES"),
            ("POST", create),
            ("POST", "/write?db=events&precision=n&rp="),
        ]
    );
    for request in &requests {
        assert_eq!(request.header("authorization"), Some("Basic YW5uYTpzZXNhbWU="));
    }
    assert_eq!(requests[2].header("content-encoding"), Some("gzip"), "plain unless asked for");
}

/// An InfluxDB 2 with one organisation and no bucket.
fn influxdb_2(request: &Request) -> Reply {
    match (request.method.as_str(), request.path.split('?').next().unwrap_or_default()) {
        ("GET", "/api/v2/orgs") => Reply::json(200, r#"{"orgs":[{"id":"07"}]}"#),
        ("GET", "/api/v2/buckets") => Reply::json(200, r#"{"buckets":[]}"#),
        ("POST", "/api/v2/buckets") => Reply::json(201, "{}"),
        _ => Reply::status(204),
    }
}

#[test]
fn influxdb_2_is_asked_as_the_file_says() {
    let sink = Sink::answering(influxdb_2);
    let text = to_influxdb(
        &Config::default().ringside(SOON),
        &format!(
            "  influxdbConfig:\n    host: 127.0.0.1\n    port: {}\n    version: 2\n    v2Config:\n      \
             org: circus\n      bucket: ring\n      description: what happened\n      token: pony\n      \
             retentionDuration: 2h\n",
            sink.address().port()
        ),
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    send_all(ringside.log_events, [proxy_event("m")]);
    assert!(sink.wait_for_lines(1, DEADLINE), "{}", ringside.log());
    assert!(ringside.stop().success());
    let requests = sink.requests();
    assert_eq!(
        asked(&requests),
        [
            ("GET", "/api/v2/orgs?org=circus"),
            ("GET", "/api/v2/buckets?orgID=07&name=ring"),
            ("POST", "/api/v2/buckets"),
            ("POST", "/api/v2/write?org=circus&bucket=ring&precision=ns"),
        ]
    );
    let bucket: Value = serde_json::from_str(requests[2].text()).expect("JSON");
    let retention = json!([{ "type": "expire", "everySeconds": 7200 }]);
    assert_eq!(
        bucket,
        json!({
            "orgID": "07", "name": "ring", "description": "what happened",
            "retentionRules": retention,
        })
    );
    for request in &requests {
        assert_eq!(request.header("authorization"), Some("Token pony"));
    }
}

/// What InfluxDB 3 is sent for one event, without what differs between two runs.
fn influxdb_3(more: &str) -> Vec<String> {
    let sink = Sink::recording();
    let text = to_influxdb(
        &Config::default().ringside(SOON),
        &format!(
            "  influxdbConfig:\n    host: 127.0.0.1\n    port: {}\n    version: 3\n    v3Config:\n      \
             database: ring\n      token: pony\n{more}",
            sink.address().port()
        ),
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    send_all(ringside.log_events, [proxy_event("m")]);
    assert!(sink.wait_for_lines(1, DEADLINE), "{}", ringside.log());
    assert!(ringside.stop().success());
    let seen = |request: Request| {
        let (line, _time) = request.text().trim_end().rsplit_once(' ').expect("a time");
        let authorization = request.header("authorization").unwrap_or_default();
        format!("{} {} {authorization} {line}", request.method, request.path)
    };
    sink.requests().into_iter().map(seen).collect()
}

#[test]
fn influxdb_3_is_asked_as_the_file_says_and_texts_of_no_effect_have_none() {
    let plain = influxdb_3("");
    assert_eq!(plain.len(), 1, "{plain:?}");
    assert!(plain[0].starts_with("POST /api/v2/write?bucket=ring"), "{plain:?}");
    assert!(plain[0].contains(" Token pony log_event,"), "{plain:?}");
    let texts = "      description: another text\n      retentionDuration: a fortnight\n      \
                 queryTimeout: 1s\n";
    assert_eq!(influxdb_3(texts), plain);
}

/// The lines of one event for InfluxDB 2, with one more key of `ringside`.
fn lines(ringside: &str) -> Vec<String> {
    let sink = Sink::answering(influxdb_2);
    let config = Config::influxdb(2, sink.address()).ringside(SOON).ringside(ringside);
    let mut ringside = Ringside::start(&config);
    send_all(ringside.log_events, [proxy_event("m")]);
    assert!(sink.wait_for_lines(1, DEADLINE), "{}", ringside.log());
    assert!(ringside.stop().success());
    let bodies = sink.requests().into_iter().filter(|request| request.path.contains("/write"));
    bodies.flat_map(|body| body.text().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_row_number_can_be_a_tag() {
    let [line] = &lines("logRowTag: true")[..] else { panic!("one line") };
    let (tags, _) = line.split_once(' ').expect("fields");
    assert!(tags.contains(",log_row=14,"), "{line}");
    assert!(!line.contains("log_row_field"), "{line}");
}

#[test]
fn tags_can_be_fields() {
    let [line] = &lines("tagsAsFields: [subsystem, user_id]")[..] else { panic!("one line") };
    let (tags, fields) = line.split_once(' ').expect("fields");
    assert!(!tags.contains("subsystem=") && !tags.contains("user_id="), "{line}");
    for field in [r#"subsystem="Audit.Proxy.Proxy""#, r#"user_id="goran""#] {
        assert!(fields.contains(field), "{line}");
    }
}

#[test]
fn destinations_that_are_off_are_not_there() {
    let nowhere = "host: 127.0.0.1\n    port: 1\n    version: 1\n    v1Config: {}\n";
    let text = to_influxdb(
        &Config::default(),
        &format!(
            "  influxdbConfig:\n    enable: false\n    {nowhere}  mqttConfig:\n    enable: false\n    \
             brokerHost: 127.0.0.1\n  newRelic:\n    enable: false\n  appNames:\n    \
             enableAppNameExtract: false\n"
        ),
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    send_all(ringside.log_events, [proxy_event("m")]);
    let stats = ringside
        .wait_stats("the event", |stats| number(stats, "/listeners/log_events/unrouted") == 1);
    assert_eq!(stats["destinations"], json!({}));
    assert!(ringside.stop().success());
}

#[test]
fn a_batch_that_is_full_does_not_wait() {
    let sink = Sink::recording();
    let mut config = Config::influxdb(1, sink.address()).ringside(LATE).ringside("shards: 1");
    config.influxdb_extra = "    maxBatchSize: 3\n".into();
    let by_number = Ringside::start(&config);
    send_all(by_number.log_events, ["a", "b", "c"].map(proxy_event));
    assert!(sink.wait_for_lines(3, DEADLINE), "{}", by_number.log());

    let sink = Sink::recording();
    let config = Config::influxdb(1, sink.address())
        .ringside(LATE)
        .ringside("shards: 1")
        .ringside("batchBytes: 4KiB");
    let by_size = Ringside::start(&config);
    // A line repeats the message in `raw_event`: far more than 4 KiB, far less than 256 KiB.
    send_all(by_size.log_events, (0..8).map(|_| proxy_event(&"x".repeat(900))));
    assert!(sink.wait_for_lines(1, DEADLINE), "{}", by_size.log());
}

#[test]
fn as_many_requests_are_under_way_as_the_file_allows() {
    const WANTED: usize = 6;
    let waiting = Arc::new((Mutex::new(0), Condvar::new()));
    let shared = Arc::clone(&waiting);
    // Each request is answered when all of them are there.
    let sink = Sink::answering(move |_| {
        let (count, changed) = &*shared;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        drop(changed.wait_timeout_while(count, DEADLINE, |count| *count < WANTED).unwrap());
        Reply::status(204)
    });
    let mut config = Config::influxdb(3, sink.address())
        .ringside(SOON)
        .ringside(&format!("deliver: {{ inFlight: {WANTED} }}"));
    config.influxdb_extra = "    maxBatchSize: 1\n".into();
    let ringside = Ringside::start(&config);
    for sent in 1..=WANTED {
        send_all(ringside.log_events, [proxy_event("m")]);
        let arrived = || (*waiting.0.lock().unwrap() >= sent).then_some(());
        wait_for("one more request under way", DEADLINE / 2, arrived);
    }
}

/// The first error of the destination `influxdb`.
fn error_of(config: &Config) -> String {
    let ringside = Ringside::start(&config.clone().ringside("shutdownTimeout: 10ms"));
    send_all(ringside.log_events, [proxy_event("m")]);
    let error = |stats: &Value| stats["destinations"]["influxdb"]["last_error"].clone();
    let stats = ringside.wait_stats("an error", |stats| error(stats).is_string());
    error(&stats).as_str().unwrap_or_default().to_owned()
}

/// A port at which connections are neither taken nor refused, as behind a firewall, for as long as
/// the sockets live.
fn unreachable() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    listener.listen(0).expect("listen");
    let address = listener.local_addr().expect("bound");
    let mut sockets = vec![listener];
    // The queue of connections that nobody accepts is soon full.
    for _ in 0..16 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if socket.connect_timeout(&address, Duration::from_millis(200)).is_err() {
            return (address.as_socket().expect("IPv4"), sockets);
        }
        sockets.push(socket);
    }
    panic!("the queue of {address:?} is never full");
}

#[test]
fn influxdb_is_waited_for_as_long_as_the_file_says() {
    let (address, _sockets) = unreachable();
    let config = |keys: &str| Config::influxdb(3, address).ringside(SOON).ringside(keys);
    let error = error_of(&config("influxdb: { connectTimeout: 100ms, timeout: 3s }"));
    assert!(error.contains("(Connect)"), "gave up connecting first: {error}");
    let error = error_of(&config("influxdb: { connectTimeout: 60s, timeout: 300ms }"));
    assert!(error.contains("no answer within 300ms"), "{error}");
    let config = config("influxdb: { connectTimeout: 60s }");
    // The section of version 3 is the last of `influxdbConfig`.
    let error = error_of(&Config { influxdb_extra: "      writeTimeout: 1100\n".into(), ..config });
    assert!(error.contains("no answer within 1.1s"), "{error}");
}

#[test]
fn the_receive_room_is_built_as_the_file_says() {
    let config = Config {
        backend: "tokio",
        receive: "      receivers: 2\n      slots: 128\n      socketBuffer: 64KiB\n".into(),
        ..Config::default()
    };
    let mut ringside = Ringside::start(&config.ringside("shards: 3"));
    let stats = ringside.stats();
    assert_eq!(stats["backend"], "tokio");
    // Two receivers have a socket each per listener.
    assert_eq!(number(&stats, "/listeners/log_events/socket_buffer_bytes"), 2 * 65_536);
    let threads = stats["threads"].as_object().expect("threads");
    let named = |prefix: &str| threads.keys().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((named("rx-"), named("shard-")), (2, 3), "{threads:?}");

    // The pools are the only memory that a child does not inherit (`dc`). Each slot has room for the
    // longest datagram and its header, in an odd number of cache lines.
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps", ringside.pid())).expect("smaps");
    let mut size = 0;
    let mut pools = 0;
    for line in maps.lines() {
        if let Some(rest) = line.strip_prefix("Size:") {
            size = rest.trim_end_matches("kB").trim().parse::<u64>().expect("a number");
        } else if line.strip_prefix("VmFlags:").is_some_and(|flags| flags.contains(" dc")) {
            pools += size;
        }
    }
    assert_eq!(pools, 2 * 128 * 1025 * 64 / 1024, "kB of two pools of 128 slots");
    assert!(ringside.stop().success());
}

#[test]
fn a_strict_queue_is_full_while_slots_are_free() {
    let mut config = Config::default().ringside("queue: { strict: true }");
    config.udp = "      messageQueue: { maxConcurrent: 1, maxSize: 1 }\n".into();
    let ringside = Ringside::start(&config);
    let mut sent = 0;
    // A burst is far smaller than the pool, and begins when the one before has been read.
    wait_for("a datagram without room", DEADLINE, || {
        sent += send_all(ringside.log_events, (0..100).map(|_| proxy_event("m")));
        let stats = ringside.wait_stats("the burst", |stats| {
            number(stats, "/listeners/log_events/received") == sent
                && number(stats, "/listeners/log_events/queued") == 0
        });
        (number(&stats, "/listeners/log_events/dropped/queue_full") > 0).then_some(())
    });
}

#[test]
fn the_drain_ends_when_the_file_says() {
    let sink = Sink::answering(|_| Reply::status(503));
    // Nobody can make that folder: what is not delivered in time is lost.
    let config = Config::influxdb(1, sink.address())
        .ringside("shutdownTimeout: 50ms")
        .ringside("spool: { dir: /dev/null/spool }");
    let mut ringside = Ringside::start(&config);
    send_all(ringside.log_events, [proxy_event("stuck")]);
    ringside.wait_stats("the event", |stats| number(stats, "/listeners/log_events/accepted") == 1);
    let start = Instant::now();
    assert_eq!(ringside.stop().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(8), "not the 10 s that are the default");
}

/// `GET path` with a token.
fn get_with_token(address: SocketAddr, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_console_is_where_and_for_whom_the_file_says() {
    let port = free_port();
    let console = format!("host: 127.0.0.6\n      port: {port}\n      token: open-sesame\n");
    let text =
        Config::default().text().replace("port: 0\n    receive", &format!("{console}    receive"));
    let mut ringside = Ringside::start_with(&text, &[]);
    assert_eq!(ringside.console, SocketAddr::from(([127, 0, 0, 6], port)));
    assert_eq!(ringside.get("/api/stats").0, 401);
    let answer = get_with_token(ringside.console, "/api/stats", "open-sesame");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(ringside.stop().success());

    let off =
        Config::default().text().replace("port: 0\n    receive", "enable: false\n    receive");
    let mut ringside = Ringside::start_with(&off, &[]);
    assert!(!ringside.log().contains("console"), "{}", ringside.log());
    assert!(ringside.stop().success());
}

#[test]
fn pages_are_at_the_addresses_of_the_file() {
    let (metrics, page) = (free_port(), free_port());
    let text = with(
        &Config::default(),
        &format!(
            "  prometheus: {{ enable: true, host: 127.0.0.7, port: {metrics} }}\n  \
             configVisualisation: {{ enable: true, host: 127.0.0.8, port: {page}, obfuscate: false }}\n  \
             newRelic: {{ event: {{ header: [{{ name: X-Key, value: hush-hush }}] }} }}\n"
        ),
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    let (status, body) = http_get(SocketAddr::from(([127, 0, 0, 7], metrics)), "/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("ringside_datagrams_received_total"), "{body}");
    let (status, body) = http_get(SocketAddr::from(([127, 0, 0, 8], page)), "/");
    assert_eq!(status, 200);
    assert!(body.contains("obfuscate: false"), "{body}");
    assert!(body.contains("X-Key") && !body.contains("hush"), "hidden all the same: {body}");
    assert!(ringside.stop().success());
}

#[test]
fn the_level_of_the_file_is_in_force() {
    for (level, shown) in [("error", false), ("debug", true)] {
        let text = with(&Config::default(), &format!("  logLevel: {level}\n"));
        let mut ringside = Ringside::start_with(&text, &[]);
        send_all(ringside.user_events, [user_event("goran")]);
        ringside
            .wait_stats("the event", |stats| number(stats, "/listeners/user_events/parsed") == 1);
        assert!(ringside.stop().success());
        let log = ringside.log();
        assert_eq!(log.contains("qseow-proxy-session accepted: host="), shown, "{log}");
    }
}

#[test]
fn memory_and_uptime_are_shown_as_the_file_says() {
    let sink = Sink::recording();
    let text = with(
        &Config::influxdb(1, sink.address()),
        "  uptimeMonitor:\n    enable: true\n    frequency: every 1 second\n    logLevel: warn\n    \
         storeInInfluxdb: { butlerSOSMemoryUsage: true, instanceTag: TEST 7 }\n",
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    let line = ringside.wait_for_line("uptime 0 h 0 min, memory ");
    assert!(line.contains(" warn: "), "{line}");
    assert!(sink.wait_for_lines(1, DEADLINE), "{}", ringside.log());
    assert!(ringside.stop().success());
    let bodies = sink.bodies();
    let text = String::from_utf8_lossy(bodies.last().expect("a body"));
    let series = format!(
        r"butlersos_memory_usage,butler_sos_instance=TEST\ 7,version={} ",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.starts_with(&series), "{text}");
}

#[test]
fn memory_and_uptime_are_not_shown_when_the_file_says_so() {
    let sink = Sink::recording();
    let monitor = "  uptimeMonitor:\n    frequency: every 1 second\n    logLevel: warn\n";
    let no_points = "    storeInInfluxdb: { butlerSOSMemoryUsage: false }\n";
    let text = with(&Config::influxdb(1, sink.address()), &format!("{monitor}{no_points}"));
    let mut ringside = Ringside::start_with(&text, &[]);
    for _ in 0..2 {
        ringside.wait_for_line("uptime 0 h 0 min");
    }
    assert!(ringside.stop().success(), "what was to be written has been");
    assert_eq!(sink.lines(), 0);

    // The heartbeat has the same schedule, so that two of its calls are at least one moment apart.
    let text = with(
        &Config::influxdb(1, sink.address()),
        &format!(
            "{monitor}    enable: false\n  heartbeat:\n    enable: true\n    remoteURL: {}/alive\n    \
             frequency: every 1 second\n",
            sink.url()
        ),
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    let calls = || sink.requests().iter().filter(|request| request.path == "/alive").count();
    wait_for("four heartbeats", DEADLINE, || (calls() >= 4).then_some(()));
    assert!(ringside.stop().success());
    assert!(!ringside.log().contains("uptime 0 h"), "{}", ringside.log());
    assert_eq!(sink.lines(), 0);
}

#[test]
fn the_broker_knows_the_client_by_the_name_in_the_file() {
    let folder = tempfile::tempdir().expect("a directory");
    let rules = folder.path().join("rules");
    // A client may publish below its own name and nowhere else.
    std::fs::write(&rules, format!("user {USER}\ntopic read #\npattern write %c/#\n"))
        .expect("rules");
    let broker = Mosquitto::start(&format!("acl_file {}", rules.display()));
    let subscriber = Subscriber::to(&broker, "subscriber");
    let text = with(
        &Config::default().ringside(SOON).ringside(&format!(
            "mqtt: {{ qos: 1, username: {USER}, password: {PASSWORD}, clientId: the-ringside }}"
        )),
        &format!(
            "  mqttConfig:\n    enable: true\n    brokerHost: 127.0.0.1\n    brokerPort: {}\n    \
             baseTopic: elsewhere/\n",
            broker.port()
        ),
    );
    let to = "  logEvents:\n    sendToMQTT: { enable: true, baseTopic: the-ringside/logs }\n";
    let text = text.replacen("  logEvents:\n", to, 1);
    let mut ringside = Ringside::start_with(&text, &[]);
    send_all(ringside.log_events, [proxy_event("m")]);
    wait_for("both messages", DEADLINE, || (subscriber.messages().len() >= 2).then_some(()));
    assert!(ringside.stop().success());
    let mut topics: Vec<_> = subscriber.messages().into_iter().map(|it| it.topic).collect();
    topics.sort();
    assert_eq!(topics, ["the-ringside/logs", "the-ringside/logs/audit/proxy/proxy"]);
}

/// The one event of the proxy at New Relic.
fn at_new_relic(scramble: bool, version: bool) -> Value {
    let sink = Sink::answering(|_| Reply::json(202, r#"{"success":true}"#));
    let text = with(
        &Config::default()
            .ringside(SOON)
            .ringside(&format!("newRelic: {{ scrambleLogEvents: {scramble} }}")),
        &format!(
            "  thirdPartyToolsCredentials:\n    newRelic:\n      - accountName: A\n        \
             insertApiKey: K\n        accountId: '1'\n  newRelic:\n    enable: true\n    event:\n      \
             url: {}\n      attribute: {{ dynamic: {{ butlerSosVersion: {{ enable: {version} }} }} }}\n",
            sink.url()
        ),
    );
    let to = "  logEvents:\n    sendToNewRelic:\n      enable: true\n      destinationAccount: [A]\n      \
              source: { proxy: {} }\n";
    let ringside = Ringside::start_with(&text.replacen("  logEvents:\n", to, 1), &[]);
    send_all(ringside.log_events, [proxy_event("m")]);
    let request = wait_for("the event", DEADLINE, || sink.requests().pop());
    let mut events: Vec<Value> = serde_json::from_str(request.text()).expect("an array");
    events.pop().expect("an event")
}

#[test]
fn events_at_new_relic_have_the_version_and_users_that_the_file_wants() {
    let open = at_new_relic(false, true);
    assert_eq!(open["butlerSosVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(open["qs_user_id"], "goran");
    let closed = at_new_relic(true, false);
    assert_eq!(closed.get("butlerSosVersion"), None);
    assert_eq!(closed["qs_user_id"], "76b784e6533bb670", "as in user events");
}

/// A file in which only this key is written, below a listener.
fn file_with_only(path: &str, value: &str) -> String {
    let mut text = Config::default().text();
    let keys: Vec<&str> = path.split('.').skip(1).collect();
    for (depth, key) in keys.iter().enumerate() {
        text += &format!("{}{key}:", "  ".repeat(depth + 1));
        text += match keys.len() - depth {
            1 => " ",
            _ if depth == 0 => "\n    enable: false\n",
            _ => "\n",
        };
    }
    text + value + "\n"
}

#[test]
fn what_is_left_to_butler_sos_is_accepted_and_named() {
    let rows = config::reference();
    let left: Vec<_> = rows.iter().filter(|row| row.status == Status::LeftAlone).collect();
    assert!(left.len() > 5, "{left:?}");
    for row in left {
        let text = file_with_only(&row.path, "{ enable: true, anything: [7] }");
        let loaded = config::parse(&text, "f.yaml").unwrap_or_else(|error| panic!("{error}"));
        let key = row.path.strip_prefix("Butler-SOS.").expect("below the root");
        let said = |what: &str| what.contains(key) && what.contains("left to Butler SOS");
        assert!(loaded.warnings.iter().any(|it| said(&it.what)), "{key}: {:?}", loaded.warnings);
    }
}

#[test]
fn keys_without_effect_in_this_version_are_accepted_and_named() {
    let text = with(
        &Config::default(),
        "  prometheus:\n    enable: true\n    nodeMetricsHost: 127.0.0.9\n    nodeMetricsPort: 9\n  \
         appNames:\n    hostIP: 127.0.0.1\n  cert:\n    clientCert: a\n    clientCertKey: b\n    \
         clientCertCA: c\n    clientCertPassphrase: hush\n",
    );
    let loaded = config::parse(&text, "f.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    let [warning] = &loaded.warnings[..] else { panic!("{:#?}", loaded.warnings) };
    assert_eq!(
        warning.what,
        "accepted, but without effect in this version: prometheus.nodeMetricsHost, \
         prometheus.nodeMetricsPort, cert.clientCertPassphrase"
    );
    assert!(!warning.to_string().contains("hush"), "{warning}");
}
