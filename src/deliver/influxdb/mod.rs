//! Pending.

pub mod encode;
mod escape;
mod plan;
mod tables;
mod values;
