//! Would the broker let us in? A connection is made and ended; nothing is published.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Outgoing, Packet,
};
use tokio::time::timeout;

use super::{MqttError, MqttSettings, options};
use crate::deliver::probe::{Probed, Verdict};

/// Connection and answer together; the library waits 5 s for each connection.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that a farewell may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects once, under a name of its own: a broker ends the connection of a client when another comes
/// with its name, and that may be a Ringside at work. There is no last will either.
pub async fn probe(settings: &MqttSettings) -> Result<Probed, MqttError> {
    let named = settings.client_id.is_some();
    let settings = MqttSettings { client_id: None, last_will: None, ..settings.clone() };
    let (client, mut events) = AsyncClient::new(options::of(&settings)?, 1);
    let answer = timeout(TIMEOUT, connected(&mut events)).await;
    Ok(match answer {
        Ok(Ok(())) => {
            let _ = timeout(FAREWELL_TIMEOUT, say_farewell(&client, &mut events)).await;
            Probed::new(Verdict::Takes, "lets us in; topics are not asked about", "")
        }
        Ok(Err(error)) => refused(&settings, named, &error),
        Err(_) => Probed::new(
            Verdict::Refuses,
            format!("does not answer within {TIMEOUT:?}"),
            "check mqttConfig.brokerHost and brokerPort, and ringside.mqtt.tls: a broker that expects TLS \
             may not answer without it",
        ),
    })
}

async fn connected(events: &mut EventLoop) -> Result<(), ConnectionError> {
    while !matches!(events.poll().await?, Event::Incoming(Packet::ConnAck(_))) {}
    Ok(())
}

async fn say_farewell(client: &AsyncClient, events: &mut EventLoop) {
    // The loop that takes requests is alive, so this cannot fail.
    let _ = client.disconnect().await;
    while !matches!(events.poll().await, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))) {}
}

fn refused(settings: &MqttSettings, named: bool, error: &ConnectionError) -> Probed {
    use ConnectReturnCode::{BadClientId, BadUserNamePassword, NotAuthorized};
    let (verdict, hint) = match error {
        ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized)
            if settings.credentials.is_none() =>
        {
            (Verdict::Forbids, "the broker wants a user: set ringside.mqtt.username and password")
        }
        ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized | BadClientId)
            if named =>
        {
            (
                Verdict::Unsure,
                "check ringside.mqtt.username and password; if the broker lets in ringside.mqtt.clientId \
                 only, this is to be expected: the question was asked under another name",
            )
        }
        ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized) => {
            (Verdict::Forbids, "check ringside.mqtt.username and password")
        }
        ConnectionError::Tls(_) => (
            Verdict::Refuses,
            "check that the broker speaks TLS on this port, that its certificate is for this name and not \
             expired, and ringside.mqtt.ca, clientCert and clientKey",
        ),
        ConnectionError::ConnectionRefused(_) => (Verdict::Refuses, "see the broker's log"),
        _ => (
            Verdict::Refuses,
            "check mqttConfig.brokerHost and brokerPort, that the broker runs, and that no firewall is in \
             between; if it expects TLS, set ringside.mqtt.tls",
        ),
    };
    let what = match error {
        ConnectionError::ConnectionRefused(_) => "does not let us in",
        _ => "cannot be reached",
    };
    Probed::new(verdict, format!("{what}: {error}"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::mqtt::Qos;
    use crate::secret::Secret;

    #[test]
    fn who_is_not_let_in_reads_what_to_change() {
        let settings = |credentials| MqttSettings {
            host: "broker".into(),
            port: 1883,
            qos: Qos::AtMostOnce,
            retain: false,
            credentials,
            tls: None,
            client_id: None,
            last_will: None,
        };
        let error = || ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        let nobody = refused(&settings(None), false, &error());
        assert!(nobody.hint.contains("wants a user"), "{nobody:?}");
        let wrong = settings(Some(("me".into(), Secret::from("hush"))));
        let probed = refused(&wrong, false, &error());
        assert_eq!(probed.verdict, Verdict::Forbids);
        assert!(!format!("{probed:?}").contains("hush"));
        assert_eq!(refused(&wrong, true, &error()).verdict, Verdict::Unsure);
    }
}
