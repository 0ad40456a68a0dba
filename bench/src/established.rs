//! Packets of established flows, visited at random.

use anyhow::Result;

use crate::{
    driver::{CLOCK, FLOOR_AND_WORK, FLOOR_PLANT, FLOOR_USERS, NOTHING, WORK},
    random::Random,
    report::{Figure, Report},
    rounds::{Effort, median},
    scene::{Program, Scene},
    topology::{Addressed, Conversation, Family},
};

/// Packets of a round, at most.
const PACKETS: u32 = 250_000;

/// Measures both programs with so many flows, beside the bare look-ups that they cannot avoid.
pub fn measure(report: &Report, scene: &mut Scene, size: &str, flows: u32, effort: Effort) -> Result<()> {
    let variants = [
        (Family::V4, Addressed::Virtual, "", true),
        (Family::V4, Addressed::Real, ".real", false),
        (Family::V6, Addressed::Virtual, ".v6", true),
    ];
    for (family, addressed, variant, has_floor) in variants {
        let conversations = open(scene, flows, family, addressed)?;
        for (program, floor) in [(Program::Users, FLOOR_USERS), (Program::Plant, FLOOR_PLANT)] {
            // How the user writes an address makes no difference to the first of the two.
            if addressed == Addressed::Real && program == Program::Users {
                continue;
            }
            scene.load(&conversations, program)?;
            let (bare, ours) = compare(scene, program, floor, flows, effort)?;
            if has_floor {
                // What both cannot avoid, and one more look-up for a packet from a plant.
                let whose = if program == Program::Users { "" } else { ".plant" };
                report.add(&Figure::new(format!("maps.floor.{size}{whose}{variant}"), bare, "ns"));
            }
            let name = match variant {
                ".real" => format!("{}.established.real.{size}", program.name()),
                _ => format!("{}.established.{size}{variant}", program.name()),
            };
            report.add(&Figure::new(name, ours, "ns").against(bare));
            if (program, variant) == (Program::Users, "") {
                let (added, alone) = work(scene, flows, effort)?;
                report.add(&Figure::new(format!("driver.work.{size}"), added, "ns").against(alone));
            }
        }
        scene.close(&conversations)?;
    }
    Ok(())
}

/// Measures the program of plants whose uplink is Ethernet: the kernel updates the transport checksum there, because only
/// it knows whether hardware is to complete it.
pub fn measure_ethernet(report: &Report, scene: &mut Scene, size: &str, flows: u32, effort: Effort) -> Result<()> {
    let conversations = open(scene, flows, Family::V4, Addressed::Virtual)?;
    scene.load(&conversations, Program::Plant)?;
    let (bare, ours) = compare(scene, Program::Plant, FLOOR_PLANT, flows, effort)?;
    report
        .add(&Figure::new(format!("{}.established.ethernet.{size}", Program::Plant.name()), ours, "ns").against(bare));
    Ok(())
}

/// Opens so many flows. Gives their conversations at random: in the order in which they were opened they were given memory,
/// and nobody visits them in it.
fn open(scene: &mut Scene, flows: u32, family: Family, addressed: Addressed) -> Result<Vec<Conversation>> {
    let peers = scene.topology.peers;
    let mut conversations: Vec<_> = (0..flows).map(|n| Conversation::nth(n, peers, family, addressed)).collect();
    scene.open(&conversations)?;
    Random::new().shuffle(&mut conversations);
    Ok(conversations)
}

/// Measures the one other thing that no packet can do without: the clock.
pub fn measure_clock(report: &Report, scene: &mut Scene, effort: Effort) -> Result<()> {
    let peers = scene.topology.peers;
    let conversations: Vec<_> =
        (0..peers).map(|n| Conversation::nth(n, peers, Family::V4, Addressed::Virtual)).collect();
    scene.load(&conversations, Program::Users)?;
    let mut times = Vec::new();
    for _ in 0..effort.rounds() {
        let driver = scene.driver.run_own(NOTHING, effort.part(PACKETS))?;
        times.push(scene.driver.run_own(CLOCK, effort.part(PACKETS))? - driver);
    }
    report.add(&Figure::new("helper.clock", median(times), "ns"));
    Ok(())
}

/// Nanoseconds that work without memory adds to the bare look-ups, and that it takes alone. The two differ where the
/// processor does not do one packet after the other, and then no other figure tells what a packet costs.
fn work(scene: &mut Scene, flows: u32, effort: Effort) -> Result<(f64, f64)> {
    let count = packets(flows, effort);
    let (mut added, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds() {
        let driver = scene.driver.run_own(NOTHING, count)?;
        alone.push(scene.driver.run_own(WORK, count)? - driver);
        let bare = scene.driver.run_own(FLOOR_USERS, count)?;
        added.push(scene.driver.run_own(FLOOR_AND_WORK, count)? - bare);
    }
    Ok((median(added), median(alone)))
}

/// How many packets make a round. A round of few flows visits them again and again.
fn packets(flows: u32, effort: Effort) -> u32 {
    let most = effort.part(PACKETS);
    if flows < most { most / flows * flows } else { most }
}

/// Nanoseconds a packet of the bare look-ups and of the program.
fn compare(scene: &mut Scene, program: Program, floor: &str, flows: u32, effort: Effort) -> Result<(f64, f64)> {
    let count = packets(flows, effort);
    let (mut bares, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=effort.rounds() {
        let driver = scene.driver.run_own(NOTHING, count)?;
        let bare = scene.driver.run_own(floor, count)? - driver;
        let our = scene.run(program, count)? - driver;
        // The first one warms up.
        if round > 0 {
            bares.push(bare);
            ours.push(our);
        }
    }
    Ok((median(bares), median(ours)))
}
