//! From the sections about New Relic to one destination per account, and to uptime metrics.

use std::collections::BTreeSet;

use super::{SettingsError, tags};
use crate::config::{Config, Header, NewRelicAccount, NewRelicSource};
use crate::counters::uptime_metrics::{UptimeMetricSettings, UptimeMetrics};
use crate::deliver::Destination;
use crate::deliver::new_relic::encode::Levels;
use crate::deliver::new_relic::{Account, EncoderSettings, MetricClient, NewRelicDestination};
use crate::event::Kind;

/// The accounts that some event is sent to, each once.
pub(super) fn destinations(config: &Config) -> Result<Vec<Box<dyn Destination>>, SettingsError> {
    let mut destinations: Vec<Box<dyn Destination>> = Vec::new();
    for (events, account) in in_use(config) {
        destinations.push(Box::new(NewRelicDestination::new(events, &account)?));
    }
    Ok(destinations)
}

/// The same accounts, without what is sent to them.
pub(super) fn accounts(config: &Config) -> impl Iterator<Item = Account> {
    in_use(config).into_iter().map(|(_, account)| account)
}

fn in_use(config: &Config) -> Vec<(EncoderSettings, Account)> {
    let mut accounts = Vec::new();
    if !config.new_relic.enable {
        return accounts;
    }
    let known = &config.third_party_tools_credentials.new_relic;
    let mut named: Vec<&str> = Vec::new();
    for credentials in known {
        let name = credentials.account_name.as_str();
        let events = events(config, name);
        // Of two accounts with one name the first counts, as in Butler SOS.
        let wanted = events.user_events || events.levels != [Levels::default(); Kind::COUNT];
        if wanted && !named.contains(&name) {
            named.push(name);
            let event = &config.new_relic.event;
            accounts.push((events, account(credentials, "event", &event.url, &event.header)));
        }
    }
    accounts
}

/// Uptime metrics for each named account, once. The file's checks have made sure that it is there.
pub(super) fn uptime_metrics(config: &Config) -> Result<Vec<UptimeMetrics>, SettingsError> {
    let Some(uptime) = config.uptime_at_new_relic() else { return Ok(Vec::new()) };
    let schedule = config
        .uptime_monitor
        .frequency
        .parse()
        .map_err(|error| SettingsError::Schedule("uptimeMonitor.frequency", error))?;
    let attribute = &uptime.attribute;
    let fixed = attribute.fixed.iter().map(|fixed| (fixed.name.clone(), fixed.value.clone()));
    let version = attribute.dynamic.butler_version.enable;
    let version = version.then(|| ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    let settings = UptimeMetricSettings {
        schedule,
        memory: uptime.metric.dynamic.butler_memory_usage.enable,
        uptime: uptime.metric.dynamic.butler_uptime.enable,
        attributes: fixed.chain(version).collect(),
    };
    let metric = &config.new_relic.metric;
    let names: BTreeSet<&String> = uptime.destination_account.iter().collect();
    let known = &config.third_party_tools_credentials.new_relic;
    let accounts = names.iter().filter_map(|name| {
        // Of two accounts with one name the first counts, as in Butler SOS.
        known.iter().find(|account| account.account_name == **name)
    });
    accounts
        .map(|credentials| {
            let account = account(credentials, "metric", &metric.url, &metric.header);
            Ok(UptimeMetrics::new(settings.clone(), MetricClient::new(&account)?))
        })
        .collect()
}

fn account(
    credentials: &NewRelicAccount,
    section: &'static str,
    url: &str,
    headers: &[Header],
) -> Account {
    let header = |header: &Header| (header.name.clone(), header.value.clone());
    Account {
        section,
        url: url.to_owned(),
        name: credentials.account_name.clone(),
        id: credentials.account_id.clone(),
        api_key: credentials.insert_api_key.clone(),
        headers: headers.iter().map(header).collect(),
    }
}

/// What is sent to the account of this name, and how.
fn events(config: &Config, account: &str) -> EncoderSettings {
    let user = &config.user_events.send_to_new_relic;
    let log = &config.log_events.send_to_new_relic;
    let is_named = |accounts: &[String]| accounts.iter().any(|name| name == account);
    let log_events = log.enable && is_named(&log.destination_account);
    let levels = |source: &NewRelicSource| {
        let level = &source.log_level;
        let fatal = level.fatal.unwrap_or(level.error);
        let levels = Levels { fatal, error: level.error, warn: level.warn };
        if log_events && source.enable { levels } else { Levels::default() }
    };
    let attribute = &config.new_relic.event.attribute;
    let fixed = attribute.fixed.iter().map(|fixed| (fixed.name.clone(), fixed.value.clone()));
    let version = attribute.dynamic.butler_sos_version.enable;
    let version =
        version.then(|| ("butlerSosVersion".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    EncoderSettings {
        user_events: config.user_events.enable
            && user.enable
            && is_named(&user.destination_account),
        user_attributes: tags(&config.user_events.tags),
        scramble_user_events: user.scramble,
        levels: Kind::ALL.map(|kind| match kind {
            Kind::Engine => levels(&log.source.engine),
            Kind::Proxy => levels(&log.source.proxy),
            Kind::Repository => levels(&log.source.repository),
            Kind::Scheduler => levels(&log.source.scheduler),
            Kind::ProxySession | Kind::ProxyConnection | Kind::QixPerf => Levels::default(),
        }),
        log_attributes: tags(&config.log_events.tags)
            .into_iter()
            .chain(fixed)
            .chain(version)
            .collect(),
        scramble_log_events: config.ringside.new_relic.scramble_log_events,
    }
}
