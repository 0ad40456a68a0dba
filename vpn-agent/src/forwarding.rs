//! The kernel's own forwarding, which is kept away from the gateway's interfaces (requirement G3): without the programs
//! nothing shall pass between users and plants, whatever the host's settings are.
//!
//! The host's global `ip_forward` may have other reasons, so it is left alone. What counts for an IPv4 packet is a
//! setting of the interface that it comes in by: `ip_route_input_slow` asks `IN_DEV_FORWARD` of the input device, that
//! is `net.ipv4.conf.<interface>.forwarding` alone, and drops what is not for the host itself. It is 0 on all
//! interfaces of the gateway's. For IPv6 there are two kinds of interfaces:
//!
//! - **Tunnels**, which the agent makes. `ip6_rcv` drops every packet that comes in by an interface whose
//!   `disable_ipv6` is 1. Here it is 1. The programs run before that and send packets out behind it, so they do not
//!   depend on it.
//! - **Borrowed** interfaces, which the host's administrator makes: Ethernet, where neighbours find each other by IPv6
//!   itself, so it must stay on. `ip6_forward` asks `net.ipv6.conf.all.forwarding`, and the interface's own
//!   `forwarding` closes nothing. So this must be 0 for the whole host, which is the administrator's to decide: it is
//!   asked for, not written. Since Linux 6.17 an interface with `force_forwarding` is forwarded from all the same, so
//!   that is 0 here. What is changed on such an interface is set back when it is no longer needed.
//!
//! This closes the way *in* by these interfaces. What comes in by another interface of the host and has a route out by
//! one of these is the host's own affair.
//!
//! Whoever switches `ip_forward` from 0 to 1 has the kernel write 1 to *every* interface, so this is looked at again
//! while the agent runs.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where the kernel's network settings lie; of the network namespace of whoever reads.
const SETTINGS: &str = "/proc/sys/net";

/// A setting of an interface with the value that closes it: family, name, value.
type Closed = (&'static str, &'static str, &'static str);

/// Every kernel has this one.
const IPV4: Closed = ("ipv4", "forwarding", "0");

const TUNNEL: [Closed; 2] = [IPV4, ("ipv6", "disable_ipv6", "1")];

const BORROWED: [Closed; 2] = [IPV4, ("ipv6", "force_forwarding", "0")];

/// Why an interface cannot be closed to the kernel's own forwarding. It must then not carry packets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be read or written.
    #[error(
        "{}: {source}; the kernel could forward packets unchecked, so the interface is not used; the agent needs root \
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
         not used; look for a program on this host that changes it, such as a sysctl.d file", path.display()
    )]
    NotKept {
        /// The file of the setting.
        path: PathBuf,
        /// What was written.
        wanted: &'static str,
        /// What was read back.
        found: String,
    },
    /// The host forwards IPv6, and nothing closes a borrowed interface to that.
    #[error(
        "net.ipv6.conf.all.forwarding is on: without the gateway's programs the kernel would forward IPv6 from \
         {interface} unchecked, and no setting of {interface} prevents that; run `sysctl net.ipv6.conf.all.forwarding=0` and look \
         for the file in /etc/sysctl.d that sets it; or, if no IPv6 is used on {interface}, run \
         `sysctl net.ipv6.conf.{}.disable_ipv6=1`; or run the gateway on a host that need not forward IPv6",
        interface.replace('.', "/")
    )]
    HostForwardsIpv6 {
        /// The interface.
        interface: String,
    },
}

/// What closing a borrowed interface changes, so that it can be set back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Values by family and name of the setting, such as `ipv4/forwarding`.
    pub settings: BTreeMap<String, String>,
    /// Whether the host forwarded IPv4 in general.
    pub host_forwards: bool,
}

/// Closes a tunnel to the kernel's own forwarding, and makes sure of it.
///
/// # Errors
/// See [`Error`].
pub fn close(interface: &str) -> Result<(), Error> {
    close_in(Path::new(SETTINGS), interface, TUNNEL)
}

/// Whether a tunnel is closed to the kernel's own forwarding. One that does not exist is.
#[must_use]
pub fn is_closed(interface: &str) -> bool {
    is_closed_in(Path::new(SETTINGS), interface, TUNNEL)
}

/// What [`close_borrowed`] would change on a borrowed interface; nothing if it is closed already.
///
/// # Errors
/// [`Error::Setting`].
pub fn found(interface: &str) -> Result<Found, Error> {
    found_in(Path::new(SETTINGS), interface)
}

/// Closes a borrowed interface to the kernel's own forwarding, and makes sure of it.
///
/// # Errors
/// See [`Error`].
pub fn close_borrowed(interface: &str) -> Result<(), Error> {
    close_borrowed_in(Path::new(SETTINGS), interface)
}

