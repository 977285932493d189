//! From the configuration file to what `check --host` looks at, and where the file says so.

use std::path::{Path, PathBuf};

use hyper::Uri;

use super::{SettingsError, app_names, endpoints, influxdb, mqtt, new_relic, receive};
use crate::config::{AllowedSource, Config, Loaded, Places};
use crate::deliver::influxdb::Version;
use crate::doctor::{
    Endpoint, Folder, Holds, Host, Limit, PemFile, Place, Question, ReceivePlaces, Server, Settings,
};
use crate::enrich::app_names::QRS_PORT;
use crate::observe::http::{BindSettings, Part};

/// What to look at for this file.
pub(in crate::cli) fn of(loaded: &Loaded) -> Result<Settings, SettingsError> {
    let (config, at) = (&loaded.config, Keys(&loaded.places));
    Ok(Settings {
        receive: receive::of(config)?,
        places: ReceivePlaces {
            backend: at.key("ringside.receive.backend"),
            socket_buffer: at.key("ringside.receive.socketBuffer"),
            slots: at.key("ringside.receive.slots"),
            ports: [
                at.key("userEvents.udpServerConfig.portUserActivityEvents"),
                at.key("logEvents.udpServerConfig.portLogEvents"),
            ],
        },
        endpoints: endpoints::of(config).into_iter().map(|bind| endpoint(bind, at)).collect(),
        folders: folders(config, at),
        pem_files: pem_files(loaded),
        hosts: senders(config, at),
        servers: servers(config, at),
    })
}

/// The places of keys below the root of the file.
#[derive(Clone, Copy)]
struct Keys<'a>(&'a Places);

impl Keys<'_> {
    fn key(self, key: &str) -> Place {
        let key = format!("Butler-SOS.{key}");
        let (line, column) = self.0.of(&key);
        Place { file: self.0.file().clone(), line, column, key }
    }
}

fn endpoint(bind: BindSettings, at: Keys<'_>) -> Endpoint {
    let place = at.key(match bind.part {
        Part::Console => "ringside.console.port",
        Part::Metrics => "prometheus.port",
        Part::Health => "dockerHealthCheck.port",
        Part::Config => "configVisualisation.port",
    });
    Endpoint { bind, place }
}

fn folders(config: &Config, at: Keys<'_>) -> Vec<Folder> {
    let ringside = &config.ringside;
    let mut folders = Vec::new();
    let mut add = |what, path: &Path, key: &str, limit, limit_key: Option<&str>| {
        let (path, place) = (path.to_owned(), at.key(key));
        let limit_place = limit_key.map(|key| at.key(key));
        folders.push(Folder { what, path, limit, place, limit_place });
    };
    // The ledger's checkpoint is there too, so it is needed without any spool.
    // Destinations that cannot be made are told of elsewhere.
    let limit = if super::spool_folders(config).is_ok_and(|folders| folders.is_empty()) {
        Limit::Disk
    } else {
        Limit::Spool(ringside.spool.max_bytes.bytes())
    };
    let (key, limit_key) = ("ringside.spool.dir", Some("ringside.spool.maxBytes"));
    add("spool", Path::new(&ringside.spool.dir), key, limit, limit_key);
    if ringside.archive.enable {
        let limit = Limit::Bytes(ringside.archive.max_bytes.bytes());
        let (key, limit_key) = ("ringside.archive.dir", Some("ringside.archive.maxBytes"));
        add("archive", Path::new(&ringside.archive.dir), key, limit, limit_key);
    }
    if ringside.ndjson.enable && ringside.ndjson.path != "-" {
        let folder = Path::new(&ringside.ndjson.path).parent().unwrap_or(Path::new("."));
        add("file of JSON lines", folder, "ringside.ndjson.path", Limit::Disk, None);
    }
    if config.file_logging {
        add("log", Path::new(&config.log_directory), "logDirectory", Limit::Disk, None);
    }
    folders
}

/// Our own certificates with their keys and the authorities that the file names, as far as they are in
/// use.
pub(in crate::cli) fn pem_files(loaded: &Loaded) -> Vec<PemFile> {
    let (config, at) = (&loaded.config, Keys(&loaded.places));
    let (cert, mqtt) = (&config.cert, &config.ringside.mqtt);
    let names = config.app_names.enable_app_name_extract;
    let broker = config.mqtt_config.enable && mqtt.tls;
    [
        (names, &cert.client_cert, Holds::Certificates, "cert.clientCert"),
        (names, &cert.client_cert_key, Holds::Key, "cert.clientCertKey"),
        (names, &cert.client_cert_ca, Holds::Certificates, "cert.clientCertCA"),
        (broker, &mqtt.ca, Holds::Certificates, "ringside.mqtt.ca"),
        (broker, &mqtt.client_cert, Holds::Certificates, "ringside.mqtt.clientCert"),
        (broker, &mqtt.client_key, Holds::Key, "ringside.mqtt.clientKey"),
    ]
    .into_iter()
    .filter(|(used, ..)| *used)
    .filter_map(|(_, path, holds, key)| {
        Some(PemFile { path: PathBuf::from(path.as_ref()?), holds, place: at.key(key) })
    })
    .collect()
}

