//! Development commands of the VPN gateway.
fn main() {}
