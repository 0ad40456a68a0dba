//! Fleets, as large as wanted: the state of one, and the settings of a gateway that takes it.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Result;
use serde_json::{Value, json};
use vpn_agent::{config::Config, key::PublicKey};

/// How many there are of everything. Users of one group have the same rights, on three portfolios of one organisation;
/// some have wishes of their own besides. Each plant has a subnet of either family, and the IPv4 ones are the same in
/// every portfolio.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub users: usize,
    pub plants: usize,
}

/// Users of one group.
const IN_GROUP: usize = 50;

/// Portfolios of one organisation.
const IN_ORGANISATION: usize = 20;

/// Portfolios in which a user works.
const OF_USER: usize = 3;

/// Users with wishes of their own.
const WITH_WISHES: usize = 250;

impl Fleet {
    /// Ten users for each plant.
    pub const fn of(users: usize) -> Self {
        Self { users, plants: users / 10 }
    }

    /// Writes the state, as a document.
    pub fn write(self, out: &mut impl Write) -> Result<()> {
        let organisation = |portfolio: usize| format!("organisation-{}", portfolio / IN_ORGANISATION);
        let organisations = 0..self.portfolios().div_ceil(IN_ORGANISATION);
        write!(out, "{{\"revision\": 1, \"cooperations\": []")?;
        list(out, "organisations", organisations.map(|at| json!({"id": format!("organisation-{at}")})))?;
        let portfolio = |at| json!({"id": portfolio(at), "organisation": organisation(at)});
        list(out, "portfolios", (0..self.portfolios()).map(portfolio))?;
        let plant = |at: usize| {
            let portfolio = at / self.in_portfolio();
            json!({
                "id": plant(at), "organisation": organisation(portfolio), "portfolio": self::portfolio(portfolio),
                "subnets": [format!("192.168.{}.0/24", at % self.in_portfolio()), format!("2001:db8:{at:x}::/64")],
                "uplink": {"kind": "host", "public_key": key(1, at)},
            })
        };
        list(out, "plants", (0..self.plants).map(plant))?;
        list(out, "users", (0..self.users).map(|at| json!({"id": user(at)})))?;
        let membership = |at: usize| {
            let organisation = organisation(self.portfolios_of(at)[0]);
            json!({"user": user(at), "organisation": organisation, "kind": "member", "access": "all"})
        };
        list(out, "memberships", (0..self.users).map(membership))?;
        let roles = |at: usize| self.portfolios_of(at).map(|portfolio| role(at, portfolio));
        list(out, "roles", (0..self.users).flat_map(roles))?;
        list(out, "certificates", (0..self.users).map(certificate))?;
        let with_wishes = (0..self.users).step_by(self.users.div_ceil(WITH_WISHES));
        list(out, "priorities", with_wishes.map(|at| json!({"user": user(at), "plants": [self.wish_of(at)]})))?;
        Ok(writeln!(out, "}}")?)
    }

    /// Where a user works.
    pub fn portfolios_of(self, user: usize) -> [usize; OF_USER] {
        let organisations = self.portfolios().div_ceil(IN_ORGANISATION);
        let group = user / IN_GROUP;
        let (first, round) = (group % organisations * IN_ORGANISATION, group / organisations);
        let count = (self.portfolios() - first).min(IN_ORGANISATION);
        // Of the distances around the organisation, the first is the smallest one, so that no two choices are the same.
        let near = 1 + round / count % (count / 4).max(1);
        let far = near + count / 4 + 1 + round / count / (count / 4).max(1) % (count / 5).max(1);
        [0, near, far].map(|distance| first + (round + distance) % count)
    }

    /// The plant that a user may want to win: one of the last portfolio, whose subnets are those of the first.
    pub fn wish_of(self, user: usize) -> String {
        plant(self.portfolios_of(user)[OF_USER - 1] * self.in_portfolio())
    }

    /// Plants in a portfolio.
    fn in_portfolio(self) -> usize {
        (self.plants / 7).clamp(1, 50)
    }

    pub fn portfolios(self) -> usize {
        self.plants.div_ceil(self.in_portfolio())
    }

    /// Settings of a gateway that takes it and half as much again, with its files in `folder` and its maps in `pins`.
    pub fn config(self, folder: &Path, pins: &Path) -> Config {
        let (folder, pins) = (folder.display(), pins.display());
        let text = format!(
            "gateway = 'gateway-1'\nregion = 'eu'\nstate = '{folder}/state.json'\nstate_dir = '{folder}'\n\
             [users]\nprivate_key_file = '{folder}/users.key'\n\
             [pools]\ntunnel = '100.64.0.0/14'\nsource = '100.80.0.0/14'\n\
             [datapath]\npin_dir = '{pins}'\npeers_max = 150_000\nplants_max = 15_000\nroutes_max = 2_000_000\n"
        );
        Config::parse(&text).expect("the settings are valid")
    }
}

pub fn user(at: usize) -> String {
    format!("user-{at}@example")
}

pub fn portfolio(at: usize) -> String {
    format!("portfolio-{at}")
}

/// Leading zeros keep the order.
fn plant(at: usize) -> String {
    format!("plant-{at:05}")
}

pub fn role(user: usize, portfolio: usize) -> Value {
    json!({"user": self::user(user), "role": "operator", "on": {"portfolio": self::portfolio(portfolio)}})
}

pub fn certificate(user: usize) -> Value {
    json!({"id": format!("certificate-{user}"), "user": self::user(user), "public_key": key(2, user)})
}

/// A public key; no two are the same.
fn key(kind: u8, at: usize) -> String {
    let mut bytes = [0; 32];
    bytes[0] = kind;
    bytes[1..9].copy_from_slice(&at.to_be_bytes());
    PublicKey::from_bytes(bytes).to_string()
}

/// Behind another member of the document.
fn list(out: &mut impl Write, name: &str, records: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(out, ",\n\"{name}\": [")?;
    for (at, record) in records.enumerate() {
        write!(out, "{}{record}", if at == 0 { "" } else { ",\n" })?;
    }
    write!(out, "]")
}
