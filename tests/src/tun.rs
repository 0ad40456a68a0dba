//! TUN devices: like WireGuard they are layer-3 devices, and a test can be what is behind them. TAP devices: the same for
//! Ethernet.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};

pub use device::Device;

mod device;

/// `TUNSETIFF` of uapi/linux/if_tun.h.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;
/// `IFF_TUN | IFF_NO_PI`: packets as they are, without a link header and without the driver's own.
const TUN: i16 = 0x0001 | 0x1000;
/// `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`: Ethernet frames, each behind the header that a virtual machine's network card has.
const TAP: i16 = 0x0002 | 0x1000 | 0x4000;

/// A TUN device in the caller's network namespace, deleted with the value. What is written comes in by the device; what
/// goes out by it is read, a packet at a time.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes one. It is down.
    ///
    /// # Errors
    /// Without root.
    pub fn create(name: &str) -> Result<Self> {
        Self::with_flags(name, TUN)
    }

    /// Makes a TAP device, which is down. Frames are behind a `struct virtio_net_hdr` of the kernel's uapi/linux/virtio_net.h.
    ///
    /// # Errors
    /// Without root.
    pub fn create_ethernet(name: &str) -> Result<Self> {
        Self::with_flags(name, TAP)
    }

    fn with_flags(name: &str, flags: i16) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").context("open /dev/net/tun")?;
        // The kernel's `struct ifreq`: sixteen bytes of name, then a union of 24.
        let mut request = [0_u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: the descriptor is open, and the request points to as many bytes as the kernel reads and writes.
        if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("create the device {name}"));
        }
        Ok(Self(file))
    }

    /// The device's file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.0
    }
}
