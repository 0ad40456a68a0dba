//! Packets that take the slow path: those that open a flow, and those whose flow is looked at again.

use anyhow::{Result, ensure};
use vpn_agent::datapath::Sizes;
use vpn_ebpf_common::event::FlowOpened;

use crate::{
    driver::NOTHING,
    random::Random,
    report::{Figure, Report},
    rounds::{Effort, median},
    scene::{Program, Scene},
    topology::{Addressed, Conversation, Family},
};

/// Flows of a round.
const FLOWS: u32 = 50_000;

/// Bytes that the kernel puts in front of a record in a ring (`BPF_RINGBUF_HDR_SZ`).
const RECORD_HEADER: u32 = 8;

/// Measures the packet that opens a flow: by a route to one of all plants of the user, at random. First by users who have
/// only ever written virtual addresses, then (`.both`) by users who have written real ones as well.
pub fn measure(report: &Report, scene: &mut Scene, name: &str, effort: Effort) -> Result<()> {
    let mut conversations = conversations(scene, effort);
    Random::new().shuffle(&mut conversations);
    measure_each(report, scene, name, &conversations, effort)?;
    let by_real: Vec<_> =
        conversations.iter().map(|by_virtual| Conversation { addressed: Addressed::Real, ..*by_virtual }).collect();
    scene.open(&by_real)?;
    scene.close(&by_real)?;
    measure_each(report, scene, &format!("{name}.both"), &conversations, effort)
}

fn measure_each(
    report: &Report,
    scene: &mut Scene,
    name: &str,
    conversations: &[Conversation],
    effort: Effort,
) -> Result<()> {
    scene.load(conversations, Program::Users)?;
    let mut times = Vec::new();
    for _ in 0..effort.rounds() {
        let driver = scene.driver.run_own(NOTHING, effort.part(FLOWS))?;
        times.push(open(scene, effort.part(FLOWS))? - driver);
        scene.close(conversations)?;
    }
    report.add(&Figure::new(name, median(times), "ns"));
    Ok(())
}

/// Nanoseconds a packet of the next `count`, each of which opens a flow. The ring of events is emptied as often as it must
/// be for every one to have its record.
fn open(scene: &mut Scene, count: u32) -> Result<f64> {
    let together = Sizes::default().events_bytes / (size_of::<FlowOpened>() as u32 + RECORD_HEADER);
    let (mut left, mut time) = (count, 0.0);
    while left > 0 {
        let part = left.min(together);
        time += scene.run(Program::Users, part)? * f64::from(part);
        let records = scene.drain_events()?;
        ensure!(records == part, "{part} flows have {records} records");
        left -= part;
    }
    Ok(time / f64::from(count))
}

/// Measures the first packet of each flow after a change: its route is looked up again.
pub fn measure_again(report: &Report, scene: &mut Scene, name: &str, effort: Effort) -> Result<()> {
    let mut conversations = conversations(scene, effort);
    scene.open(&conversations)?;
    Random::new().shuffle(&mut conversations);
    scene.load(&conversations, Program::Users)?;
    let mut times = Vec::new();
    for _ in 0..effort.rounds() {
        let driver = scene.driver.run_own(NOTHING, effort.part(FLOWS))?;
        // Counts the generation on.
        scene.datapath.configure(&scene.topology.gateway())?;
        times.push(scene.run(Program::Users, effort.part(FLOWS))? - driver);
    }
    report.add(&Figure::new(name, median(times), "ns"));
    Ok(())
}

fn conversations(scene: &Scene, effort: Effort) -> Vec<Conversation> {
    let topology = scene.topology;
    let mut random = Random::new();
    (0..effort.part(FLOWS))
        .map(|n| {
            let peer = n % topology.peers;
            let plant = topology.plant_of(peer % topology.sets, random.below(topology.plants_per_set));
            let host = 1 + random.below(250) as u8;
            // No two of a peer have one port.
            let user_port = 20_000 + (n / topology.peers) as u16;
            Conversation { peer, plant, host, user_port, family: Family::V4, addressed: Addressed::Virtual }
        })
        .collect()
}
