//! Brings the kernel to the desired state and keeps it there.
//!
//! The order of a change: what takes something away comes first and waits for nothing, what is new is complete before
//! anything leads to it, and what goes loses its traffic before it is taken apart.
//!
//! 1. A state that is wrong is refused before anything is touched (requirement G4).
//! 2. Peers lose in the maps what the state no longer gives them, and keys that are no longer a certificate's lose
//!    its tunnel IP (requirements B4, A3). This needs no new id, address or interface; see [`Datapath::withdraw`].
//! 3. New ids and addresses are on disk, then the directory file, before the kernel uses them.
//! 4. Plants' interfaces are made down, get the program, and only then go up. Those that are borrowed from the host are
//!    as they are, and get the program.
//! 5. The maps are filled: plants, new route sets, peers; then old route sets and plants that are gone.
//! 6. Users' new WireGuard peers are added.
//! 7. When nothing else is to do: WireGuard peers and interfaces that are gone are removed one by one, since each
//!    removal waits for the packets in flight in the kernel. They carry nothing any more. Borrowed interfaces are given
//!    back.

mod audit;
#[cfg(test)]
mod crash;
mod dial;
mod hurry;
mod idle;
mod kernel;
mod pulse;
mod reconcile;
mod removal;
mod round;
#[cfg(test)]
mod scene;
mod step;
mod uplinks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fs::{self, File, TryLockError},
    io,
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::Instant,
};
use tracing::{error, info, warn};
use vpn_ebpf_common::names;

