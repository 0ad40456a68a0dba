//! What the tests and the demo of the VPN gateway share.

pub mod accounts;
pub mod api;
pub mod audit;
pub mod background;
pub mod by_hand;
#[path = "../../vpn-ebpf/cache.rs"]
mod cache;
pub mod capture;
pub mod checksums;
pub mod demo;
pub mod device;
pub mod download;
pub mod first_plant;
pub mod gate;
pub mod gateway;
pub mod interfaces;
pub mod kernel;
pub mod lab;
pub mod main_job;
pub mod model;
pub mod namespace;
pub mod packet;
pub mod pair;
pub mod pins;
pub mod random;
pub mod records;
pub mod regions;
pub mod revoke;
pub mod scenario;
pub mod skip;
pub mod steps;
pub mod store;
pub mod tools;
pub mod topology;
pub mod traffic;
pub mod tun;
pub mod uplinks;
pub mod vm;
pub mod wg_quick;
mod wireguard;

pub use wireguard::has_wireguard;
