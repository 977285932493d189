//! `InfluxDB` as a destination: the encoder for the shards and the transport for the deliver thread.

use std::future::Future;
use std::pin::Pin;

use super::encode::{Encoder, EncoderSettings};
use super::{InfluxError, InfluxSettings, InfluxTransport};
use crate::deliver::{Destination, Encode, Served};

/// One `InfluxDB`.
#[derive(Debug)]
pub struct InfluxDestination {
    series: EncoderSettings,
    identity: String,
    transport: InfluxTransport,
}

impl InfluxDestination {
    /// A destination that writes `series` to `server`. Connects to nothing yet.
    pub fn new(series: EncoderSettings, server: InfluxSettings) -> Result<Self, InfluxError> {
        for name in series.tags_left_out() {
            tracing::warn!(
                "the tag `{}` is not written to InfluxDB, where a field has that name; rename it in \
                 userEvents.tags or logEvents.tags",
                name.escape_debug()
            );
        }
        let identity = server.identity();
        Ok(Self { series, identity, transport: InfluxTransport::new(server)? })
    }
}

impl Destination for InfluxDestination {
    fn name(&self) -> String {
        "influxdb".into()
    }

    fn identity(&self) -> Option<String> {
        Some(self.identity.clone())
    }

    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(Encoder::new(&self.series))
    }

    fn serve(self: Box<Self>, served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(served.run(self.transport))
    }
}
