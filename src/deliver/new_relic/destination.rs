//! An account of New Relic as a destination: the encoder for the shards and the transport for the
//! deliver thread.

use std::future::Future;
use std::pin::Pin;

use super::encode::{Encoder, EncoderSettings};
use super::transport::REQUEST_BYTES_MAX;
use super::{Account, NewRelicError, NewRelicTransport};
use crate::deliver::{Destination, Encode, Served};

/// One account of New Relic.
#[derive(Debug)]
pub struct NewRelicDestination {
    account: String,
    identity: String,
    events: EncoderSettings,
    transport: NewRelicTransport,
}

impl NewRelicDestination {
    /// A destination that sends `events` to `account`. Connects to nothing yet.
    pub fn new(events: EncoderSettings, account: &Account) -> Result<Self, NewRelicError> {
        let transport = NewRelicTransport::new(account)?;
        let identity = account.identity();
        Ok(Self { account: account.name.clone(), identity, events, transport })
    }
}

impl Destination for NewRelicDestination {
    fn name(&self) -> String {
        format!("new_relic:{}", self.account)
    }

    fn identity(&self) -> Option<String> {
        Some(self.identity.clone())
    }

    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(Encoder::new(&self.events))
    }

    fn serve(self: Box<Self>, served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(served.run_up_to(REQUEST_BYTES_MAX, self.transport))
    }
}
