//! One connection in three accounts: what a tool says that it moved, what the kernel has counted, and the auditor's row.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context as _, Result, bail};
use vpn_directory::Directory;
use vpn_ebpf_common::flow::{Flow, FlowKey};

use crate::{
    audit::FlowRow,
    device::{HTTP_PORT, UDP_PORT},
    download::Downloaded,
    gateway::Host,
    steps::equal,
};

/// Bytes of an IPv4 and an ICMP echo header, which `ping` does not count as data.
const PING_OVERHEAD: u64 = 28;
/// Bytes of an IPv4 and a UDP header.
const UDP_OVERHEAD: u64 = 28;
/// Bytes of an IPv4 and a TCP header without options.
const TCP_OVERHEAD: u64 = 40;
/// Bytes of options in a SYN: segment size and window scale, padded.
const SYN_OPTIONS: u64 = 8;

/// Who talks to what, and where it passes.
#[derive(Clone, Copy, Debug)]
pub struct Between {
    /// Region of the gateway.
    pub region: &'static str,
    /// Who runs the tool.
    pub user: &'static str,
    /// Where the device is.
    pub plant: &'static str,
    /// The device as the user writes it.
    pub addressed: Ipv4Addr,
}

/// A tool's own account of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Reported {
    between: Between,
    /// As the audit calls it.
    protocol: &'static str,
    /// The device's port; zero for ICMP.
    port: u16,
    to_plant: Account,
    to_user: Account,
}

/// One direction, by the tool.
#[derive(Clone, Copy, Debug)]
enum Account {
    /// Packets, and bytes with their headers.
    Packets { packets: u64, bytes: u64 },
    /// Bytes of a TCP stream; how many segments it took is the kernel's business.
    Stream { bytes: u64 },
}

impl Account {
    /// Whether the audit's totals are the tool's.
    const fn equals(self, packets: u64, bytes: u64) -> bool {
        match self {
            Self::Packets { packets: own_packets, bytes: own_bytes } => own_packets == packets && own_bytes == bytes,
            Self::Stream { bytes: own } => own + TCP_OVERHEAD * packets + SYN_OPTIONS == bytes,
        }
    }
}

impl Between {
    /// `ping`: so many requests with `size` bytes of data, and as many replies.
    #[must_use]
    pub const fn ping(self, count: u64, size: u64) -> Reported {
        let account = Account::Packets { packets: count, bytes: count * (size + PING_OVERHEAD) };
        Reported { between: self, protocol: "ICMP", port: 0, to_plant: account, to_user: account }
    }

    /// Datagrams to the device's UDP service, as many replies, and the bytes of data in both.
    #[must_use]
    pub const fn datagrams(self, count: u64, sent: u64, received: u64) -> Reported {
        let to_plant = Account::Packets { packets: count, bytes: sent + count * UDP_OVERHEAD };
        let to_user = Account::Packets { packets: count, bytes: received + count * UDP_OVERHEAD };
        Reported { between: self, protocol: "UDP", port: UDP_PORT, to_plant, to_user }
    }

    /// A TCP connection, and the bytes of content either way.
    #[must_use]
    pub const fn stream(self, port: u16, sent: u64, received: u64) -> Reported {
        let (to_plant, to_user) = (Account::Stream { bytes: sent }, Account::Stream { bytes: received });
        Reported { between: self, protocol: "TCP", port, to_plant, to_user }
    }

    /// `curl`.
    #[must_use]
    pub const fn http(self, done: &Downloaded) -> Reported {
        self.stream(HTTP_PORT, done.request, done.header + done.body)
    }
}

impl Reported {
    /// Whether the row is about such a connection, whatever the totals.
    fn is_about(&self, row: &FlowRow) -> bool {
        let Self { between: Between { region, user, plant, addressed }, protocol, port, .. } = *self;
        (&*row.region, &*row.user, &*row.plant) == (region, user, plant)
            && (&*row.protocol, row.port, row.addressed) == (protocol, port, addressed)
    }
}

