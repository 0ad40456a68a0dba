//! The commands that print something for other machines: profiles of users, configurations of sites.

mod offer;
mod profile;
mod shown;
mod site_config;

pub use self::{offer::offer, profile::profile, site_config::site_config};
