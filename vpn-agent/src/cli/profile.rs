//! `vpn-agent profile`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Two ways to a profile: `new` alone, which waits for the offer, or `new --key` and later `write`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Profile {
    /// Make a key pair and print the public key; then wait for the offer on standard input, and show the profile
    ///
    /// Nothing is stored but the profile, where `--out` says so. Whoever issues certificates wants the public key and
    /// has the offer. If that takes longer than the terminal stays open, use `--key`.
    New {
        /// Do not wait: keep the private key in this new file (mode 0600), for `vpn-agent profile write`
        #[arg(long, value_name = "FILE", conflicts_with_all = ["qr", "out"])]
        key: Option<PathBuf>,
        /// Where to show the profile
        #[command(flatten)]
        output: Output,
    },
    /// Show the profile of a key file and an offer, once, and destroy the key file
    Write {
        /// The key file that `vpn-agent profile new --key` made
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The file with the offer; `-` is standard input
        #[arg(long, value_name = "FILE")]
        offer: PathBuf,
        /// Where to show the profile
        #[command(flatten)]
        output: Output,
        /// Leave the key file; whoever reads it has your access
        #[arg(long)]
        keep_key: bool,
    },
}

/// Where the profile goes: to standard output, unless an option says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Output {
    /// Show it as a QR code, for the WireGuard app of a phone
    #[arg(long)]
    pub qr: bool,
    /// Write it to this new file (mode 0600)
    #[arg(long, value_name = "FILE", conflicts_with = "qr")]
    pub out: Option<PathBuf>,
}
