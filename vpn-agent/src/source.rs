//! The desired state that this gateway follows, for commands that only look at it.

use std::{fs, io, path::PathBuf};

use crate::{config::Config, problem::Problems, state::State};

/// Why there is no desired state to look at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is not valid.
    #[error("{}: not valid:\n{problems}", path.display())]
    Content {
        /// The file concerned.
        path: PathBuf,
        /// One line each.
        problems: Problems,
    },
}

/// The desired state as it is now.
///
/// # Errors
/// See [`Error`].
pub fn current(config: &Config) -> Result<State, Error> {
    let path = &config.state;
    let text = fs::read(path).map_err(|source| Error::Io { path: path.clone(), source })?;
    State::parse(&text).map_err(|problems| Error::Content { path: path.clone(), problems })
}
