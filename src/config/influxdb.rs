//! `influxdbConfig`: the database that gets the events.

use std::ops::RangeInclusive;

use super::{
    Secret,
    basic::REMOTE_PORTS,
    setting::{Filled, Rule, choice, section, switched},
    values::{InfluxDuration, LeftAlone, Millis},
};

choice! {
    /// The major version of InfluxDB. Each has its own API and its own types of fields.
    pub enum InfluxdbVersion {
        /// InfluxDB 1: database and retention policy.
        V1 = "1",
        /// InfluxDB 2: organisation and bucket.
        V2 = "2",
        /// InfluxDB 3: database.
        V3 = "3",
    }
}

const HOST: Rule<str> = Rule {
    allows: |text| {
        !text.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '<' | '>'))
    },
    otherwise: "is not a host",
    wanted: "a host name or an address; the port and https have keys of their own",
};

section! {
    /// InfluxDB.
    pub struct InfluxdbConfig {
        /// Writes to InfluxDB.
        enable: bool = true;
        /// Host name or address, without `http://`.
        host: String = "influxdb.mycompany.com".to_owned() => HOST;
        /// Port.
        port: u16 = 8086 => REMOTE_PORTS;
        /// Version of the server.
        version: InfluxdbVersion = InfluxdbVersion::V3;
        /// Points in one batch. While a backlog exists, batches are joined to requests of up to 4 MiB.
        max_batch_size: u32 = 1000 => 1..=10_000;
        /// For version 3.
        v3_config: Option<V3Config> = None;
        /// For version 2.
        v2_config: Option<V2Config> = None;
        /// For version 1.
        v1_config: Option<V1Config> = None;
        /// Fields of health metrics, which Butler SOS writes.
        include_fields: LeftAlone = LeftAlone;
    }
}

/// Butler SOS refuses less than a second; more than an hour is no limit.
const TIMEOUTS: RangeInclusive<Millis> = Millis::seconds(1)..=Millis::seconds(3_600);

section! {
    /// InfluxDB 3.
    pub struct V3Config {
        /// Database.
        database: String = "mydatabase".to_owned() => Filled;
        /// Text, of no effect.
        description: String = "Butler SOS metrics".to_owned();
        /// Token.
        token: Secret = Secret::from("mytoken") => Filled;
        /// Text, of no effect: InfluxDB 3 is not asked to create the database.
        retention_duration: String = "10d".to_owned();
        /// Longest wait for a write.
        write_timeout: Millis = Millis::seconds(10) => TIMEOUTS;
        /// Longest wait for a query; there are none.
        query_timeout: Millis = Millis::seconds(60) => TIMEOUTS;
    }
}

section! {
    /// InfluxDB 2.
    pub struct V2Config {
        /// Organisation.
        org: String = "myorg".to_owned() => Filled;
        /// Bucket; created if it is missing.
        bucket: String = "mybucket".to_owned() => Filled;
        /// Description of a bucket that is created.
        description: String = "Butler SOS metrics".to_owned();
        /// Token.
        token: Secret = Secret::from("mytoken") => Filled;
        /// Retention of a bucket that is created.
        retention_duration: String = "10d".to_owned() => InfluxDuration;
    }
}

section! {
    /// InfluxDB 1.
    pub struct V1Config {
        /// Who writes.
        auth: V1Auth = V1Auth::default();
        /// Database; created if it is missing.
        db_name: String = "senseops".to_owned() => Filled;
        /// Retention policy of a database that is created.
        retention_policy: RetentionPolicy = RetentionPolicy::default();
    }
}

section! {
    /// User and password of InfluxDB 1.
    pub struct V1Auth {
        /// Sends them.
        enable: bool = false;
        /// User.
        username: String = String::new() => Filled;
        /// Password.
        password: Secret = Secret::default() => Filled;
    }
}

section! {
    /// Retention policy of InfluxDB 1.
    pub struct RetentionPolicy {
        /// Name.
        name: String = "10d".to_owned() => Filled;
        /// How long points are kept.
        duration: String = "10d".to_owned() => InfluxDuration;
    }
}

switched!(InfluxdbConfig);
