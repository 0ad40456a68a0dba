//! Brings the kernel to the desired state and keeps it there.
//!
//! The order of a change: what is new is complete before anything leads to it, and what goes loses its traffic before
//! it is taken apart.
//!
//! 1. Ids and addresses are on disk, then the directory file, before the kernel uses them.
//! 2. Plants' interfaces are made down, get the program, and only then go up.
//! 3. The maps are filled: new route sets, plants, peers; then peers that are gone, then old route sets.
//! 4. Users' WireGuard peers are added and changed.
//! 5. When nothing else is to do: WireGuard peers and interfaces that are gone are removed one by one, since each
//!    removal waits for the packets in flight in the kernel. They carry nothing any more.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use crate::{
    addressing::{self, Allocations},
    config::{Config, PLANT_INTERFACE_PREFIX},
    content,
    datapath::{self, Datapath},
    directory::directory,
    id::PlantId,
    key::{KeyFileError, PrivateKey, PublicKey},
    policy::Policy,
    problem::Problems,
    state::{Certificate, Plant, State},
    tables::Tables,
    watch::StateFile,
    wireguard::{self, AllowedIps, Changes, Link, WireGuard},
};

/// How long to wait before a change that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Why a gateway cannot start, or a change cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of the desired state cannot be followed.
    #[error("watch {}: {source}", path.display())]
    Watch {
        /// The file concerned.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
    /// A signal cannot be caught.
    #[error("signals: {0}")]
    Signal(io::Error),
    /// The state does not fit this gateway's configuration.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// Something cannot be given.
    #[error(transparent)]
    Addressing(#[from] addressing::Error),
    /// The file of the allocations cannot be used.
    #[error(transparent)]
    Allocations(#[from] addressing::FileError),
    /// The directory file cannot be written.
    #[error(transparent)]
    Directory(#[from] vpn_directory::Error),
    /// A private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// WireGuard refused.
    #[error(transparent)]
    WireGuard(#[from] wireguard::Error),
    /// The datapath refused.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
}

/// Runs until SIGTERM or SIGINT, and leaves the kernel as it is then (requirement G3). SIGHUP looks at everything in
/// the kernel again, in case something else changed it.
///
/// A state that cannot be used is logged with all its errors, and changes nothing.
///
/// # Errors
/// See [`Error`]; only what happens before the first state is read ends the program.
pub async fn run(config: Config) -> Result<(), Error> {
    let watch = |source| Error::Watch { path: config.state.clone(), source };
    let mut file = StateFile::follow(&config.state).map_err(watch)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(Error::Signal)?;
    let path = config.state.clone();
    let mut gateway = Host::start(config).await?;
    warn_if_forwarding();
    info!(gateway = gateway.config.gateway, region = gateway.config.region, "started");

    let mut state: Option<State> = None;
    let mut apply_at: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                gateway.forget_kernel();
                apply_at = state.is_some().then(Instant::now);
            }
            text = file.changed() => if let Some(new) = parse(&path, text) {
                state = Some(new);
                apply_at = Some(Instant::now());
            },
            () = sleep_until(apply_at.unwrap_or_else(Instant::now)), if apply_at.is_some() => {
                let complete = match &state {
                    Some(state) => apply(&mut gateway, state).await,
                    None => true,
                };
                apply_at = (!complete).then(|| Instant::now() + RETRY);
            }
            () = gateway.remove_next(), if gateway.has_removals() => {}
        }
    }
    info!("stopping; traffic goes on as it is, `vpn-agent detach` would end it");
    Ok(())
}

/// Without the programs nothing shall pass between tunnels, but a kernel that forwards would let it.
fn warn_if_forwarding() {
    const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
    if fs::read_to_string(SETTING).is_ok_and(|value| value.trim() != "0") {
        warn!(
            "net.ipv4.ip_forward is on: while the XDP programs are detached, this host would forward between tunnels \
             unchecked; run `sysctl net.ipv4.ip_forward=0`"
        );
    }
}

fn parse(path: &Path, text: io::Result<Vec<u8>>) -> Option<State> {
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            error!("{}: {error}; nothing is changed", path.display());
            return None;
        }
    };
    match State::parse(&text) {
        Ok(state) => Some(state),
        Err(problems) => {
            for problem in problems.list() {
                error!("{}: {problem}", path.display());
            }
            error!("{}: not valid; nothing is changed", path.display());
            None
        }
    }
}

