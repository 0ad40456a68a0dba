//! Names of network interfaces.

use crate::config::PLANT_INTERFACE_PREFIX;

/// The pattern of every name of an interface of the host's, as a regular expression.
pub const PATTERN: &str = r"^[^/:\s]{1,15}$";

/// The longest name, bytes.
const MAX_LENGTH: usize = 15;

/// The name of the pin of an interface's program. A BPF file system has no names with dots, which VLANs' names have.
#[must_use]
pub fn pin_name(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

/// The interface whose pin has this name.
#[must_use]
pub fn of_pin(pin: &str) -> String {
    pin.replace("%2e", ".").replace("%25", "%")
}

/// Whether `name` can be that of an interface which is not the agent's own.
///
/// # Errors
/// What is wrong with it, and what to use.
pub fn check(name: &str) -> Result<(), String> {
    let in_kernel = |c: char| c != '/' && c != ':' && !c.is_whitespace() && !c.is_control();
    if !(1..=MAX_LENGTH).contains(&name.len()) || !name.chars().all(in_kernel) || [".", ".."].contains(&name) {
        return Err(format!(
            "{name:?} is not an interface name; use the name that `ip link` shows, 1 to {MAX_LENGTH} bytes without \
             spaces, '/' and ':'"
        ));
    }
    if ["all", "default"].contains(&name) {
        return Err(format!("{name:?} stands for all interfaces in the kernel's settings; use the name of one"));
    }
    if name == "lo" {
        return Err("\"lo\" leads to the host itself; use the interface that leads to the plant".to_owned());
    }
    if name.starts_with(PLANT_INTERFACE_PREFIX) {
        return Err(format!(
            "{name:?} starts like the WireGuard interfaces that the agent makes; use an interface of the host's that \
             does not start with {PLANT_INTERFACE_PREFIX:?}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_interfaces_share_a_pin() {
        let names = ["wg-users", "eth1.10", "eth1%2e10", "eth1%252e10", "eth1_10", "eth110"];
        let pins: std::collections::BTreeSet<_> = names.iter().map(|name| pin_name(name)).collect();
        assert_eq!(pins.len(), names.len());
        assert!(pins.iter().all(|pin| !pin.contains('.')));
        assert_eq!(pin_name("wgp-1"), "wgp-1");
        assert!(names.iter().all(|name| of_pin(&pin_name(name)) == *name));
    }

    #[test]
    fn only_names_that_an_interface_of_the_hosts_can_have_are_taken() {
        for name in ["eth1", "eth1.10", "enp0s31f6", "br-plant_7", "wgp", "a23456789012345", "ätsch"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, part) in [
            ("", "1 to 15 bytes"),
            ("a234567890123456", "1 to 15 bytes"),
            ("eth 1", "without spaces"),
            ("eth1\n", "without spaces"),
            ("../eth1", "'/'"),
            ("eth1:0", "':'"),
            ("..", "is not an interface name"),
            ("all", "stands for all"),
            ("lo", "the host itself"),
            ("wgp-3", "does not start with \"wgp-\""),
        ] {
            let error = check(name).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
