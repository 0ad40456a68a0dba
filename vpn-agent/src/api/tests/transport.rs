//! Who is let in, and as whom.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixListener as StdListener,
    },
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, AlertDescription, ClientConfig, crypto, pki_types::ServerName},
};

use super::{super::tls, Agent, Answer, call, run, state};

type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate and its key as `name.pem` and `name.key`.
pub(crate) fn certificate(folder: &Path, name: &str, authority: &Authority, common: Option<&str>, dns: &[&str]) {
    let mut params = CertificateParams::new(dns.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(common) = common {
        params.distinguished_name.push(DnType::CommonName, common);
    }
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    write_key(&folder.join(format!("{name}.key")), &key.serialize_pem());
}

fn write_key(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

const TLS: &str = "[api]\nsocket = 'FOLDER/api.sock'\n[api.tls]\nlisten = '127.0.0.1:0'\ncertificate_file = \
                   'FOLDER/server.pem'\nprivate_key_file = 'FOLDER/server.key'\nclient_ca_file = 'FOLDER/ca.pem'\n";

/// An agent that speaks TLS, and the authority that it trusts.
async fn agent() -> (Agent, Authority) {
    let folder = Arc::new(TempDir::new().unwrap());
    let ca = authority("the authority");
    fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
    certificate(folder.path(), "server", &ca, Some("server"), &[]);
    (Agent::start_in(folder, TLS).await, ca)
}

/// Connects with a certificate that lies in the agent's folder, or with none.
async fn connect(agent: &Agent, name: Option<&str>) -> io::Result<TlsStream<TcpStream>> {
    let folder = agent.folder.path();
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(tls::roots(&folder.join("ca.pem")).unwrap());
    let config = match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = tls::certificates(&folder.join(format!("{name}.pem"))).unwrap();
            let key = tls::private_key(&folder.join(format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let stream = TcpStream::connect(agent.server.tls.unwrap()).await?;
    let server = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(server, stream).await
}

/// How the agent ends a connection that it answers nothing on. With TLS 1.3 a client learns that when it reads.
async fn end(agent: &Agent, name: Option<&str>) -> io::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = connect(agent, name).await?;
    let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: agent\r\n\r\n").await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let ended = tokio::time::timeout(Duration::from_secs(10), read).await.expect("the agent cuts the connection");
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    ended.map(|_| ())
}

/// What TLS itself said at the end, if it was TLS that ended it.
fn alert(end: &io::Result<()>) -> Option<AlertDescription> {
    match end.as_ref().err()?.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

async fn put(agent: &Agent, name: &str, revision: u64) -> Answer {
    let stream = connect(agent, Some(name)).await.unwrap();
    call(stream, "PUT", "/v1/state", &[], Some(&state(revision))).await
}

/// Requirements: F10, G2.
#[test]
fn by_the_socket_the_kernel_says_who_it_is() {
    run(async {
        let agent = Agent::start().await;
        let metadata = fs::metadata(agent.socket()).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
        assert_eq!(agent.put("/v1/state", &state(1)).await.status, StatusCode::OK);
        let me = format!("uid:{}", rustix::process::getuid().as_raw());
        let status = agent.get("/v1/status").await.body;
        assert_eq!((&status["origin"]["actor"], &status["origin"]["from"]), (&json!(me), &json!("api")));
        assert_eq!(agent.events()[0]["actor"], json!(me));
    });
}

#[test]
fn a_socket_that_was_left_is_replaced_and_nothing_else_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("deep/er/api.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        super::super::unix::bind(&path).unwrap();
        assert!(path.exists(), "it stays when the listener is gone");
        drop(StdListener::bind(folder.path().join("deep/er/api.sock.new")).unwrap());
        let _listener = super::super::unix::bind(&path).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(!folder.path().join("deep/er/api.sock.new").exists());

        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        let error = super::super::unix::bind(&file).unwrap_err().to_string();
        assert!(error.starts_with("api.socket: ") && error.ends_with("is there, and is no socket"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    });
}

/// Requirements: F10, G2.
#[test]
fn by_tls_the_certificate_says_who_it_is() {
    run(async {
        let (agent, ca) = agent().await;
        let folder = agent.folder.path();
        certificate(folder, "named", &ca, Some("cloud-1"), &["other.example"]);
        certificate(folder, "dns", &ca, None, &["cloud-2.example", "other.example"]);
        for (at, (name, actor)) in [("named", "tls:cloud-1"), ("dns", "tls:cloud-2.example")].iter().enumerate() {
            assert_eq!(put(&agent, name, at as u64 + 1).await.status, StatusCode::OK);
            assert_eq!(agent.events()[at]["actor"], json!(actor));
        }
    });
}

/// By TLS itself, before anything of the API looks at who it is.
#[test]
fn who_has_no_certificate_of_the_authority_is_not_let_in() {
    run(async {
        let (agent, ca) = agent().await;
        let folder = agent.folder.path();
        certificate(folder, "good", &ca, Some("cloud-1"), &[]);
        certificate(folder, "foreign", &authority("the authority"), Some("cloud-1"), &[]);
        certificate(folder, "nameless", &ca, None, &[]);
        certificate(folder, "odd", &ca, Some("cloud\n1"), &[]);
        assert_eq!(alert(&end(&agent, None).await), Some(AlertDescription::CertificateRequired));
        let foreign = end(&agent, Some("foreign")).await;
        assert!(alert(&foreign).is_some(), "another authority of the same name: {foreign:?}");
        for name in ["nameless", "odd"] {
            // Trusted, and cut without an answer.
            assert_eq!(alert(&end(&agent, Some(name)).await), None, "{name}");
        }
        assert_eq!(agent.files()[2], b"", "nothing was changed");
        assert_eq!(put(&agent, "good", 1).await.status, StatusCode::OK);
    });
}

#[test]
fn renewed_certificates_are_taken_up() {
    run(async {
        let (agent, old) = agent().await;
        let folder = agent.folder.path();
        certificate(folder, "old", &old, Some("cloud-1"), &[]);
        assert_eq!(put(&agent, "old", 1).await.status, StatusCode::OK);

        fs::write(folder.join("ca.pem"), "half a file").unwrap();
        let new = authority("the next authority");
        fs::write(folder.join("trusted.pem"), old.pem()).unwrap();
        fs::write(folder.join("ca.pem"), "half a file").unwrap();
        // Still as before: the client needs the old authority to verify the server.
        fs::rename(folder.join("ca.pem"), folder.join("half.pem")).unwrap();
        fs::write(folder.join("ca.pem"), old.pem()).unwrap();
        assert_eq!(put(&agent, "old", 2).await.status, StatusCode::OK);

        fs::write(folder.join("ca.pem"), new.pem()).unwrap();
        certificate(folder, "server", &new, Some("server"), &[]);
        certificate(folder, "new", &new, Some("cloud-2"), &[]);
        fs::File::open(folder.join("ca.pem")).unwrap().set_modified(SystemTime::now()).unwrap();
        assert_eq!(put(&agent, "new", 3).await.status, StatusCode::OK);
        let old = end(&agent, Some("old")).await;
        assert!(alert(&old).is_some(), "the authority before is no longer trusted: {old:?}");
    });
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = TempDir::new().unwrap();
    let ca = authority("the authority");
    certificate(folder.path(), "server", &ca, Some("server"), &[]);
    let key = folder.path().join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = tls::private_key(&key).unwrap_err().to_string();
    assert!(error.contains("mode 0640 lets others read the private key"), "{error}");
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    let error = tls::certificates(&folder.path().join("empty.pem")).unwrap_err().to_string();
    assert!(error.ends_with("empty.pem: has no certificate in PEM"), "{error}");
}