/// Whether everything could be done.
async fn apply(gateway: &mut Host, state: &State) -> bool {
    let started = Instant::now();
    match gateway.apply(state).await {
        Ok(failed) => {
            for (plant, error) in &failed {
                error!(%plant, "no route to this plant: {error}");
            }
            info!(
                revision = state.revision,
                users = state.certificates.len(),
                plants = state.plants.len(),
                failed = failed.len(),
                milliseconds = started.elapsed().as_millis() as u64,
                "applied"
            );
            failed.is_empty()
        }
        Err(error) => {
            error!(revision = state.revision, "not applied, will be tried again: {error}");
            false
        }
    }
}

/// This host: its configuration, and what is known of its kernel.
pub struct Host {
    config: Config,
    wireguard: WireGuard,
    datapath: Datapath,
    allocations: Allocations,
    users: Link,
    /// Peers of the users' interface, those to be removed included; `None` if the kernel has to be asked.
    user_peers: Option<BTreeMap<PublicKey, AllowedIps>>,
    /// Plants' interfaces that are up and have what they shall have.
    plants: BTreeMap<PlantId, Uplink>,
    /// Whether interfaces of plants that are gone were looked for, of which an earlier run may have left some.
    leftovers_known: bool,
    removals: VecDeque<Removal>,
    /// No removal before this, after one that failed.
    removals_from: Instant,
}

/// An interface of a plant and what it was made for.
struct Uplink {
    link: Link,
    public_key: PublicKey,
    allowed_ips: AllowedIps,
}

/// What carries no traffic any more and is in nobody's way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Removal {
    Peer(Link, PublicKey),
    Link(Link),
}

impl Removal {
    fn link(&self) -> &Link {
        match self {
            Self::Peer(link, _) | Self::Link(link) => link,
        }
    }
}

impl Host {
    /// Opens everything and brings up the users' interface, with the peers that an earlier run left it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(config: Config) -> Result<Self, Error> {
        // The collector reads the directory file; nobody but the agent has business with the keys.
        for (folder, mode) in [(config.state_dir.clone(), 0o755), (config.state_dir.join("keys"), 0o700)] {
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(&folder);
            made.map_err(|source| Error::Io { path: folder, source })?;
        }
        let allocations = Allocations::read(&config.allocations_file())?;
        let key = PrivateKey::read(&config.users.private_key_file)?;
        let wireguard = WireGuard::open()?;
        let mut datapath = Datapath::open(&config.datapath.pin_dir, &config.datapath.sizes())?;

