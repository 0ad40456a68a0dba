//! Whether everything is measured that the documents and those who compare versions ask for.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// What a run without a virtual machine prints at least.
const FIGURES: [&str; 29] = [
    "users.instructions",
    "users.verified",
    "plant.instructions",
    "plant.verified",
    "users.established.1k",
    "users.established.100k",
    "users.established.1m",
    "plant.established.1k",
    "plant.established.100k",
    "plant.established.1m",
    "maps.floor.1m",
    "driver.work.1m",
    "maps.floor.1m.plant",
    "flow.new",
    "flow.bytes",
    "peer.bytes",
    "route.bytes",
    "routes.cost.1m",
    "tun.added.ours.1k",
    "tun.added.ours.100k",
    "tun.added.nftables.1k",
    "tun.added.nftables.100k",
    "control.compile.1k",
    "control.compile.1k.peak",
    "control.apply.1k",
    "control.apply.1k.peak",
    "control.change.priority.1k",
    "control.change.revoke.1k",
    "control.change.worst.1k",
];

/// Those that are a multiple of something else that is measured.
const RATIOS: [&str; 4] = ["users.established.1m", "plant.established.1m", "tun.added.ours.1k", "tun.added.ours.100k"];

#[test]
fn every_figure_is_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_vpn-bench")).args(["--trial", "--json"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let figures: BTreeMap<String, Value> = printed
        .lines()
        .map(|line| {
            let figure: Value = serde_json::from_str(line).unwrap();
            (figure["name"].as_str().unwrap().to_owned(), figure)
        })
        .collect();
    for name in FIGURES {
        let figure = figures.get(name).unwrap_or_else(|| panic!("{name} is missing in {:?}", figures.keys()));
        assert!(figure["value"].is_number() && figure["unit"].is_string(), "{figure}");
    }
    for name in RATIOS {
        let figure = &figures[name];
        assert!(figure["baseline"].is_number() && figure["ratio"].is_number(), "{figure}");
    }
    // An entry of FLOWS and its share of the buckets; the other figures are those of a trial.
    assert!(figures["flow.bytes"]["value"].as_f64().unwrap() <= 256.0, "{}", figures["flow.bytes"]);
}
