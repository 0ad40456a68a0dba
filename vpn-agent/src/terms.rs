//! What a state is judged by besides itself.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::role::Role;

/// What a state is judged by besides itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Job roles that open routes (requirement B1, step 2).
    pub opening: BTreeSet<Role>,
    /// The moment at which the rights shall be those that count then.
    pub now: Timestamp,
}
