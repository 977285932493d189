//! `qlikSenseEvents`: counters of events by source, host and subsystem.

use super::{
    basic::WRITE_INTERVAL,
    setting::{Filled, off, section, switched},
    values::{Millis, Tag},
};

section! {
    /// Counters of received and of rejected events.
    pub struct QlikSenseEvents {
        /// When the counters are written.
        influxdb: CountersInfluxdb = off();
        /// Received events.
        event_count: EventCount = off();
        /// Rejected performance events.
        rejected_event_count: RejectedEventCount = off();
    }
}

section! {
    /// Counters as points of InfluxDB.
    pub struct CountersInfluxdb {
        /// Writes them.
        enable: bool = false;
        /// Time between two points of a series.
        write_frequency: Millis = Millis::seconds(20) => WRITE_INTERVAL;
    }
}

section! {
    /// Counters of received events.
    pub struct EventCount {
        /// Counts them.
        enable: bool = false;
        /// How they are written.
        influxdb: EventCountInfluxdb = EventCountInfluxdb::default();
    }
}

section! {
    /// Counters of received events as points of InfluxDB.
    pub struct EventCountInfluxdb {
        /// Measurement.
        measurement_name: String = "event_count".to_owned() => Filled;
        /// Tags of the points.
        tags: Vec<Tag> = Vec::new();
    }
}

section! {
    /// Counters of rejected performance events.
    pub struct RejectedEventCount {
        /// Counts them.
        enable: bool = false;
        /// How they are written.
        influxdb: RejectedEventCountInfluxdb = RejectedEventCountInfluxdb::default();
    }
}

section! {
    /// Counters of rejected performance events as points of InfluxDB.
    pub struct RejectedEventCountInfluxdb {
        /// Measurement.
        measurement_name: String = "rejected_event_count".to_owned() => Filled;
    }
}

switched!(CountersInfluxdb, EventCount, RejectedEventCount);
