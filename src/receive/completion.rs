//! What the kernel writes in front of a datagram that `io_uring` has received: the lengths
//! (`struct io_uring_recvmsg_out`), room for the sender's name, then the payload.

use std::net::SocketAddr;

use io_uring::types::RecvMsgOut;

use super::slots::NAME_LEN;
use super::socket;

/// A datagram in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) source: SocketAddr,
    /// Bytes sent.
    pub(super) len: usize,
    /// Bytes stored: fewer when the datagram was too long for the slot.
    pub(super) stored: usize,
}

/// What receive requests are made with, and answers are read by.
pub(super) fn message() -> libc::msghdr {
    // SAFETY: plain data, for which zeros are valid; the kernel reads the two lengths and finds no
    // name, no control data and no vectors to fill.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_namelen = NAME_LEN;
    message
}

/// Reads the filled part of a slot; `None` when it is too short for what stands in front.
pub(super) fn parse(filled: &[u8], message: &libc::msghdr) -> Option<Completion> {
    let out = RecvMsgOut::parse(filled, message).ok()?;
    // `payload_data` is clamped to what was stored; the other length is the datagram's own.
    Some(Completion {
        source: socket::source_of(out.name_data()).unwrap_or(socket::UNKNOWN_SOURCE),
        len: out.incoming_payload_len() as usize,
        stored: out.payload_data().len(),
    })
}

/// Sender, bytes sent and bytes stored of a slot's content. For the fuzzer.
#[doc(hidden)]
#[must_use]
pub fn read_completion(filled: &[u8]) -> Option<(SocketAddr, usize, usize)> {
    parse(filled, &message()).map(|found| (found.source, found.len, found.stored))
}
