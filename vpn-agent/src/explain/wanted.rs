//! What the desired state says to a question.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use super::{About, Outcome, Question, Step, Surroundings};
use crate::{
    addressing::Allocations,
    document,
    id::{CertificateId, OrganisationId, PlantId},
    overview::{Disabled, Link},
    policy::{Chain, Policy},
    service::Service,
    state::{Owner, State},
    terms::Terms,
};

/// What the desired state says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Wanted<'s> {
    /// The plant that is meant.
    pub target: Option<Target<'s>>,
    /// Other plants that have this address as a real one, whatever the rights; sorted.
    pub others: Vec<&'s PlantId>,
    /// The steps, all of them, be they allowed or not.
    pub steps: Vec<Step>,
    /// What comes of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The plant that an address leads to, or would lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Target<'s> {
    /// The plant.
    pub plant: &'s PlantId,
    /// Who operates it.
    pub operator: &'s OrganisationId,
    /// The subnet as the plant uses it.
    #[schemars(with = "document::Subnet")]
    pub real: IpNet,
    /// Its virtual twin; `None` if it was not given one yet.
    #[serde(rename = "virtual")]
    #[schemars(with = "Option<document::Subnet>")]
    pub virtual_: Option<IpNet>,
    /// The device in it.
    pub device: IpAddr,
    /// The permissions, step by step.
    pub permission: Chain<'s>,
    /// Whether the user has switched the route off.
    pub disabled: Disabled,
    /// Whether its uplink is up.
    pub link: Link,
}

impl<'s> Wanted<'s> {
    pub(super) fn of<L: Fn(&PlantId) -> Link>(
        state: &'s State,
        terms: &Terms,
        (certificate, owner): (&'s CertificateId, &'s Owner),
        question: &Question,
        around: &Surroundings<'_, L>,
    ) -> Self {
        let mut wanted = Self { target: None, others: Vec::new(), steps: Vec::new(), outcome: Outcome::Denied };
        let given = around.given.peers().get(certificate);
        wanted.steps.push(match given {
            Some(given) => {
                let what = format!(
                    "certificate {certificate} has the tunnel IP {} and is the peer {}",
                    given.address, given.id
                );
                Step::new(About::Certificate, true, what)
            }
            None => Step::new(About::Certificate, false, format!("certificate {certificate} has no tunnel IP yet")),
        });
        let place = Place::of(state, terms, certificate, question, around);
        wanted.steps.push(place.step(question));
        match place {
            Place::Nowhere(_) => {}
            Place::Gateway { listed, .. } => {
                if given.is_some() && listed {
                    wanted.outcome = Outcome::Gateway;
                }
            }
            Place::Plant { plant, real, virtual_, device, others, .. } => {
                wanted.others = others;
                wanted.target = Target::new(state, terms, owner, (plant, real, virtual_, device), around);
                if let Some(target) = &wanted.target {
                    wanted.steps.extend(target.steps(&around.config.region));
                    let number = around.given.plants().get(plant).map(|given| given.id);
                    if let (true, Some(number)) = (wanted.steps.iter().all(|step| step.allows), number) {
                        wanted.outcome = Outcome::Plant { plant: Some(plant.clone()), number, device };
                    }
                }
            }
        }
        wanted
    }
}

/// What an address belongs to.
enum Place<'s> {
    /// Nothing, with the reason.
    Nowhere(String),
    /// The gateway itself.
    Gateway {
        /// Whether what is asked is a service.
        listed: bool,
        what: String,
    },
    /// A plant.
    Plant {
        plant: &'s PlantId,
        real: IpNet,
        virtual_: Option<IpNet>,
        device: IpAddr,
        what: String,
        others: Vec<&'s PlantId>,
    },
}

impl<'s> Place<'s> {
    fn of<L>(
        state: &'s State,
        terms: &Terms,
        certificate: &CertificateId,
        question: &Question,
        around: &Surroundings<'_, L>,
    ) -> Self {
        let (address, pools) = (question.address, &around.config.pools);
        let services = around.config.services();
        let at_gateway = |service: &&Service| IpAddr::V4(service.address) == address;
        let own = [IpAddr::V4(pools.gateway()), IpAddr::V6(pools.gateway6())];
        if own.contains(&address) || services.iter().any(|service| at_gateway(&service)) {
            return gateway(question, services.iter().filter(at_gateway));
        }
        for (name, pool) in pools.named() {
            if pool.contains(&address) {
                return match name {
                    "pools.virtual" | "pools.virtual6" => virtual_(state, around.given, address, pool),
                    _ => Self::Nowhere(format!("{address} is in {name}, and no device has such an address")),
                };
            }
        }
        real(state, terms, certificate, address, around.given)
    }

