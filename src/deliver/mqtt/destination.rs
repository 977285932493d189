//! MQTT as a destination: the encoder for the shards and the connection for the deliver thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::connection::Connection;
use super::encode::{Encoder, EncoderSettings};
use super::link::RumqttLink;
use super::{MqttError, MqttSettings, MqttTransport};
use crate::deliver::{Destination, Encode, Served};

/// One MQTT broker.
pub struct MqttDestination {
    messages: EncoderSettings,
    identity: String,
    link: RumqttLink,
}

impl MqttDestination {
    /// A destination that publishes `messages` at a broker. Reads certificates; connects to nothing
    /// yet.
    pub fn new(messages: EncoderSettings, broker: &MqttSettings) -> Result<Self, MqttError> {
        let link = RumqttLink::new(broker)?;
        Ok(Self { messages, identity: broker.identity(), link })
    }
}

impl fmt::Debug for MqttDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options of the connection hold the password.
        f.debug_struct("MqttDestination").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl Destination for MqttDestination {
    fn name(&self) -> String {
        "mqtt".into()
    }

    fn identity(&self) -> Option<String> {
        Some(self.identity.clone())
    }

    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(Encoder::new(&self.messages))
    }

    fn serve(self: Box<Self>, served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let (transport, batches) = MqttTransport::new();
            // The connection ends when the transport is gone.
            tokio::join!(served.run(transport), Connection::over(self.link).run(batches));
        })
    }
}
