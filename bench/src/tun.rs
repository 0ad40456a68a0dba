//! TUN devices: layer-3 interfaces whose packets this process writes and reads.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
};

use anyhow::{Context as _, Result, bail, ensure};
use vpn_tests::namespace::run;

/// `TUNSETIFF` of the kernel's uapi/linux/if_tun.h.
const SET_INTERFACE: libc::c_ulong = 0x4004_54ca;

/// How often a packet is asked for that should be there; it comes out before the system call that brought it in returns.
const PATIENCE: u32 = 10_000;

/// A device. It goes with the value.
pub struct Tun {
    file: File,
    index: u32,
}

impl Tun {
    /// Makes one in the network namespace of this thread, and sets it up.
    pub fn open(name: &str) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .context("open /dev/net/tun")?;
        // SAFETY: zeros are a valid value of this structure of integers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request is what this call takes, and lives until it returns.
        if unsafe { libc::ioctl(file.as_raw_fd(), SET_INTERFACE as _, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error()).context("make a TUN device");
        }
        // Without an address of its own it sends nothing of its own.
        run(&format!("ip link set {name} addrgenmode none"))?;
        run(&format!("ip link set {name} txqueuelen 1000 up"))?;
        let c_name = CString::new(name).context("a name without zeros")?;
        // SAFETY: the name is a string of C that lives until the call returns.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        ensure!(index != 0, "{name} has no index");
        Ok(Self { file, index })
    }

    /// Its interface index.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Sends a packet into the kernel.
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        let sent = self.file.write(packet).context("send a packet")?;
        if sent != packet.len() {
            bail!("{sent} of {} bytes were sent", packet.len());
        }
        Ok(())
    }

    /// Receives a packet that the kernel sends out by it. Gives its length.
    pub fn receive(&mut self, packet: &mut [u8]) -> Result<usize> {
        for _ in 0..PATIENCE {
            match self.file.read(packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received.context("receive a packet"),
            }
        }
        bail!("a packet did not come out")
    }
}
