//! Control of one VPN gateway host: from the desired state to WireGuard peers and BPF maps.
//!
//! A change runs through the modules in this order: [`document`] (the file), [`validate`] to [`state`], [`addressing`]
//! (ids and addresses), [`policy`] (who reaches what), [`tables`] and [`content`] (what the maps get). Those are pure
//! and do no I/O besides the file of the allocations. [`control`] takes the state from a file ([`watch`]), from
//! calls ([`api`]) or from where it looks by itself ([`pull`]), keeps it ([`store`]), and records who changed what
//! ([`control_log`]). [`run`] writes the kernel
//! through [`wireguard`] and [`datapath`], and keeps the kernel's own forwarding away ([`forwarding`]), also from
//! interfaces of the host's ([`borrowed`]). What something else changes in the kernel is repaired and noted ([`repairs`]).
//! [`status`] reads it all back.

pub mod actor;
pub mod addressing;
pub mod api;
pub mod borrowed;
pub mod change;
pub mod cli;
pub mod config;
pub mod content;
pub mod control;
pub mod control_log;
pub mod datapath;
pub mod difference;
pub mod directory;
pub mod document;
pub mod endpoint;
#[cfg(test)]
mod example;
pub mod explain;
pub mod forwarding;
mod free_space;
pub mod health;
pub mod id;
pub mod interface;
pub mod key;
pub mod ledger;
pub mod liveness;
pub mod moment;
#[cfg(test)]
mod namespace;
pub mod offer;
pub mod overview;
pub mod pick;
pub mod place;
pub mod policy;
pub mod pools;
pub mod portrait;
pub mod problem;
pub mod profile;
pub mod pull;
pub mod repairs;
pub mod role;
pub mod run;
pub mod service;
pub mod site;
pub mod source;
pub mod special_ranges;
pub mod state;
pub mod status;
pub mod store;
pub mod tables;
pub mod terms;
pub mod tunnel_file;
pub mod validate;
pub mod version;
pub mod watch;
pub mod wireguard;
