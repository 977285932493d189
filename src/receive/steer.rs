//! With several receivers, all datagrams of one source must reach the same one, or they would lose
//! their order. The kernel's own choice hashes ports too; this program, attached to the group of
//! sockets, chooses by source address alone (socket(7), `SO_ATTACH_REUSEPORT_CBPF`).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::socket::option_len;

/// Offset of the source address in the IPv4 header, and of its four words in the IPv6 header.
const IPV4_SOURCE: i32 = 12;
const IPV6_SOURCE: [i32; 4] = [8, 12, 16, 20];
/// 2^32 / φ, so that neighbouring addresses spread.
const MULTIPLIER: u32 = 0x9E37_79B1;

/// Makes the kernel choose a socket of the group by source address. The sockets must have been bound
/// in the order of the slice, and be all of their group.
pub(super) fn by_source(group: &[Socket]) -> io::Result<()> {
    let [first, ..] = group else { return Ok(()) };
    let count = u32::try_from(group.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut program = program(count);
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the option takes a `sock_fprog` whose `filter` points to `len` instructions; both
    // outlive the call, and the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            first.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            option_len::<libc::sock_fprog>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the host lets us do that.
pub(super) fn probe() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    by_source(&[socket])
}

/// Source address → index of the socket. An IPv6 socket may get IPv4 datagrams, so it looks at the
/// version.
fn program(count: u32) -> Vec<libc::sock_filter> {
    use libc::{
        BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MISC, BPF_MOD,
        BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR,
    };
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        // Opcodes are below 2^8.
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    // Offsets below zero address the network header, whatever the start of the data is.
    let net = |offset: i32| (libc::SKF_NET_OFF + offset).cast_unsigned();
    let word = |offset| op(BPF_LD | BPF_W | BPF_ABS, net(offset), 0, 0);
    let [first, rest @ ..] = IPV6_SOURCE;

    let mut program = vec![
        op(BPF_LD | BPF_B | BPF_ABS, net(0), 0, 0),
        op(BPF_ALU | BPF_RSH | BPF_K, 4, 0, 0),
        // Not version 4: over the next two.
        op(BPF_JMP | BPF_JEQ | BPF_K, 4, 0, 2),
        word(IPV4_SOURCE),
        // Over the folding: one load, and three instructions for each further word.
        op(BPF_JMP, 1 + 3 * 3, 0, 0),
        word(first),
    ];
    for offset in rest {
        program.push(op(BPF_MISC | BPF_TAX, 0, 0, 0));
        program.push(word(offset));
        program.push(op(BPF_ALU | BPF_XOR | BPF_X, 0, 0, 0));
    }
    program.extend([
        op(BPF_ALU | BPF_MUL | BPF_K, MULTIPLIER, 0, 0),
        op(BPF_ALU | BPF_RSH | BPF_K, 16, 0, 0),
        op(BPF_ALU | BPF_MOD | BPF_K, count, 0, 0),
        op(BPF_RET | BPF_A, 0, 0, 0),
    ]);
    program
}