    fn step(&self, question: &Question) -> Step {
        match self {
            Self::Nowhere(what) => Step::new(About::Address, false, what.clone()),
            Self::Gateway { listed, what } => Step::new(About::Service, *listed, what.clone()),
            Self::Plant { what, .. } => Step::new(About::Address, true, format!("{} {what}", question.address)),
        }
    }
}

fn gateway<'a, 's>(question: &Question, services: impl Iterator<Item = &'a Service>) -> Place<'s> {
    let services: Vec<_> = services.collect();
    let address = question.address;
    let shown = |service: &Service| {
        let question = Question { address, service: Some((service.protocol, service.port)) };
        question.to_string()
    };
    let listed = match question.service {
        None => false,
        Some(asked) => services.iter().any(|service| (service.protocol, service.port) == asked),
    };
    let what = match (listed, services.as_slice()) {
        (true, _) => format!("{question} is a service of the gateway, for every certificate"),
        (false, []) => format!("{address} is the gateway itself, which has no services"),
        (false, services) => {
            let list: Vec<_> = services.iter().map(|service| shown(service)).collect();
            format!("{question} is no service of the gateway; those there are {}", list.join(", "))
        }
    };
    Place::Gateway { listed, what }
}

fn virtual_<'s>(state: &'s State, given: &Allocations, address: IpAddr, pool: IpNet) -> Place<'s> {
    let subnets =
        given.plants().iter().flat_map(|(id, plant)| plant.subnets.iter().map(move |(real, of)| (id, real, of)));
    let Some((id, real, of)) = subnets.into_iter().find(|(_, _, of)| of.virtual_.contains(&address)) else {
        return Place::Nowhere(format!("{address} is in {pool}, but of no plant's virtual subnet"));
    };
    match state.plants.get_key_value(id) {
        Some((plant, content)) if content.subnets.contains(real) => Place::Plant {
            plant,
            real: *real,
            virtual_: Some(of.virtual_),
            device: translate(address, *real),
            what: format!("is in {}, which is {real} of plant {id}", of.virtual_),
            others: Vec::new(),
        },
        Some(_) => Place::Nowhere(format!("{address} was in {real} of plant {id}, which has that subnet no more")),
        None => Place::Nowhere(format!("{address} was in {real} of plant {id}, which is gone")),
    }
}

/// The plant that has the real address for this certificate; or if none has, the one that comes closest to it: one
/// that the rights open and that is switched off, then one with a job role, and of those the longest prefix, then the
/// first by id.
fn real<'s>(
    state: &'s State,
    terms: &Terms,
    certificate: &CertificateId,
    address: IpAddr,
    given: &Allocations,
) -> Place<'s> {
    let mut candidates = Vec::new();
    for (id, plant) in &state.plants {
        candidates.extend(plant.subnets.iter().filter(|net| net.contains(&address)).map(|net| (id, *net)));
    }
    let policy = Policy::compile_of(state, terms, [certificate]);
    let nets = policy.of(certificate.as_str()).into_iter().flat_map(|reach| &reach.real);
    let winner = nets.filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
    let owner = state.certificates.get(certificate).map(|certificate| &certificate.owner);
    let open = owner.map(|owner| crate::policy::rights(state, terms, owner)).unwrap_or_default();
    let has_job = |id: &PlantId| {
        let chain = owner.and_then(|owner| Chain::of(state, terms, owner, id.as_str()));
        matches!(chain, Some(Chain::User { jobs, .. }) if jobs.opens() || !jobs.others.is_empty())
    };
    let closest = || {
        let rank = |(id, net): &(&'s PlantId, IpNet)| {
            let closeness = match (open.binary_search(id).is_ok(), has_job(id)) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            };
            (closeness, u8::MAX - net.prefix_len())
        };
        candidates.iter().copied().min_by_key(rank)
    };
    let leads_to = winner.map(|(net, plant)| (*plant, *net));
    let Some((plant, real)) = leads_to.or_else(closest) else {
        return Place::Nowhere(format!("no plant has the address {address}"));
    };
    let mut others: Vec<_> = candidates.iter().map(|(id, _)| *id).filter(|id| *id != plant).collect();
    others.dedup();
    let of_several = match (leads_to, others.len()) {
        (_, 0) => String::new(),
        (Some(_), count) => format!("; of {} plants with this address it has it for this certificate", count + 1),
        (None, count) => format!("; of {} plants with this address it comes closest", count + 1),
    };
    let what = format!("is in {real} of plant {plant}{of_several}");
    let virtual_ = given.plants().get(plant).and_then(|plant| plant.subnets.get(&real)).map(|subnet| subnet.virtual_);
    Place::Plant { plant, real, virtual_, device: address, what, others }
}

