//! A user's device with a standard client: `wg-quick` and a profile whose endpoint is a name.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    lab::{PATIENCE, Peer},
    namespace::Namespace,
    steps::wait_for,
};

/// The name in every user's profile.
const NAME: &str = "gateway.example";
/// The client's interface, and the name of the profile.
const INTERFACE: &str = "plants";
/// The port of every gateway.
const PORT: u16 = 51_820;

/// The user's device.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    profile: PathBuf,
    text: String,
    server_key: String,
}

impl Client {
    /// Puts the profile together, once and for all.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn new(peer: Peer, tunnel: Ipv4Addr, server_key: &str, folder: &Path) -> Result<Self> {
        for (target, link) in [("/sbin/bash", "/bin/bash"), ("/proc/self/fd", "/dev/fd")] {
            if !Path::new(link).exists() {
                symlink(target, link).with_context(|| format!("link {link}"))?;
            }
        }
        let text = format!(
            "[Interface]\nPrivateKey = {}\nAddress = {tunnel}/32\n\n[Peer]\nPublicKey = {server_key}\n\
             Endpoint = {NAME}:{PORT}\nAllowedIPs = 10.128.0.0/9, 192.168.0.0/16, 100.64.0.1/32\n\
             PersistentKeepalive = 5\n",
            peer.private_key()?.trim()
        );
        let profile = folder.join(format!("{INTERFACE}.conf"));
        fs::write(&profile, &text)?;
        Ok(Self { peer, profile, text, server_key: server_key.to_owned() })
    }

    /// Where it is.
    pub const fn namespace(&self) -> &Namespace {
        &self.peer.namespace
    }

    /// What the user's name server says from now on.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn resolve(&self, address: Ipv4Addr) -> Result<()> {
        // `ip netns exec` puts these in the place of the files in /etc.
        let folder = Path::new("/etc/netns").join(self.peer.namespace.name());
        fs::create_dir_all(&folder)?;
        fs::write("/etc/nsswitch.conf", "hosts: files\n")?;
        Ok(fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{address} {NAME}\n"))?)
    }

    /// The user switches the tunnel on.
    ///
    /// # Errors
    /// If `wg-quick` fails, or the profile is not the one that was made.
    pub fn connect(&self) -> Result<()> {
        anyhow::ensure!(fs::read_to_string(&self.profile)? == self.text, "somebody has changed the profile");
        self.quick("up")?;
        // As in the rest of the lab, see there.
        for route in ["10.128.0.0/9", "192.168.0.0/16"] {
            self.peer.namespace.run(&format!("ip route change {route} dev {INTERFACE} {PATIENCE}"))?;
        }
        Ok(())
    }

    /// The user switches it off.
    ///
    /// # Errors
    /// If `wg-quick` fails.
    pub fn disconnect(&self) -> Result<()> {
        self.quick("down")
    }

    fn quick(&self, verb: &str) -> Result<()> {
        self.peer.namespace.run(&format!("wg-quick {verb} {}", self.profile.display()))?;
        Ok(())
    }

    /// Looks the name up again and again, as clients do while nobody answers, until `device` does. Gives the time.
    ///
    /// # Errors
    /// If it never does.
    pub fn retry(&self, device: Ipv4Addr, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        wait_for("the client finds a gateway that answers", limit, || {
            let key = &self.server_key;
            self.peer.namespace.run(&format!("wg set {INTERFACE} peer {key} endpoint {NAME}:{PORT}"))?;
            self.peer.namespace.run(&format!("busybox ping -c 1 -W 1 {device}"))
        })?;
        Ok(started.elapsed())
    }
}
