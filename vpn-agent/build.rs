//! Builds the eBPF programs for the BPF target, so that the agent's binary carries them.

#[path = "../vpn-ebpf/object.rs"]
mod object;

fn main() {
    object::build("vpn-ebpf", &["vpn-ebpf"]);
}
