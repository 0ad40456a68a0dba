//! Later fragments find the flow of the first one.

use vpn_ebpf_common::{
    Verdict,
    flow::FlowKey,
    fragment::{FragmentKey, Fragmented, TIMEOUT_NS},
};

use super::{
    Arrival, Model,
    parse::{Fragment, Parsed},
};

impl Model {
    /// Remembers the flow of a first fragment; does nothing with other packets.
    pub(super) fn note_first_fragment(&mut self, arrival: &Arrival, parsed: &Parsed, flow: FlowKey, now: u64) {
        if let Fragment::First(identification) = parsed.fragment {
            let fragmented = Fragmented { first_ns: now, flow, reserved: 0 };
            self.records.fragments.insert(key(arrival, parsed, identification), fragmented);
        }
    }

    /// The flow of a later fragment.
    pub(super) fn flow_of_fragment(
        &self,
        arrival: &Arrival,
        parsed: &Parsed,
        identification: u32,
        now: u64,
    ) -> Result<FlowKey, Verdict> {
        let fragmented = self.records.fragments.get(&key(arrival, parsed, identification)).ok_or(Verdict::Fragment)?;
        if now - fragmented.first_ns > TIMEOUT_NS {
            return Err(Verdict::Fragment);
        }
        Ok(fragmented.flow)
    }
}

fn key(arrival: &Arrival, parsed: &Parsed, identification: u32) -> FragmentKey {
    FragmentKey {
        source: parsed.source.into(),
        destination: parsed.destination.into(),
        identification,
        ingress: arrival.ingress,
        protocol: parsed.protocol,
        reserved: [0; 3],
    }
}