use self::{
    dial::Found, hurry::allowed_ips, pulse::Pulse, removal::Removal, round::Round, step::Step, uplinks::Uplink,
};
use crate::{
    addressing::{self, Allocations},
    api,
    borrowed::{self, Borrowed},
    config::{Config, PLANT_INTERFACE_PREFIX},
    content,
    control::{self, Control},
    datapath::{self, Datapath, fill::Content},
    enforcement::{self, Enforcement, Records},
    forwarding,
    id::PlantId,
    key::{KeyFileError, PrivateKey, PublicKey},
    policy::Policy,
    pools::Pools,
    problem::Problems,
    pull::{self, Puller},
    repairs::Repairs,
    state::{Certificate, State},
    wireguard::{self, AllowedIps, Changes, Link, WireGuard},
};

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
    /// The state before cannot be taken up, or where it comes from cannot be followed.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The API cannot be offered.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// The state cannot be asked for.
    #[error(transparent)]
    Pull(#[from] pull::Error),
    /// A signal cannot be caught.
    #[error("signals: {0}")]
    Signal(io::Error),
    /// Another agent uses the same folder, and would give the same ids again.
    #[error("{}: locked: another `vpn-agent run` uses this state_dir; stop it first", path.display())]
    Locked {
        /// The file that it holds locked.
        path: PathBuf,
    },
    /// Packets from the interface meet another program before the one that was attached, or none.
    #[error(
        "at the ingress of {interface} {} comes first, and not the program {attached} that was just attached, so the \
         interface is not used; look with `bpftool net` for what attaches programs on this host",
        found.map_or_else(|| "no program".to_owned(), |id| format!("the program {id}"))
    )]
    ForeignProgram {
        /// The interface.
        interface: String,
        /// The id of our program.
        attached: u32,
        /// The id of the program that it has.
        found: Option<u32>,
    },
    /// A plant's uplink is not there.
    #[error(
        "this host has no interface {interface}; make it, or correct `uplink.interface` of the plant (`ip link` shows \
         the names)"
    )]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// A plant's uplink is known by another name, under which it could be another plant's as well.
    #[error("{interface} is another name of {name}; use {name} as `uplink.interface` of the plant")]
    AlternativeName {
        /// What the state says.
        interface: String,
        /// Its own name.
        name: String,
    },
    /// A plant's uplink has no Ethernet header.
    #[error(
        "{interface} is not an Ethernet interface, which an uplink of the kind `interface` must be; a WireGuard tunnel \
         is an uplink of the kind `host`"
    )]
    NotEthernet {
        /// Its name.
        interface: String,
    },
    /// The file of the borrowed interfaces cannot be used.
    #[error(transparent)]
    Borrowed(#[from] borrowed::Error),
    /// The kernel's own forwarding cannot be kept away from an interface.
    #[error(transparent)]
    Forwarding(#[from] forwarding::Error),
    /// A single change came before the state was applied as a whole.
    #[error("the last change is not complete yet, and the state is applied as a whole")]
    Unsettled,
    /// The state does not fit this gateway's configuration.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// Something cannot be given.
    #[error(transparent)]
    Addressing(#[from] addressing::Error),
    /// The file of the allocations cannot be used.
    #[error(transparent)]
    Allocations(#[from] addressing::FileError),
    /// The maps cannot be brought to what they shall be.
    #[error(transparent)]
    Enforcement(#[from] enforcement::Error),
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
/// the kernel again, tells what something else has changed there, and attaches the programs again after
/// [`datapath::detach`].
///
/// A state that cannot be used is logged with all its errors, and changes nothing.
///
/// # Errors
/// See [`Error`]; only what happens before the first state is read ends the program.
pub async fn run(config: Config) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(Error::Signal)?;
    let config = Arc::new(config);
    let host = Host::start(Config::clone(&config)).await?;
    if forwarding::is_on_for_host() {
        warn!(
            "net.ipv4.ip_forward is on, which this gateway does not need; nothing that comes in by its interfaces is \
             forwarded by the kernel, but what comes in by others could be, to users (if there are services) and to \
             plants behind Ethernet interfaces; if nothing else on this host needs it, run \
             `sysctl net.ipv4.ip_forward=0`"
        );
    }
    let (mut control, handle) = Control::open(config.clone(), host)?;
    let _server = match &config.api {
        Some(api) => Some(api::Server::start(api, api::routes(handle.clone(), api)).await?),
        None => None,
    };
    let _puller = config.pull.as_ref().map(|pull| Puller::start(pull, handle.clone())).transpose()?;
    info!(gateway = config.gateway, region = config.region, "started");

    let stop = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => handle.forget().await,
            }
        }
    };
    control.run(stop).await;
    info!("stopping; traffic goes on as it is, `vpn-agent detach` would end it");
    Ok(())
}

/// This host: its configuration, and what is known of its kernel.
pub struct Host {
    config: Config,
    wireguard: WireGuard,
    datapath: Datapath,
    allocations: Allocations,
    records: Records,
    /// The users' interface, once it is up and has what it shall have.
    users: Option<Link>,
    /// The public key of the users' interface, once it has one.
    users_public: Option<PublicKey>,
    /// Peers of the users' interface, those to be removed included; `None` if the kernel has to be asked.
    user_peers: Option<BTreeMap<PublicKey, AllowedIps>>,
    /// The key that each of the addresses belongs to.
    user_keys: HashMap<Ipv4Addr, PublicKey>,
    /// Plants' interfaces that have what they shall have.
    plants: BTreeMap<PlantId, Uplink>,
    /// Plants' former interfaces, which may still carry packets.
    replaced: Vec<Uplink>,
    /// Interfaces of the host's that are in use, or were and are to be given back.
    borrowed: Borrowed,
    /// Those of them of which it was said that they cannot be closed.
    open_known: BTreeSet<String>,
    /// Whether interfaces of plants that are gone were looked for, of which an earlier run may have left some.
    leftovers_known: bool,
    /// What the maps shall hold; `None` while they may hold less, before the first change and after one that failed.
    /// Whoever writes PEERS, PLANTS or SERVICES writes it here as well, or it is taken for somebody else's work.
    content: Option<Content>,
    round: Round,
    repairs: Repairs,
    pulse: Pulse,
    /// Names of endpoints that are being looked up.
    look_ups: JoinSet<Found>,
    removals: VecDeque<Removal>,
    /// No removal before this, after one that failed.
    removals_from: Instant,
    /// Whether it was said that the programs are detached.
    detached_known: bool,
    /// Held locked while this lives.
    _lock: File,
}

impl Host {
    /// Opens everything and brings up the users' interface, with the peers that an earlier run left it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(config: Config) -> Result<Self, Error> {
        let mut host = Self::open(config)?;
        host.raise_users().await?;
        Ok(host)
    }

    /// Without a look at interfaces.
    fn open(config: Config) -> Result<Self, Error> {
        // The collector reads the directory file; nobody but the agent has business with the keys.
        for (folder, mode) in [(config.state_dir.clone(), 0o755), (config.state_dir.join("keys"), 0o700)] {
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(&folder);
            made.map_err(|source| Error::Io { path: folder, source })?;
        }
        let lock = lock(&config.lock_file())?;
        let allocations = Allocations::read(&config.allocations_file())?;
        let records = Records::new(&config);
        let borrowed = Borrowed::read(&config.borrowed_file())?;
        let datapath = Datapath::open(&config.datapath.pin_dir, &config.sizes())?;
        let round = Round::new(config.reconcile_seconds);
        let repairs = Repairs::read(&config.repairs_file()).unwrap_or_else(|error| {
            warn!("{error}; it is begun anew");
            Repairs::default()
        });
        Ok(Self {
            config,
            wireguard: WireGuard::open()?,
            datapath,
            allocations,
            records,
            users: None,
            users_public: None,
            user_peers: None,
            user_keys: HashMap::new(),
            plants: BTreeMap::new(),
            replaced: Vec::new(),
            borrowed,
            open_known: BTreeSet::new(),
            leftovers_known: false,
            content: None,
            round,
            repairs,
            pulse: Pulse::new(),
            look_ups: JoinSet::new(),
            removals: VecDeque::new(),
            removals_from: Instant::now(),
            detached_known: false,
            _lock: lock,
        })
    }

    /// Makes the kernel do what `state` wants. Returns the plants whose interfaces could not be made, and why; nothing
    /// leads to them.
    ///
    /// # Errors
    /// See [`Error`]. After [`Error::Problems`], [`addressing::Error::OtherOwner`] and
    /// [`addressing::Error::OtherOperator`] the kernel was not touched; after any other what the state takes away is gone, as far as the kernel can be written at all. Calling again completes
    /// what was begun.
    pub async fn apply(&mut self, state: &State) -> Result<Vec<(PlantId, Error)>, Error> {
        self.config.check_state(state)?;
        self.allocations.check(state, &self.config)?;
        let policy = Policy::compile(state, &self.config.terms(Timestamp::now()));

        self.content = None;
        Step::Withdraw.begins();
        self.enforcement().withdraw(state, &policy)?;
        Step::Users.begins();
        self.raise_users().await?;
        self.put_users(state).await?;
        Step::Give.begins();
        self.enforcement().give(state)?;

        Step::Plants.begins();
        let failed = self.raise_plants(state).await;
        self.pulse.expect(state, &self.config.region, &failed);
        Step::Fill.begins();
        let uplinks = self.uplinks();
        self.content = Some(self.enforcement().fill(state, &policy, &uplinks)?);
        Step::NewUsers.begins();
        self.put_users(state).await?;
        Step::Retire.begins();
        self.retire_plants(state).await?;
        Ok(failed)
    }

    /// Whether the programs were detached since they were loaded.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.datapath.is_detached()
    }

    /// Looks whether something else has changed what keeps the gateway closed. Puts that right and says so, except for
    /// [`datapath::detach`] and what is for the host's administrator to do, which it only says. Looks at the interfaces
    /// of the host's as well: false if one has changed, so that [`Self::apply`] has something to do.
    pub async fn look(&mut self) -> bool {
        let detached = self.is_detached();
        if detached && !self.detached_known {
            warn!("{}; nothing is forwarded until then", datapath::Error::Detached);
        }
        self.detached_known = detached;
        self.close_tunnels_again();
        self.close_borrowed_again();
        self.look_at_borrowed().await
    }

    fn close_tunnels_again(&self) {
        // Who switches the host's forwarding on changes every interface, so one of them tells.
        let Some(users) = &self.users else { return };
        if forwarding::is_closed(&users.name) {
            return;
        }
        warn!(
            "something has switched the kernel's forwarding on for {}, as `sysctl net.ipv4.ip_forward=1` does for every \
             interface; it is switched off again for the gateway's interfaces",
            users.name
        );
        let tunnels = self.plants.values().filter(|uplink| !uplink.is_borrowed()).map(|uplink| &uplink.link);
        for link in tunnels.chain([users]) {
            if let Err(error) = forwarding::close(&link.name) {
                error!("{error}");
            }
        }
    }

    /// Has the next [`Self::apply`] look at everything in the kernel, and not only at what the state changes, and attach
    /// the programs again if they were detached.
    ///
    /// # Errors
    /// [`Error::Datapath`]: the programs are still detached.
    pub fn forget_kernel(&mut self) -> Result<(), Error> {
        self.users = None;
        self.user_peers = None;
        self.plants.clear();
        self.leftovers_known = false;
        self.content = None;
        self.datapath.forget_routes();
        self.records.forget_kernel();
        if self.is_detached() {
            self.datapath = Datapath::open(&self.config.datapath.pin_dir, &self.config.sizes())?;
        }
        Ok(())
    }

    /// The users' interface, with the peers that it has.
    async fn raise_users(&mut self) -> Result<(), Error> {
        if self.users.is_some() {
            return Ok(());
        }
        let key = PrivateKey::read(&self.config.users.private_key_file)?;
        let link = self.wireguard.ensure_link(&self.config.users.interface).await?;
        self.wireguard.set_mtu(&link, self.config.users.mtu).await?;
        self.wireguard.configure(&link, &key, Some(self.config.users.listen_port)).await?;
        self.datapath.configure(&content::gateway(&self.config, link.ifindex))?;
        let link = self.open_for_traffic(&link, names::USERS).await?;
        // With the address comes the host's route to users. Without it the host's own stack knows nothing of them.
        let length = (!self.config.services.is_empty()).then(|| self.config.pools.tunnel.prefix_len());
        self.wireguard.set_address(&link, self.config.pools.gateway(), length).await?;
        self.users_public = Some(key.public());
        self.users = Some(link);
        Ok(())
    }

    /// The last step of every interface that we make: it goes up only with our program on it, and closed to the
    /// kernel's own forwarding.
    async fn open_for_traffic(&mut self, link: &Link, program: &'static str) -> Result<Link, Error> {
        forwarding::close(&link.name)?;
        let link = self.attach(link, program).await?;
        self.wireguard.set_up(&link).await?;
        Ok(Link { up: true, ..link })
    }

    /// Attaches a program, and makes sure that it is the one that the interface has.
    async fn attach(&mut self, link: &Link, program: &'static str) -> Result<Link, Error> {
        let attached = self.datapath.attach(program, &link.name)?;
        let gone = || wireguard::Error::Gone { interface: link.name.clone() };
        let now = self.wireguard.link(&link.name).await?.ok_or_else(gone)?;
        if now.ifindex != link.ifindex {
            return Err(gone().into());
        }
        let found = now.first_program(datapath::pinned_guard(&self.config.datapath.pin_dir, &link.name));
        if found != Some(attached) {
            return Err(Error::ForeignProgram { interface: now.name, attached, found });
        }
        Ok(now)
    }

    /// What writes the maps.
    fn enforcement(&mut self) -> Enforcement<'_> {
        let Self { config, datapath, allocations, records, .. } = self;
        Enforcement { config, datapath, allocations, records }
    }

    /// Step 2 in WireGuard for certificates that have an address already, and step 6 for all; what goes is left to
    /// step 7.
    async fn put_users(&mut self, state: &State) -> Result<(), Error> {
        let desired = desired_users(state, &self.allocations, &self.config.pools);
        self.put_user_peers(&desired).await?;
        let key = |(id, certificate): (_, &Certificate)| {
            Some((self.allocations.peers().get(id)?.address, certificate.public_key))
        };
        self.user_keys = state.certificates.iter().filter_map(key).collect();
        Ok(())
    }

    async fn put_user_peers(&mut self, desired: &BTreeMap<PublicKey, AllowedIps>) -> Result<(), Error> {
        // Both are forgotten on failure, so that the next time the kernel is asked.
        let Some(users) = self.users.take() else { return Ok(()) };
        let mut peers = match self.user_peers.take() {
            Some(peers) => peers,
            None => self.wireguard.peers(&users).await?,
        };
        let changes = Changes::between(&peers, desired);
        self.wireguard.put_peers(&users, &changes.put).await?;
        // One whose removal was begun is not among the peers any more, and may still be there.
        let mut going: BTreeSet<_> = changes.remove.into_iter().collect();
        self.removals.retain(|removal| match removal {
            Removal::Peer(link, key) if link.name == users.name => {
                if !desired.contains_key(key) {
                    going.insert(*key);
                }
                false
            }
            _ => true,
        });
        self.removals.extend(going.into_iter().map(|key| Removal::Peer(users.clone(), key)));
        // The kernel gives an allowed IP to one peer only, so the others have lost what was put.
        let moved: BTreeSet<_> = changes.put.iter().flat_map(|put| &put.allowed_ips).collect();
        for allowed_ips in peers.values_mut() {
            allowed_ips.retain(|allowed_ip| !moved.contains(allowed_ip));
        }
        peers.extend(desired.iter().map(|(key, allowed_ips)| (*key, allowed_ips.clone())));
        self.user_peers = Some(peers);
        self.users = Some(users);
        Ok(())
    }
}

