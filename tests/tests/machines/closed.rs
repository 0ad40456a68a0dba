//! The agent by its commands alone, on kernel WireGuard: detached, killed, with a state that does not fit and on a host
//! that forwards, it stays closed and takes away what is to be taken away.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use vpn_tests::{demo, vm::Machine};

/// How long it may take under emulation.
const LIMIT: Duration = Duration::from_secs(300);

/// The states are the plot of [`SCENARIO`].
///
/// Requirements: A3, B4, G3.
#[test]
fn the_agent_stays_closed_whatever_happens_to_it() {
    let Some(kernel) = super::newest_kernel("the_agent_stays_closed_whatever_happens_to_it") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(&kernel).program(demo::programs().unwrap().join("vpn-agent"));
    let config = "gateway = \"gateway-1\"\nregion = \"eu\"\nstate = \"/etc/vpn-gateway/state.json\"\n\
                  state_dir = \"/var/lib/vpn-agent\"\n[users]\nprivate_key_file = \"/etc/vpn-gateway/users.key\"\n\
                  [datapath]\nroutes_max = 64\n";
    let files = [
        ("agent.toml", config.to_owned()),
        ("1.json", state(1, &["north", "south"], &["user-a", "user-b"], 1).to_string()),
        ("2.json", state(2, &["north", "south", "west"], &["user-b"], 1).to_string()),
        ("3.json", state(3, &["south", "west"], &["user-b"], 1).to_string()),
        ("4.json", state(4, &["west", "west-2", "west-3", "west-4", "west-5"], &["user-c", "user-b"], 16).to_string()),
    ];
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
        machine = machine.file(folder.path().join(name), Path::new("/data").join(name));
    }
    let report = machine.run(&["sh", "-c", SCENARIO], LIMIT, |line| println!("{line}")).unwrap();
    assert_eq!(report.exit, 0, "the agent fails on Linux {}, see above", kernel.release());
}

/// In the machine, for its `sh`.
const SCENARIO: &str = r#"set -e
links='/sys/fs/bpf/vpn/v*/links'
conf=/proc/sys/net/ipv4/conf
until_true() { # what, command
  what=$1; shift
  for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    if "$@"; then echo "ok: $what"; return; fi
    sleep 1
  done
  echo "not ok: $what"; vpn-agent status || true; cat /tmp/agent.log; exit 1
}
has() { vpn-agent status | grep -q "$1"; }
logged() { grep -q "$1" /tmp/agent.log; }
in_order() { has "^revision $1, in the file $1$" && ! has "^difference:"; }
closed() { [ "$(cat $conf/wg-users/forwarding $conf/wgp-1/forwarding | tr -d '\n')" = 00 ]; }
rotated() { wg show wg-users allowed-ips | grep -q "^51A.*100.64.0.3/32"; }
gone() { [ ! -e "$1" ]; }
no_link() { ! ip link show "$1" > /dev/null 2>&1; }

mkdir -p /etc/vpn-gateway /var/lib
cp /data/agent.toml /etc/vpn-gateway/agent.toml
vpn-agent keygen /etc/vpn-gateway/users.key
cp /data/1.json /etc/vpn-gateway/state.json
until_true "status before the first run" has "^difference: the maps are not pinned"

echo 1 > /proc/sys/net/ipv4/ip_forward
vpn-agent run > /tmp/agent.log 2>&1 &
agent=$!
until_true "revision 1 is in order" in_order 1
until_true "interfaces are closed on a host that forwards" closed
[ "$(cat /proc/sys/net/ipv6/conf/wg-users/disable_ipv6)" = 1 ]
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv4/ip_forward
until_true "they are closed again" closed
until_true "and that was said" logged "switched the kernel.s forwarding on"
if vpn-agent run > /tmp/second.log 2>&1; then exit 1; fi
grep "another .vpn-agent run. uses this state_dir" /tmp/second.log

vpn-agent detach
until_true "the agent notices" logged "detached by"
until_true "status says detached" has "^detached by"
until_true "and that programs are missing" has "wg-users .*missing"
cp /data/2.json /etc/vpn-gateway/new && mv /etc/vpn-gateway/new /etc/vpn-gateway/state.json
until_true "a revocation goes on" has "^revision 2, in the file 2$"
if has "PEERS has"; then exit 1; fi
sleep 7
until_true "and nothing is attached" gone $links
kill -HUP $agent
until_true "SIGHUP attaches again, west too" in_order 2
vpn-agent detach
kill $agent; wait $agent
vpn-agent run >> /tmp/agent.log 2>&1 &
agent=$!
until_true "so does a restart" in_order 2

cp /data/3.json /etc/vpn-gateway/new && mv /etc/vpn-gateway/new /etc/vpn-gateway/state.json
until_true "north is deleted" in_order 3
until_true "its interface goes" no_link wgp-1
until_true "its pin goes" gone $links/wgp-1
[ -e $links/wgp-2 ]
# It would make them again at once.
kill -STOP $agent
ip link delete wgp-2
ip link delete wg-users
until_true "status tells what is missing" has "^difference: wg-users: there is no such interface"
kill -HUP $agent
kill -CONT $agent
until_true "SIGHUP makes it again" in_order 3
until_true "and that is told" has "wg-users *there is no such interface *made again"

cp /data/4.json /etc/vpn-gateway/new && mv /etc/vpn-gateway/new /etc/vpn-gateway/state.json
until_true "a state that does not fit is said" logged "ROUTES is full"
until_true "south is taken from user-b all the same" has "user-b  *user-b  *100.64.0.3  *[0-9a-f:]*  *[0-9][0-9]*  *2 "
until_true "and a new key takes the place of the old one" rotated
vpn-agent status --json > /dev/null
kill $agent; wait $agent
vpn-agent status > /dev/null
"#;

/// Every user is operator of every plant, and has a key by its place in the list; the west has `subnets` subnets at each plant, the others have one.
fn state(revision: u64, plants: &[&str], users: &[&str], subnets: u32) -> Value {
    let key = |number: usize| format!("{number:A<42}A=");
    let plant = |(at, id): (usize, &&str)| {
        let count = if id.starts_with("west") { subnets } else { 1 };
        let subnets: Vec<_> = (1..=count).map(|subnet| format!("192.168.{subnet}.0/24")).collect();
        json!({"id": id, "organisation": "alpha", "subnets": subnets, "uplink": {"kind": "host", "public_key": key(10 + at)}})
    };
    let pairs = || users.iter().flat_map(|user| plants.iter().map(move |plant| (user, plant)));
    json!({
        "revision": revision,
        "organisations": [{"id": "alpha"}],
        "portfolios": [],
        "plants": plants.iter().enumerate().map(plant).collect::<Vec<_>>(),
        "users": users.iter().map(|user| json!({"id": user})).collect::<Vec<_>>(),
        "memberships": users.iter().map(|user| {
            json!({"user": user, "organisation": "alpha", "kind": "member", "access": "all"})
        }).collect::<Vec<_>>(),
        "roles": pairs().map(|(user, plant)| {
            json!({"user": user, "role": "operator", "on": {"plant": plant}})
        }).collect::<Vec<_>>(),
        "cooperations": [],
        "certificates": users.iter().enumerate().map(|(at, user)| {
            json!({"id": user, "user": user, "public_key": key(50 + at)})
        }).collect::<Vec<_>>(),
    })
}
