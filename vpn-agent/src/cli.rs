//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod allocate;
mod profile;
mod site_config;

pub use self::{
    allocate::Allocate,
    profile::{Output, Profile},
    site_config::SiteConfig,
};
use crate::{
    explain::Question,
    id::{CertificateId, UserId},
};

/// Where the configuration lies unless an option says otherwise.
const CONFIG: &str = "/etc/vpn-gateway/agent.toml";

/// Control of one VPN gateway host: from the desired state to WireGuard peers and eBPF programs.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "vpn-agent", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Whose routes are meant.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub struct Of {
    /// The user
    #[arg(long, value_name = "ID")]
    pub user: Option<UserId>,
    /// The certificate, also one of an organisation
    #[arg(long, value_name = "ID")]
    pub certificate: Option<CertificateId>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Bring the kernel to the desired state and follow its changes until SIGTERM; traffic goes on after that
    ///
    /// SIGHUP looks at everything in the kernel again, in case something else changed it, and attaches the programs
    /// again after `vpn-agent detach`.
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Say whether a desired state is valid, or list all that is wrong with it
    Check {
        /// The file with the desired state
        file: PathBuf,
        /// Check also that no plant uses an address of this configuration's pools
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print a desired state with its ledger completed: every certificate, plant and subnet has its numbers and addresses
    Allocate(Allocate),
    /// Print the JSON Schema of the desired state
    Schema,
    /// Show what the kernel does now: interfaces, certificates, plants, route sets, counters, and where that differs
    /// from the desired state
    ///
    /// Needs root, but no running agent.
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Emergency stop: detach the programs, which stops all traffic between users and plants
    ///
    /// A running agent notices, goes on to take away permissions and keys, and attaches nothing until it is restarted
    /// or gets SIGHUP; where no agent runs, the next `vpn-agent run` attaches. `vpn-agent status` says `detached`.
    Detach {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
        /// Remove the maps as well, with counters and flows that the collector has not stored yet
        #[arg(long)]
        forget: bool,
    },
    /// Show every route that the rights of somebody open: addresses, permission, conflicts, what is switched off, and
    /// whether the plant is reachable
    Routes {
        /// Whose
        #[command(flatten)]
        of: Of,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Show why somebody reaches an address, or why not: every step from the organisation to the entry in the kernel's
    /// maps, and which of them denies
    ///
    /// Needs root, but no running agent.
    Explain {
        /// Who
        #[command(flatten)]
        of: Of,
        /// The address as the user writes it; port and protocol matter for services of the gateway
        #[arg(long, value_name = "ADDRESS[:PORT/PROTOCOL]")]
        to: Question,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Print a certificate's offer: what its user needs for a profile besides the own private key, as JSON
    ///
    /// It is no secret. `vpn-agent profile` on the user's device makes the profile of it.
    Offer {
        /// The certificate
        #[arg(long, value_name = "ID")]
        certificate: CertificateId,
        /// Send also the real subnets into the tunnel that the user may reach now; those of later do not follow
        #[arg(long)]
        real: bool,
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// On the user's device: make a key pair, and the profile that WireGuard apps read
    ///
    /// Needs neither root nor a gateway. The private key is made here and stays here.
    #[command(subcommand)]
    Profile(Profile),
    /// Print the configuration of a plant's WireGuard router
    SiteConfig(SiteConfig),
    /// Print what this gateway publishes of itself as JSON: health, load, and how far it is from its plants
    ///
    /// Fails if the gateway is not healthy. Needs root, but no running agent.
    Health {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Print the gateways that a client can use as JSON, the best first
    ///
    /// The reference for whoever answers for the name in users' profiles. A gateway that is not healthy is left out,
    /// and so is one whose figures are older than 30 s.
    Pick {
        /// What is known of the client: its plants, and its place or measured times to regions
        #[arg(long, value_name = "FILE")]
        client: PathBuf,
        /// What `vpn-agent health` printed on each gateway
        #[arg(required = true, value_name = "HEALTH")]
        fleet: Vec<PathBuf>,
    },
    /// Make a private key file (mode 0600) unless it is there, and print the public key
    Keygen {
        /// The key file
        file: PathBuf,
    },
    /// Print the public key of a private key file
    Pubkey {
        /// The key file
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
        let parsed = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        assert_eq!(parsed("vpn-agent run").unwrap(), Command::Run { config: CONFIG.into() });
        let status = Command::Status { json: true, config: "a.toml".into() };
        assert_eq!(parsed("vpn-agent status --json --config a.toml").unwrap(), status);
        assert!(parsed("vpn-agent check").is_err(), "the file is required");
        assert!(parsed("vpn-agent profile new --key k --qr").is_err(), "the profile comes later");
        assert!(parsed("vpn-agent profile new --qr --out o").is_err(), "it is shown once");
        assert!(parsed("vpn-agent routes").is_err() && parsed("vpn-agent routes --user u --certificate c").is_err());
        assert!(parsed("vpn-agent explain --user u --to 10.0.0.1:502/tcp").is_ok());
        assert!(parsed("vpn-agent offer --certificate A").is_err(), "no id");
    }
}
