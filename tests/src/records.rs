//! What the programs write into the maps, and how two such records are compared that were made at different times.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug, Write as _},
};

use vpn_ebpf_common::{
    denial::{Denial, DenialKey, window},
    event::Event,
    flow::{ClosedKey, Flow, FlowKey, Traffic},
    fragment::{FragmentKey, Fragmented},
    gateway::IdleLimits,
    usage::Usage,
};

/// The maps that the programs write, and RELEASED, which the collector writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// FLOWS.
    pub flows: BTreeMap<FlowKey, Flow>,
    /// CLOSED.
    pub closed: BTreeMap<ClosedKey, Flow>,
    /// DENIED.
    pub denied: BTreeMap<DenialKey, Denial>,
    /// USAGE.
    pub usage: BTreeMap<u32, Usage>,
    /// RELEASED.
    pub released: BTreeMap<u32, u64>,
    /// FRAGMENTS.
    pub fragments: BTreeMap<FragmentKey, Fragmented>,
}

/// Records without the times in them.
#[derive(Debug, PartialEq, Eq)]
pub struct Timeless {
    flows: BTreeMap<FlowKey, Flow>,
    /// By the key in FLOWS, those of one key in the order in which they were opened.
    closed: BTreeMap<(FlowKey, usize), Flow>,
    /// Over all windows.
    denied: BTreeMap<DenialKey, Traffic>,
    usage: BTreeMap<u32, Usage>,
    released: BTreeMap<u32, u64>,
    fragments: BTreeMap<FragmentKey, FlowKey>,
}

impl Records {
    /// Without the times. What is about a second or a window that has passed at `now` is left out; of the end of a
    /// flow stays how long it lives without a packet, or zero if that was changed.
    #[must_use]
    pub fn timeless(&self, idle: &IdleLimits, now: u64) -> Timeless {
        let mut closed = BTreeMap::new();
        for (key, flow) in &self.closed {
            let earlier = closed.range((key.flow, 0)..=(key.flow, usize::MAX)).count();
            closed.insert((key.flow, earlier), timeless_flow(flow, idle));
        }
        let mut denied = BTreeMap::<_, Traffic>::new();
        for (key, denial) in &self.denied {
            let total = denied.entry(DenialKey { window: 0, ..*key }).or_default();
            total.packets += denial.attempts;
            total.bytes += denial.bytes;
        }
        let usage = self.usage.iter().map(|(peer, usage)| (*peer, timeless_usage(usage, now)));
        Timeless {
            flows: self.flows.iter().map(|(key, flow)| (*key, timeless_flow(flow, idle))).collect(),
            closed,
            denied,
            usage: usage.filter(|(_, usage)| *usage != Usage::default()).collect(),
            released: self.released.clone(),
            fragments: self.fragments.iter().map(|(key, fragmented)| (*key, fragmented.flow)).collect(),
        }
    }
}

/// An event without the times in it.
#[must_use]
pub fn timeless_event(event: &Event, idle: &IdleLimits) -> Event {
    match *event {
        Event::FlowOpened(mut opened) => {
            opened.flow = timeless_flow(&opened.flow, idle);
            Event::FlowOpened(opened)
        }
        Event::Denied(mut denied) => {
            denied.denial = Denial { first_ns: 0, last_ns: 0, ..denied.denial };
            denied.key.window = 0;
            Event::Denied(denied)
        }
    }
}

fn timeless_flow(flow: &Flow, idle: &IdleLimits) -> Flow {
    let limits = [idle.tcp_ms, idle.tcp_transitory_ms, idle.tcp_closed_ms, idle.udp_ms, idle.icmp_ms];
    let lives = flow.expires_ns.saturating_sub(flow.last_ns);
    let is_limit = limits.iter().any(|limit| u64::from(*limit) * 1_000_000 == lives);
    Flow { opened_ns: 0, last_ns: 0, expires_ns: if is_limit { lives } else { 0 }, ..*flow }
}

fn timeless_usage(usage: &Usage, now: u64) -> Usage {
    let is_this_second = u64::from(usage.second) == now / 1_000_000_000;
    let is_this_window = usage.window == window(now);
    Usage {
        second: 0,
        new_flows: if is_this_second { usage.new_flows } else { 0 },
        answers: if is_this_second { usage.answers } else { 0 },
        window: 0,
        denials: if is_this_window { usage.denials } else { 0 },
        ..*usage
    }
}

impl Timeless {
    /// What is not the same in both, line by line; empty if they are equal.
    #[must_use]
    pub fn differences(&self, other: &Self) -> String {
        let mut lines = String::new();
        compare(&mut lines, "FLOWS", &self.flows, &other.flows);
        compare(&mut lines, "CLOSED", &self.closed, &other.closed);
        compare(&mut lines, "DENIED", &self.denied, &other.denied);
        compare(&mut lines, "USAGE", &self.usage, &other.usage);
        compare(&mut lines, "RELEASED", &self.released, &other.released);
        compare(&mut lines, "FRAGMENTS", &self.fragments, &other.fragments);
        lines
    }
}

fn compare<K: Debug + Ord, V: Debug + PartialEq>(
    lines: &mut String,
    map: &str,
    ours: &BTreeMap<K, V>,
    theirs: &BTreeMap<K, V>,
) {
    let keys = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(key)));
    for key in keys {
        let (our, their) = (ours.get(key), theirs.get(key));
        if our != their {
            let written: fmt::Result = writeln!(lines, "{map} {key:?}:\n  {our:?}\n  {their:?}");
            written.expect("text in memory");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        by_hand,
        model::{Arrival, Capacities, Model},
        packet::{Ends, udp},
    };

    #[test]
    fn records_of_different_times_are_equal_and_of_different_traffic_are_not() {
        let topology = by_hand::topology();
        let idle = topology.idle;
        let lives = u64::from(idle.udp_ms) * 1_000_000;
        let at = |now: u64, bytes: &[u8]| {
            let mut model = Model::new(topology.clone(), Capacities::LARGE);
            let ends = Ends::new(("100.64.0.5", 5_000), ("10.128.1.20", 2_000));
            let arrival = Arrival { ingress: 1, packet: udp(ends, bytes), coalesced: None };
            model.users(&arrival, now);
            model.records
        };
        let (one, other) = (at(7_000_000_000, b"same"), at(95_000_000_000, b"same"));
        assert_ne!(one, other);
        let timeless = one.timeless(&idle, 7_500_000_000);
        assert_eq!(timeless, other.timeless(&idle, 95_500_000_000));
        assert_eq!(timeless.flows.values().next().map(|flow| flow.expires_ns), Some(lives));
        assert_eq!(timeless.usage.values().next().map(|usage| usage.new_flows), Some(1));

        let more = at(7_000_000_000, b"more").timeless(&idle, 7_500_000_000);
        assert!(more.differences(&timeless).is_empty());
        let longer = at(7_000_000_000, b"longer").timeless(&idle, 7_500_000_000);
        assert!(longer.differences(&timeless).starts_with("FLOWS"));
    }
}