/// Whether a borrowed interface is closed to the kernel's own forwarding. One that does not exist is.
#[must_use]
pub fn is_borrowed_closed(interface: &str) -> bool {
    let settings = Path::new(SETTINGS);
    is_closed_in(settings, interface, BORROWED) && matches!(is_closed_to_ipv6(settings, interface), Ok(true))
}

/// Sets a borrowed interface back to what was found. One that does not exist is as good as set back.
///
/// # Errors
/// [`Error::Setting`].
pub fn give_back(interface: &str, found: &Found) -> Result<(), Error> {
    give_back_in(Path::new(SETTINGS), interface, found)
}

/// Whether the host forwards IPv4 in general, which the gateway does not need.
#[must_use]
pub fn is_on_for_host() -> bool {
    is_on_for_host_in(Path::new(SETTINGS))
}

fn close_in(settings: &Path, interface: &str, closed: [Closed; 2]) -> Result<(), Error> {
    for (family, setting, wanted) in closed {
        let path = path(settings, family, interface, setting);
        let failed = |source| Error::Setting { path: path.clone(), source };
        match value(&path).map_err(failed)? {
            // A kernel without IPv6, or without this setting, forwards none of it. But every one has IPv4, so there it
            // is /proc that is missing.
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

fn is_closed_in(settings: &Path, interface: &str, closed: [Closed; 2]) -> bool {
    closed.into_iter().all(|(family, setting, wanted)| match value(&path(settings, family, interface, setting)) {
        Ok(Some(found)) => found == wanted,
        Ok(None) => true,
        Err(_) => false,
    })
}

fn found_in(settings: &Path, interface: &str) -> Result<Found, Error> {
    let mut found = Found { settings: BTreeMap::new(), host_forwards: is_on_for_host_in(settings) };
    for (family, setting, wanted) in BORROWED {
        let path = path(settings, family, interface, setting);
        match value(&path) {
            Ok(Some(now)) if now != wanted => drop(found.settings.insert(format!("{family}/{setting}"), now)),
            Ok(_) => {}
            Err(source) => return Err(Error::Setting { path, source }),
        }
    }
    Ok(found)
}

fn close_borrowed_in(settings: &Path, interface: &str) -> Result<(), Error> {
    close_in(settings, interface, BORROWED)?;
    if is_closed_to_ipv6(settings, interface)? {
        Ok(())
    } else {
        Err(Error::HostForwardsIpv6 { interface: interface.to_owned() })
    }
}

/// Whether the kernel forwards no IPv6 that comes in by a borrowed interface without `force_forwarding`.
fn is_closed_to_ipv6(settings: &Path, interface: &str) -> Result<bool, Error> {
    for (name, setting, closed) in [("all", "forwarding", "0"), (interface, "disable_ipv6", "1")] {
        let path = path(settings, "ipv6", name, setting);
        match value(&path) {
            Ok(Some(found)) if found != closed => {}
            // A kernel without IPv6 forwards none of it.
            Ok(_) => return Ok(true),
            Err(source) => return Err(Error::Setting { path, source }),
        }
    }
    Ok(false)
}

fn give_back_in(settings: &Path, interface: &str, found: &Found) -> Result<(), Error> {
    for (family, setting, _) in BORROWED {
        let Some(value) = found.settings.get(&format!("{family}/{setting}")) else { continue };
        // Whoever switches the host's forwarding off means this interface too.
        if family == "ipv4" && found.host_forwards && !is_on_for_host_in(settings) {
            continue;
        }
        let path = path(settings, family, interface, setting);
        match fs::write(&path, value) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::Setting { path, source }),
            _ => {}
        }
    }
    Ok(())
}

fn is_on_for_host_in(settings: &Path) -> bool {
    matches!(value(&settings.join("ipv4/ip_forward")), Ok(Some(found)) if found != "0")
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
    use tempfile::TempDir;

    use super::*;

    /// Requirements: G3.
    #[test]
    fn a_tunnel_is_closed_for_both_families_and_kept_so() {
        let settings = Settings::default();
        assert!(is_closed_in(settings.path(), "wg-users", TUNNEL), "there is no such interface");
        assert!(close_in(settings.path(), "wg-users", TUNNEL).is_err(), "but then it shall not go up");
        for (setting, open) in [("ipv4/conf/wg-users/forwarding", "1"), ("ipv6/conf/wg-users/disable_ipv6", "0")] {
            settings.set(setting, open);
            assert!(!is_closed_in(settings.path(), "wg-users", TUNNEL), "{setting}");
            close_in(settings.path(), "wg-users", TUNNEL).unwrap();
            assert!(is_closed_in(settings.path(), "wg-users", TUNNEL), "{setting}");
        }
        assert_eq!(settings.get("ipv4/conf/wg-users/forwarding"), "0");
        assert_eq!(settings.get("ipv6/conf/wg-users/disable_ipv6"), "1");
    }

    #[test]
    fn what_cannot_be_closed_is_an_error_with_the_setting() {
        let settings = Settings::default();
        // A folder in place of a file can be neither read nor written.
        fs::create_dir_all(path(settings.path(), "ipv4", "wg-users", "forwarding")).unwrap();
        let error = close_in(settings.path(), "wg-users", TUNNEL).unwrap_err().to_string();
        assert!(error.contains("ipv4/conf/wg-users/forwarding") && error.contains("ProtectKernelTunables"), "{error}");
        assert!(!is_closed_in(settings.path(), "wg-users", TUNNEL));
    }

    #[test]
    fn a_borrowed_interface_keeps_ipv6_and_is_given_back_as_it_was() {
        let settings = Settings::default();
        let all = [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/eth1.10/forwarding", "1"),
            ("ipv6/conf/all/forwarding", "0"),
            ("ipv6/conf/eth1.10/disable_ipv6", "0"),
            ("ipv6/conf/eth1.10/force_forwarding", "1"),
        ];
        all.iter().for_each(|(setting, value)| settings.set(setting, value));
        let found = found_in(settings.path(), "eth1.10").unwrap();
        assert!(!is_closed_in(settings.path(), "eth1.10", BORROWED));
        close_borrowed_in(settings.path(), "eth1.10").unwrap();
        assert!(is_closed_in(settings.path(), "eth1.10", BORROWED));
        let closed: Vec<_> = all.iter().map(|(setting, _)| settings.get(setting)).collect();
        assert_eq!(closed, ["1", "0", "0", "0", "0"], "neither the host nor IPv6 on this interface");
        assert_eq!(found_in(settings.path(), "eth1.10").unwrap().settings, BTreeMap::new(), "it is closed");

        give_back_in(settings.path(), "eth1.10", &found).unwrap();
        let back: Vec<_> = all.iter().map(|(setting, _)| settings.get(setting)).collect();
        assert_eq!(back, ["1", "1", "0", "0", "1"]);
        give_back_in(settings.path(), "gone", &found).unwrap();
    }

    #[test]
    fn giving_back_opens_nothing_that_the_host_has_closed_since() {
        let settings = Settings::default();
        settings.set("ipv4/conf/eth1/forwarding", "1");
        for (host_then, host_now, expected) in [("1", "0", "0"), ("1", "1", "1"), ("0", "0", "1")] {
            settings.set("ipv4/ip_forward", host_then);
            settings.set("ipv4/conf/eth1/forwarding", "1");
            let found = found_in(settings.path(), "eth1").unwrap();
            close_borrowed_in(settings.path(), "eth1").unwrap();
            settings.set("ipv4/ip_forward", host_now);
            give_back_in(settings.path(), "eth1", &found).unwrap();
            assert_eq!(settings.get("ipv4/conf/eth1/forwarding"), expected, "host {host_then}, then {host_now}");
        }
    }

    #[test]
    fn a_borrowed_interface_cannot_be_closed_on_a_host_that_forwards_ipv6() {
        let settings = Settings::default();
        settings.set("ipv4/conf/eth1.10/forwarding", "0");
        close_borrowed_in(settings.path(), "eth1.10").unwrap();
        settings.set("ipv6/conf/all/forwarding", "1");
        settings.set("ipv6/conf/eth1.10/disable_ipv6", "0");
        let error = close_borrowed_in(settings.path(), "eth1.10").unwrap_err().to_string();
        assert!(error.contains("`sysctl net.ipv6.conf.all.forwarding=0`"), "{error}");
        assert!(error.contains("`sysctl net.ipv6.conf.eth1/10.disable_ipv6=1`"), "{error}");
        assert_eq!(settings.get("ipv6/conf/all/forwarding"), "1", "that is not for the agent to change");
        settings.set("ipv6/conf/eth1.10/disable_ipv6", "1");
        close_borrowed_in(settings.path(), "eth1.10").unwrap();
    }

    /// Settings in a folder of their own.
    struct Settings(TempDir);

    impl Default for Settings {
        fn default() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
    }

    impl Settings {
        fn path(&self) -> &Path {
            self.0.path()
        }

        fn set(&self, setting: &str, value: &str) {
            let path = self.path().join(setting);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }

        fn get(&self, setting: &str) -> String {
            fs::read_to_string(self.path().join(setting)).unwrap().trim().to_owned()
        }
    }
}
