//! A small desired state for tests: two organisations with one plant each on the same subnet, and a user of each.

pub mod random;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{config::Config, state::State};

/// Alpha shares its plant north with beta. `user-a` of alpha operates it; `user-b` of beta operates it and south.
pub fn json() -> Value {
    json!({
        "revision": 7,
        "organisations": [{"id": "alpha", "name": "Alpha Energy"}, {"id": "beta"}],
        "portfolios": [{"id": "alpha-wind", "organisation": "alpha"}, {"id": "beta-sun", "organisation": "beta"}],
        "plants": [
            {"id": "north", "organisation": "alpha", "portfolio": "alpha-wind", "subnets": ["192.168.1.0/24"],
             "uplink": {"kind": "host", "public_key": key(100)}},
            {"id": "south", "organisation": "beta", "subnets": ["192.168.1.0/24"],
             "uplink": {"kind": "host", "public_key": key(101)}},
        ],
        "users": [{"id": "user-a", "name": "A"}, {"id": "user-b"}],
        "memberships": [
            {"user": "user-a", "organisation": "alpha", "kind": "member",
             "access": {"portfolios": ["alpha-wind"], "plants": ["north"]}},
            {"user": "user-b", "organisation": "beta", "kind": "member", "access": "all"},
        ],
        "roles": [
            {"user": "user-a", "role": "operator", "on": {"portfolio": "alpha-wind"}},
            {"user": "user-b", "role": "operator", "on": {"plant": "south"}},
            {"user": "user-b", "role": "operator", "on": {"plant": "north"}},
        ],
        "cooperations": [{"partner": "beta", "on": {"plant": "north"}}],
        "certificates": [
            {"id": "certificate-a", "user": "user-a", "public_key": key(1)},
            {"id": "certificate-b", "user": "user-b", "public_key": key(2)},
        ],
    })
}

/// [`json`], parsed.
pub fn state() -> State {
    parse(&json())
}

/// A state that must be valid.
pub fn parse(document: &Value) -> State {
    State::parse(document.to_string().as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The public key of this number.
pub fn key(number: u8) -> String {
    BASE64_STANDARD.encode([number; 32])
}

/// A configuration with its required fields and `more` of TOML.
pub fn config(more: &str) -> Config {
    Config::parse(&config_text(more)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A configuration with its required fields and `more` of TOML in front of them.
pub fn config_with(more: &str) -> Config {
    Config::parse(&format!("{more}\n{}", config_text(""))).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The text of a configuration with its required fields and `more` of TOML.
pub fn config_text(more: &str) -> String {
    let least = r#"
        gateway = "gateway-1"
        region = "eu"
        state = "/nonexistent/state.json"
        state_dir = "/nonexistent"
        [users]
        private_key_file = "/nonexistent/users.key"
    "#;
    format!("{least}\n{more}")
}
