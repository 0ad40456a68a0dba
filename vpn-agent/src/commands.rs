//! The commands that print something for other machines: profiles of users, configurations of sites, health.

mod health;
mod input;
mod offer;
mod profile;
mod shown;
mod site_config;

pub use self::{
    health::{health, pick},
    offer::offer,
    profile::profile,
    site_config::site_config,
};
