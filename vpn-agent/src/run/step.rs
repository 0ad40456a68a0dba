//! The steps of a change, by name.

use tracing::debug;

/// See the order in [`run`](super): what is said there in prose is done by [`Host::apply`](super::Host::apply).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Permissions go.
    Withdraw,
    /// Keys go that are no longer a certificate's.
    Users,
    /// New numbers and addresses are put on disk, and into the directory.
    Give,
    /// Plants get their interfaces.
    Plants,
    /// The maps are filled.
    Fill,
    /// Users' new peers are added.
    NewUsers,
    /// What is gone is left to be removed.
    Retire,
}

impl Step {
    /// Its name in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Withdraw => "withdraw",
            Self::Users => "users",
            Self::Give => "give",
            Self::Plants => "plants",
            Self::Fill => "fill",
            Self::NewUsers => "new-users",
            Self::Retire => "retire",
        }
    }

    /// Notes in the log, at its level `debug`, that it begins.
    pub fn begins(self) {
        debug!(step = self.label());
    }
}