/// Checks that each connection that a tool reported has a row of its own with the same totals.
///
/// # Errors
/// The first that has none.
pub fn compare_with_tools(reports: &[Reported], rows: &[FlowRow]) -> Result<usize> {
    let mut matched = Vec::new();
    for reported in reports {
        let row = rows.iter().enumerate().find(|(at, row)| {
            !matched.contains(at)
                && reported.is_about(row)
                && reported.to_plant.equals(row.packets_to_plant, row.bytes_to_plant)
                && reported.to_user.equals(row.packets_to_user, row.bytes_to_user)
        });
        let (at, _) = row.with_context(|| {
            let flows = rows.iter().filter(|row| reported.is_about(row)).collect::<Vec<_>>();
            format!("no row for {reported:?} among {flows:#?}")
        })?;
        matched.push(at);
    }
    Ok(matched.len())
}

/// Checks that the rows are those of the flows in these kernels, with the same names and totals.
///
/// # Errors
/// If they are not.
pub fn compare_with_kernels(kernels: &[(&Host, &Directory, BTreeMap<FlowKey, Flow>)], rows: &[FlowRow]) -> Result<()> {
    let found: BTreeMap<Row, Totals> = rows.iter().map(|row| (Row::of(row), Totals::of(row))).collect();
    equal("rows of one flow", found.len(), rows.len())?;
    let mut expected = BTreeMap::new();
    for (host, directory, flows) in kernels {
        for (key, flow) in flows {
            expected.insert(Row::expected(host, directory, key, flow)?, Totals::kernel(flow));
        }
    }
    equal("flows", found, expected)
}

/// What names a flow in ClickHouse.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    user: String,
    certificate: String,
    plant: String,
    operator: String,
    gateway: String,
    region: String,
    protocol: String,
    source: Ipv4Addr,
    source_port: u16,
    addressed: Ipv4Addr,
    destination: Ipv4Addr,
    port: u16,
}

impl Row {
    fn of(row: &FlowRow) -> Self {
        Self {
            user: row.user.clone(),
            certificate: row.certificate.clone(),
            plant: row.plant.clone(),
            operator: row.operator.clone(),
            gateway: row.gateway.clone(),
            region: row.region.clone(),
            protocol: row.protocol.clone(),
            source: row.source,
            source_port: row.source_port,
            addressed: row.addressed,
            destination: row.destination,
            port: row.port,
        }
    }

    /// How a flow of the kernel should be named.
    fn expected(host: &Host, directory: &Directory, key: &FlowKey, flow: &Flow) -> Result<Self> {
        let peer = directory.peer(key.peer).context("a peer that the directory does not know")?;
        let plant = directory.plant(flow.plant).context("a plant that the directory does not know")?;
        let v4 = |address: vpn_ebpf_common::Address| address.to_ip().to_string().parse::<Ipv4Addr>();
        Ok(Self {
            user: peer.user.clone(),
            certificate: peer.certificate.clone(),
            plant: plant.plant.clone(),
            operator: plant.operator.clone(),
            gateway: host.name.into(),
            region: host.region.into(),
            protocol: match key.protocol {
                1 => "ICMP",
                6 => "TCP",
                17 => "UDP",
                other => bail!("protocol {other}"),
            }
            .into(),
            source: peer.address.to_string().parse()?,
            source_port: u16::from_be(key.user_port),
            addressed: v4(key.addressed)?,
            destination: v4(flow.device)?,
            port: u16::from_be(key.device_port),
        })
    }
}

/// Packets and bytes to the plant, packets and bytes to the user.
#[derive(Debug, PartialEq, Eq)]
struct Totals([u64; 4]);

impl Totals {
    fn of(row: &FlowRow) -> Self {
        Self([row.packets_to_plant, row.bytes_to_plant, row.packets_to_user, row.bytes_to_user])
    }

    fn kernel(flow: &Flow) -> Self {
        Self([flow.to_plant.packets, flow.to_plant.bytes, flow.to_user.packets, flow.to_user.bytes])
    }
}
