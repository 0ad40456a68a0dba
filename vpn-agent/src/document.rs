//! The desired state as it stands in its JSON file: lists of records that refer to each other by id.
//!
//! Nothing here is checked beyond its JSON type. [`crate::validate`] turns a document into a
//! [`State`](crate::state::State), which is the only form the rest of the agent takes.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, value::MapAccessDeserializer},
};

use crate::{endpoint, id, interface, key, moment, role::Role};

/// What the gateway shall do, as a whole. Every list of organisations, plants, people and their rights must be there,
/// be it empty: a document that was cut short must not pass for one that takes all permissions away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Desired state of a VPN gateway")]
pub struct Document {
    /// Counts up with every change; shown wherever the state is reported.
    pub revision: u64,
    /// Organisations that own plants or employ users.
    pub organisations: Vec<Organisation>,
    /// Groups of plants of one organisation.
    pub portfolios: Vec<Portfolio>,
    /// Plants with their subnets and uplinks.
    pub plants: Vec<Plant>,
    /// People.
    pub users: Vec<User>,
    /// Who belongs to which organisation, and which of its plants that makes accessible in principle.
    pub memberships: Vec<Membership>,
    /// Job roles of users on plants or portfolios.
    pub roles: Vec<Job>,
    /// Plants or portfolios shared with another organisation.
    pub cooperations: Vec<Cooperation>,
    /// Active certificates, at most one per user. A rotated certificate keeps its id and changes its key.
    pub certificates: Vec<Certificate>,
    /// What users want of plants that share a real subnet; at most one entry per user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<Priority>,
    /// Routes that users have switched off for themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disabled: Vec<Disabled>,
    /// What certificates and plants were given, where one place keeps that for all gateways. Written by
    /// `vpn-agent allocate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocations: Option<Ledger>,
}

/// An id: 1 to 64 of the characters a-z 0-9 - . _ @
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Id(#[schemars(regex(pattern = id::PATTERN))] pub String);

/// A WireGuard public key: 44 characters of base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Key(#[schemars(regex(pattern = key::PATTERN))] pub String);

/// A subnet without host bits: IPv4 from /8 to /32, for example `192.168.1.0/24`, or IPv6 from /32 to /128, for example
/// `2001:db8:1::/64`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Subnet(#[schemars(regex(pattern = SUBNET))] pub String);

const SUBNET: &str = concat!(
    r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/([89]|[12][0-9]|3[0-2])",
    r"|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*/(3[2-9]|[4-9][0-9]|1[01][0-9]|12[0-8]))$",
);

/// A moment as RFC 3339 has it, in whole seconds, with `Z` or an offset: `2027-01-01T00:00:00Z`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Moment(#[schemars(regex(pattern = moment::PATTERN))] pub String);

/// The name of a region, as gateways have it in their configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Region(#[schemars(length(min = 1))] pub String);

/// Where a WireGuard endpoint listens: `site.example:51820`, `192.0.2.1:51820` or `[2001:db8::1]:51820`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Endpoint(#[schemars(regex(pattern = endpoint::PATTERN))] pub String);

/// The name of a network interface: 1 to 15 bytes without spaces, `/` and `:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Interface(#[schemars(regex(pattern = interface::PATTERN))] pub String);

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Unique among organisations.
    pub id: Id,
    /// For people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A group of plants of one organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Portfolio {
    /// Unique among portfolios.
    pub id: Id,
    /// The organisation that owns the plants in it.
    pub organisation: Id,
}

/// A plant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plant {
    /// Unique among plants.
    pub id: Id,
    /// The organisation that operates the plant and owns its audit rows.
    pub organisation: Id,
    /// The portfolio of the same organisation that the plant is in, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portfolio: Option<Id>,
    /// The subnets as the plant uses them, of either family, at most 16. Those of one plant must not overlap; those of
    /// different plants may.
    pub subnets: Vec<Subnet>,
    /// How the plant's network is reached, the same way from every region. Exactly one of `uplink` and `uplinks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
    /// How the plant's network is reached from single regions; it is not linked to those that are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplinks: Option<Vec<RegionalUplink>>,
}

/// How a plant's network is reached from some regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionalUplink {
    /// From which; a region is listed at most once for a plant.
    pub regions: Vec<Region>,
    /// How.
    pub uplink: Uplink,
}

/// How a plant's network is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Uplink {
    /// The gateway hosts a WireGuard endpoint that the router on site dials into.
    Host {
        /// Public key of the router on site.
        public_key: Key,
    },
    /// The plant is behind an Ethernet interface or VLAN of the gateway host. The host's administrator makes it, sets
    /// it up, and gives it its addresses and the routes to the plant's subnets; the agent does none of this.
    Interface {
        /// Name of the interface; each is the uplink of one plant.
        interface: Interface,
    },
    /// The gateway dials into a WireGuard endpoint at the plant.
    Dial {
        /// Public key of that endpoint.
        public_key: Key,
        /// Where it listens.
        endpoint: Endpoint,
        /// Seconds between two packets that keep the way open, 25 if left out; 0 sends none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keepalive_seconds: Option<u16>,
    },
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Unique among users.
    pub id: Id,
    /// For people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A user in an organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Who.
    pub user: Id,
    /// In which organisation; at most one membership for each pair.
    pub organisation: Id,
    /// As what.
    pub kind: MembershipKind,
    /// Which of the organisation's own plants this makes accessible in principle; a job role must still open them.
    pub access: Access,
}

