//! `vpn-agent profile`, `offer` and `site-config` as people use them: what is shown, what is kept, and what is not.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;
use vpn_agent::{
    addressing::{Allocations, AllocationsFile},
    config::Config,
    key::PrivateKey,
    offer::Offer,
    state::State,
};

/// Requirements: A2, A3.
#[test]
fn a_profile_is_shown_once_and_its_key_is_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (key, offer) = (folder.path().join("user.key"), folder.path().join("offer.json"));
    let public = said(&agent(&["profile", "new", "--key", text(&key)]));
    let secret = fs::read_to_string(&key).unwrap().trim().to_owned();
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o600);
    assert!(!public.contains(&secret));
    assert!(!agent(&["profile", "new", "--key", text(&key)]).status.success(), "a key is never replaced");
    fs::write(&offer, offer_for(public.trim()).to_string()).unwrap();

    let output = agent(&["profile", "write", "--key", text(&key), "--offer", text(&offer)]);
    let profile = said(&output);
    assert!(profile.contains(&format!("\nPrivateKey = {secret}\n")) && profile.contains("[Peer]"), "{profile}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(names(folder.path()), ["offer.json"], "the key is in the profile only");
    assert!(!fs::read_to_string(&offer).unwrap().contains(&secret));
    let again = agent(&["profile", "write", "--key", text(&key), "--offer", text(&offer)]);
    assert!(!again.status.success() && again.stdout.is_empty(), "there is no second time");
}

/// Requirements: A3.
#[test]
fn a_profile_in_a_file_is_private_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (key, offer) = (folder.path().join("user.key"), folder.path().join("offer.json"));
    let public = said(&agent(&["profile", "new", "--key", text(&key)]));
    fs::write(&offer, offer_for(public.trim()).to_string()).unwrap();
    let out = folder.path().join("plants.conf");
    let write = |more: &[&str]| {
        let line = ["profile", "write", "--key", text(&key), "--offer", text(&offer), "--out", text(&out)];
        agent(&[&line, more].concat())
    };
    fs::write(&out, "other").unwrap();
    let error = String::from_utf8(write(&[]).stderr).unwrap();
    assert!(error.contains("is kept") && error.contains("there is such a file already"), "{error}");
    assert_eq!((fs::read_to_string(&out).unwrap().as_str(), key.exists()), ("other", true));

    fs::remove_file(&out).unwrap();
    assert_eq!(said(&write(&["--keep-key"])), "");
    assert!(key.exists(), "as it was asked for");
    assert_eq!(fs::metadata(&out).unwrap().mode() & 0o7777, 0o600);
    fs::remove_file(&out).unwrap();
    assert_eq!(said(&write(&[])), "");
    assert_eq!(names(folder.path()), ["offer.json", "plants.conf"]);
}

#[test]
fn what_could_not_be_shown_costs_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let (key, offer) = (folder.path().join("user.key"), folder.path().join("offer.json"));
    let public = said(&agent(&["profile", "new", "--key", text(&key)]));
    let secret = fs::read_to_string(&key).unwrap().trim().to_owned();
    let other = PrivateKey::generate().unwrap().public().to_string();
    let mut foreign = offer_for(public.trim());
    foreign["endpoint"] = json!("nowhere");
    for (content, part) in [
        (offer_for(&other), "have the certificate rotated"),
        (json!({"format": 1}), "missing field"),
        (foreign, "endpoint: \"nowhere\" is not an endpoint"),
    ] {
        fs::write(&offer, content.to_string()).unwrap();
        let output = agent(&["profile", "write", "--key", text(&key), "--offer", text(&offer)]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty() && error.contains(part), "{part}: {error}");
        assert!(!error.contains(&secret));
    }
    fs::write(&offer, offer_for(public.trim()).to_string()).unwrap();
    for qr in [&["--qr"][..], &[]] {
        let mut command = command();
        command.args(["profile", "write", "--key", text(&key), "--offer", text(&offer)]).args(qr);
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(!command.stdout(full).output().unwrap().status.success(), "nobody has seen it");
    }
    assert!(key.exists());
}

