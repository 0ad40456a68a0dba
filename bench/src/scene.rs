//! The programs with a topology in their maps, and flows in them.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, ring_buf::RingBuf};
use vpn_agent::datapath::{Datapath, Sizes, layout_dir, read::Maps as _};
use vpn_ebpf_common::{
    Verdict,
    flow::{Flow, FlowKey},
    names::{EVENTS, FLOWS, PLANT, USERS},
};
use vpn_tests::pins::Pins;

use crate::{
    driver::{Driver, Slot},
    home,
    topology::{Conversation, TUNNEL_BITS, Topology},
};

/// See the module.
pub struct Scene {
    pub topology: Topology,
    pub datapath: Datapath,
    pub driver: Driver,
    pub flows_max: u32,
    /// Where the maps are pinned, so that the driver's programs use the same ones.
    pub pins: Pins,
}

/// A program of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Users,
    Plant,
}

impl Program {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => USERS,
            Self::Plant => PLANT,
        }
    }

    const fn success(self) -> Verdict {
        match self {
            Self::Users => Verdict::ToPlant,
            Self::Plant => Verdict::ToUser,
        }
    }
}

impl Scene {
    /// Loads the programs and fills the maps; `flows_max` is the size of the flow table.
    pub fn build(topology: Topology, flows_max: u32) -> Result<Self> {
        home::stay_on_one_cpu()?;
        let pins = Pins::new();
        let sizes = Sizes {
            tunnel_addresses: 1 << (32 - TUNNEL_BITS),
            peers_max: topology.peers,
            routes_max: topology.routes(),
            plants_max: topology.plants,
            flows_max,
            ..Sizes::default()
        };
        let mut datapath = Datapath::for_test_runs(Some(pins.path()), &sizes).context("load the programs")?;
        datapath.fill(&topology.content())?;
        datapath.configure(&topology.gateway())?;
        let driver = Driver::new(&layout_dir(pins.path()).join("maps"), flows_max)?;
        Ok(Self { topology, datapath, driver, flows_max, pins })
    }

    /// Opens a flow for each conversation, in their order.
    pub fn open(&mut self, conversations: &[Conversation]) -> Result<()> {
        self.load(conversations, Program::Users)?;
        self.run(Program::Users, conversations.len() as u32)?;
        self.drain_events()?;
        Ok(())
    }

    /// Removes the flows of the conversations.
    pub fn close(&mut self, conversations: &[Conversation]) -> Result<()> {
        let mut flows = HashMap::<_, FlowKey, Flow>::try_from(self.datapath.map_mut(FLOWS))?;
        for conversation in conversations {
            flows.remove(&conversation.key())?;
        }
        Ok(())
    }

    /// Makes the packets of the conversations, in their order, those that the program sees from now on.
    pub fn load(&mut self, conversations: &[Conversation], program: Program) -> Result<()> {
        let slots = conversations.iter().map(|conversation| {
            let packet = match program {
                Program::Users => Topology::request(conversation),
                Program::Plant => Topology::reply(conversation),
            };
            Slot::new(&packet, conversation.user(), conversation.key())
        });
        self.driver.load(slots)
    }

    /// Runs a program on the next `count` packets. Gives nanoseconds a packet, with those of the driver.
    pub fn run(&mut self, program: Program, count: u32) -> Result<f64> {
        let before = self.successes(program)?;
        let measured = self.datapath.program(program.name()).fd()?.try_clone()?;
        let time = self.driver.run(&measured, count)?;
        let passed = self.successes(program)? - before;
        ensure!(passed == u64::from(count), "`{}` let {passed} of {count} packets pass", program.name());
        Ok(time)
    }

    /// Forgets the records in the ring, so that there is room for others. Gives their number.
    pub fn drain_events(&mut self) -> Result<u32> {
        let mut events = RingBuf::try_from(self.datapath.map_mut(EVENTS))?;
        let mut records = 0;
        while events.next().is_some() {
            records += 1;
        }
        Ok(records)
    }

    fn successes(&self, program: Program) -> Result<u64> {
        let stats = self.datapath.stats()?;
        let found = stats.iter().find(|(verdict, _)| *verdict == program.success());
        Ok(found.context("every verdict has a counter")?.1.packets)
    }
}
