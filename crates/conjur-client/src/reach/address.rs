//! What an address means: itself, and the IPv4 addresses that it carries through a translator or tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, and those that it stands for.
pub(super) fn meanings(address: IpAddr) -> Vec<IpAddr> {
    let address = address.to_canonical();
    let mut all = vec![address];
    if let IpAddr::V6(v6) = address {
        all.extend(carried(v6).into_iter().map(IpAddr::V4));
    }
    all
}

fn carried(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let last = v4(s[6], s[7]);
    let mut all = match s {
        // IPv4-compatible, IPv4-translated, NAT64.
        [0, 0, 0, 0, 0, 0, ..] if v6.to_bits() > 1 => vec![last],
        [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![last],
        // NAT64 of one's own: within the prefix, at the end or around the byte that RFC 6052 leaves free.
        [0x64, 0xff9b, 1, a, b, c, ..] => {
            vec![last, Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b & 0xff) << 8 | u32::from(c >> 8))]
        }
        // 6to4.
        [0x2002, high, low, ..] => vec![v4(high, low)],
        // Teredo: its server, and the client in disguise.
        [0x2001, 0, high, low, ..] => vec![v4(high, low), v4(!s[6], !s[7])],
        _ => Vec::new(),
    };
    // ISATAP, whatever the prefix.
    if matches!(s, [_, _, _, _, 0 | 0x200, 0x5efe, ..]) {
        all.push(last);
    }
    all
}

/// This network, loopback, link-local, multicast, reserved; and where clouds keep what a machine may know of itself.
const DENIED_V4: [(Ipv4Addr, u8); 8] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(192, 0, 0, 192), 32),
];
const DENIED_V6: [(Ipv6Addr, u8); 9] = [
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128),
    (Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128),
];

/// Whether no one has a Conjur there.
pub(super) fn is_denied_by_default(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => DENIED_V4.iter().any(|(net, prefix)| contains((*net).into(), *prefix, address)),
        IpAddr::V6(_) => DENIED_V6.iter().any(|(net, prefix)| contains((*net).into(), *prefix, address)),
    }
}

/// Whether an address lies in a network.
pub(super) fn contains(net: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let (net, address, length) = match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            (u128::from(net.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => (net.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    // A shift by all bits is none: then everything matches.
    let differs = (net ^ address).checked_shr(length - u32::from(prefix).min(length)).unwrap_or(0);
    differs == 0
}
