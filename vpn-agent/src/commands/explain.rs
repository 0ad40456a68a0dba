//! `vpn-agent routes` and `vpn-agent explain`.

use anyhow::anyhow;
use jiff::Timestamp;
use vpn_agent::{
    addressing::Allocations,
    cli::Of,
    config::Config,
    explain::{self, Explanation, Kernel, Question},
    id::{CertificateId, PlantId},
    liveness::Liveness,
    overview::{self, Link, Overview},
    source,
    state::State,
};

/// Prints the routes that the rights of somebody open.
pub fn routes(config: &Config, of: &Of, json: bool) -> anyhow::Result<()> {
    let state = source::current(config)?;
    let given = Allocations::read(&config.allocations_file())?;
    let certificate = certificate(&state, of)?;
    let now = Timestamp::now();
    let around = overview::Surroundings { region: &config.region, given: given.plants(), link: links(config, now) };
    let overview = Overview::of(&state, &config.terms(now), certificate.as_str(), &around);
    let overview = overview.ok_or_else(|| gone(certificate))?;
    crate::print(&if json { crate::json(&overview)? } else { overview.to_string() })?;
    Ok(())
}

/// Prints why somebody reaches an address, or why not.
pub fn explain(config: &Config, of: &Of, to: Question, json: bool) -> anyhow::Result<()> {
    let state = source::current(config)?;
    let given = Allocations::read(&config.allocations_file())?;
    let kernel = Kernel::open(config)?;
    let certificate = certificate(&state, of)?;
    let now = Timestamp::now();
    let around = explain::Surroundings { config, given: &given, link: links(config, now), kernel: &kernel };
    let answer = Explanation::of(&state, &config.terms(now), certificate.as_str(), to, &around)?;
    let answer = answer.ok_or_else(|| gone(certificate))?;
    crate::print(&if json { crate::json(&answer)? } else { answer.to_string() })?;
    Ok(())
}

/// How uplinks are, as a running agent saw them last.
fn links(config: &Config, now: Timestamp) -> impl Fn(&PlantId) -> Link {
    let seen = Liveness::current(&config.uplinks_file(), now);
    move |plant| Link::of(seen.as_ref(), plant)
}

/// The certificate that is meant.
fn certificate<'s>(state: &'s State, of: &'s Of) -> anyhow::Result<&'s CertificateId> {
    match of {
        Of { certificate: Some(id), .. } if state.certificates.contains_key(id) => Ok(id),
        Of { certificate: Some(id), .. } => Err(gone(id)),
        Of { user: Some(id), .. } => {
            state.certificate_of(id.as_str()).ok_or_else(|| match state.users.contains_key(id) {
                true => anyhow!("user {id} has no certificate, and so no tunnel; issue one first"),
                false => anyhow!("user {id} is not in the desired state"),
            })
        }
        Of { user: None, certificate: None } => Err(anyhow!("name a user or a certificate")),
    }
}

fn gone(id: &CertificateId) -> anyhow::Error {
    anyhow!("certificate {id} is not in the desired state; a revoked one opens nothing")
}
