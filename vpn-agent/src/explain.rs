//! Why somebody reaches an address, or why not (requirement B5): every step from the organisation to the entry in the
//! kernel's maps, which of them denies, and where kernel and desired state differ.
//!
//! [`Wanted`] is what the desired state says, [`Found`] what the kernel's maps hold at the moment.

mod found;
mod question;
mod text;
mod wanted;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

pub use self::{
    found::{Found, Kernel},
    question::{NotAQuestion, Question},
    wanted::Wanted,
};
use crate::{
    addressing::Allocations,
    config::Config,
    id::{CertificateId, PlantId},
    overview::Link,
    state::{Owner, State},
    terms::Terms,
};

/// What somebody may do who writes an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// They reach a device in a plant.
    Plant {
        /// The plant; `None` if the agent knows none of this number.
        plant: Option<PlantId>,
        /// Its number.
        number: u32,
        /// The address of the device there.
        device: IpAddr,
    },
    /// They reach a service of the gateway itself.
    Gateway,
    /// They reach nothing.
    Denied,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// The certificate and its tunnel IP.
    Certificate,
    /// What the address belongs to.
    Address,
    /// The service of the gateway.
    Service,
    /// Membership in the organisation that operates the plant.
    Membership,
    /// A cooperation, which takes the place of a membership.
    Cooperation,
    /// Job roles.
    Role,
    /// That the certificate of an organisation is for the plant.
    List,
    /// That the organisation of a certificate operates the plant.
    Operator,
    /// What the user has switched off.
    Switch,
    /// The plant's uplink in this region.
    Uplink,
    /// The programs and their maps.
    Programs,
    /// The entry of PEERS.
    Peer,
    /// The entry of ROUTES.
    Route,
    /// The entry of PLANTS.
    Plant,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Step {
    /// What it is about.
    pub about: About,
    /// Whether it allows.
    pub allows: bool,
    /// What there is, in words.
    pub what: String,
}

impl Step {
    fn new(about: About, allows: bool, what: String) -> Self {
        Self { about, allows, what }
    }
}

/// Which side a step is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The desired state.
    State,
    /// The kernel.
    Kernel,
}

/// The step that denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeniedBy {
    /// Where.
    pub side: Side,
    /// Which.
    pub step: Step,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Explanation<'s> {
    /// The certificate.
    pub certificate: &'s CertificateId,
    /// Whose it is.
    pub owner: String,
    /// What was asked.
    #[schemars(with = "String")]
    pub question: Question,
    /// Revision of the desired state.
    pub revision: u64,
    /// What the desired state says.
    pub state: Wanted<'s>,
    /// What the kernel does.
    pub kernel: Found,
    /// The step that denies: that of the state where both do, as the kernel's follows from it.
    pub denied_by: Option<DeniedBy>,
    /// Where kernel and state differ, one entry each.
    pub differences: Vec<String>,
}

/// What is known besides the state.
pub struct Surroundings<'g, L> {
    /// Settings of this gateway.
    pub config: &'g Config,
    /// What was given.
    pub given: &'g Allocations,
    /// How the uplink of a plant is that has one in this region.
    pub link: L,
    /// The kernel's maps.
    pub kernel: &'g Kernel,
}

impl<'s> Explanation<'s> {
    /// The answer for a certificate of the state; `None` if there is no such certificate.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn of<L: Fn(&PlantId) -> Link>(
        state: &'s State,
        terms: &Terms,
        certificate: &str,
        question: Question,
        around: &Surroundings<'_, L>,
    ) -> Result<Option<Self>, crate::datapath::Error> {
        let Some((certificate, of)) = state.certificates.get_key_value(certificate) else { return Ok(None) };
        let wanted = Wanted::of(state, terms, (certificate, &of.owner), &question, around);
        let found = Found::of(certificate, &question, around.config, around.given, around.kernel)?;
        let differences = differences(certificate, &wanted, &found, around.given);
        Ok(Some(Self {
            certificate,
            owner: owner(&of.owner),
            question,
            revision: state.revision,
            denied_by: denied_by(&wanted, &found),
            state: wanted,
            kernel: found,
            differences,
        }))
    }
}

fn owner(owner: &Owner) -> String {
    match owner {
        Owner::User(user) => format!("user {user}"),
        Owner::Organisation { organisation, .. } => format!("organisation {organisation}"),
    }
}

fn denied_by(wanted: &Wanted<'_>, found: &Found) -> Option<DeniedBy> {
    // What happens is what the kernel does.
    if found.outcome != Outcome::Denied {
        return None;
    }
    let first = |steps: &[Step], side| {
        let step = steps.iter().find(|step| !step.allows)?.clone();
        Some(DeniedBy { side, step })
    };
    first(&wanted.steps, Side::State).or_else(|| first(&found.steps, Side::Kernel))
}

fn differences(id: &CertificateId, wanted: &Wanted<'_>, found: &Found, given: &Allocations) -> Vec<String> {
    const PENDING: &str = "`vpn-agent run` has not applied this revision, or could not; its log says why";
    let mut differences = Vec::new();
    if let (Some(given), Some(peer)) = (given.peers().get(id), found.peer)
        && given.id != peer
    {
        differences.push(format!("PEERS has the peer {peer} at the tunnel IP of {id}, which is the peer {}", given.id));
    }
    if wanted.outcome != found.outcome {
        differences.push(format!("by the state it {}, in the kernel it {}; {PENDING}", wanted.outcome, found.outcome));
    }
    differences
}
