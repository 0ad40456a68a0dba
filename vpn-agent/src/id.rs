//! Names that the cloud gives to organisations, plants, users and so on; one type each, so they cannot be mixed up.

use std::{borrow::Borrow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document;

/// The longest id, in bytes.
pub const MAX_LENGTH: usize = 64;

/// The pattern of every id, as a regular expression.
pub const PATTERN: &str = "^[a-z0-9._@-]{1,64}$";

/// A text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id; use 1 to {MAX_LENGTH} of the characters a-z 0-9 - . _ @")]
pub struct NotAnId {
    text: String,
}

fn check(text: &str) -> Result<(), NotAnId> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._@".contains(&byte);
    if (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NotAnId { text: text.to_owned() })
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(try_from = "document::Id", into = "document::Id")]
        pub struct $name(String);

        impl $name {
            /// The id as it stands in the desired state.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAnId;

            fn try_from(text: String) -> Result<Self, NotAnId> {
                check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        /// Ids order and compare as their text does, so a map can be asked with a plain `&str`.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// Names an organisation.
    OrganisationId
    /// Names a portfolio: plants of one organisation that permissions treat together.
    PortfolioId
    /// Names a plant.
    PlantId
    /// Names a user.
    UserId
    /// Names a certificate: a WireGuard key pair with its tunnel IP.
    CertificateId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_allowed_characters_and_lengths_are_ids() {
        let longest = "a".repeat(MAX_LENGTH);
        for text in ["a", "user-a@alpha.example", "0_1.2-3", &longest] {
            assert_eq!(text.parse::<UserId>().unwrap().as_str(), text);
        }
        for text in ["", "A", "a b", "ä", "a/b", "a\n", &format!("{longest}a")] {
            let error = text.parse::<UserId>().unwrap_err().to_string();
            assert!(error.contains("a-z 0-9 - . _ @"), "{error}");
        }
    }
}
