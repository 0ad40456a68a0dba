//! The status for people.

use std::fmt;

use super::{Interface, Program, Status, Tunnel, UplinkKind, table::Table};
use crate::datapath;

/// How many repairs are shown, the last ones.
const REPAIRS: usize = 10;

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |revision: Option<u64>| revision.map_or_else(|| "none".to_owned(), |number| number.to_string());
        writeln!(f, "gateway {}, region {}", self.gateway, self.region)?;
        writeln!(f, "revision {}, in the file {}", number(self.revision), number(self.file_revision))?;
        if self.detached {
            writeln!(f, "{}", datapath::Error::Detached)?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        for difference in &self.differences {
            writeln!(f, "difference: {difference}")?;
        }

        let mut interfaces = Table::new(["NAME", "STATE", "PROGRAM", "ID", "PORT", "PUBLIC KEY"]);
        interfaces.push(self.users.row());
        interfaces.extend(self.plants.iter().map(|plant| plant.interface.row()));
        write!(f, "\ninterfaces\n{interfaces}")?;

        let [handshake, endpoint, received, sent] = TUNNEL;
        let mut certificates = Table::new([
            "CERTIFICATE",
            "USER",
            "ADDRESS",
            "IPV6 ADDRESS",
            "ROUTE SET",
            "ROUTES",
            handshake,
            endpoint,
            received,
            sent,
        ]);
        certificates.extend(self.certificates.iter().map(|certificate| {
            let [handshake, endpoint, received, sent] = tunnel(certificate.tunnel.as_ref());
            [
                certificate.certificate.clone(),
                certificate.user.clone(),
                certificate.address.to_string(),
                certificate.address6.to_string(),
                shown(certificate.route_set),
                shown(certificate.routes),
                handshake,
                endpoint,
                received,
                sent,
            ]
        }));
        write!(f, "\ncertificates\n{certificates}")?;

        let mut plants =
            Table::new(["PLANT", "OPERATOR", "INTERFACE", "UPLINK", "STATE", handshake, endpoint, received, sent]);
        let mut subnets = Table::new(["PLANT", "REAL", "VIRTUAL"]);
        for plant in &self.plants {
            let [handshake, endpoint, received, sent] = match plant.uplink {
                UplinkKind::Host | UplinkKind::Dial => tunnel(plant.tunnel.as_ref()),
                UplinkKind::Interface => Default::default(),
            };
            let (name, operator, interface) = (&plant.plant, &plant.operator, &plant.interface.name);
            let (kind, state) = (plant.uplink.label().to_owned(), plant.state.label().to_owned());
            plants.push([
                name.clone(),
                operator.clone(),
                interface.clone(),
                kind,
                state,
                handshake,
                endpoint,
                received,
                sent,
            ]);
            let of_plant = plant.subnets.iter();
            subnets.extend(of_plant.map(|subnet| [name.clone(), subnet.real.to_string(), subnet.virtual_.to_string()]));
        }
        write!(f, "\nplants\n{plants}\nsubnets\n{subnets}")?;

        if !self.repairs.is_empty() {
            let mut repairs = Table::new(["AT", "WHAT", "FOUND", "MADE"]);
            let last = self.repairs.iter().skip(self.repairs.len().saturating_sub(REPAIRS));
            repairs.extend(last.map(|r| [r.at.to_string(), r.what.clone(), r.found.clone(), r.made.clone()]));
            write!(f, "\nrepairs\n{repairs}")?;
        }

        let Some(maps) = &self.maps else { return Ok(()) };
        let mut route_sets = Table::new(["ID", "ROUTES", "PEERS"]);
        route_sets
            .extend(maps.route_sets.iter().map(|set| [set.id as usize, set.routes, set.peers].map(|n| n.to_string())));
        let mut counters = Table::new(["VERDICT", "PACKETS", "BYTES"]);
        let counted = maps.counters.iter().filter(|counter| counter.packets > 0);
        counters.extend(counted.map(|c| [c.verdict.to_owned(), c.packets.to_string(), c.bytes.to_string()]));
        let mut levels = Table::new(["MAP", "ENTRIES", "CAPACITY"]);
        let filled = maps.fill_levels.iter();
        levels
            .extend(filled.map(|level| [level.map.to_owned(), level.entries.to_string(), level.capacity.to_string()]));
        write!(f, "\nroute sets\n{route_sets}\ncounters\n{counters}\nmaps\n{levels}")
    }
}

impl Interface {
    fn row(&self) -> [String; 6] {
        let state = match self.ifindex {
            None => "absent",
            Some(_) if self.up => "up",
            Some(_) => "down",
        };
        let program = match self.program {
            Program::Attached => "attached",
            Program::Missing => "missing",
            Program::Foreign => "foreign",
        };
        [
            self.name.clone(),
            state.into(),
            program.into(),
            shown(self.program_id),
            shown(self.listen_port),
            shown(self.public_key),
        ]
    }
}

/// Headings of [`tunnel`].
const TUNNEL: [&str; 4] = ["HANDSHAKE", "ENDPOINT", "RECEIVED", "SENT"];

fn tunnel(tunnel: Option<&Tunnel>) -> [String; 4] {
    let Some(Tunnel { endpoint, handshake_seconds_ago, rx_bytes, tx_bytes }) = tunnel else {
        return ["no peer".into(), String::new(), String::new(), String::new()];
    };
    let handshake = handshake_seconds_ago.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s ago"));
    [handshake, shown(*endpoint), format!("{rx_bytes} B"), format!("{tx_bytes} B")]
}

fn shown(value: Option<impl fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
