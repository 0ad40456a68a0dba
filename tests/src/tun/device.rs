//! A TUN device that is up, and its number.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vpn_agent::wireguard::WireGuard;

use super::Tun;
use crate::namespace::run;

/// Packets that wait to be read at most. What comes beyond is lost after a program has counted it.
const QUEUE: u32 = 100_000;

/// What goes out by the device is there to be read when the write that caused it returns.
#[derive(Debug)]
pub struct Device {
    tun: Tun,
    /// Interface index.
    pub ifindex: u32,
}

impl Device {
    /// Makes one in the caller's network namespace.
    ///
    /// # Errors
    /// Without root, and if there is one with this name.
    pub fn create(name: &str) -> Result<Self> {
        let tun = Tun::create(name)?;
        // A packet that does not come out is lost, not late.
        let flags = fcntl_getfl(tun.file())?;
        fcntl_setfl(tun.file(), flags | OFlags::NONBLOCK)?;
        // Otherwise the host's own stack sends its IPv6 greetings.
        fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
        run(&format!("ip link set {name} txqueuelen {QUEUE} up"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let link = runtime.block_on(async { WireGuard::open()?.link(name).await })?;
        Ok(Self { tun, ifindex: link.context("the device is there")?.ifindex })
    }

    /// Has a packet come in by the device.
    ///
    /// # Errors
    /// If the device does not take it.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        ensure!(self.tun.file().write(packet)? == packet.len(), "a part of the packet");
        Ok(())
    }

    /// The next packet that went out by it, if there is one.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut packet = vec![0; 2_048];
        match self.tun.file().read(&mut packet) {
            Ok(length) => {
                packet.truncate(length);
                Ok(Some(packet))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("read the device"),
        }
    }
}
