//! What only shows when sections are seen together.

use std::net::IpAddr;

use super::{
    AllowedSource, Cert, Config, InfluxdbVersion, Listener, ROOT, RuleAction,
    diagnostic::{Fault, Report},
    document::Path,
    setting::{Filled, Limit},
};

/// Sections whose values nobody uses, because another section says so. Template files leave their
/// placeholders there.
pub(super) fn unused_sections(config: &Config) -> Vec<String> {
    let used = config.influxdb_config.version;
    let versions = [
        (InfluxdbVersion::V1, "influxdbConfig.v1Config"),
        (InfluxdbVersion::V2, "influxdbConfig.v2Config"),
        (InfluxdbVersion::V3, "influxdbConfig.v3Config"),
    ];
    let unused = versions.iter().filter(|(version, _)| *version != used).map(|(_, path)| *path);
    let cert = (!config.app_names.enable_app_name_extract).then_some("cert");
    let users = (!config.user_events.enable).then_some("userEvents");
    let log = (!config.log_events.is_enabled()).then_some("logEvents.udpServerConfig");
    let used = config.new_relic.enable || config.uptime_at_new_relic().is_some();
    let accounts = (!used).then_some("thirdPartyToolsCredentials");
    unused
        .chain(cert)
        .chain(users)
        .chain(log)
        .chain(accounts)
        .map(|path| format!("{ROOT}.{path}"))
        .collect()
}

/// Judges the settings as a whole.
pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    listeners(config, report);
    influxdb(config, report);
    required(config, report);
    mqtt(config, report);
    console(config, report);
    destinations(config, report);
    accounts(config, report);
    rules(config, report);
}

/// The path of keys below the root, such as `userEvents.tags`.
const fn below(keys: &str) -> Path<'_> {
    Path::Keys(&Path::Key(&Path::Root, ROOT), keys)
}

const USER: &str = "userEvents.udpServerConfig";
const LOG: &str = "logEvents.udpServerConfig";

fn listeners(config: &Config, report: &mut Report<'_>) {
    let (user, log) = (config.user_listener(), config.log_listener());
    if let (Some(user), Some(log)) = (&user, &log) {
        same_port(user, log, report);
    }
    if user.is_none() && log.is_none() {
        let what = "nothing to receive: user events are off and no source of log events is on";
        let hint = "set userEvents.enable or one of logEvents.source.*.enable to true";
        report.problem(&Path::Key(&Path::Root, ROOT), Fault::new(what, hint));
    }
    for (listener, keys) in [(user, USER), (log, LOG)] {
        if let Some(listener) = listener {
            server_host(&listener, keys, report);
            sources(&listener, keys, config.ringside.source_validation.fail_closed, report);
        }
    }
}

fn same_port(user: &Listener<'_>, log: &Listener<'_>, report: &mut Report<'_>) {
    let everywhere = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
    let same_host =
        user.host.eq_ignore_ascii_case(log.host) || everywhere(user.host) || everywhere(log.host);
    if same_host && user.port == log.port && user.port != 0 {
        let what = format!("port {} is also the port of user events", log.port);
        let fault = Fault::new(what, "give each listener a port of its own, such as 9997 and 9996");
        report.problem(&below(&format!("{LOG}.portLogEvents")), fault);
    }
}

fn server_host(listener: &Listener<'_>, keys: &str, report: &mut Report<'_>) {
    let keys = format!("{keys}.serverHost");
    if report.node(&below(&keys)).is_none() {
        let what = format!("the key is missing: the listener is at {} only", listener.host);
        let hint =
            "set it to an address of this machine, or 0.0.0.0 for all, if Sense runs elsewhere";
        report.warning(&below(&keys), Fault::new(what, hint));
    }
}