        let link = wireguard.ensure_link(&config.users.interface).await?;
        wireguard.set_mtu(&link, config.users.mtu).await?;
        wireguard.configure(&link, &key, config.users.listen_port).await?;
        datapath.configure(&content::gateway(&config, link.ifindex))?;
        datapath.attach_users(&link.name, link.ifindex)?;
        wireguard.set_up(&link).await?;
        Ok(Self {
            config,
            wireguard,
            datapath,
            allocations,
            users: link,
            user_peers: None,
            plants: BTreeMap::new(),
            leftovers_known: false,
            removals: VecDeque::new(),
            removals_from: Instant::now(),
        })
    }

    /// Makes the kernel do what `state` wants. Returns the plants whose interfaces could not be made, and why; nothing
    /// leads to them.
    ///
    /// # Errors
    /// See [`Error`]. Before [`Error::WireGuard`] and [`Error::Datapath`] the kernel was not touched. Calling again
    /// completes what was begun.
    pub async fn apply(&mut self, state: &State) -> Result<Vec<(PlantId, Error)>, Error> {
        self.config.pools.check_state(state)?;
        self.remember(self.allocations.extended(state, &self.config)?)?;
        directory(state, &self.allocations, &self.config).publish(&self.config.directory_file())?;

        let failed = self.raise_plants(state).await;
        self.fill(state)?;
        self.put_users(state).await?;
        self.retire_plants(state).await?;
        Ok(failed)
    }

    /// Has the next [`Self::apply`] look at everything in the kernel, and not only at what the state changes.
    pub fn forget_kernel(&mut self) {
        self.user_peers = None;
        self.plants.clear();
        self.leftovers_known = false;
    }

    /// Writes new allocations to disk, where they must be before they are used.
    fn remember(&mut self, next: Allocations) -> Result<(), Error> {
        if next != self.allocations {
            next.write(&self.config.allocations_file())?;
            self.allocations = next;
        }
        Ok(())
    }

    /// Step 2: every plant of the state has its interface, or is in the answer.
    async fn raise_plants(&mut self, state: &State) -> Vec<(PlantId, Error)> {
        let mut failed = Vec::new();
        for (id, plant) in &state.plants {
            let wanted = plant.uplink.public_key();
            let ready = self.plants.get(id);
            if ready.is_some_and(|uplink| uplink.public_key == wanted && uplink.allowed_ips == plant.subnets) {
                continue;
            }
            match self.raise_plant(id, plant).await {
                Ok(uplink) => {
                    self.plants.insert(id.clone(), uplink);
                }
                Err(error) => {
                    self.plants.remove(id);
                    failed.push((id.clone(), error));
                }
            }
        }
        failed
    }

    async fn raise_plant(&mut self, id: &PlantId, plant: &Plant) -> Result<Uplink, Error> {
        let number = self.allocations.plants().get(id).map(|given| given.id);
        let number = number.expect("the allocations were extended by this state");
        let port = self.config.plant_port(number);
        let port = port.expect("a plant without a port is not allocated");
        let key = PrivateKey::read_or_create(&self.config.plant_key_file(id))?;
        let (public_key, allowed_ips) = (plant.uplink.public_key(), plant.subnets.clone());

        let link = self.wireguard.ensure_link(&Config::plant_interface(number)).await?;
        self.wireguard.set_mtu(&link, self.config.plants.mtu).await?;
        self.wireguard.configure(&link, &key, port).await?;
        let desired = BTreeMap::from([(public_key, allowed_ips.clone())]);
        let obsolete = self.wireguard.reconcile_peers(&link, &desired).await?;
        self.removals.retain(|removal| removal.link().ifindex != link.ifindex);
        self.removals.extend(obsolete.into_iter().map(|key| Removal::Peer(link.clone(), key)));
        self.datapath.attach_plant(&link.name, link.ifindex)?;
        self.wireguard.set_up(&link).await?;
        Ok(Uplink { link, public_key, allowed_ips })
    }

    /// Step 3.
    fn fill(&mut self, state: &State) -> Result<(), Error> {
        let policy = Policy::compile(state, &self.config.policy.route_roles);
        let ifindexes = self.plants.iter().map(|(id, uplink)| (id.clone(), uplink.link.ifindex)).collect();
        let mut next = self.allocations.clone();
        let tables = Tables::new(state, &mut next, &policy, &ifindexes)?;
        self.remember(next)?;
        self.datapath.fill(&content::content(&tables, &self.config))?;
        Ok(())
    }

    /// Step 4, and what it leaves to step 5.
    async fn put_users(&mut self, state: &State) -> Result<(), Error> {
        // Forgotten on failure, so that the next time the kernel is asked.
        let mut peers = match self.user_peers.take() {
            Some(peers) => peers,
            None => self.wireguard.peers(&self.users).await?,
        };
        let desired = self.desired_users(state);
        let changes = Changes::between(&peers, &desired);
        self.wireguard.put_peers(&self.users, &changes.put).await?;
        self.removals.retain(|removal| removal.link().ifindex != self.users.ifindex);
        self.removals.extend(changes.remove.iter().map(|key| Removal::Peer(self.users.clone(), *key)));
        // The kernel gives an allowed IP to one peer only, so the others have lost what was put.
        let moved: BTreeSet<_> = changes.put.iter().flat_map(|put| &put.allowed_ips).collect();
        for allowed_ips in peers.values_mut() {
            allowed_ips.retain(|allowed_ip| !moved.contains(allowed_ip));
        }
        peers.extend(desired);
        self.user_peers = Some(peers);
        Ok(())
    }

    fn desired_users(&self, state: &State) -> BTreeMap<PublicKey, AllowedIps> {
        let peer = |(id, certificate): (_, &Certificate)| {
            let address = self.allocations.peers().get(id)?.address;
            Some((certificate.public_key, BTreeSet::from([IpNet::from(IpAddr::V4(address))])))
        };
        state.certificates.iter().filter_map(peer).collect()
    }

    /// Step 5 for plants that the state no longer has.
    async fn retire_plants(&mut self, state: &State) -> Result<(), Error> {
        self.plants.retain(|id, uplink| {
            let stays = state.plants.contains_key(id);
            if !stays {
                self.removals.push_back(Removal::Link(uplink.link.clone()));
            }
            stays
        });
        let given = self.allocations.plants();
        let wanted: BTreeSet<_> =
            state.plants.keys().filter_map(|id| Some(Config::plant_interface(given.get(id)?.id))).collect();
        if !self.leftovers_known {
            for link in self.wireguard.wireguard_links().await? {
                let removal = Removal::Link(link);
                let name = &removal.link().name;
                if is_plant_interface(name) && !wanted.contains(name) && !self.removals.contains(&removal) {
                    self.removals.push_back(removal);
                }
            }
            self.leftovers_known = true;
        }
        // A plant that came back needs its interface.
        self.removals.retain(|removal| !matches!(removal, Removal::Link(link) if wanted.contains(&link.name)));
        Ok(())
    }

    /// Whether [`Self::remove_next`] has something to do.
    #[must_use]
    pub fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Removes one peer or interface that carries no traffic any more. May be cancelled: it is then removed by a later
    /// call.
    pub async fn remove_next(&mut self) {
        sleep_until(self.removals_from).await;
        let Some(removal) = self.removals.front() else { return };
        let result = match removal {
            Removal::Peer(link, key) => self.wireguard.remove_peer(link, *key).await,
            Removal::Link(link) => self.wireguard.delete_link(link).await,
        };
        let Some(removal) = self.removals.pop_front() else { return };
        match result {
            Ok(()) => {
                if let (Removal::Peer(link, key), Some(peers)) = (&removal, &mut self.user_peers)
                    && link.ifindex == self.users.ifindex
                {
                    peers.remove(key);
                }
            }
            Err(error) => {
                warn!("will be tried again: {error}");
                self.removals.push_back(removal);
                self.removals_from = Instant::now() + RETRY;
            }
        }
    }
}

/// Whether an interface has a name that only this program gives.
fn is_plant_interface(name: &str) -> bool {
    name.strip_prefix(PLANT_INTERFACE_PREFIX).is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn only_names_of_ours_are_taken_for_plants() {
        for (name, ours) in
            [("wgp-1", true), ("wgp-4294967295", true), ("wgp-", false), ("wgp-x", false), ("wg-users", false)]
        {
            assert_eq!(is_plant_interface(name), ours, "{name}");
        }
        assert!(is_plant_interface(&Config::plant_interface(7)));
    }

    #[test]
    fn a_state_that_cannot_be_used_is_none() {
        let path = Path::new("state.json");
        assert!(parse(path, Ok(example::json().to_string().into_bytes())).is_some());
        assert!(parse(path, Ok(b"{}".to_vec())).is_none());
        assert!(parse(path, Err(io::ErrorKind::NotFound.into())).is_none());
    }
}
