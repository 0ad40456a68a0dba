//! An SSH server on a device, and shells there.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{background::Background, namespace::Namespace};

/// A running server, and the key that opens it.
#[derive(Debug)]
pub struct Server {
    key: PathBuf,
    _dropbear: Background,
}

impl Server {
    /// Starts it. The user on the device is root, whose home this makes.
    ///
    /// # Errors
    /// If a command fails.
    pub fn start(device: &Namespace, address: Ipv4Addr, folder: &Path) -> Result<Self> {
        let [host_key, key] = ["host.ssh", "user.ssh"].map(|name| folder.join(name));
        let private = |folder: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        private(Path::new("/root"))?;
        private(Path::new("/root/.ssh"))?;
        fs::write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
        make_key(device, &host_key)?;
        let public_key = make_key(device, &key)?;
        fs::write("/root/.ssh/authorized_keys", public_key)?;
        let mut dropbear = device.command("dropbear");
        // In the foreground, with its log on standard error, and without passwords.
        dropbear.args(["-F", "-E", "-s", "-p", &format!("{address}:22"), "-r"]).arg(&host_key);
        Ok(Self { key, _dropbear: Background::start(dropbear)? })
    }

    /// A shell of a user that runs `line` on the device, which the user knows as `device`.
    #[must_use]
    pub fn shell(&self, user: &Namespace, device: Ipv4Addr, line: &str) -> Command {
        let mut client = user.command("dbclient");
        // Whatever the host's key is: nobody has seen it before.
        client.args(["-y", "-y", "-i"]).arg(&self.key).arg(format!("root@{device}")).arg(line);
        client
    }
}

/// Makes a key pair, and gives the public key as it stands in `authorized_keys`.
fn make_key(device: &Namespace, file: &Path) -> Result<String> {
    let said = device.run(&format!("dropbearkey -t ed25519 -f {}", file.display()))?;
    let line = said.lines().find(|line| line.starts_with("ssh-")).context("dropbearkey prints no public key")?;
    Ok(format!("{line}\n"))
}
