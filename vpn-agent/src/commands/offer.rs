//! `vpn-agent offer`.

use jiff::Timestamp;
use vpn_agent::{
    addressing::Allocations, config::Config, id::CertificateId, key::PrivateKey, offer::Offer, policy::Policy, source,
};

/// The offer for a certificate, from the desired state and what the agent has given.
pub fn offer(config: &Config, certificate: &CertificateId, real: bool) -> anyhow::Result<Offer> {
    let state = source::current(config)?;
    let allocations = Allocations::read(&config.allocations_file())?;
    let server = PrivateKey::read(&config.users.private_key_file)?.public();
    let policy = Policy::compile_of(&state, &config.terms(Timestamp::now()), [certificate]);
    let reach = policy.of(certificate.as_str()).filter(|_| real);
    let real = reach.into_iter().flat_map(|reach| reach.real.keys().copied());
    Ok(Offer::new(config, &state, &allocations, server, certificate, real)?)
}
