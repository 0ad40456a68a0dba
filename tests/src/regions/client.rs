//! What stands outside the gateways: standard clients (`wg-quick`), with what the product made for them.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    lab::{PATIENCE, connect, keep_buffers_small, make_tcp_plain},
    namespace::Namespace,
    steps::wait_for,
    wg_quick,
};

/// Where users' devices find a gateway, in every profile.
pub const ENDPOINT: &str = "gateway.example:51820";
/// The name in it.
const NAME: &str = "gateway.example";
/// The client's interface, and the name of the profile.
const INTERFACE: &str = "plants";

/// The user's device before it has a profile.
#[derive(Debug)]
pub struct Applicant {
    namespace: Namespace,
    key: PathBuf,
    /// What the user sends to whoever issues certificates.
    pub public_key: String,
}

/// The user's device.
#[derive(Debug)]
pub struct Client {
    namespace: Namespace,
    profile: PathBuf,
    text: String,
}

impl Applicant {
    /// The user makes a key pair.
    ///
    /// # Errors
    /// If a command fails.
    pub fn new(name: &'static str, link: u8, folder: &Path) -> Result<Self> {
        let namespace = connect(name, link)?;
        make_tcp_plain(&namespace)?;
        keep_buffers_small(&namespace)?;
        let key = folder.join("user.key");
        let public_key = namespace.run(&format!("vpn-agent profile new --key {}", key.display()))?;
        let public_key = public_key.lines().next().context("no public key")?.to_owned();
        Ok(Self { namespace, key, public_key })
    }

    /// The user puts the profile together, once and for all.
    ///
    /// # Errors
    /// If a command fails.
    pub fn accept(self, offer: &str, folder: &Path) -> Result<Client> {
        let Self { namespace, key, .. } = self;
        let (file, profile) = (folder.join("offer.json"), folder.join(format!("{INTERFACE}.conf")));
        fs::write(&file, offer)?;
        let (key, offer, out) = (key.display(), file.display(), profile.display());
        namespace.run(&format!("vpn-agent profile write --key {key} --offer {offer} --out {out}"))?;
        let text = fs::read_to_string(&profile)?;
        ensure!(text.contains(&format!("Endpoint = {ENDPOINT}\n")), "another endpoint in the profile");
        Ok(Client { namespace, profile, text })
    }
}

impl Client {
    /// Where it is.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What the user's name server says from now on.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn resolve(&self, address: Ipv4Addr) -> Result<()> {
        // `ip netns exec` puts it in the place of the file in /etc.
        let folder = Path::new("/etc/netns").join(self.namespace.name());
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{address} {NAME}\n"))?)
    }

    /// The user switches the tunnel on.
    ///
    /// # Errors
    /// If `wg-quick` fails, or the profile is not the one that was made.
    pub fn connect(&self) -> Result<()> {
        ensure!(fs::read_to_string(&self.profile)? == self.text, "somebody has changed the profile");
        wg_quick::up(&self.namespace, &self.profile)?;
        // As in the rest of the lab, see there.
        self.namespace.run(&format!("ip route change 10.128.0.0/9 dev {INTERFACE} {PATIENCE}"))?;
        Ok(())
    }

    /// The user switches it off.
    ///
    /// # Errors
    /// If `wg-quick` fails.
    pub fn disconnect(&self) -> Result<()> {
        wg_quick::down(&self.namespace, &self.profile)
    }

    /// Looks the name up again and again, as clients do while nobody answers, until `device` does. Gives the time.
    ///
    /// # Errors
    /// If it never does.
    pub fn retry(&self, device: Ipv4Addr, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        let server = self.namespace.run(&format!("wg show {INTERFACE} peers"))?;
        wait_for("the client finds a gateway that answers", limit, || {
            self.namespace.run(&format!("wg set {INTERFACE} peer {server} endpoint {ENDPOINT}"))?;
            self.namespace.run(&format!("busybox ping -c 1 -W 1 {device}"))
        })?;
        Ok(started.elapsed())
    }
}
