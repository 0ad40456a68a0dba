//! Audit of one VPN gateway host: what the kernel counted becomes rows in ClickHouse.
//!
//! ClickHouse is a server, or the engine as a library behind the same HTTP interface ([`endpoint`]); everything
//! above it takes one code path, the official client.

pub mod attribution;
pub mod cli;
pub mod client;
pub mod clock;
pub mod collector;
pub mod config;
pub mod embedded;
pub mod endpoint;
pub mod identity;
pub mod kernel;
pub mod released;
pub mod row;
pub mod run;
pub mod schema;
pub mod store;
pub mod sweep;
pub mod unrecorded;
pub mod writer;
