//! TUN devices that this process writes packets to and reads them from.

use std::{
    ffi::CString,
    io::{self, Read as _, Write as _},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vpn_tests::{namespace::run, tun::Tun};

/// How often a packet is asked for that should be there; it comes out before the system call that brought it in returns.
const PATIENCE: u32 = 10_000;

/// A device. It goes with the value.
pub struct Port {
    tun: Tun,
    /// Its interface index.
    pub index: u32,
}

impl Port {
    /// Makes one in the network namespace of this thread, and sets it up.
    pub fn open(name: &str) -> Result<Self> {
        let tun = Tun::create(name)?;
        fcntl_setfl(tun.file(), fcntl_getfl(tun.file())? | OFlags::NONBLOCK)?;
        // Without an address of its own it sends nothing of its own.
        run(&format!("ip link set {name} addrgenmode none"))?;
        run(&format!("ip link set {name} txqueuelen 1000 up"))?;
        let c_name = CString::new(name).context("a name without zeros")?;
        // SAFETY: the name is a string of C that lives until the call returns.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        ensure!(index != 0, "{name} has no index");
        Ok(Self { tun, index })
    }

    /// Sends a packet into the kernel.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let sent = self.tun.file().write(packet).context("send a packet")?;
        ensure!(sent == packet.len(), "{sent} of {} bytes were sent", packet.len());
        Ok(())
    }

    /// Receives a packet that the kernel sends out by it. Gives its length.
    pub fn receive(&self, packet: &mut [u8]) -> Result<usize> {
        for _ in 0..PATIENCE {
            match self.tun.file().read(packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received.context("receive a packet"),
            }
        }
        bail!("a packet did not come out")
    }
}
