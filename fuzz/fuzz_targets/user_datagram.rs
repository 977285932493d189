//! Any bytes on the user event port: no panic, and the same event as the naive parser reads.

#![no_main]

#[path = "../../tests/naive/mod.rs"]
mod naive;

use libfuzzer_sys::fuzz_target;
use ringside::event::Listener;

fuzz_target!(|payload: &[u8]| naive::assert_agree(Listener::UserEvents, payload));
