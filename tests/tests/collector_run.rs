//! The collector's process against real maps and a real ClickHouse, through crashes and outages: for every flow the
//! audit ends with exactly the packets and bytes that were sent, and so it does for what was refused (requirement F8).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::HashMap;
use serde::Deserialize;
use tempfile::TempDir;
use vpn_agent::datapath::read::Maps;
use vpn_directory::{Directory, FORMAT, Peer, Plant, Subnet};
use vpn_ebpf_common::{
    flow::Traffic,
    gateway::{Gateway, IdleLimits, Limits},
    names::{PLANT, RELEASED, USAGE, USERS},
    usage::Usage,
};
use vpn_tests::{
    audit::Audit,
    demo,
    gate::{Gate, PEER, PLANT_ID, REAL, REDIRECT, ROUTE_ID, SOURCE, USER, VIRTUAL, gateway},
    packet::{Ends, tcp, udp},
    pins::Pins,
    steps::{equal, wait_for},
    store::Store,
};

/// Flows end so soon that several follow each other under one key in this test.
const IDLE: Duration = Duration::from_secs(2);

/// Ports of the user's side, each a flow.
const PORTS: std::ops::Range<u16> = 40_000..40_040;

/// Somewhere that leads nowhere, as often as there are rounds: more than a peer's refusals may have rows of their own.
const NOWHERE: &str = "10.128.2.20";

/// Refused destinations in a minute that have rows of their own.
const DENIALS: u32 = 6;

/// Requirements: F8, G3.
#[test]
fn crashes_and_outages_lose_and_double_nothing() {
    let mut lab = Lab::new();
    let mut store = Store::start(&lab.collector_program(), &demo::library().unwrap()).unwrap();
    let audit = Audit::new(&store.url());
    lab.configure(&store.url());

    // Killed in the middle of its work, again and again, while packets go on.
    for round in 0..6 {
        let mut collector = lab.start();
        let until = Instant::now() + Duration::from_millis(700 + 350 * round);
        while Instant::now() < until {
            lab.send(round);
        }
        collector.kill();
        lab.send(round);
    }

    // ClickHouse goes away under it. Flows end meanwhile, and then the collector is killed, too.
    let mut collector = lab.start();
    lab.send(6);
    thread::sleep(Duration::from_secs(1));
    store.stop();
    thread::sleep(IDLE + Duration::from_secs(2));
    collector.kill();

    // It starts again before ClickHouse does, and flows go on.
    let mut collector = lab.start();
    for _ in 0..5 {
        lab.send(7);
        thread::sleep(Duration::from_millis(300));
    }
    store.resume().unwrap();

    // All flows end, and only then do they leave the kernel.
    let compared = wait_for("the audit holds what was sent", Duration::from_secs(40), || lab.compare(&audit));
    compared.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.log()));
    collector.kill();
    assert!(lab.restarted_keys(&audit).unwrap() > 0, "no key had two flows, so this test has not tested their ends");
    assert!(further(&audit).unwrap() > 0, "nothing was refused beyond the limit");
}

/// What was sent in one direction of all flows under a key, or what the audit says of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    packets_to_plant: u64,
    bytes_to_plant: u64,
    packets_to_user: u64,
    bytes_to_user: u64,
}

#[derive(Deserialize)]
struct Row {
    source_port: u16,
    protocol: String,
    flows: u64,
    #[serde(flatten)]
    totals: AuditTotals,
}

#[derive(Deserialize)]
struct AuditTotals {
    packets_to_plant: u64,
    bytes_to_plant: u64,
    packets_to_user: u64,
    bytes_to_user: u64,
}

struct Lab {
    gate: Gate,
    pins: Pins,
    folder: TempDir,
    sent: BTreeMap<(u16, String), Totals>,
    refused: Traffic,
}

impl Lab {
    fn new() -> Self {
        let pins = Pins::new();
        let mut gate = Gate::pinned(pins.path());
        let idle = IDLE.as_millis() as u32;
        let idle =
            IdleLimits { tcp_ms: idle, tcp_transitory_ms: idle, tcp_closed_ms: idle, udp_ms: idle, icmp_ms: idle };
        let limits = Limits {
            new_flows_per_second: u32::MAX,
            live_flows: u32::MAX,
            answers_per_second: 0,
            denials_per_window: DENIALS,
            reserved: 0,
        };
        gate.datapath.configure(&Gateway { idle, limits, ..gateway() }).unwrap();
        let folder = TempDir::new().unwrap();
        Self { gate, pins, folder, sent: BTreeMap::new(), refused: Traffic::default() }
    }

    fn collector_program(&self) -> std::path::PathBuf {
        demo::programs().unwrap().join("vpn-collector")
    }

    fn configure(&self, url: &str) {
        let folder = self.folder.path();
        directory().publish(&folder.join("directory.json")).unwrap();
        let text = format!(
            "directory = \"{0}/directory.json\"\nstate_dir = \"{0}\"\npin_dir = \"{1}\"\nsweep_ms = 300\n\n\
             [clickhouse]\nurl = \"{url}\"\n\n[flush]\ninterval_ms = 100\n",
            folder.display(),
            self.pins.path().display(),
        );
        fs::write(folder.join("collector.toml"), text).unwrap();
    }

