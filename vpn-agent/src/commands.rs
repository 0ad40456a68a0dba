//! The commands that print something for other machines: ledgers, profiles of users, configurations of sites, health.

mod allocate;
mod explain;
mod health;
mod input;
mod offer;
mod profile;
mod shown;
mod site_config;

pub use self::{
    allocate::allocate,
    explain::{explain, routes},
    health::{health, pick},
    offer::offer,
    profile::profile,
    site_config::site_config,
};
