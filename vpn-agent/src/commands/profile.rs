//! `vpn-agent profile`: everything on the user's device.

use std::io;

use anyhow::anyhow;
use vpn_agent::{
    cli::{Output, Profile},
    key::PrivateKey,
    offer::Offer,
    profile::{self, Form},
};

use super::{input, shown};

/// Does what the command line says.
pub fn profile(command: &Profile) -> anyhow::Result<()> {
    match command {
        Profile::New { key: Some(file), .. } => crate::print(&format!("{}\n", PrivateKey::create(file)?.public()))?,
        Profile::New { key: None, output } => {
            let key = PrivateKey::generate()?;
            // Standard output belongs to the profile.
            eprintln!("{}", key.public());
            eprintln!("Have a certificate issued for this public key, then give the offer here:");
            show(&key, &input::read(io::stdin().lock(), "the offer")?, output)?;
        }
        Profile::Write { key: file, offer, output, keep_key } => {
            let key = PrivateKey::read(file)?;
            let offer = match offer.to_str() {
                Some("-") => input::read(io::stdin().lock(), "the offer")?,
                _ => input::file(offer)?,
            };
            show(&key, &offer, output).map_err(|error| anyhow!("{error}; {} is kept", file.display()))?;
            if !keep_key {
                PrivateKey::destroy(file)?;
            }
        }
    }
    Ok(())
}

fn show(key: &PrivateKey, offer: &Offer, output: &Output) -> anyhow::Result<()> {
    match output {
        Output { qr: true, .. } => shown::print(&shown::code(&profile::text(key, offer, Form::Code)?)?),
        Output { out: Some(file), .. } => shown::write(file, &profile::text(key, offer, Form::File)?),
        Output { .. } => shown::print(&profile::text(key, offer, Form::File)?),
    }
}
