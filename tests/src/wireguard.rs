//! Whether the kernel of this machine has WireGuard.
//!
//! Included by `xtask` as well, which cannot depend on this package.

use std::process::{Command, Stdio};

/// Whether this process can create WireGuard devices here, which decides between network namespaces and a VM.
///
/// It creates one, in a network namespace of its own that vanishes with the command. Without root it cannot.
pub fn has_wireguard() -> bool {
    Command::new("unshare")
        .args(["--net", "ip", "link", "add", "type", "wireguard"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
