//! What the tests and the demo of the VPN gateway share.

pub mod audit;
pub mod background;
#[path = "../../vpn-ebpf/cache.rs"]
mod cache;
pub mod demo;
pub mod device;
pub mod first_plant;
pub mod gate;
pub mod gateway;
pub mod lab;
pub mod main_job;
pub mod namespace;
pub mod packet;
pub mod pins;
pub mod skip;
pub mod steps;
pub mod store;
pub mod tools;
pub mod vm;
mod wireguard;

pub use wireguard::has_wireguard;