/// Requirements: A3.
#[test]
fn a_camera_reads_the_profile() {
    let folder = tempfile::tempdir().unwrap();
    let (key, offer) = (folder.path().join("user.key"), folder.path().join("offer.json"));
    let public = said(&agent(&["profile", "new", "--key", text(&key)]));
    let secret = fs::read_to_string(&key).unwrap().trim().to_owned();
    fs::write(&offer, offer_for(public.trim()).to_string()).unwrap();
    let shown = said(&agent(&["profile", "write", "--key", text(&key), "--offer", text(&offer), "--qr"]));
    assert!(!key.exists());
    let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80 + "\x1b[40;97m\x1b[0m".chars().count(), "{widest}: it fits into a terminal");
    let profile = decode(&shown);
    assert!(profile.starts_with(&format!("[Interface]\nPrivateKey = {secret}\n")), "{profile}");
    assert!(profile.ends_with("PersistentKeepalive = 25\n"), "{profile}");
}

/// Requirements: A2, A3.
#[test]
fn who_waits_for_the_offer_stores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut waiting = command()
        .args(["profile", "new"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    let mut public = String::new();
    stderr.read_line(&mut public).unwrap();
    // The input stays open, as a terminal does.
    let mut stdin = waiting.stdin.take().unwrap();
    stdin.write_all(format!("{:#}\n", offer_for(public.trim())).as_bytes()).unwrap();
    let mut profile = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut profile).unwrap();
    assert!(waiting.wait().unwrap().success());
    let secret = profile.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).unwrap().to_owned();
    let file = folder.path().join("check");
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    options.open(&file).unwrap().write_all(secret.as_bytes()).unwrap();
    assert_eq!(PrivateKey::read(&file).unwrap().public().to_string(), public.trim());
    assert_eq!(names(folder.path()), ["check"], "nothing but this test's");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains(&secret), "{rest}");
}

