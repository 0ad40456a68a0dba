//! Who asked for a change of the desired state, and when.

use std::{fmt, path::Path};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who asked, as far as the agent knows: `uid:0` by its socket, `tls:cloud-1` by a client certificate,
/// `file:/etc/vpn-gateway/state.json` or `pull:https://control.example/state` where it has looked by itself, and `time`
/// where nobody did because it was time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Actor(String);

/// The ways in which a change may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A call of the API.
    Api,
    /// The file that is followed.
    File,
    /// The address that is asked again and again.
    Pull,
    /// By itself, since something was to last until then.
    Time,
}

/// Who asked for something, when, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// When it was accepted.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// How it came.
    #[serde(rename = "from")]
    pub way: Way,
}

impl Actor {
    /// A process of this host's, which runs as this user.
    #[must_use]
    pub fn of_user(uid: u32) -> Self {
        Self(format!("uid:{uid}"))
    }

    /// Whoever holds the private key of a client certificate with this name.
    #[must_use]
    pub fn of_certificate(name: &str) -> Self {
        Self(format!("tls:{name}"))
    }

    /// Whoever wrote this file.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        Self(format!("file:{}", path.display()))
    }

    /// Nobody: it was time.
    #[must_use]
    pub fn of_time() -> Self {
        Self("time".to_owned())
    }

    /// Whoever serves this address.
    #[must_use]
    pub fn of_url(url: &str) -> Self {
        Self(format!("pull:{url}"))
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Origin {
    /// Of what is accepted now.
    #[must_use]
    pub fn now(actor: Actor, way: Way) -> Self {
        Self { time: Timestamp::now(), actor, way }
    }
}
