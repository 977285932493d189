//! What the receivers would be given on this host, found out without starting them.
//!
//! Each question is put to the system in the way in which [`start`](super::start()) will put it, so
//! that the answers are the same.

use std::io;
use std::net::SocketAddr;

use super::settings::{ReceiveError, Settings};
use super::{slots, socket};
use crate::event::Listener;

/// Whether `io_uring` can be used with these settings; if not: why, and what to do.
pub fn io_uring(settings: &Settings) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return super::uring::probe(settings);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = settings;
        Err("it exists on Linux only".to_owned())
    }
}

/// Binds the sockets of one listener and closes them again; the addresses that they had. None for a
/// listener that is off.
pub fn bind(settings: &Settings, listener: Listener) -> Result<Vec<SocketAddr>, ReceiveError> {
    let mut alone = Settings { receivers: 1, ..settings.clone() };
    for other in Listener::ALL.into_iter().filter(|other| *other != listener) {
        alone.listeners[other as usize] = None;
    }
    if alone.listeners[listener as usize].is_none() {
        return Ok(Vec::new());
    }
    let sockets = socket::bind(&alone, 1)?;
    Ok(sockets.into_iter().flatten().map(|bound| bound.address).collect())
}

/// The buffer that a socket is granted when it asks for [`Settings::socket_buffer`], in bytes, counted
/// as the setting is.
pub fn socket_buffer(settings: &Settings) -> io::Result<usize> {
    socket::set_buffer(&socket::unbound()?, settings.socket_buffer)
}

/// Bytes of the pools of all receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolBytes {
    /// When each slot has held a small datagram: a page of each.
    pub usual: u64,
    /// When each slot holds the longest datagram that is let in.
    pub most: u64,
}

/// What the pools take. Memory is given by the system page by page, when it is first used.
#[must_use]
pub fn pool_bytes(settings: &Settings) -> PoolBytes {
    let slots = (settings.slots * settings.receivers) as u64;
    let slot = slots::slot_size(settings.message_size_max()) as u64;
    PoolBytes { usual: slots * slot.min(super::mapping::PAGE as u64), most: slots * slot }
}

/// What the kernel knows about the clock that receive times are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Whether somebody (an NTP client, the hypervisor) keeps it right.
    pub synchronised: bool,
    /// How far it may be off, in µs, as far as that is known.
    pub error_max_us: u64,
}

/// Asks the kernel about its clock and changes nothing. `None` where the system does not tell; some
/// containers forbid the question.
#[must_use]
pub fn clock() -> Option<Clock> {
    #[cfg(target_os = "linux")]
    {
        let mut state = std::mem::MaybeUninit::<libc::timex>::zeroed();
        // SAFETY: `timex` is made of integers, for which zero is a value; with `modes` 0 the kernel
        // changes nothing and writes no more than the struct, which outlives the call.
        let (result, state) = unsafe {
            let result = libc::adjtimex(state.as_mut_ptr());
            (result, state.assume_init())
        };
        if result < 0 {
            return None;
        }
        let synchronised = result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0;
        Some(Clock {
            synchronised,
            error_max_us: u64::try_from(state.maxerror).unwrap_or_default(),
        })
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::ListenerSettings;

    fn settings(address: SocketAddr) -> Settings {
        let listener = ListenerSettings {
            addresses: vec![address],
            max_message_size: 65_507,
            queue_capacity: 100,
            backpressure_threshold: 80,
            strict: false,
        };
        Settings { listeners: [None, Some(listener)], ..Settings::default() }
    }

    #[test]
    fn a_port_is_free_until_somebody_has_it() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!(bind(&settings(free), Listener::UserEvents).unwrap(), []);
        let found = bind(&settings(free), Listener::LogEvents).unwrap();
        assert!(found.len() == 1 && found[0].port() != 0, "{found:?}");
        let holder = std::net::UdpSocket::bind(free).unwrap();
        let taken = settings(holder.local_addr().unwrap());
        let error = bind(&taken, Listener::LogEvents).unwrap_err();
        assert!(matches!(error, ReceiveError::PortInUse { .. }), "{error}");
    }

    #[test]
    fn the_pool_is_what_the_receivers_would_map() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings { receivers: 2, slots: 64, ..settings(address) };
        let PoolBytes { usual, most } = pool_bytes(&settings);
        assert_eq!(usual, 128 * 4096);
        assert!(most > 128 * 65_507 && most < 128 * 66_000, "{most}");
    }

    #[test]
    fn a_buffer_is_granted() {
        let wanted = 64 * 1024;
        let settings = Settings { socket_buffer: wanted, ..Settings::default() };
        assert_eq!(socket_buffer(&settings).unwrap(), wanted);
    }
}
