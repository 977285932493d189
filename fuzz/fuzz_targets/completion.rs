//! Any content of a slot that the kernel says it has filled: no read beyond it, and the sender and
//! lengths that a reader by offsets finds.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use ringside::receive::read_completion;

/// Four lengths and flags of four bytes, and room for a name.
const FRONT: usize = 16 + 28;

fuzz_target!(|filled: &[u8]| {
    let found = read_completion(filled);
    if filled.len() < FRONT {
        assert_eq!(found, None);
        return;
    }
    let number = |at: usize| {
        let bytes = filled[at..at + 4].try_into().expect("four bytes");
        u32::from_ne_bytes(bytes) as usize
    };
    let (name_len, sent) = (number(0), number(8));
    let stored = sent.min(filled.len() - FRONT);
    let name = &filled[16..16 + name_len.min(28)];
    let source = source(name).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    assert_eq!(found, Some((source, sent, stored)));
});

/// `sockaddr_in` or `sockaddr_in6`.
fn source(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    let ip = match family {
        2 => IpAddr::from(<[u8; 4]>::try_from(name.get(4..8)?).ok()?),
        10 => IpAddr::from(<[u8; 16]>::try_from(name.get(8..24)?).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
