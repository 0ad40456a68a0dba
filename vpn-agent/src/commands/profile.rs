//! `vpn-agent profile`: everything on the user's device.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use anyhow::anyhow;
use vpn_agent::{
    cli::{Output, Profile},
    key::PrivateKey,
    offer::Offer,
    profile::{self, Form},
};

use super::shown;

/// Does what the command line says.
pub fn profile(command: &Profile) -> anyhow::Result<()> {
    match command {
        Profile::New { key: Some(file), .. } => crate::print(&format!("{}\n", PrivateKey::create(file)?.public()))?,
        Profile::New { key: None, output } => {
            let key = PrivateKey::generate()?;
            // Standard output belongs to the profile.
            eprintln!("{}", key.public());
            eprintln!("Have a certificate issued for this public key, then give the offer here:");
            show(&key, &read_offer(io::stdin().lock(), "the offer")?, output)?;
        }
        Profile::Write { key: file, offer, output, keep_key } => {
            let key = PrivateKey::read(file)?;
            let offer = match offer.to_str() {
                Some("-") => read_offer(io::stdin().lock(), "the offer")?,
                _ => read_file(offer)?,
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

fn read_file(path: &Path) -> anyhow::Result<Offer> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| anyhow!("{name}: {error}"))?;
    read_offer(BufReader::new(file), &name)
}

/// Reads on until the offer is whole, and no further: a terminal has no end.
fn read_offer(input: impl Read, name: &str) -> anyhow::Result<Offer> {
    let mut input = serde_json::Deserializer::from_reader(input);
    serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner();
        match path.as_str() {
            "." => anyhow!("{name}: {message}"),
            path => anyhow!("{name}: {path}: {message}"),
        }
    })
}
