//! Runs a program on many packets in one system call, see the programs in `bench/ebpf`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, SchedClassifier, TestRun as _, TestRunOptions},
};
use vpn_ebpf_common::{
    flow::FlowKey,
    names::{FLOWS, PEERS, PLANTS},
};

pub use self::slot::Slot;
use self::slot::{HEADERS, Keys};
use crate::packet;

#[path = "../ebpf/src/slot.rs"]
mod slot;

/// The object that `build.rs` made.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vpn-bench-ebpf"));

/// The program that does nothing: its time is the driver's own.
pub const NOTHING: &str = "nothing";
/// Reads the clock of flows once.
pub const CLOCK: &str = "clock";
/// The look-ups that a packet from a user cannot avoid.
pub const FLOOR_USERS: &str = "floor_users";
/// The look-ups that a packet from a plant cannot avoid.
pub const FLOOR_PLANT: &str = "floor_plant";

/// Work that needs no memory.
pub const WORK: &str = "work";
/// [`FLOOR_USERS`], and [`WORK`] behind it.
pub const FLOOR_AND_WORK: &str = "floor_and_work";

/// Bytes of Ethernet header in front of the packets.
const ETHERNET: usize = 14;

/// See the module.
pub struct Driver {
    ebpf: Ebpf,
    /// The packet of the next call, whose headers are replaced.
    frame: Vec<u8>,
}

// SAFETY: `repr(C)` without padding, of integers alone.
unsafe impl Pod for Slot {}

/// As in the programs.
#[derive(Clone, Copy)]
#[repr(C)]
struct Cursor {
    at: u64,
    count: u64,
}

// SAFETY: as above.
unsafe impl Pod for Cursor {}

impl Slot {
    /// What is needed of a packet.
    pub fn new(packet: &[u8], peer: u32, flow: FlowKey) -> Self {
        let headers = *packet.first_chunk::<HEADERS>().expect("packets are longer than their headers");
        // The peer id is what the first look-up is for.
        Self { headers, keys: Keys { flow: FlowKey { peer: 0, ..flow }, peer } }
    }
}

impl Driver {
    /// Loads the programs, with room for `capacity` packets. `maps` is where the gateway's maps are pinned.
    pub fn new(maps: &Path, capacity: u32) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("PACKETS", capacity);
        for name in [PEERS, PLANTS, FLOWS] {
            loader.map_pin_path(name, maps.join(name));
        }
        let mut ebpf = loader.load(OBJECT).context("load the benchmarks' programs")?;
        for name in ["next", NOTHING, CLOCK, FLOOR_USERS, FLOOR_PLANT, WORK, FLOOR_AND_WORK] {
            classifier(&mut ebpf, name)?.load().with_context(|| format!("load `{name}`"))?;
        }
        Ok(Self { ebpf, frame: Vec::new() })
    }

    /// Sets the packets, and begins with the first one.
    pub fn load(&mut self, slots: impl ExactSizeIterator<Item = Slot>) -> Result<()> {
        let count = slots.len() as u64;
        let mut packets = Array::<_, Slot>::try_from(self.ebpf.map_mut("PACKETS").context("PACKETS")?)?;
        ensure!(count <= u64::from(packets.len()), "{count} packets are more than there is room for");
        for (at, slot) in slots.enumerate() {
            if at == 0 {
                self.frame = frame(&slot);
            }
            packets.set(at as u32, slot, 0)?;
        }
        let mut cursor = Array::<_, Cursor>::try_from(self.ebpf.map_mut("CURSOR").context("CURSOR")?)?;
        Ok(cursor.set(0, Cursor { at: 0, count }, 0)?)
    }

    /// Runs one of the benchmarks' own programs on the next `count` packets. Gives nanoseconds a packet.
    pub fn run_own(&mut self, name: &str, count: u32) -> Result<f64> {
        let measured = classifier(&mut self.ebpf, name)?.fd()?.try_clone()?;
        self.run(&measured, count)
    }

    /// Runs a program on the next `count` packets. Gives nanoseconds a packet.
    pub fn run(&mut self, measured: &ProgramFd, count: u32) -> Result<f64> {
        let programs = self.ebpf.map_mut("MEASURED").context("MEASURED")?;
        ProgramArray::try_from(programs)?.set(0, measured, 0)?;
        let mut out = vec![0; self.frame.len()];
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            data_out: Some(&mut out),
            repeat: count,
            ..TestRunOptions::new()
        };
        let result = classifier(&mut self.ebpf, "next")?.test_run(options)?;
        ensure!(result.return_value as i32 >= 0, "the last packet's flow, or a program, was not found");
        Ok(result.duration.as_nanos() as f64)
    }
}

/// An Ethernet frame around a packet with these headers.
fn frame(slot: &Slot) -> Vec<u8> {
    let kind: [u8; 2] = if slot.headers[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0] };
    let mut frame = [[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2].as_slice(), &kind, &slot.headers].concat();
    frame.resize(ETHERNET + packet::LENGTH, 0);
    frame
}

/// A program of an object.
pub fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?.try_into()?)
}
