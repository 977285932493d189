//! From the socket to leases: the only room that talks to the kernel's receive path, and the only
//! one with `unsafe` code.

pub mod handoff;
pub mod slots;