impl<'s> Target<'s> {
    fn new<L: Fn(&PlantId) -> Link>(
        state: &'s State,
        terms: &Terms,
        owner: &'s Owner,
        (id, real, virtual_, device): (&'s PlantId, IpNet, Option<IpNet>, IpAddr),
        around: &Surroundings<'_, L>,
    ) -> Option<Self> {
        let plant = state.plants.get(id)?;
        let disabled = owner.user().and_then(|user| state.disabled.get(user));
        let link = match plant.uplink_in(&around.config.region) {
            Some(_) => (around.link)(id),
            None => Link::NotLinked,
        };
        Some(Self {
            plant: id,
            operator: &plant.organisation,
            real,
            virtual_,
            device,
            permission: Chain::of(state, terms, owner, id.as_str())?,
            disabled: Disabled::of(disabled, id, real, terms.now),
            link,
        })
    }

    fn steps(&self, region: &str) -> Vec<Step> {
        let mut steps = permission(&self.permission);
        if !matches!(self.permission, Chain::Organisation { .. }) {
            let (allows, what) = match self.disabled {
                Disabled::No => (true, "the route is switched on".to_owned()),
                Disabled::Until(until) => (false, format!("the user has switched the route off until {until}")),
                Disabled::UntilEnabled => (false, "the user has switched the route off".to_owned()),
            };
            steps.push(Step::new(About::Switch, allows, what));
        }
        let what = match self.link {
            Link::NotLinked => format!("plant {} is not linked to region {region}", self.plant),
            link => format!("plant {} is linked to region {region}, uplink: {link}", self.plant),
        };
        steps.push(Step::new(About::Uplink, self.link != Link::NotLinked, what));
        steps
    }
}

/// Only what denies is a step that denies: that a plant is a foreign one does not, the missing cooperation does.
fn permission(chain: &Chain<'_>) -> Vec<Step> {
    match chain {
        Chain::User { user, membership, cooperation, jobs } => {
            let access = match cooperation {
                None => {
                    let what = format!("membership of user {user}: {membership}");
                    Step::new(About::Membership, membership.opens(), what)
                }
                Some(cooperation) => {
                    let what = format!("cooperation, since user {user} has no membership there: {cooperation}");
                    Step::new(About::Cooperation, cooperation.opens(), what)
                }
            };
            vec![access, Step::new(About::Role, jobs.opens(), format!("job roles of user {user}: {jobs}"))]
        }
        Chain::Organisation { organisation, listed, operates, cooperation } => {
            let lists = if *listed { "lists" } else { "does not list" };
            let access = match cooperation {
                None => {
                    Step::new(About::Operator, *operates, format!("organisation {organisation} operates the plant"))
                }
                Some(cooperation) => {
                    let what = format!(
                        "cooperation, since organisation {organisation} does not operate the plant: {cooperation}"
                    );
                    Step::new(About::Cooperation, cooperation.opens(), what)
                }
            };
            vec![Step::new(About::List, *listed, format!("the certificate {lists} the plant")), access]
        }
    }
}

/// The address with the same host bits in a subnet as long as the one that it is in.
fn translate(address: IpAddr, real: IpNet) -> IpAddr {
    match (address, real) {
        (IpAddr::V4(address), IpNet::V4(real)) => {
            let host = address.to_bits() & real.hostmask().to_bits();
            IpAddr::V4((real.network().to_bits() | host).into())
        }
        (IpAddr::V6(address), IpNet::V6(real)) => {
            let host = address.to_bits() & real.hostmask().to_bits();
            IpAddr::V6((real.network().to_bits() | host).into())
        }
        // A virtual subnet is of its plant's family.
        (address, _) => address,
    }
}
