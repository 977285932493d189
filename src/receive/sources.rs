//! Who may send to a listener: addresses and blocks of addresses, made ready for looking up.
//!
//! Looked at for every datagram before anything of its payload, so it costs a hash look-up and, for
//! the few blocks that a site lists, a comparison each. Neither allocates.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use ipnet::{IpNet, Ipv4Net};

/// A set of addresses. An IPv4-mapped IPv6 address stands for the IPv4 address within.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    addresses: HashSet<IpAddr, RandomState>,
    /// Without overlaps: neighbours are merged.
    blocks: Vec<IpNet>,
}

impl Sources {
    /// The set of these addresses and blocks.
    #[must_use]
    pub fn new(
        addresses: impl IntoIterator<Item = IpAddr>,
        blocks: impl IntoIterator<Item = IpNet>,
    ) -> Self {
        let addresses = addresses.into_iter().map(|address| address.to_canonical()).collect();
        let blocks: Vec<IpNet> = blocks.into_iter().map(canonical).collect();
        Self { addresses, blocks: IpNet::aggregate(&blocks) }
    }

    /// Whether nobody may send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.blocks.is_empty()
    }

    /// Whether this address, in canonical form ([`IpAddr::to_canonical`]), may send.
    #[must_use]
    pub fn contains(&self, source: IpAddr) -> bool {
        self.addresses.contains(&source) || self.blocks.iter().any(|block| block.contains(&source))
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical(block: IpNet) -> IpNet {
    let IpNet::V6(v6) = block else { return block };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(v4, prefix)| Ipv4Net::new(v4, prefix).ok()).map_or(block, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(addresses: &[&str], blocks: &[&str]) -> Sources {
        Sources::new(
            addresses.iter().map(|text| text.parse().expect("an address")),
            blocks.iter().map(|text| text.parse().expect("a block")),
        )
    }

    fn admits(sources: &Sources, source: &str) -> bool {
        sources.contains(source.parse::<IpAddr>().expect("an address").to_canonical())
    }

    #[test]
    fn addresses_and_blocks_of_both_versions_match() {
        let sources = sources(&["10.0.0.1", "2001:db8::1"], &["192.168.4.0/22", "fd00:1::/32"]);
        for allowed in ["10.0.0.1", "2001:db8::1", "192.168.7.255", "fd00:1:ffff::9"] {
            assert!(admits(&sources, allowed), "{allowed}");
        }
        for denied in ["10.0.0.2", "2001:db8::2", "192.168.8.0", "192.168.3.255", "fd00:2::1"] {
            assert!(!admits(&sources, denied), "{denied}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4_on_either_side() {
        let entries = sources(&["::ffff:10.0.0.1"], &["::ffff:172.16.0.0/108"]);
        assert!(admits(&entries, "10.0.0.1") && admits(&entries, "172.31.255.255"));
        assert!(!admits(&entries, "172.32.0.0"));
        let entries = sources(&["10.0.0.1"], &["172.16.0.0/12"]);
        assert!(admits(&entries, "::ffff:10.0.0.1") && admits(&entries, "::ffff:172.16.9.9"));
    }

    #[test]
    fn an_empty_set_denies_everybody() {
        let nobody = Sources::default();
        assert!(nobody.is_empty() && !admits(&nobody, "127.0.0.1"));
        let everybody = sources(&[], &["0.0.0.0/0"]);
        assert!(
            !everybody.is_empty() && admits(&everybody, "8.8.8.8") && !admits(&everybody, "::1")
        );
    }
}
