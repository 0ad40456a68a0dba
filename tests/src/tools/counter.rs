//! Counters of a host's own network stack.

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;

use super::Family;

/// One of them, kept for each family.
#[derive(Clone, Copy, Debug)]
pub enum Counter {
    /// Fragments that the host has made.
    FragmentsMade,
    /// Fragments that have arrived.
    FragmentsReceived,
    /// ICMP errors that have arrived and say that a packet was too big; for IPv4 those of other unreachables as well.
    TooBigReceived,
}

impl Counter {
    /// Its present value.
    pub fn of(self, host: &Namespace, family: Family) -> Result<u64> {
        let value = match family {
            Family::V4 => {
                let (line, name) = match self {
                    Self::FragmentsMade => ("Ip: ", "FragCreates"),
                    Self::FragmentsReceived => ("Ip: ", "ReasmReqds"),
                    Self::TooBigReceived => ("Icmp: ", "InDestUnreachs"),
                };
                let table = host.run("cat /proc/net/snmp")?;
                // A line of names, and below it one of values.
                let mut lines = table.lines().filter(|found| found.starts_with(line)).map(str::split_whitespace);
                let (names, values) = lines.next().zip(lines.next()).context("no such line")?;
                names.zip(values).find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
            }
            Family::V6 => {
                let name = match self {
                    Self::FragmentsMade => "Ip6FragCreates",
                    Self::FragmentsReceived => "Ip6ReasmReqds",
                    Self::TooBigReceived => "Icmp6InPktTooBigs",
                };
                let table = host.run("cat /proc/net/snmp6")?;
                let mut pairs = table.lines().filter_map(|line| line.split_once(char::is_whitespace));
                pairs.find(|(found, _)| *found == name).map(|(_, value)| value.trim().to_owned())
            }
        };
        Ok(value.with_context(|| format!("{}: no counter {self:?} of {family:?}", host.name()))?.parse()?)
    }
}