/// What somebody is to an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MembershipKind {
    /// Belongs to the organisation; cooperations of the organisation count for this user.
    Member,
    /// Is let in from outside; cooperations of the organisation do not count for this user.
    Guest,
}

/// Plants of an organisation: `"all"`, or lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Every plant of the organisation, also those to come.
    All,
    /// What is listed.
    #[serde(untagged)]
    Some(AccessList),
}

/// Plants of an organisation, by portfolio and one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessList {
    /// Every plant in these portfolios.
    pub portfolios: Vec<Id>,
    /// These plants.
    pub plants: Vec<Id>,
}

/// A job role of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Who.
    pub user: Id,
    /// As what.
    pub role: Role,
    /// Where.
    pub on: Scope,
}

/// What a permission is about: one plant, or every plant in a portfolio.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One plant.
    Plant(Id),
    /// Every plant in a portfolio, also those to come.
    Portfolio(Id),
}

/// A plant or portfolio that its organisation shares with another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cooperation {
    /// The other organisation.
    pub partner: Id,
    /// What is shared.
    pub on: Scope,
    /// When it ends by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

/// A WireGuard key pair, made on its owner's device, of which the public half is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Unique among certificates; decides the tunnel IP, for ever.
    pub id: Id,
    /// The user whose it is, for ever. Exactly one of `user` and `organisation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Id>,
    /// The organisation whose it is, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<Id>,
    /// Of an organisation's certificate: the plants that it is for, as far as the organisation operates them or they
    /// are shared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plants: Option<Vec<Id>>,
    /// Unique among certificates and plants.
    pub public_key: Key,
}

/// Which plant a real subnet leads a user to, of several that share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Priority {
    /// Who.
    pub user: Id,
    /// Earlier ones win. Plants that are not listed come after those that are, by id.
    pub plants: Vec<Id>,
}

/// A route that a user has switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disabled {
    /// Who.
    pub user: Id,
    /// To which plant.
    pub plant: Id,
    /// To which of its real subnets; to all of them if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet>,
    /// When the route is there again; not by itself if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

/// What certificates and plants were given, those that are gone included: numbers and addresses that stay for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// To certificates.
    pub peers: Vec<LedgerPeer>,
    /// To plants.
    pub plants: Vec<LedgerPlant>,
    /// What is given next.
    pub next: Next,
    /// What IPv6 tunnel addresses follow from, once there is a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel6: Option<Tunnel6>,
}

/// What a certificate was given. Exactly one of `user` and `organisation`, as the certificate has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerPeer {
    /// Which certificate.
    pub certificate: Id,
    /// Its number; unique among certificates.
    #[schemars(range(min = 1))]
    pub id: u32,
    /// Its tunnel IP; unique among certificates.
    pub address: Ipv4Addr,
    /// The user whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Id>,
    /// The organisation whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<Id>,
}

/// What a plant was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerPlant {
    /// Which plant.
    pub plant: Id,
    /// Its number; unique among plants.
    #[schemars(range(min = 1))]
    pub id: u32,
    /// The organisation that operates it.
    pub operator: Id,
    /// Its subnets, those that it had before included.
    pub subnets: Vec<LedgerSubnet>,
}

/// What a plant's subnet was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerSubnet {
    /// The subnet as the plant uses it.
    pub real: Subnet,
    /// Its number; unique among the subnets of all plants.
    #[schemars(range(min = 1))]
    pub id: u32,
    /// Its virtual twin of the same length; disjoint from all others.
    #[serde(rename = "virtual")]
    pub virtual_: Subnet,
}

/// The numbers that are given next: greater than all that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// To a certificate.
    pub peer: u32,
    /// To a plant.
    pub plant: u32,
    /// To a plant's subnet.
    pub route: u32,
}

/// The first addresses of the pools that IPv6 tunnel addresses follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tunnel6 {
    /// Of `pools.tunnel`.
    pub tunnel: Ipv4Addr,
    /// Of `pools.tunnel6`.
    pub tunnel6: Ipv6Addr,
}

/// Written by hand because serde's own answer for such a choice, "did not match any variant", names neither the wrong
/// field nor what is allowed.
impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Access;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""all" or {"portfolios": [...], "plants": [...]}"#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Access, E> {
                match text {
                    "all" => Ok(Access::All),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Access, A::Error> {
                AccessList::deserialize(MapAccessDeserializer::new(map)).map(Access::Some)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
