//! The desired state that this gateway follows, for commands that only look at it.

use std::{fs, io, path::PathBuf};

use crate::{
    config::{Config, Source},
    control,
    problem::Problems,
    state::State,
    store::{self, Store},
};

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
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What is in the store is not valid.
    #[error(transparent)]
    Stored(#[from] control::Error),
    /// There is nothing in the store.
    #[error("{}: there is no desired state yet; PUT /v1/state gives the gateway one, or what `pull.url` serves", folder.display())]
    None {
        /// The folder of the store.
        folder: PathBuf,
    },
}

/// The desired state as it is now.
///
/// # Errors
/// See [`Error`].
pub fn current(config: &Config) -> Result<State, Error> {
    let Source::File(path) = config.source() else {
        let folder = &config.state_dir;
        let contents = Store::read(folder)?.ok_or_else(|| Error::None { folder: folder.clone() })?;
        return Ok(control::replay(config, contents)?.state);
    };
    let path = path.to_owned();
    match fs::read(&path) {
        Ok(text) => State::parse(&text).map_err(|problems| Error::Content { path, problems }),
        Err(source) => Err(Error::Io { path, source }),
    }
}
