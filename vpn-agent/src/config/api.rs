//! `[api]` and `[pull]`: how the desired state comes other than by a file.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::problem::Check;

/// `[api]`: where the agent takes calls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// A Unix socket, made with mode 0660: for those who may write it.
    pub socket: Option<PathBuf>,
    /// A TCP port, for those with a certificate.
    pub tls: Option<ApiTls>,
    /// Open connections, of the socket and of the port each.
    #[serde(default = "connections_max")]
    pub connections_max: u32,
    /// The largest body of a call, bytes.
    #[serde(default = "body_max_bytes")]
    pub body_max_bytes: u32,
}

/// `[api.tls]`: TLS in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiTls {
    /// Address and port.
    pub listen: SocketAddr,
    /// The server's certificate and what it takes to verify it, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub private_key_file: PathBuf,
    /// The authorities whose certificates let a client in, PEM.
    pub client_ca_file: PathBuf,
}

/// `[pull]`: where the agent asks for the desired state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// What to ask for.
    pub url: String,
    /// Time between two questions, seconds.
    #[serde(default = "interval_seconds")]
    pub interval_seconds: u32,
    /// The authorities that the server's certificate may be of, PEM.
    #[serde(default = "ca_file")]
    pub ca_file: PathBuf,
    /// The agent's own certificate, PEM.
    pub certificate_file: Option<PathBuf>,
    /// Its private key, PEM.
    pub private_key_file: Option<PathBuf>,
}

const fn connections_max() -> u32 {
    64
}

const fn body_max_bytes() -> u32 {
    256 << 20
}

const fn interval_seconds() -> u32 {
    30
}

/// Where Debian and Ubuntu have the authorities that everybody trusts.
fn ca_file() -> PathBuf {
    "/etc/ssl/certs/ca-certificates.crt".into()
}

impl Api {
    pub(super) fn check(&self, check: &mut Check) {
        check.that(self.socket.is_some() || self.tls.is_some(), "api", || {
            "takes no calls; give socket, tls or both, for example socket = \"/run/vpn-agent/api.sock\"".to_owned()
        });
        if let Some(socket) = &self.socket {
            check.that(socket.is_absolute() && socket.as_os_str().len() <= SOCKET_MAX, "api.socket", || {
                format!("{socket:?} is not an absolute path of at most {SOCKET_MAX} bytes; use one such as \"/run/vpn-agent/api.sock\"")
            });
        }
        check.range("api.connections_max", self.connections_max, 1..=4096);
        check.range("api.body_max_bytes", self.body_max_bytes, 65_536..=1 << 30);
    }
}

/// What a socket's address has room for, less the end of the name that it has while it is made.
const SOCKET_MAX: usize = 103;

impl Pull {
    pub(super) fn check(&self, check: &mut Check) {
        check.that(self.url.starts_with("https://"), "pull.url", || {
            format!("{:?} does not begin with \"https://\"", self.url)
        });
        let authority = self.url.split('/').nth(2).unwrap_or_default();
        check.that(!authority.contains('@'), "pull.url", || {
            "has a name or password in it, which would stand in the log; use pull.certificate_file".to_owned()
        });
        check.range("pull.interval_seconds", self.interval_seconds, 1..=86_400);
        for (path, given, other, other_name) in [
            ("pull.certificate_file", &self.certificate_file, &self.private_key_file, "pull.private_key_file"),
            ("pull.private_key_file", &self.private_key_file, &self.certificate_file, "pull.certificate_file"),
        ] {
            check.that(given.is_some() || other.is_none(), path, || format!("missing; {other_name} needs it"));
        }
    }

    /// The certificate and the private key, if there are both.
    #[must_use]
    pub fn identity(&self) -> Option<(&Path, &Path)> {
        Some((self.certificate_file.as_deref()?, self.private_key_file.as_deref()?))
    }
}
