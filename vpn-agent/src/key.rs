//! WireGuard keys: 32 bytes, written as 44 characters of base64.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes in a key.
pub const LENGTH: usize = 32;

/// The pattern of every key, as a regular expression.
pub const PATTERN: &str = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$";

/// A WireGuard public key. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; LENGTH]);

/// A text that is not a WireGuard public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPublicKey {
    /// Wrong length or characters.
    #[error("{0:?} is not a WireGuard public key; use 44 characters of base64 as printed by `wg pubkey`")]
    Form(String),
    /// Every bit is zero.
    #[error("the all-zero key stands for \"no key\"; use the key printed by `wg pubkey`")]
    Zero,
}

impl PublicKey {
    /// The key as WireGuard's netlink interface has it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// The key as WireGuard's netlink interface takes it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = NotAPublicKey;

    fn from_str(text: &str) -> Result<Self, NotAPublicKey> {
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok());
        match bytes {
            Some([0, rest @ ..]) if rest == [0; LENGTH - 1] => Err(NotAPublicKey::Zero),
            Some(bytes) => Ok(Self(bytes)),
            None => Err(NotAPublicKey::Form(text.to_owned())),
        }
    }
}

impl TryFrom<String> for PublicKey {
    type Error = NotAPublicKey;

    fn try_from(text: String) -> Result<Self, NotAPublicKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A WireGuard private key of this gateway. Overwritten when dropped; neither `Debug` nor `Display` shows it.
pub struct PrivateKey(Zeroizing<[u8; LENGTH]>);

/// Why a private key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("{}: no such key file; make one with `vpn-agent keygen {}`", path.display(), path.display())]
    Missing {
        /// The file concerned.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other users of this host can read the key.
    #[error("{}: mode {mode:04o} lets others read the private key; run `chmod 0600 {}`", path.display(), path.display())]
    Readable {
        /// The file concerned.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is something else. It is not shown: it may be a damaged key.
    #[error(
        "{}: not a WireGuard private key; it must hold one line of 44 characters of base64 as printed by `wg genkey`",
        path.display()
    )]
    Form {
        /// The file concerned.
        path: PathBuf,
    },
    /// There is a file of this name already.
    #[error("{}: there is such a file already, and a key in it may be in use; choose another name", path.display())]
    Exists {
        /// The file concerned.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes for a new key: {0}")]
    Random(getrandom::Error),
}

impl PrivateKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyFileError::Random`].
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        getrandom::fill(&mut *bytes).map_err(KeyFileError::Random)?;
        // Clamped as X25519 (RFC 7748, 5) asks, so that the kernel stores the key as it is in the file.
        bytes[0] &= 0b1111_1000;
        bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
        Ok(Self(bytes))
    }

    /// Reads the key file at `path`.
    ///
    /// # Errors
    /// See [`KeyFileError`]; never [`KeyFileError::Random`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let io_error = |source| KeyFileError::Io { path: path.to_owned(), source };
        let mode = match fs::metadata(path) {
            Ok(metadata) => metadata.mode() & 0o7777,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeyFileError::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(io_error(error)),
        };
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Readable { path: path.to_owned(), mode });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(io_error)?);
        let mut decoded = BASE64_STANDARD.decode(text.trim_end()).unwrap_or_default();
        let bytes = <[u8; LENGTH]>::try_from(decoded.as_slice()).map(Zeroizing::new);
        decoded.zeroize();
        match bytes {
            Ok(bytes) if *bytes != [0; LENGTH] => Ok(Self(bytes)),
            _ => Err(KeyFileError::Form { path: path.to_owned() }),
        }
    }

    /// Reads the key file at `path`, or makes it (mode 0600) with a new key where there is none.
    ///
    /// # Errors
    /// See [`KeyFileError`]; never [`KeyFileError::Missing`].
    pub fn read_or_create(path: &Path) -> Result<Self, KeyFileError> {
        match Self::read(path) {
            Err(KeyFileError::Missing { .. }) => {}
            other => return other,
        }
        let key = Self::generate()?;
        key.write_new(path).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
        Ok(key)
    }

    /// Makes the key file at `path` (mode 0600) with a new key.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`], [`KeyFileError::Io`], [`KeyFileError::Random`].
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        let key = Self::generate()?;
        key.write_new(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => KeyFileError::Io { path: path.to_owned(), source },
        })?;
        Ok(key)
    }

    /// Overwrites the key file at `path` and removes it. On a file system that writes elsewhere than it has read, the
    /// old blocks stay until they are used again.
    ///
    /// # Errors
    /// [`KeyFileError::Io`].
    pub fn destroy(path: &Path) -> Result<(), KeyFileError> {
        let overwrite = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(path)?;
            let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
            file.write_all(&vec![0; length])?;
            file.sync_all()?;
            fs::remove_file(path)
        };
        overwrite().map_err(|source| KeyFileError::Io { path: path.to_owned(), source })
    }

    /// Written under another name and linked, so that a crash cannot leave half a key that looks like a file to keep.
    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = path.with_file_name(name);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(self.base64().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        // Unlike a rename, a link never replaces a key that appeared in the meantime.
        let linked = fs::hard_link(&new, path);
        fs::remove_file(&new)?;
        linked
    }

    /// The public key that belongs to this key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::x25519(*self.0, x25519_dalek::X25519_BASEPOINT_BYTES))
    }

    /// The secret as text, for a configuration that is shown once.
    #[must_use]
    pub(crate) fn base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(*self.0))
    }

    /// The secret, for WireGuard's netlink interface only.
    #[must_use]
    pub(crate) fn secret(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Alice's pair of RFC 7748, 6.1.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn a_public_key_is_written_as_it_was_read() {
        assert_eq!(PUBLIC.parse::<PublicKey>().unwrap().to_string(), PUBLIC);
        let zero = BASE64_STANDARD.encode([0; LENGTH]);
        for text in ["", "aGVsbG8=", &PUBLIC[1..], &format!("{PUBLIC}\n"), &zero] {
            let error = text.parse::<PublicKey>().unwrap_err().to_string();
            assert!(error.contains("wg pubkey"), "{error}");
        }
    }

    #[test]
    fn the_public_key_follows_from_the_private_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, &format!("{PRIVATE}\n"), 0o600);
        let key = PrivateKey::read(&path).unwrap();
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(format!("{key:?}"), format!("PrivateKey(of {PUBLIC})"), "the secret is not shown");
    }

    #[test]
    fn a_key_file_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("north.key");
        let first = PrivateKey::read_or_create(&path).unwrap();
        let second = PrivateKey::read_or_create(&path).unwrap();
        assert_eq!(first.public(), second.public());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no file is left beside it");
        assert_ne!(first.public(), PrivateKey::generate().unwrap().public());
    }

    /// Requirements: G4.
    #[test]
    fn a_bad_key_file_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(PrivateKey::read(&path), Err(KeyFileError::Missing { .. })));
        write(&path, PRIVATE, 0o640);
        assert!(matches!(PrivateKey::read(&path), Err(KeyFileError::Readable { mode: 0o640, .. })));
        write(&path, &PRIVATE[2..], 0o600);
        let error = PrivateKey::read_or_create(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Form { .. }));
        assert!(!error.to_string().contains(&PRIVATE[2..10]), "{error}");
    }

    /// Requirements: A3.
    #[test]
    fn a_key_file_is_made_once_and_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("user.key");
        let key = PrivateKey::create(&path).unwrap();
        assert_eq!(PrivateKey::read(&path).unwrap().public(), key.public());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let error = PrivateKey::create(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists { .. }), "{error}");
        assert_eq!(PrivateKey::read(&path).unwrap().public(), key.public(), "the key in use is untouched");
        // Another name of the file shows what it holds after its end.
        let witness = folder.path().join("witness");
        fs::hard_link(&path, &witness).unwrap();
        PrivateKey::destroy(&path).unwrap();
        assert!(!path.exists());
        assert!(fs::read(&witness).unwrap().iter().all(|byte| *byte == 0));
        assert!(matches!(PrivateKey::destroy(&path), Err(KeyFileError::Io { .. })));
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}
