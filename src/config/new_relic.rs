//! `newRelic` and the accounts in `thirdPartyToolsCredentials`.

use super::{
    Secret,
    basic::HTTP_URL,
    setting::{Filled, off, section, switched},
    values::{LeftAlone, Toggle},
};

section! {
    /// Credentials for services on the internet.
    pub struct ThirdPartyToolsCredentials {
        /// Accounts of New Relic.
        new_relic: Vec<NewRelicAccount> = Vec::new();
    }
}

section! {
    /// An account of New Relic.
    pub struct NewRelicAccount {
        /// Name by which the lists `destinationAccount` mean it.
        account_name: String => Filled;
        /// Key for inserting.
        insert_api_key: Secret => Filled;
        /// Id at New Relic. A number needs quotes.
        account_id: String => Filled;
    }
}

section! {
    /// New Relic.
    pub struct NewRelic {
        /// Sends to New Relic.
        enable: bool = false;
        /// Where and how events are sent.
        event: NewRelicEvent = NewRelicEvent::default();
        /// Where and how metrics are sent.
        metric: NewRelicMetric = NewRelicMetric::default();
    }
}

section! {
    /// Events at New Relic.
    pub struct NewRelicEvent {
        /// Where; the path of the account is added.
        url: String = "https://insights-collector.eu01.nr-data.net".to_owned() => HTTP_URL;
        /// Headers added to the requests.
        header: Vec<Header> = Vec::new();
        /// Attributes added to log events.
        attribute: NewRelicAttribute = NewRelicAttribute::default();
    }
}

section! {
    /// Metrics at New Relic.
    pub struct NewRelicMetric {
        /// Names of accounts; without effect in Butler SOS too.
        destination_account: LeftAlone = LeftAlone;
        /// Where uptime metrics are sent.
        url: String = "https://insights-collector.eu01.nr-data.net/metric/v1".to_owned() => HTTP_URL;
        /// Headers added to the requests.
        header: Vec<Header> = Vec::new();
        /// Health metrics, which Butler SOS sends.
        dynamic: LeftAlone = LeftAlone;
        /// Attributes of health metrics, which Butler SOS sends.
        attribute: LeftAlone = LeftAlone;
    }
}

section! {
    /// A header of HTTP requests.
    pub struct Header {
        /// Name.
        name: String => Filled;
        /// Value. May be a key, so it is never shown.
        value: Secret;
    }
}

section! {
    /// What is added to what is sent.
    pub struct NewRelicAttribute {
        /// Attributes with fixed values.
        fixed as "static": Vec<NameValue> = Vec::new();
        /// Attributes with values of the moment.
        dynamic: VersionAttribute = VersionAttribute::default();
    }
}

section! {
    /// A name and a value.
    pub struct NameValue {
        /// Name.
        name: String => Filled;
        /// Value. A number needs quotes.
        value: String;
    }
}

section! {
    /// Attributes with values of the moment.
    pub struct VersionAttribute {
        /// Adds the version.
        butler_sos_version: Toggle<true> = off();
    }
}

switched!(NewRelic);