fn sources(listener: &Listener<'_>, keys: &str, fail_closed: bool, report: &mut Report<'_>) {
    if !listener.enable_source_validation {
        return;
    }
    let keys = format!("{keys}.allowedSources");
    let list = below(&keys);
    for (index, source) in listener.allowed_sources.iter().enumerate() {
        let judged = Filled.check(source).and_then(|()| match AllowedSource::parse(source) {
            Some(_) => Ok(()),
            None => Err(not_a_source(source)),
        });
        if let Err(fault) = judged {
            report.problem(&Path::Index(&list, index), fault);
        }
    }
    if listener.allowed_sources.is_empty() {
        let hint = "list the senders, or set enableSourceValidation to false";
        if fail_closed {
            let what = "the list is empty, and failClosed is on: nobody may send";
            report.problem(&list, Fault::new(what, hint));
        } else {
            let what = "the list is empty: senders are not checked (difference 17)";
            report.warning(&list, Fault::new(what, hint));
        }
    }
}

fn not_a_source(entry: &str) -> Fault {
    Fault::new(
        format!("`{entry}` is neither an address nor a block nor the name of a host"),
        "use an address such as 10.0.0.1 or fd00::1, a block such as 10.0.0.0/8, or a name, without a port",
    )
}

fn influxdb(config: &Config, report: &mut Report<'_>) {
    let influxdb = &config.influxdb_config;
    if !influxdb.enable {
        return;
    }
    let (given, section) = match influxdb.version {
        InfluxdbVersion::V1 => (influxdb.v1_config.is_some(), "v1Config"),
        InfluxdbVersion::V2 => (influxdb.v2_config.is_some(), "v2Config"),
        InfluxdbVersion::V3 => (influxdb.v3_config.is_some(), "v3Config"),
    };
    if !given {
        let what = format!("version {} needs the section `{section}`", influxdb.version);
        let hint = "add the section, or correct the version";
        report.problem(&below("influxdbConfig.version"), Fault::new(what, hint));
    }
}

/// Keys without a default that what is switched on cannot do without.
fn required(config: &Config, report: &mut Report<'_>) {
    let auth = config.influxdb_config.v1_config.as_ref().map(|v1| &v1.auth);
    let auth = auth.filter(|auth| {
        let version = config.influxdb_config.version;
        config.influxdb_config.enable && version == InfluxdbVersion::V1 && auth.enable
    });
    // Names of apps are asked for with a certificate.
    let names_without = |file: fn(&Cert) -> &Option<String>| {
        config.app_names.enable_app_name_extract && file(&config.cert).is_none()
    };
    let mqtt = &config.ringside.mqtt;
    let needs = [
        (
            auth.is_some_and(|auth| auth.username.is_empty()),
            "influxdbConfig.v1Config.auth.username",
        ),
        (
            auth.is_some_and(|auth| auth.password.is_empty()),
            "influxdbConfig.v1Config.auth.password",
        ),
        (
            config.mqtt_config.enable && config.mqtt_config.broker_host.is_none(),
            "mqttConfig.brokerHost",
        ),
        (mqtt.password.is_some() && mqtt.username.is_none(), "ringside.mqtt.username"),
        (mqtt.client_cert.is_some() && mqtt.client_key.is_none(), "ringside.mqtt.clientKey"),
        (mqtt.client_key.is_some() && mqtt.client_cert.is_none(), "ringside.mqtt.clientCert"),
        (
            config.app_names.enable_app_name_extract && config.app_names.host_ip.is_none(),
            "appNames.hostIP",
        ),
        (names_without(|cert| &cert.client_cert), "cert.clientCert"),
        (names_without(|cert| &cert.client_cert_key), "cert.clientCertKey"),
        (names_without(|cert| &cert.client_cert_ca), "cert.clientCertCA"),
    ];
    for (missing, keys) in needs {
        if missing && report.node(&below(keys)).is_none() {
            let fault = Fault::new("the key is missing", "add it, or switch the section off");
            report.problem(&below(keys), fault);
        }
    }
}

/// Certificates show that an encrypted connection is meant: without one, a password would go in clear.
fn mqtt(config: &Config, report: &mut Report<'_>) {
    let mqtt = &config.ringside.mqtt;
    if mqtt.tls {
        return;
    }
    let files = [
        (&mqtt.ca, "ringside.mqtt.ca"),
        (&mqtt.client_cert, "ringside.mqtt.clientCert"),
        (&mqtt.client_key, "ringside.mqtt.clientKey"),
    ];
    for (_, keys) in files.into_iter().filter(|(file, _)| file.is_some()) {
        let hint = "set ringside.mqtt.tls to true, or remove the key";
        let fault = Fault::new("`tls` is off: the certificate would not be used", hint);
        report.problem(&below(keys), fault);
    }
}

