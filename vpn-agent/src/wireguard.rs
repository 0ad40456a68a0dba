//! WireGuard interfaces and their peers, through netlink; and what is asked of interfaces of any kind.
//!
//! Only differences are written. Removing a peer waits for every packet in flight in the kernel (about 66 ms each), so
//! additions and removals are separate calls, peers are never replaced as a whole, and an interface outlives the agent.

mod address;
mod changes;
mod device;
mod ingress;
mod link;
mod wire;

use std::io;

use genetlink::GenetlinkHandle;
use tokio::task::JoinHandle;

pub use self::{
    changes::{AllowedIps, Changes, Put},
    device::{Device, Peer, Settings},
    link::Link,
};

/// The two netlink sockets: links (rtnetlink), and WireGuard's own family (generic netlink).
///
/// Belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct WireGuard {
    links: rtnetlink::Handle,
    devices: GenetlinkHandle,
    tasks: [JoinHandle<()>; 2],
}

/// What can go wrong with an interface.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("netlink socket: {0}")]
    Socket(io::Error),
    /// The kernel lacks the driver.
    #[error(
        "this kernel has no WireGuard; run `modprobe wireguard`, or boot a kernel that has the module (Linux 5.6 or later)"
    )]
    NoWireGuard,
    /// The name is in use by something else.
    #[error("{interface} exists and is not a WireGuard interface but {kind}; remove it, or change the configured name")]
    OtherKind {
        /// The interface.
        interface: String,
        /// Its kind as the kernel names it.
        kind: String,
    },
    /// An interface disappeared while it was worked on.
    #[error("{interface} is gone; something else on this host removes interfaces")]
    Gone {
        /// The interface.
        interface: String,
    },
    /// The kernel refused.
    #[error("{action}: {source}{}", hint(source))]
    Kernel {
        /// What was asked, with the interface.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's answer is not what the protocol says, or the socket is closed.
    #[error("{action}: {what}")]
    Protocol {
        /// What was asked, with the interface.
        action: String,
        /// What came instead.
        what: String,
    },
}

/// What to do about the errors that people will meet.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "; the agent needs CAP_NET_ADMIN",
        Some(libc::EADDRINUSE) => "; another program or interface has the UDP port, see `ss -lunp`",
        Some(libc::ENODEV) => "; something else on this host has removed the interface, which is made again",
        _ => "",
    }
}

impl WireGuard {
    /// Opens the sockets and starts their tasks; to be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let (connection, links, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        let links_task = tokio::spawn(connection);
        let (connection, devices, _) = genetlink::new_connection().map_err(Error::Socket)?;
        Ok(Self { links, devices, tasks: [links_task, tokio::spawn(connection)] })
    }
}

impl Drop for WireGuard {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
