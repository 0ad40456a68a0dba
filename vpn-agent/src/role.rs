//! Job roles.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A job role on a plant or portfolio. Which roles open routes is configuration (`[policy] route_roles`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the plant.
    Operator,
    /// Answers for the technical side.
    TechnicalManager,
    /// Answers for the commercial side.
    AssetManager,
    /// Looks only.
    Viewer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Operator, Self::TechnicalManager, Self::AssetManager, Self::Viewer];

    /// Whether the role is enough for a cooperation to count (requirement B1, step 3).
    #[must_use]
    pub const fn is_operator_level(self) -> bool {
        match self {
            Self::Operator => true,
            Self::TechnicalManager | Self::AssetManager | Self::Viewer => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::TechnicalManager => "technical-manager",
            Self::AssetManager => "asset-manager",
            Self::Viewer => "viewer",
        })
    }
}
