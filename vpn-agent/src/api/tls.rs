//! Calls by TCP, with TLS in both directions. Who it was is told by the client's certificate.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::SystemTime};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
};
use tracing::{error, info};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::Error;
use crate::{actor::Actor, config::ApiTls};

/// What the files say, until they say something else.
pub(super) struct Acceptor {
    config: ApiTls,
    read: Stamps,
    acceptor: TlsAcceptor,
}

type Stamps = [Option<(SystemTime, u64, u64)>; 3];

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Tls`], which names the file.
    pub(super) fn open(config: ApiTls) -> Result<Self, Error> {
        let read = stamps(&config);
        let acceptor = acceptor(&config)?;
        Ok(Self { config, read, acceptor })
    }

    /// As the files are now: whoever renews certificates need not tell the agent. Files that cannot be used are said
    /// to be so, and those before go on to be used.
    pub(super) fn current(&mut self) -> TlsAcceptor {
        let now = stamps(&self.config);
        if now != self.read {
            self.read = now;
            match acceptor(&self.config) {
                Ok(acceptor) => {
                    info!("the API has new certificates");
                    self.acceptor = acceptor;
                }
                Err(error) => error!("{error}; the API goes on with the certificates before"),
            }
        }
        self.acceptor.clone()
    }
}

/// What changes when a file does.
fn stamps(config: &ApiTls) -> Stamps {
    [&config.certificate_file, &config.private_key_file, &config.client_ca_file].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
    })
}

fn acceptor(config: &ApiTls) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(crypto::ring::default_provider());
    let roots = Arc::new(roots(&config.client_ca_file)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| Error::tls(&config.client_ca_file, error))?;
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Error::tls(&config.certificate_file, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&config.certificate_file)?, private_key(&config.private_key_file)?)
        .map_err(|error| Error::tls(&config.certificate_file, error))?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// The authorities in a file.
///
/// # Errors
/// [`Error::Tls`].
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| Error::tls(path, error))?;
    }
    Ok(roots)
}

/// The certificates in a file, at least one.
///
/// # Errors
/// [`Error::Tls`].
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(Error::tls(path, "has no certificate in PEM")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(Error::tls(path, error)),
    }
}

/// The private key in a file that nobody else may read.
///
/// # Errors
/// [`Error::Tls`].
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let mode = fs::metadata(path).map_err(|error| Error::tls(path, error))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::tls(
            path,
            format_args!("mode {mode:04o} lets others read the private key; run `chmod 0600 {}`", path.display()),
        ));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| Error::tls(path, error))
}

/// The name in a client's certificate: that of its subject, or else its first DNS name.
pub(super) fn actor(certificate: &CertificateDer<'_>) -> Option<Actor> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let common = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let names = certificate.subject_alternative_name().ok().flatten();
    let dns = names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let name = common.or(dns)?;
    is_plain(name).then(|| Actor::of_certificate(name))
}

/// Whether a name can stand in a log and is not taken for another one.
fn is_plain(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" .-_@:+".contains(&byte))
}
