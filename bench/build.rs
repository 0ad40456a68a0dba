//! Builds the benchmarks' own programs for the BPF target.

#[path = "../vpn-ebpf/object.rs"]
mod object;

fn main() {
    object::build("vpn-bench-ebpf", &["bench/ebpf", "vpn-ebpf"]);
}
