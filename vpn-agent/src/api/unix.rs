//! Calls by a Unix socket. Who may write the socket may do everything; who it was is told by the kernel.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

use tokio::net::{UnixListener, UnixStream};

use super::Error;
use crate::actor::Actor;

/// Makes the socket at `path`, in a folder that is made as well, and in the place of one that an earlier run has left.
///
/// # Errors
/// [`Error::Socket`], also if something other than a socket has that name.
pub(super) fn bind(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "is there, and is no socket")));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(failed)?;
            }
        }
        Err(error) => return Err(failed(error)),
    }
    // Under its name only once it has its mode.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    fs::set_permissions(&new, Permissions::from_mode(0o660)).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    Ok(listener)
}

/// The process at the other end.
///
/// # Errors
/// What the kernel says.
pub(super) fn actor(stream: &UnixStream) -> io::Result<Actor> {
    Ok(Actor::of_user(stream.peer_cred()?.uid()))
}
