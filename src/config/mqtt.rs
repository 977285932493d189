//! `mqttConfig`: the broker that gets the events as messages.

use super::{
    basic::REMOTE_PORTS,
    setting::{Filled, IfGiven, section, switched},
};

section! {
    /// The MQTT broker.
    pub struct MqttConfig {
        /// Connects to the broker.
        enable: bool = false;
        /// Host name or address.
        broker_host: Option<String> = None => IfGiven(Filled);
        /// Port.
        broker_port: u16 = 1883 => REMOTE_PORTS;
        /// In front of topics of health metrics, which Butler SOS publishes; of no effect on events.
        base_topic: String = "butler-sos/".to_owned();
    }
}

switched!(MqttConfig);
