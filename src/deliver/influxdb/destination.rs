//! `InfluxDB` as a destination: the encoder for the shards and the transport for the deliver thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::encode::{Encoder, EncoderSettings};
use super::{InfluxError, InfluxSettings, InfluxTransport};
use crate::deliver::{Destination, Encode, Served};
use crate::observe::series::{Growth, Series};

/// One `InfluxDB`.
#[derive(Debug)]
pub struct InfluxDestination {
    series: EncoderSettings,
    identity: String,
    transport: InfluxTransport,
    counted: Arc<Series>,
    growth: Growth,
}

/// Time between two looks at how many series there are.
const LOOK: Duration = Duration::from_secs(5);

impl InfluxDestination {
    /// A destination that writes `series` to `server`, and warns from `series_warning` of them in a
    /// measurement on. Connects to nothing yet.
    pub fn new(
        series: EncoderSettings,
        server: InfluxSettings,
        series_warning: u64,
    ) -> Result<Self, InfluxError> {
        for name in series.tags_left_out() {
            tracing::warn!(
                "the tag `{}` is not written to InfluxDB, where a field has that name; rename it in \
                 userEvents.tags or logEvents.tags",
                name.escape_debug()
            );
        }
        let identity = server.identity();
        let counted = Arc::new(Encoder::new(&series).series());
        let (transport, growth) = (InfluxTransport::new(server)?, Growth::new(series_warning));
        Ok(Self { series, identity, transport, counted, growth })
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
        Box::new(Encoder::new(&self.series).counting(Arc::clone(&self.counted)))
    }

    fn serve(self: Box<Self>, served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        let Self { transport, counted, growth, .. } = *self;
        Box::pin(async move {
            tokio::select! {
                () = served.run(transport) => {}
                never = watch(counted, growth) => never,
            }
        })
    }

    fn series(&self) -> Option<Arc<Series>> {
        Some(Arc::clone(&self.counted))
    }
}

/// Warns of too many series, without end.
async fn watch(series: Arc<Series>, mut growth: Growth) -> ! {
    loop {
        tokio::time::sleep(LOOK).await;
        for warning in growth.look(&series) {
            tracing::warn!("{warning}");
        }
    }
}
