//! A model of Butler SOS 15: what it makes of a datagram and what it writes to InfluxDB
//! and to New Relic.
//!
//! The recordings under `tests/oracle/` say what it really wrote. The model is held to them byte for
//! byte, for every recording and all three versions of InfluxDB, so that a difference can then be
//! stated where it belongs: at the column, the rule or the tag in which Ringside differs, instead of
//! at the end of the road where one wrong split has changed everything.
//!
//! It is written for obviousness: it copies, allocates and looks things up by name. It shares
//! nothing with Ringside but the names of the kinds.

mod new_relic;
mod numbers;
mod read;
mod rules;
mod text;
mod write;

pub use new_relic::custom_event;
pub use read::{Event, Take, columns_of, is_lower_uuid, is_registered_uuid, read};
pub use rules::{App, Rules, Verdict};
pub use text::{narrow, sanitise, wide};
pub use write::{Extras, Field, Loss, Point, payload, write};

use ringside::event::Listener;

/// Text as JavaScript holds it: UTF-16 units, of which the last may be half a character.
pub type Text = Vec<u16>;

/// A datagram and the port it was sent to.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Which port.
    pub listener: Listener,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// The version of InfluxDB that is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.x
    V1,
    /// 2.x
    V2,
    /// 3.x
    V3,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::V3];
}

/// The value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text, sanitised.
    Text(Text),
    /// A number, NaN if it is none.
    Number(f64),
}
