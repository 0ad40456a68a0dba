//! The kernel's own forwarding, which is kept away from our interfaces (requirement G3): without the XDP programs
//! nothing shall pass between tunnels, whatever the host's settings are.
//!
//! The host's global `ip_forward` may have other reasons, so it is left alone. What counts for a packet is a setting of
//! the interface that it comes in by:
//!
//! - IPv4: `ip_route_input_slow` asks `IN_DEV_FORWARD` of the input device, that is
//!   `net.ipv4.conf.<interface>.forwarding` alone, and drops what is not for the host itself. Here it is 0.
//! - IPv6: `ip6_forward` asks `net.ipv6.conf.all.forwarding`, and the interface's own setting closes nothing. But
//!   `ip6_rcv` drops every packet that comes in by an interface whose `disable_ipv6` is 1. Here it is 1. The programs
//!   run before that and send packets out behind it, so they do not depend on it.
//!
//! Whoever switches `ip_forward` from 0 to 1 has the kernel write 1 to *every* interface, so this is looked at again
//! while the agent runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the kernel's network settings lie; of the network namespace of whoever reads.
const SETTINGS: &str = "/proc/sys/net";

/// The settings of an interface with the values that close it.
const CLOSED: [(&str, &str, &str); 2] = [("ipv4", "forwarding", "0"), ("ipv6", "disable_ipv6", "1")];

/// Why an interface cannot be closed to the kernel's own forwarding. It must then not go up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be read or written.
    #[error(
        "{}: {source}; the kernel could forward packets unchecked, so the interface is not brought up; the agent needs root \
         and a writable /proc/sys (in a systemd unit: `ProtectKernelTunables=no`)", path.display()
    )]
    Setting {
        /// The file of the setting.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel has another value than was written.
    #[error(
        "{}: is {found} after {wanted} was written; the kernel could forward packets unchecked, so the interface is \
         not brought up; look for a program on this host that changes it, such as a sysctl.d file", path.display()
    )]
    NotKept {
        /// The file of the setting.
        path: PathBuf,
        /// What was written.
        wanted: &'static str,
        /// What was read back.
        found: String,
    },
}

/// Closes an interface to the kernel's own forwarding, and makes sure of it.
///
/// # Errors
/// See [`Error`].
pub fn close(interface: &str) -> Result<(), Error> {
    close_in(Path::new(SETTINGS), interface)
}

/// Whether an interface is closed to the kernel's own forwarding. One that does not exist is.
#[must_use]
pub fn is_closed(interface: &str) -> bool {
    is_closed_in(Path::new(SETTINGS), interface)
}

/// Whether the host forwards IPv4 in general, which the gateway does not need.
#[must_use]
pub fn is_on_for_host() -> bool {
    matches!(value(&Path::new(SETTINGS).join("ipv4/ip_forward")), Ok(Some(found)) if found != "0")
}

fn close_in(settings: &Path, interface: &str) -> Result<(), Error> {
    for (family, setting, wanted) in CLOSED {
        let path = path(settings, family, interface, setting);
        let failed = |source| Error::Setting { path: path.clone(), source };
        match value(&path).map_err(failed)? {
            // A kernel without IPv6 forwards none of it. But every one has IPv4, so there it is /proc that is missing.
            None if family == "ipv6" => continue,
            None => return Err(failed(io::ErrorKind::NotFound.into())),
            Some(found) if found == wanted => continue,
            Some(_) => fs::write(&path, wanted).map_err(failed)?,
        }
        let found = value(&path).map_err(failed)?.unwrap_or_default();
        if found != wanted {
            return Err(Error::NotKept { path, wanted, found });
        }
    }
    Ok(())
}

fn is_closed_in(settings: &Path, interface: &str) -> bool {
    CLOSED.into_iter().all(|(family, setting, wanted)| match value(&path(settings, family, interface, setting)) {
        Ok(Some(found)) => found == wanted,
        Ok(None) => true,
        Err(_) => false,
    })
}

fn path(settings: &Path, family: &str, interface: &str, setting: &str) -> PathBuf {
    settings.join(family).join("conf").join(interface).join(setting)
}

fn value(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_closed_for_both_families_and_kept_so() {
        let settings = tempfile::tempdir().unwrap();
        let file = |family: &str, setting: &str| path(settings.path(), family, "wg-users", setting);
        assert!(is_closed_in(settings.path(), "wg-users"), "there is no such interface");
        assert!(close_in(settings.path(), "wg-users").is_err(), "but then it shall not go up");
        for (family, setting, open) in [("ipv4", "forwarding", "1\n"), ("ipv6", "disable_ipv6", "0\n")] {
            fs::create_dir_all(file(family, setting).parent().unwrap()).unwrap();
            fs::write(file(family, setting), open).unwrap();
            assert!(!is_closed_in(settings.path(), "wg-users"), "{family}");
            close_in(settings.path(), "wg-users").unwrap();
            assert!(is_closed_in(settings.path(), "wg-users"), "{family}");
        }
        assert_eq!(fs::read_to_string(file("ipv4", "forwarding")).unwrap(), "0");
    }

    #[test]
    fn what_cannot_be_closed_is_an_error_with_the_setting() {
        let settings = tempfile::tempdir().unwrap();
        let file = path(settings.path(), "ipv4", "wg-users", "forwarding");
        fs::create_dir_all(&file).unwrap();
        let error = close_in(settings.path(), "wg-users").unwrap_err().to_string();
        assert!(error.contains("ipv4/conf/wg-users/forwarding") && error.contains("ProtectKernelTunables"), "{error}");
        assert!(!is_closed_in(settings.path(), "wg-users"));
    }
}