/// Requirements: A2, E4.
#[test]
fn the_gateway_offers_what_it_has_given_and_knows_no_private_key() {
    let gateway = Gateway::new();
    let offer: Offer = serde_json::from_str(&said(&gateway.agent(&["offer", "--certificate", "c"]))).unwrap();
    let shown = serde_json::to_value(&offer).unwrap();
    assert_eq!(shown["addresses"], json!(["100.64.0.2/32", "fd76:706e:6777::2/128"]));
    assert_eq!(shown["server_public_key"], gateway.users_key.public().to_string());
    assert_eq!(shown["endpoint"], "gateway.example:51820");
    let ranges = ["10.128.0.0/9", "fd76:7600::/24", "100.64.0.1/32", "fd76:706e:6777::1/128"];
    assert_eq!(shown["allowed_ips"], json!(ranges));
    let real: Value = serde_json::from_str(&said(&gateway.agent(&["offer", "--certificate", "c", "--real"]))).unwrap();
    assert_eq!(real["allowed_ips"], json!([&ranges[..], &["192.168.1.0/24"]].concat()));
    let unknown = gateway.agent(&["offer", "--certificate", "d"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("certificate d is not in the desired state"));
}

/// Requirements: D1.
#[test]
fn a_site_gets_a_file_for_its_router() {
    let gateway = Gateway::new();
    let file = said(&gateway.agent(&["site-config", "north"]));
    let key_file = gateway.config.plant_key_file(&"north".parse().unwrap());
    let key = PrivateKey::read(&key_file).unwrap().public().to_string();
    for line in [
        "PrivateKey = REPLACE-THIS-WITH-THE-PRIVATE-KEY-OF-THE-SITE",
        &format!("PublicKey = {key}"),
        "Endpoint = gateway-1.example:51821",
        "AllowedIPs = 100.80.0.0/16",
        "PersistentKeepalive = 25",
    ] {
        assert!(file.lines().any(|shown| shown == line), "{line}: {file}");
    }

    // The key that the site has: the file is whole, and the key is nowhere else then.
    let site = gateway.path("site.key");
    fs::write(&site, fs::read(gateway.path("kept.key")).unwrap()).unwrap();
    fs::set_permissions(&site, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let whole = said(&gateway.agent(&["site-config", "north", "--key", text(&site)]));
    let secret = fs::read_to_string(gateway.path("kept.key")).unwrap().trim().to_owned();
    assert!(whole.contains(&format!("PrivateKey = {secret}\n")) && !site.exists(), "{whole}");
    let other = gateway.path("other.key");
    PrivateKey::create(&other).unwrap();
    let refused = gateway.agent(&["site-config", "north", "--key", text(&other)]);
    assert!(!refused.status.success() && refused.stdout.is_empty() && other.exists());

    let unknown = gateway.agent(&["site-config", "west"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("plant west is not in the desired state"));
    assert!(!gateway.config.plant_key_file(&"west".parse().unwrap()).exists(), "no key is made for a mistake");
}

/// Requirements: D1.
#[test]
fn a_new_key_of_a_site_comes_with_the_change_that_it_needs() {
    let gateway = Gateway::new();
    let check = |file: &str, change: &str| {
        let secret = file.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).unwrap().to_owned();
        let change: Value = serde_json::from_str(change.trim()).unwrap();
        assert_eq!((&change["change"], &change["id"]), (&json!("put-plant"), &json!("north")));
        let made = gateway.path(&format!("{}.made", fs::read_dir(gateway.folder.path()).unwrap().count()));
        fs::write(&made, &secret).unwrap();
        fs::set_permissions(&made, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let public = PrivateKey::read(&made).unwrap().public().to_string();
        assert_eq!(change["uplink"], json!({"kind": "host", "public_key": public}));
        assert!(!change.to_string().contains(&secret));
        assert!(file.contains(&format!("Its public key is {public}.")), "{file}");
    };
    let output = gateway.agent(&["site-config", "north", "--new-key"]);
    check(&said(&output), &String::from_utf8(output.stderr.clone()).unwrap());
    let out = gateway.path("site.conf");
    let change = said(&gateway.agent(&["site-config", "north", "--new-key", "--out", text(&out)]));
    assert_eq!(fs::metadata(&out).unwrap().mode() & 0o7777, 0o600);
    check(&fs::read_to_string(&out).unwrap(), &change);
}

/// Requirements: D2.
#[test]
fn an_endpoint_that_is_dialled_gets_the_gateways_section_alone() {
    let gateway = Gateway::new();
    let mut document: Value = serde_json::from_slice(&fs::read(gateway.path("state.json")).unwrap()).unwrap();
    let key = document["plants"][0]["uplink"]["public_key"].clone();
    document["plants"][0]["uplink"] = json!({"kind": "dial", "public_key": key, "endpoint": "north.example:51820"});
    fs::write(gateway.path("state.json"), document.to_string()).unwrap();
    let lines = said(&gateway.agent(&["site-config", "north"]));
    assert!(lines.starts_with("[Peer]\n# gateway gateway-1, region eu\nPublicKey = "), "{lines}");
    assert!(lines.ends_with("AllowedIPs = 100.80.0.0/16\n") && !lines.contains("Endpoint"), "{lines}");
    let refused = gateway.agent(&["site-config", "north", "--new-key"]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("has a key of its own"));
}

/// Requirements: D1, E2.
#[test]
fn a_site_of_several_regions_gets_one_file() {
    let (eu, us) = (Gateway::new(), Gateway::with("us", "[pools]\nsource = '100.81.0.0/16'\n"));
    let peer = us.path("us.peer");
    assert_eq!(said(&us.agent(&["site-config", "north", "--peer-only", "--out", text(&peer)])), "");
    let file = said(&eu.agent(&["site-config", "north", "--region-peers", text(&peer)]));
    let lines = |start: &str| file.lines().filter_map(|line| line.strip_prefix(start)).collect::<Vec<_>>();
    assert_eq!(lines("AllowedIPs = "), ["100.80.0.0/16", "100.81.0.0/16"]);
    assert_eq!(lines("# gateway "), ["gateway-1, region eu", "gateway-1, region us"]);
    assert_eq!(lines("PrivateKey = ").len(), 1);

    let same = eu.path("eu.peer");
    said(&Gateway::new().agent(&["site-config", "north", "--peer-only", "--out", text(&same)]));
    let refused = eu.agent(&["site-config", "north", "--region-peers", text(&same)]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("give each region its own pools.source"), "{error}");
    fs::write(&same, "[Interface]\nPrivateKey = x\n").unwrap();
    let refused = eu.agent(&["site-config", "north", "--region-peers", text(&same)]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("eu.peer: line 1: \"[Interface]\""), "{error}");
}

/// A gateway's files, as an agent leaves them that has taken up one user and one plant.
struct Gateway {
    folder: TempDir,
    config: Config,
    users_key: PrivateKey,
}

impl Gateway {
    fn new() -> Self {
        Self::with("eu", "")
    }

    fn with(region: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let content = format!(
            "gateway = 'gateway-1'\nregion = '{region}'\nstate = '{}'\nstate_dir = '{}'\n[users]\n\
             private_key_file = '{}'\nendpoint = 'gateway.example:51820'\n[plants]\nendpoint = 'gateway-1.example'\n{more}",
            path("state.json").display(),
            folder.path().display(),
            path("users.key").display(),
        );
        fs::write(path("agent.toml"), &content).unwrap();
        fs::create_dir(path("keys")).unwrap();
        let config = Config::parse(&content).unwrap();
        let users_key = PrivateKey::create(&path("users.key")).unwrap();
        let site = PrivateKey::create(&path("kept.key")).unwrap();
        let document = json!({
            "revision": 1,
            "organisations": [{"id": "alpha"}],
            "portfolios": [],
            "plants": [{
                "id": "north", "organisation": "alpha", "subnets": ["192.168.1.0/24"],
                "uplink": {"kind": "host", "public_key": site.public()},
            }],
            "users": [{"id": "u"}],
            "memberships": [{"user": "u", "organisation": "alpha", "kind": "member", "access": "all"}],
            "roles": [{"user": "u", "role": "operator", "on": {"plant": "north"}}],
            "cooperations": [],
            "certificates": [{"id": "c", "user": "u", "public_key": BASE64_STANDARD.encode([7; 32])}],
        });
        fs::write(path("state.json"), document.to_string()).unwrap();
        let state = State::parse(document.to_string().as_bytes()).unwrap();
        let given = Allocations::default().extended(&state, &config).unwrap();
        AllocationsFile::new(&config.allocations_file()).write(&given).unwrap();
        Self { folder, config, users_key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn agent(&self, arguments: &[&str]) -> Output {
        agent(&[arguments, &["--config", text(&self.path("agent.toml"))]].concat())
    }
}

fn offer_for(public_key: &str) -> Value {
    json!({
        "format": 1,
        "certificate": "certificate-a",
        "public_key": public_key,
        "addresses": ["100.64.0.2/32", "fd76:706e:6777::2/128"],
        "server_public_key": BASE64_STANDARD.encode([9; 32]),
        "endpoint": "gateway.example:51820",
        "allowed_ips": ["10.128.0.0/9", "fd76:7600::/24", "100.64.0.1/32", "fd76:706e:6777::1/128"],
        "mtu": 1420,
    })
}

/// What a QR code of half-height blocks says. A block is a light module.
fn decode(shown: &str) -> String {
    const SCALE: usize = 4;
    let rows: Vec<Vec<[bool; 2]>> = shown
        .lines()
        .map(|line| {
            let line = line.strip_prefix("\x1b[40;97m").and_then(|line| line.strip_suffix("\x1b[0m")).unwrap();
            let halves = |block| match block {
                ' ' => [false, false],
                '▀' => [true, false],
                '▄' => [false, true],
                '█' => [true, true],
                other => panic!("{other}"),
            };
            line.chars().map(halves).collect()
        })
        .collect();
    let size = rows[0].len();
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(size * SCALE, 2 * rows.len() * SCALE, |x, y| {
        let (x, y) = (x / SCALE, y / SCALE);
        if rows[y / 2][x][y % 2] { 255 } else { 0 }
    });
    image.detect_grids()[0].decode().unwrap().1
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vpn-agent"))
}

fn agent(arguments: &[&str]) -> Output {
    command().args(arguments).stdin(File::open("/dev/null").unwrap()).output().unwrap()
}

/// What it printed, and that it succeeded.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The files in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
