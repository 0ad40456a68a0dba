//! TUN devices: like WireGuard they are layer-3 devices, and a test can be what is behind them.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};

/// `TUNSETIFF` of uapi/linux/if_tun.h.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;
/// `IFF_TUN | IFF_NO_PI`: packets as they are, without a link header and without the driver's own.
const FLAGS: i16 = 0x0001 | 0x1000;

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
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").context("open /dev/net/tun")?;
        // The kernel's `struct ifreq`: sixteen bytes of name, then a union of 24.
        let mut request = [0_u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[16..18].copy_from_slice(&FLAGS.to_ne_bytes());
        // SAFETY: the descriptor is open, and the request points to as many bytes as the kernel reads and writes.
        if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("create the TUN device {name}"));
        }
        Ok(Self(file))
    }

    /// The device's file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.0
    }
}
