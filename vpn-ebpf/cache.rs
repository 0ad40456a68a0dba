//! Where downloads and tools that are not the system's own are kept.
//!
//! Included by `toolchain.rs` and by the tests' library, so that all of them look in the same place.

use std::{env, path::PathBuf};

/// `$VPN_CACHE`, else `vpn-gateway` in the user's cache directory.
pub fn cache_dir() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = set("VPN_CACHE") {
        return cache;
    }
    let base = set("XDG_CACHE_HOME").or_else(|| env::home_dir().map(|home| home.join(".cache")));
    base.unwrap_or_else(|| PathBuf::from("/var/cache")).join("vpn-gateway")
}
