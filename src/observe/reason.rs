//! Why datagrams and events end somewhere else than at their destinations, and counts of it.
//!
//! One enum per place. Names in metrics, JSON and docs derive from it, and so do the cells of the
//! ledger's blocks.

use std::ops::AddAssign;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::event::ParseError;

macro_rules! reasons {
    ($(#[$doc:meta])* $enum:ident { $($(#[doc = $about:literal])+ $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $enum { $($(#[doc = $about])+ $variant,)+ }

        impl $enum {
            /// Every value, in the order of the discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// Number of values.
            pub const COUNT: usize = Self::ALL.len();

            /// Name in metrics, JSON and docs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl Reason for $enum {
            const NAMES: &'static [&'static str] = &[$($name,)+];
            const ABOUT: &'static [&'static str] = &[$(concat!($($about),+),)+];
            fn index(self) -> usize { self as usize }
        }
    };
}

/// An enum whose values are counted one by one in a [`Tally`].
pub trait Reason: Copy {
    /// The names, in the order of the discriminants.
    const NAMES: &'static [&'static str];
    /// What each means, as the docs have it, with blanks around it.
    const ABOUT: &'static [&'static str];
    /// The discriminant.
    fn index(self) -> usize;
}

reasons! {
    /// Why a datagram was dropped by the receiver, before it was looked at.
    DropReason {
        /// The sender's address is not among `allowedSources`.
        SourceDenied = "source_denied",
        /// Longer than `maxMessageSize`.
        Size = "size",
        /// Over `rateLimit.maxMessagesPerMinute`.
        RateLimit = "rate_limit",
        /// The buffer pool ran short and the socket's buffer filled up too, or the queue is full and
        /// `queue.strict` is on.
        QueueFull = "queue_full",
        /// Still queued when `shutdownTimeout` had passed.
        Shutdown = "shutdown",
        /// Queued when the run before this one ended without a clean stop.
        Crash = "crash",
    }
}

reasons! {
    /// Why a datagram that was looked at is not an accepted event.
    RejectReason {
        /// No bytes.
        Empty = "empty",
        /// The message type is not one of the listener's.
        UnknownType = "unknown_type",
        /// The source is not enabled in the configuration.
        SourceDisabled = "source_disabled",
        /// The user is listed in `userEvents.excludeUser`.
        ExcludedUser = "excluded_user",
        /// No monitor filter accepts the performance event.
        Filter = "filter",
        /// A category rule with `action: drop` matched.
        CategoryDrop = "category_drop",
        /// Not text in UTF-8 at all.
        Malformed = "malformed",
    }
}

reasons! {
    /// Why an event that was assigned to a destination will not be delivered there.
    LossReason {
        /// The destination refused it for good.
        Refused = "refused",
        /// Could not be kept any longer.
        Expired = "expired",
        /// The queue in front of the destination was full.
        Overflow = "overflow",
        /// Pushed out of the full spool.
        SpoolFull = "spool_full",
        /// Neither delivered nor spooled when `shutdownTimeout` had passed.
        Shutdown = "shutdown",
        /// Lost by an unclean end: in memory when the run before ended, or damaged on disk.
        Crash = "crash",
    }
}

reasons! {
    /// What was noticed about events that were kept.
    Note {
        /// Fields were missing.
        Short = "short",
        /// More fields than the layout has.
        Surplus = "surplus",
        /// More than one reading of the surplus passed all checks.
        Ambiguous = "ambiguous",
        /// Invalid UTF-8 was replaced.
        InvalidUtf8 = "invalid_utf8",
        /// The system clock stepped back by more than a second.
        ClockSteps = "clock_steps",
    }
}

impl From<ParseError> for RejectReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Empty => Self::Empty,
            ParseError::UnknownType => Self::UnknownType,
            ParseError::Malformed => Self::Malformed,
        }
    }
}

/// One counter per value of a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally<R, const N: usize> {
    pub(super) counts: [u64; N],
    reason: std::marker::PhantomData<R>,
}

impl<R: Reason, const N: usize> Default for Tally<R, N> {
    fn default() -> Self {
        const { assert!(R::NAMES.len() == N, "one counter per reason") };
        Self { counts: [0; N], reason: std::marker::PhantomData }
    }
}

impl<R: Reason, const N: usize> Tally<R, N> {
    /// Counts `n` more.
    pub fn add(&mut self, reason: R, n: u64) {
        self.counts[reason.index()] += n;
    }

    /// The count of one reason.
    #[must_use]
    pub fn get(&self, reason: R) -> u64 {
        self.counts[reason.index()]
    }

    /// Names and counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        R::NAMES.iter().copied().zip(self.counts)
    }

    /// All counts together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl<R: Reason, const N: usize> AddAssign for Tally<R, N> {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }
}

impl<R: Reason, const N: usize> Serialize for Tally<R, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(N))?;
        for (name, count) in self.iter() {
            map.serialize_entry(name, &count)?;
        }
        map.end()
    }
}

/// Counts per [`DropReason`].
pub type Drops = Tally<DropReason, { DropReason::COUNT }>;
/// Counts per [`RejectReason`].
pub type Rejects = Tally<RejectReason, { RejectReason::COUNT }>;
/// Counts per [`LossReason`].
pub type Losses = Tally<LossReason, { LossReason::COUNT }>;
/// Counts per [`Note`].
pub type Notes = Tally<Note, { Note::COUNT }>;
