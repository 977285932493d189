//! From the configuration file to `InfluxDB`: what is written, and to which server.

use super::tags;
use crate::config::{Config, Gzip, InfluxdbVersion};
use crate::deliver::influxdb::encode::EncoderSettings;
use crate::deliver::influxdb::{self, InfluxSettings, Target, Version};
use crate::event::{self, Kind};

pub(super) fn series(config: &Config) -> EncoderSettings {
    EncoderSettings {
        version: version(config),
        user_tags: tags(&config.user_events.tags),
        log_tags: tags(&config.log_events.tags),
        tags_as_fields: config.ringside.tags_as_fields.clone(),
        log_row_tag: config.ringside.log_row_tag,
        kinds: Kind::ALL.map(|kind| match kind.listener() {
            event::Listener::UserEvents => config.user_events.send_to_influxdb.enable,
            event::Listener::LogEvents => config.log_events.send_to_influxdb.enable,
        }),
    }
}

pub(super) fn version(config: &Config) -> Version {
    match config.influxdb_config.version {
        InfluxdbVersion::V1 => Version::V1,
        InfluxdbVersion::V2 => Version::V2,
        InfluxdbVersion::V3 => Version::V3,
    }
}

pub(super) fn server(config: &Config) -> InfluxSettings {
    let influxdb = &config.influxdb_config;
    let extra = &config.ringside.influxdb;
    // The file's checks have made sure that the section of the version is there; the template's
    // values stand in where it is not.
    let v1 = influxdb.v1_config.clone().unwrap_or_default();
    let v2 = influxdb.v2_config.clone().unwrap_or_default();
    let v3 = influxdb.v3_config.clone().unwrap_or_default();
    let timeout = match (extra.timeout, influxdb.version) {
        (Some(timeout), _) => timeout.duration(),
        (None, InfluxdbVersion::V3) => v3.write_timeout.duration(),
        (None, _) => influxdb::TIMEOUT_DEFAULT,
    };
    let target = match influxdb.version {
        InfluxdbVersion::V1 => Target::V1 {
            database: v1.db_name,
            retention_policy: Some((v1.retention_policy.name, v1.retention_policy.duration)),
            credentials: v1.auth.enable.then_some((v1.auth.username, v1.auth.password)),
        },
        InfluxdbVersion::V2 => Target::V2 {
            organisation: v2.org,
            bucket: v2.bucket,
            description: v2.description,
            retention: v2.retention_duration,
            token: v2.token,
        },
        InfluxdbVersion::V3 => Target::V3 { database: v3.database, token: v3.token },
    };
    InfluxSettings {
        https: extra.https,
        host: influxdb.host.clone(),
        port: influxdb.port,
        target,
        connect_timeout: extra.connect_timeout.duration(),
        timeout,
        gzip: match extra.gzip {
            Gzip::Auto => influxdb::Gzip::Auto,
            Gzip::On => influxdb::Gzip::Always,
            Gzip::Off => influxdb::Gzip::Never,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_fields_where_the_file_says_so() {
        let mut config = crate::config::embedded_default();
        assert!(series(&config).tags_as_fields.is_empty());
        config.ringside.tags_as_fields = vec!["host".into()];
        assert_eq!(series(&config).tags_as_fields, ["host"]);
    }
}
