//! `userEvents`: who started and stopped sessions and connections.

use super::{
    setting::{Filled, off, section, switched},
    udp::UserUdpServer,
    values::{Tag, Toggle},
};

section! {
    /// The pipeline of user events.
    pub struct UserEvents {
        /// Receives user events.
        enable: bool = false;
        /// Users whose events are not wanted.
        exclude_user: Vec<ExcludedUser> = Vec::new();
        /// The listener.
        udp_server_config: UserUdpServer = UserUdpServer::default();
        /// Tags of the events at every destination.
        tags: Vec<Tag> = Vec::new();
        /// To MQTT.
        send_to_mqtt as "sendToMQTT": UserEventsToMqtt = off();
        /// Writes measurement `user_events` to InfluxDB.
        send_to_influxdb: Toggle<true> = off();
        /// To New Relic.
        send_to_new_relic: UserEventsToNewRelic = off();
    }
}

section! {
    /// A user whose events are not wanted. Both parts have to match, case included.
    pub struct ExcludedUser {
        /// User directory.
        directory: String;
        /// User id.
        user_id: String;
    }
}

section! {
    /// User events as MQTT messages.
    pub struct UserEventsToMqtt {
        /// Publishes them.
        enable: bool = false;
        /// Which topics get which events.
        post_to: UserTopics = UserTopics::default();
    }
}

section! {
    /// The topics of user events.
    pub struct UserTopics {
        /// Gets every event.
        everything_topic: EverythingTopic = off();
        /// Gets the events with command `Start session`.
        session_start_topic: SessionStartTopic = off();
        /// Gets the events with command `Stop session`.
        session_stop_topic: SessionStopTopic = off();
        /// Gets the events with command `Open connection`.
        connection_open_topic: ConnectionOpenTopic = off();
        /// Gets the events with command `Close connection`.
        connection_close_topic: ConnectionCloseTopic = off();
    }
}

/// The topics differ in their default name.
macro_rules! topics {
    ($($(#[doc = $about:literal])+ $name:ident: $topic:literal;)+) => {$(
        section! {
            $(#[doc = $about])+
            pub struct $name {
                /// Publishes to the topic.
                enable: bool = true;
                /// The whole topic; `mqttConfig.baseTopic` is not put in front.
                topic: String = $topic.to_owned() => Filled;
            }
        }

        switched!($name);
    )+};
}

topics! {
    /// The topic of all user events.
    EverythingTopic: "qliksense/userevent";
    /// The topic of started sessions.
    SessionStartTopic: "qliksense/userevent/session/start";
    /// The topic of stopped sessions.
    SessionStopTopic: "qliksense/userevent/session/stop";
    /// The topic of opened connections.
    ConnectionOpenTopic: "qliksense/userevent/connection/open";
    /// The topic of closed connections.
    ConnectionCloseTopic: "qliksense/userevent/connection/close";
}

section! {
    /// User events at New Relic.
    pub struct UserEventsToNewRelic {
        /// Sends them.
        enable: bool = false;
        /// Names of accounts in `thirdPartyToolsCredentials.newRelic`.
        destination_account: Vec<String> = Vec::new();
        /// Replaces user names by a hash.
        scramble: bool = true;
    }
}

switched!(UserEvents, UserEventsToMqtt, UserEventsToNewRelic);