/// The names of those who may send.
fn senders(config: &Config, at: Keys<'_>) -> Vec<Host> {
    let listeners = [
        (config.user_listener(), "userEvents.udpServerConfig.allowedSources"),
        (config.log_listener(), "logEvents.udpServerConfig.allowedSources"),
    ];
    let mut hosts = Vec::new();
    for (listener, key) in listeners {
        let Some(listener) = listener.filter(|listener| listener.enable_source_validation) else {
            continue;
        };
        for source in listener.allowed_sources {
            if let Some(AllowedSource::Name(name)) = AllowedSource::parse(source) {
                hosts.push(Host { name: name.to_owned(), place: at.key(key) });
            }
        }
    }
    hosts
}

fn servers(config: &Config, at: Keys<'_>) -> Vec<Server> {
    let mut servers = Vec::new();
    if config.influxdb_config.enable {
        servers.push(influx(config, at));
    }
    if config.mqtt_config.enable {
        let broker = mqtt::broker(config);
        servers.push(Server {
            what: "the MQTT broker".to_owned(),
            host: broker.host.clone(),
            port: broker.port,
            tls: broker.tls.is_some(),
            place: at.key("mqttConfig.brokerHost"),
            credentials: at.key("ringside.mqtt.username"),
            question: Question::Mqtt(Box::new(broker)),
        });
    }
    for account in new_relic::accounts(config) {
        let (key, what) = ("newRelic.event.url", format!("New Relic, account {},", account.name));
        let credentials = at.key("thirdPartyToolsCredentials.newRelic");
        let question = Question::NewRelic(Box::new(account.clone()));
        servers.extend(by_url(&account.url, what, at.key(key), credentials, question));
    }
    // Without its certificates, which are told of by themselves, it cannot be asked.
    if let Ok(Some(refresher)) = app_names(config) {
        servers.push(Server {
            what: "the repository service of Sense".to_owned(),
            host: config.app_names.host_ip.clone().unwrap_or_default(),
            port: QRS_PORT,
            tls: true,
            place: at.key("appNames.hostIP"),
            credentials: at.key("cert.clientCert"),
            question: Question::AppNames(Box::new(refresher)),
        });
    }
    if config.heartbeat.enable {
        let place = at.key("heartbeat.remoteURL");
        let what = "the receiver of heartbeats".to_owned();
        let url = config.heartbeat.remote_url.expose();
        servers.extend(by_url(url, what, place.clone(), place, Question::Nothing));
    }
    servers
}

fn influx(config: &Config, at: Keys<'_>) -> Server {
    let server = influxdb::server(config);
    let version = server.target.version();
    Server {
        what: "InfluxDB".to_owned(),
        host: server.host.clone(),
        port: server.port,
        tls: server.https,
        place: at.key("influxdbConfig.host"),
        credentials: at.key(match version {
            Version::V1 => "influxdbConfig.v1Config.auth",
            Version::V2 => "influxdbConfig.v2Config.token",
            Version::V3 => "influxdbConfig.v3Config.token",
        }),
        question: Question::Influx(Box::new(server)),
    }
}

/// The server of a URL, which the file's checks have found to be one.
fn by_url(
    url: &str,
    what: String,
    place: Place,
    credentials: Place,
    question: Question,
) -> Option<Server> {
    let url: Uri = url.parse().ok()?;
    let tls = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let host = url.host()?.trim_matches(['[', ']']).to_owned();
    Some(Server { what, host, port, tls, place, credentials, question })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_not_looked_at_and_what_is_on_has_its_place() {
        let text = "Butler-SOS:\n  fileLogging: false\n  userEvents:\n    enable: true\n  influxdbConfig:\n    \
                    enable: true\n    host: db.lab\n    version: 2\n    v2Config:\n      org: o\n      \
                    bucket: b\n      token: hush\n";
        let loaded = crate::config::parse(text, "f.yaml").expect("a valid file");
        let settings = of(&loaded).expect("usable");
        assert!(!format!("{settings:?}").contains("hush"));
        assert_eq!(settings.endpoints.len(), 1, "the console");
        assert!(settings.pem_files.is_empty() && settings.hosts.is_empty());
        let [server] = &settings.servers[..] else { panic!("{:?}", settings.servers) };
        assert_eq!((server.place.line, server.place.column), (7, 11));
        assert_eq!(server.credentials.key, "Butler-SOS.influxdbConfig.v2Config.token");
        let folders: Vec<_> = settings.folders.iter().map(|folder| folder.what).collect();
        assert_eq!(folders, ["spool"]);
    }

    #[test]
    fn urls_have_ports() {
        let place = Keys(
            &crate::config::parse("Butler-SOS:\n  userEvents:\n    enable: true\n", "f")
                .expect("a valid file")
                .places,
        )
        .key("heartbeat");
        for (url, host, port, tls) in [
            ("https://a.lab/secret?key", "a.lab", 443, true),
            ("http://me:pw@[::1]:8080/", "::1", 8080, false),
        ] {
            let (what, place) = ("x".to_owned(), place.clone());
            let server = by_url(url, what, place.clone(), place, Question::Nothing).expect(url);
            assert_eq!((server.host.as_str(), server.port, server.tls), (host, port, tls));
        }
    }
}
