//! What must be true of all that has been seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use anyhow::{Result, bail, ensure};
use vpn_ebpf_common::flow::Traffic;

use crate::{audit::FlowRow, lab::DEVICE, steps::equal};

use super::{
    PLANTS,
    load::{Answer, Protocol},
    wire::{Account, Port},
};

/// How many answers at least must tell which plant had the priority; fewer would prove nothing.
const TELLING: usize = 20;

/// A change of the user's priority.
#[derive(Clone, Copy, Debug)]
pub struct Flip {
    /// When it was asked for.
    pub begun: Instant,
    /// When it was in force.
    pub done: Instant,
    /// Who has the real address from then on.
    pub plant: &'static str,
}

/// Each datagram and each connection has answers of one plant. What was asked and answered between two changes is
/// answered by the plant that had the priority.
pub fn answers(answers: &[Answer], flips: &[Flip]) -> Result<Vec<String>> {
    let mut plants = BTreeMap::<u64, BTreeSet<&str>>::new();
    let mut datagrams = BTreeSet::new();
    let mut telling = BTreeMap::<(Protocol, &str), usize>::new();
    for answer in answers {
        let of = plants.entry(answer.of).or_default();
        of.insert(answer.plant);
        ensure!(of.len() == 1, "{:?} {} was answered by both plants: {answer:?}", answer.protocol, answer.of);
        let is_first = answer.protocol == Protocol::Tcp || datagrams.insert(answer.of);
        ensure!(is_first, "datagram {} was answered twice: {answer:?}", answer.of);
        if let Some(expected) = in_force(answer, flips) {
            ensure!(
                answer.plant == expected,
                "{} had the priority from before the question to after the answer: {answer:?}",
                expected
            );
            *telling.entry((answer.protocol, answer.plant)).or_default() += 1;
        }
    }
    let mut lines = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let own = answers.iter().filter(|answer| answer.protocol == protocol);
        let things = own.clone().map(|answer| answer.of).collect::<BTreeSet<_>>().len();
        let told = PLANTS.map(|plant| telling.get(&(protocol, plant)).copied().unwrap_or_default());
        ensure!(told.iter().all(|told| *told > TELLING), "{protocol:?}: too few answers tell anything: {told:?}");
        lines.push(format!(
            "{protocol:?}: {} answers to {things}, each by one plant; {} of north and {} of south had to be theirs",
            own.count(),
            told[0],
            told[1],
        ));
    }
    Ok(lines)
}

/// The plant that had the priority all the time from a question to its answer.
fn in_force(answer: &Answer, flips: &[Flip]) -> Option<&'static str> {
    let next = flips.partition_point(|flip| flip.done <= answer.sent);
    let last = flips.get(next.checked_sub(1)?)?;
    let is_over = flips.get(next).is_some_and(|flip| flip.begun <= answer.answered);
    (!is_over).then_some(last.plant)
}

/// A plant that gets a segment of a connection that it does not have answers with a reset.
pub fn resets(plants: &[Account; 2]) -> Result<Vec<String>> {
    for (name, account) in PLANTS.iter().zip(plants) {
        equal(format!("resets that {name} has sent"), account.resets, 0)?;
    }
    Ok(Vec::new())
}

/// The rows hold what the plants have seen of each of the user's ports, and what the user has got.
pub fn rows(rows: &[FlowRow], plants: &[Account; 2], user: &Account) -> Result<Vec<String>> {
    let mut to_plants = [BTreeMap::<Port, Traffic>::new(), BTreeMap::new()];
    let mut from_plants = to_plants.clone();
    let mut to_user = BTreeMap::<Port, Traffic>::new();
    // By a virtual address nothing flips.
    for row in rows.iter().filter(|row| row.addressed == DEVICE) {
        let protocol = match &*row.protocol {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            other => bail!("a row of protocol {other}"),
        };
        let Some(plant) = PLANTS.iter().position(|plant| *plant == row.plant) else { bail!("a row of {row:?}") };
        let port = |to_device| Port { protocol, user: row.source_port, to_device };
        let back = Traffic { packets: row.packets_to_user, bytes: row.bytes_to_user };
        add(&mut to_plants[plant], port(true), Traffic { packets: row.packets_to_plant, bytes: row.bytes_to_plant });
        add(&mut from_plants[plant], port(false), back);
        add(&mut to_user, port(false), back);
    }
    let mut lines = Vec::new();
    for ((name, account), (to_plant, from_plant)) in PLANTS.iter().zip(plants).zip(to_plants.iter().zip(&from_plants)) {
        equal(format!("what {name} has got"), &of(account, true), to_plant)?;
        // Replies that came back too late stop at the gateway.
        for (port, traffic) in from_plant {
            let sent = account.ports.get(port).copied().unwrap_or_default();
            ensure!(sent.bytes >= traffic.bytes, "{name} has sent {sent:?} to {port:?}, and its rows have {traffic:?}");
        }
        let bytes: u64 = to_plant.values().chain(from_plant.values()).map(|traffic| traffic.bytes).sum();
        lines.push(format!("{name}: {} ports of the user's, {bytes} bytes", to_plant.len()));
    }
    equal("what the user has got", &of(user, false), &to_user)?;
    Ok(lines)
}

/// One direction of what a host has seen; ports without a packet are none.
fn of(account: &Account, to_device: bool) -> BTreeMap<Port, Traffic> {
    let own = account.ports.iter().filter(|(port, _)| port.to_device == to_device);
    own.map(|(port, traffic)| (*port, *traffic)).collect()
}

fn add(sums: &mut BTreeMap<Port, Traffic>, port: Port, traffic: Traffic) {
    if traffic.packets > 0 {
        let sum = sums.entry(port).or_default();
        sum.packets += traffic.packets;
        sum.bytes += traffic.bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(milliseconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_millis(milliseconds)
    }

    fn answer(sent: u64, answered: u64) -> Answer {
        Answer { of: 1, protocol: Protocol::Udp, sent: at(sent), answered: at(answered), plant: "north" }
    }

    #[test]
    fn only_what_lies_between_two_changes_tells_who_has_the_priority() {
        let flip = |begun, done, plant| Flip { begun: at(begun), done: at(done), plant };
        let flips = [flip(10, 12, "north"), flip(20, 22, "south")];
        for (sent, answered, expected) in [
            (1, 2, None),
            (9, 13, None),
            (11, 13, None),
            (12, 13, Some("north")),
            (13, 19, Some("north")),
            (13, 20, None),
            (13, 30, None),
            (21, 23, None),
            (22, 23, Some("south")),
            (99, 100, Some("south")),
        ] {
            assert_eq!(in_force(&answer(sent, answered), &flips), expected, "{sent} to {answered}");
        }
    }

    #[test]
    fn two_plants_for_one_datagram_are_found() {
        let mut other = answer(1, 3);
        other.plant = "south";
        let error = answers(&[answer(1, 2), other], &[]).unwrap_err();
        assert!(error.to_string().contains("by both plants"), "{error}");
        let error = answers(&[answer(1, 2), answer(1, 3)], &[]).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}
