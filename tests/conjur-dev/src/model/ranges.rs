//! Addresses that a login or a token may come from.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether a caller at `ip` is within the ranges; without ranges everybody is (recording 42).
pub(crate) fn allowed_from(ranges: &[String], ip: IpAddr) -> bool {
    ranges.is_empty() || ranges.iter().filter_map(|range| parsed(range)).any(|range| range.contains(&ip))
}

/// A CIDR range or an address as the server shows it: an address is a range of its own (recordings 779 and 780).
pub(crate) fn written_range(range: &str) -> Option<String> {
    parsed(range).map(|range| range.to_string())
}

fn parsed(range: &str) -> Option<IpNet> {
    range.parse().ok().or_else(|| range.parse::<IpAddr>().ok().map(IpNet::from))
}
