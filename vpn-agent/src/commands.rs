//! The commands that print something for other machines: profiles of users, configurations of sites, health.

mod explain;
mod health;
mod input;
mod offer;
mod profile;
mod shown;
mod site_config;

pub use self::{
    explain::{explain, routes},
    health::{health, pick},
    offer::offer,
    profile::profile,
    site_config::site_config,
};