/// The peers that the users' interface shall have: each certificate that has an address may use it in either family.
fn desired_users(state: &State, allocations: &Allocations, pools: &Pools) -> BTreeMap<PublicKey, AllowedIps> {
    let peer = |(id, certificate): (_, &Certificate)| {
        Some((certificate.public_key, allowed_ips(allocations.peers().get(id)?, pools)))
    };
    state.certificates.iter().filter_map(peer).collect()
}

/// Locks the file, made where there is none, until the value is dropped or the process ends.
fn lock(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let file = File::options().write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether an interface has a name that only this program gives.
fn is_plant_interface(name: &str) -> bool {
    let number = name.strip_prefix(PLANT_INTERFACE_PREFIX).and_then(|number| number.parse().ok());
    number.is_some_and(|number| Config::plant_interface(number) == name)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        example::{self, random::documents},
        offer::Offer,
    };

    proptest! {
        /// Whatever plants, subnets, roles and cooperations come and go, a certificate's profile and its peer of the
        /// users' interface stay, so that nobody has to connect again.
        ///
        /// Requirements: A4.
        #[test]
        fn no_change_of_rights_or_plants_touches_a_users_tunnel(changes in vec((documents(), any::<bool>()), 2..4)) {
            let config = example::config("endpoint = 'gateway.example:51820'");
            let mut given = Allocations::default();
            let mut before = None;
            for (mut document, more) in changes {
                if more {
                    add_plant(&mut document);
                }
                // A virtual twin of the largest of them would take the whole pool.
                let text = document.to_string().replace("10.0.0.0/8", "172.20.0.0/16");
                let state = State::parse(text.as_bytes()).unwrap();
                given = given.extended(&state, &config).unwrap();
                let server = PublicKey::from_bytes([200; 32]);
                let offer = |id| Offer::new(&config, &state, &given, server, id, []).unwrap();
                let offers: BTreeMap<_, _> = state.certificates.keys().map(|id| (id.clone(), offer(id))).collect();
                prop_assert_eq!(offers.len(), 6);
                let tunnels = (offers, desired_users(&state, &given, &config.pools));
                prop_assert_eq!(before.get_or_insert_with(|| tunnels.clone()), &tunnels);
            }
        }
    }

    /// One that was not there before, which the first user operates.
    fn add_plant(document: &mut Value) {
        let uplink = json!({"kind": "host", "public_key": example::key(220)});
        let plant = json!({"id": "new", "organisation": "o0", "subnets": ["172.16.0.0/24"], "uplink": uplink});
        document["plants"].as_array_mut().unwrap().push(plant);
        let role = json!({"user": "u0", "role": "operator", "on": {"plant": "new"}});
        document["roles"].as_array_mut().unwrap().push(role);
    }

    #[test]
    fn only_names_of_ours_are_taken_for_plants() {
        for (name, ours) in [
            ("wgp-1", true),
            ("wgp-4294967295", true),
            ("wgp-", false),
            ("wgp-x", false),
            ("wgp-+1", false),
            ("wgp-01", false),
        ] {
            assert_eq!(is_plant_interface(name), ours, "{name}");
        }
        assert!(is_plant_interface(&Config::plant_interface(7)));
    }

    #[test]
    fn a_user_may_use_one_address_of_either_family() {
        let (config, state) = (example::config(""), example::state());
        let given = Allocations::default().extended(&state, &config).unwrap();
        let peers = desired_users(&state, &given, &config.pools);
        let of = |number: u8| -> Vec<String> {
            peers[&PublicKey::from_bytes([number; 32])].iter().map(ToString::to_string).collect()
        };
        assert_eq!(of(1), ["100.64.0.2/32", "fd76:706e:6777::2/128"]);
        assert_eq!(of(2), ["100.64.0.3/32", "fd76:706e:6777::3/128"]);
        assert_eq!(peers.len(), 2);
        assert!(desired_users(&state, &Allocations::default(), &config.pools).is_empty(), "none has an address yet");
    }

    #[test]
    fn one_folder_has_one_agent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path).unwrap();
        let error = lock(&path).unwrap_err();
        assert!(error.to_string().contains("another `vpn-agent run`"), "{error}");
        drop(held);
        assert!(lock(&path).is_ok());
    }
}
