//! The subnets of a plant.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive};

use ipnet::IpNet;

use crate::{document::Subnet, problem::Problem, special_ranges};

/// Prefix lengths that a plant's IPv4 subnet may have.
pub const PREFIX_LENGTHS: RangeInclusive<u8> = 8..=32;

/// Prefix lengths that a plant's IPv6 subnet may have.
pub const PREFIX_LENGTHS_6: RangeInclusive<u8> = 32..=128;

/// The most subnets, of both families together, that one plant may have: the programs look through all of them for
/// a packet from the plant, and their number of steps is bounded.
pub const MAX_SUBNETS: usize = 16;

/// The subnets of the plant whose record has this path.
pub(super) fn of_plant(path: &dyn Display, subnets: &[Subnet], problems: &mut Vec<Problem>) -> BTreeSet<IpNet> {
    let mut problem = |path: &dyn Display, message| problems.push(Problem { path: path.to_string(), message });
    if subnets.len() > MAX_SUBNETS {
        let message = format!(
            "{} subnets; a plant may have at most {MAX_SUBNETS}, of both families together; join some to shorter \
             prefixes",
            subnets.len()
        );
        problem(&format_args!("{path}.subnets"), message);
        return BTreeSet::new();
    }
    let mut checked: Vec<(usize, IpNet)> = Vec::new();
    for (at, Subnet(text)) in subnets.iter().enumerate() {
        let here = format_args!("{path}.subnets[{at}]");
        match parse(text) {
            Ok(subnet) => {
                if let Some((other, before)) = checked.iter().find(|(_, before)| overlap(before, &subnet)) {
                    let message = format!(
                        "\"{subnet}\" overlaps \"{before}\" ({path}.subnets[{other}]); \
                         the subnets of one plant must be disjoint"
                    );
                    problem(&here, message);
                }
                checked.push((at, subnet));
            }
            Err(message) => problem(&here, message),
        }
    }
    checked.into_iter().map(|(_, subnet)| subnet).collect()
}

/// A plant's subnet, or what is wrong with it and what to write instead.
pub(super) fn parse(text: &str) -> Result<IpNet, String> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(format!("{text:?} is not a subnet; use one such as \"192.168.1.0/24\" or \"2001:db8:1::/64\""));
    };
    if net.trunc() != net {
        return Err(format!("{text:?} has host bits set; use {}", net.trunc()));
    }
    let lengths = if net.addr().is_ipv4() { PREFIX_LENGTHS } else { PREFIX_LENGTHS_6 };
    if !lengths.contains(&net.prefix_len()) {
        let (length, least, most) = (net.prefix_len(), lengths.start(), lengths.end());
        return Err(format!("{text:?} has prefix length {length}; use prefix lengths {least} to {most}"));
    }
    match special_ranges::purpose(&net) {
        Some(purpose) => {
            Err(format!("{text:?} is in the {purpose} range; use the subnet that the plant's devices are in"))
        }
        None => Ok(net),
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
