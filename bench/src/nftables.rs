//! The same job with what the kernel brings along: forwarding, and nftables with connection tracking.
//!
//! It does less than the programs: it does not translate the source, keeps no record of a finished connection, and sends
//! no events. Its lists are hash sets, the fastest that it has.

use std::{io::Write as _, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use vpn_tests::namespace::Namespace;

use crate::topology::{Addressed, Family, device, tunnel};

/// Has a namespace forward what `users` users send to the devices of the first plant: each packet's user is looked up with
/// the subnet, its destination is translated to the plant's own subnet, and connections are counted.
pub fn forward(namespace: &Namespace, users: u32) -> Result<()> {
    namespace.set("net.ipv4.ip_forward", "1")?;
    namespace.set("net.netfilter.nf_conntrack_acct", "1")?;
    // No connection ends while it is measured.
    for state in ["", "_stream"] {
        namespace.set(&format!("net.netfilter.nf_conntrack_udp_timeout{state}"), "86400")?;
    }
    let mut nft = namespace.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("start nft")?;
    nft.stdin.take().context("a pipe to nft")?.write_all(rules(users).as_bytes())?;
    ensure!(nft.wait()?.success(), "nft refuses the rules (see above)");
    Ok(())
}

fn rules(users: u32) -> String {
    let subnet = device(0, 0, Family::V4, Addressed::Virtual);
    let real = device(0, 0, Family::V4, Addressed::Real);
    let allowed: Vec<_> = (0..users).map(|user| format!("{} . {subnet}", tunnel(user, Family::V4))).collect();
    format!(
        "table ip gateway {{
            set allowed {{ typeof ip saddr . ip daddr; elements = {{ {} }} }}
            chain check {{
                type filter hook prerouting priority mangle;
                ip daddr {subnet}/24 ip saddr . ip daddr & 255.255.255.0 != @allowed drop
            }}
            chain translate {{
                type nat hook prerouting priority dstnat;
                dnat ip prefix to ip daddr map {{ {subnet}/24 : {real}/24 }}
            }}
        }}",
        allowed.join(", ")
    )
}
