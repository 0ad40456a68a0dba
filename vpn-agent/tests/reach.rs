//! `vpn-agent routes` and `vpn-agent explain` as people use them, on a host where no agent runs.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use vpn_agent::liveness::{FORMAT, Liveness, Uplink, UplinkState};

/// Requirements: B5, C4.
#[test]
fn uplinks_are_as_the_agent_saw_them_last() {
    let host = Host::new();
    assert_eq!(host.links(), ["unknown", "unknown"], "no agent ran here");
    let now = Timestamp::now();
    for (state, link, said) in [
        (UplinkState::Up, "up", "up"),
        (UplinkState::Down, "down", "down, unreachable"),
        (UplinkState::Never, "never", "never up, unreachable"),
    ] {
        host.saw(state, now);
        assert_eq!(host.links(), [link, link]);
        let routes = host.said(&["routes", "--user", "user-a"]);
        assert!(routes.lines().nth(1).unwrap().contains(&format!("  {said}  ")), "{routes}");
        let explained = host.said(&["explain", "--user", "user-a", "--to", "192.168.1.20"]);
        assert!(explained.contains(&format!("is linked to region eu, uplink: {said}\n")), "{explained}");
    }
    host.saw(UplinkState::Up, now - SignedDuration::from_secs(100));
    assert_eq!(host.links(), ["unknown", "unknown"], "what an agent saw that runs no more says nothing");
}

/// Requirements: B5, G4.
#[test]
fn who_is_not_there_is_named() {
    let host = Host::new();
    for (arguments, part) in [
        (["routes", "--user", "user-c"].as_slice(), "user user-c is not in the desired state"),
        (&["routes", "--certificate", "c"], "certificate c is not in the desired state; a revoked one opens nothing"),
        (&["explain", "--user", "user-c", "--to", "10.128.0.20"], "user user-c is not in the desired state"),
        (&["explain", "--user", "user-a", "--to", "somewhere"], "is not an address to ask about; use an IP address"),
    ] {
        let output = host.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(part), "{arguments:?}: {error}");
    }
}

/// A gateway host that one user and one plant are known on.
struct Host {
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let config = format!(
            "gateway = 'gateway-1'\nregion = 'eu'\nstate = '{path}/state.json'\nstate_dir = '{path}'\n\
             users.private_key_file = '{path}/users.key'\ndatapath.pin_dir = '{path}/pins'\n"
        );
        fs::write(folder.path().join("agent.toml"), config).unwrap();
        let state = json!({
            "revision": 1,
            "organisations": [{"id": "alpha"}],
            "portfolios": [],
            "plants": [{"id": "north", "organisation": "alpha", "subnets": ["192.168.1.0/24"],
                        "uplink": {"kind": "host", "public_key": "PUBLIC/KEY/OF/THE/PLANT+++++++++++++++++++A="}}],
            "users": [{"id": "user-a"}],
            "memberships": [{"user": "user-a", "organisation": "alpha", "kind": "member", "access": "all"}],
            "roles": [{"user": "user-a", "role": "operator", "on": {"plant": "north"}}],
            "cooperations": [],
            "certificates": [{"id": "certificate-a", "user": "user-a",
                              "public_key": "PUBLIC/KEY/OF/THE/USER++++++++++++++++++++A="}],
        });
        fs::write(folder.path().join("state.json"), state.to_string()).unwrap();
        Self { folder }
    }

    /// What an agent leaves that saw the plant's uplink in this state.
    fn saw(&self, state: UplinkState, at: Timestamp) {
        let plants = BTreeMap::from([("north".parse().unwrap(), Uplink::new(None, state, at))]);
        Liveness { format: FORMAT, at, plants }.write(&self.folder.path().join("uplinks.json")).unwrap();
    }

    /// How the uplink is in the answers of both commands.
    fn links(&self) -> [String; 2] {
        let json = |arguments: &[&str], pointer: &str| {
            let answer: Value = serde_json::from_str(&self.said(arguments)).unwrap();
            answer.pointer(pointer).unwrap_or_else(|| panic!("{answer:#}")).as_str().unwrap().to_owned()
        };
        let explain = ["explain", "--certificate", "certificate-a", "--to", "192.168.1.20:502/tcp", "--json"];
        [json(&["routes", "--user", "user-a", "--json"], "/routes/0/link"), json(&explain, "/state/target/link")]
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpn-agent"));
        command.args(arguments).arg("--config").arg(self.folder.path().join("agent.toml")).output().unwrap()
    }

    fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}
