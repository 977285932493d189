//! Pending.

pub mod encode;