    fn start(&self) -> Running {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(self.collector_program());
        command.args(["run", "--config"]).arg(self.folder.path().join("collector.toml"));
        Running(command.stdin(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// One packet each way in a part of the flows, and some that are refused. Counts what was forwarded, and what the
    /// user sent and was not.
    fn send(&mut self, round: u64) {
        for port in PORTS.filter(|port| u64::from(*port) % 7 != round) {
            for (protocol, build) in [("TCP", tcp as fn(Ends, &[u8]) -> Vec<u8>), ("UDP", udp)] {
                let payload = vec![b'x'; usize::from(port % 50)];
                let request = build(Ends::new((USER, port), (VIRTUAL, 502)), &payload);
                let reply = build(Ends::new((REAL, 502), (SOURCE, port)), &payload);
                let totals = self.sent.entry((port, protocol.into())).or_default();
                if self.gate.run(USERS, &request).action == REDIRECT {
                    totals.packets_to_plant += 1;
                    totals.bytes_to_plant += request.len() as u64;
                } else {
                    self.refused.packets += 1;
                    self.refused.bytes += request.len() as u64;
                }
                if self.gate.run(PLANT, &reply).action == REDIRECT {
                    totals.packets_to_user += 1;
                    totals.bytes_to_user += reply.len() as u64;
                }
            }
        }
        for port in 1..=10 {
            let request = tcp(Ends::new((USER, 1), (NOWHERE, port)), b"");
            assert_ne!(self.gate.run(USERS, &request).action, REDIRECT);
            self.refused.packets += 1;
            self.refused.bytes += request.len() as u64;
        }
    }

    fn compare(&self, audit: &Audit) -> Result<()> {
        let left = (self.gate.datapath.flows()?.len(), self.gate.datapath.closed()?.len());
        equal("flows left in the kernel, live and finished", left, (0, 0))?;
        let usage = HashMap::<_, u32, Usage>::try_from(self.gate.datapath.map(USAGE))?;
        let released = HashMap::<_, u32, u64>::try_from(self.gate.datapath.map(RELEASED))?;
        let opened = usage.get(&PEER, 0)?.opened;
        equal("flows that the peer may open again", released.get(&PEER, 0)?, opened)?;
        let found = self.rows(audit)?.into_iter().map(|row| {
            let AuditTotals { packets_to_plant, bytes_to_plant, packets_to_user, bytes_to_user } = row.totals;
            let totals = Totals { packets_to_plant, bytes_to_plant, packets_to_user, bytes_to_user };
            ((row.source_port, row.protocol), totals)
        });
        let sent = self.sent.iter().filter(|(_, totals)| **totals != Totals::default());
        let sent: BTreeMap<_, _> = sent.map(|(key, totals)| (key.clone(), *totals)).collect();
        equal("totals by port and protocol", found.collect::<BTreeMap<_, _>>(), sent)?;
        let refused = audit.rows::<Refused>(
            "SELECT sum(packets_refused) AS packets, sum(bytes_refused) AS bytes FROM audit.accesses",
        )?;
        let refused = refused.first().map(|row| Traffic { packets: row.packets, bytes: row.bytes });
        equal("refused packets", refused.context("a sum")?, self.refused)?;
        let open: Vec<u64> = audit
            .rows::<Count>("SELECT count() AS count FROM audit.accesses WHERE verdict = 'forwarded' AND closed = 0")?
            .iter()
            .map(|row| row.count)
            .collect();
        ensure!(open == [0], "{open:?} flows are not marked as ended");
        Ok(())
    }

    /// How many keys have had more than one flow.
    fn restarted_keys(&self, audit: &Audit) -> Result<usize> {
        Ok(self.rows(audit)?.iter().filter(|row| row.flows > 1).count())
    }

    fn rows(&self, audit: &Audit) -> Result<Vec<Row>> {
        audit.rows(
            "SELECT source_port, protocol, count() AS flows, sum(packets_to_plant) AS packets_to_plant, \
             sum(bytes_to_plant) AS bytes_to_plant, sum(packets_to_user) AS packets_to_user, \
             sum(bytes_to_user) AS bytes_to_user FROM audit.accesses WHERE verdict = 'forwarded' GROUP BY source_port, protocol",
        )
    }
}

/// A collector that does not outlive the test.
struct Running(Child);

impl Running {
    /// SIGKILL: no chance to tidy up.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Deserialize)]
struct Count {
    count: u64,
}

#[derive(Deserialize)]
struct Refused {
    packets: u64,
    bytes: u64,
}

/// How many rows stand for further destinations.
fn further(audit: &Audit) -> Result<u64> {
    let rows = audit.rows::<Count>(
        "SELECT count() AS count FROM audit.accesses WHERE protocol = 'any' AND addressed = '' AND port = 0 \
         AND plant = '' AND operator = '' AND verdict = 'no-route'",
    )?;
    Ok(rows.first().context("a count")?.count)
}

fn directory() -> Directory {
    Directory {
        format: FORMAT,
        revision: 1,
        gateway: "gateway-1".into(),
        region: "eu".into(),
        peers: vec![Peer {
            id: PEER,
            certificate: "certificate-a".into(),
            user: "user-a".into(),
            organisations: vec!["alpha".into()],
            address6: "fd64::5".parse().unwrap(),
            address: USER.parse().unwrap(),
            active: true,
        }],
        plants: vec![Plant {
            id: PLANT_ID,
            plant: "north".into(),
            operator: "alpha".into(),
            subnets: vec![Subnet {
                id: ROUTE_ID,
                real: "192.168.1.0/24".parse().unwrap(),
                virtual_: "10.128.1.0/24".parse().unwrap(),
                active: true,
            }],
            active: true,
        }],
    }
}