fn console(config: &Config, report: &mut Report<'_>) {
    let console = &config.ringside.console;
    let loopback = console.host.eq_ignore_ascii_case("localhost")
        || console.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if console.enable && !loopback && console.token.is_none() {
        let what =
            format!("`{}` can be reached from other machines, and there is no token", console.host);
        let hint = "set ringside.console.token to a long random text, or the host to 127.0.0.1";
        report.problem(&below("ringside.console.host"), Fault::new(what, hint));
    }
}

/// Events that are sent to a destination that is off.
fn destinations(config: &Config, report: &mut Report<'_>) {
    let Config { user_events: user, log_events: log, .. } = config;
    let log_on = log.is_enabled();
    let routes = [
        (
            user.enable && user.send_to_influxdb.enable,
            "userEvents.sendToInfluxdb",
            "influxdbConfig",
        ),
        (log_on && log.send_to_influxdb.enable, "logEvents.sendToInfluxdb", "influxdbConfig"),
        (user.enable && user.send_to_mqtt.enable, "userEvents.sendToMQTT", "mqttConfig"),
        (log_on && log.send_to_mqtt.enable, "logEvents.sendToMQTT", "mqttConfig"),
        (user.enable && user.send_to_new_relic.enable, "userEvents.sendToNewRelic", "newRelic"),
        (log_on && log.send_to_new_relic.enable, "logEvents.sendToNewRelic", "newRelic"),
    ];
    for (wanted, keys, destination) in routes {
        let on = match destination {
            "influxdbConfig" => config.influxdb_config.enable,
            "mqttConfig" => config.mqtt_config.enable,
            _ => config.new_relic.enable,
        };
        if wanted && !on {
            let what = format!("on, but {destination} is off: the events do not get there");
            let hint = format!("set {destination}.enable to true, or this to false");
            report.warning(&below(&format!("{keys}.enable")), Fault::new(what, hint));
        }
    }
}

/// Accounts that something is sent to have to be there.
fn accounts(config: &Config, report: &mut Report<'_>) {
    let known = &config.third_party_tools_credentials.new_relic;
    let on = config.new_relic.enable;
    let user = &config.user_events.send_to_new_relic;
    let log = &config.log_events.send_to_new_relic;
    let uptime = &config.uptime_monitor.store_new_relic;
    let lists = [
        (
            on && user.enable && config.user_events.enable,
            &user.destination_account,
            "userEvents.sendToNewRelic",
            "the events",
        ),
        (
            on && log.enable && config.log_events.is_enabled(),
            &log.destination_account,
            "logEvents.sendToNewRelic",
            "the events",
        ),
        (
            config.uptime_at_new_relic().is_some(),
            &uptime.destination_account,
            "uptimeMonitor.storeNewRelic",
            "the metrics",
        ),
    ];
    for (_, names, section, what) in lists.into_iter().filter(|(used, ..)| *used) {
        let keys = format!("{section}.destinationAccount");
        let list = below(&keys);
        let hint = "name accounts of thirdPartyToolsCredentials.newRelic or of \
                    --new-relic-account-name";
        if names.is_empty() {
            let what = format!("no account is named: {what} do not get to New Relic");
            report.warning(&list, Fault::new(what, hint));
        }
        for (index, name) in names.iter().enumerate() {
            if known.iter().all(|account| account.account_name != *name) {
                let what = format!("there are no credentials for the account `{name}`");
                report.problem(&Path::Index(&list, index), Fault::new(what, hint));
            }
        }
    }
}

/// Rules that would do nothing.
fn rules(config: &Config, report: &mut Report<'_>) {
    let categorise = &config.log_events.categorise;
    if !categorise.enable {
        return;
    }
    let list = below("logEvents.categorise.rules");
    for (index, rule) in categorise.rules.iter().enumerate() {
        if rule.action == RuleAction::Categorise && rule.category.is_empty() {
            let hint = "add `category:` with a name and a value, or use `action: drop`";
            let fault = Fault::new("the rule has no category to add", hint);
            report.problem(&Path::Index(&list, index), fault);
        }
    }
}
