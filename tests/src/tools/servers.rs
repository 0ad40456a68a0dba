//! What a device serves, and what it does not.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::{
    device::{HTTP_PORT, MODBUS_PORT, UDP_PORT, blob},
    namespace::Namespace,
    steps::equal,
};

use super::{Family, network, scene::Scene};

/// A UDP port that no device has.
const CLOSED_UDP_PORT: u16 = UDP_PORT + 1;

/// `curl` gets the right page from each of the devices, which all have one address; under that one, it is that of the
/// plant whose name comes first.
/// Requirements: A6.
pub fn http(scene: &Scene) -> Result<Vec<String>> {
    let user = scene.user("user-a");
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["north", "south", "store"] {
            let url = format!("http://{}", authority(scene.device(plant, family)?, HTTP_PORT));
            let file = scene.folder.join(format!("{plant}-{family:?}"));
            user.run(&format!("curl -gsS -m 30 -o {} {url}/blob", file.display()))?;
            ensure!(fs::read(&file)? == blob(plant, network::BLOB), "{url}/blob is not what {plant} has");
            let name = user.run(&format!("curl -gsS -m 30 {url}/name"))?;
            equal(format!("{url}/name"), &*name, plant)?;
            lines.push(format!("{url}/name is {name}"));
        }
        let url = format!("http://{}/name", authority(network::real(family, network::DEVICE), HTTP_PORT));
        equal(&url, &*user.run(&format!("curl -gsS -m 30 {url}"))?, "north")?;
        lines.push(format!("{url} is north"));
    }
    Ok(lines)
}

/// `mbpoll` reads the registers of each device.
/// Requirements: A6.
pub fn modbus(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for (plant, registers) in network::REGISTERS {
            let device = scene.device(plant, family)?;
            let count = registers.len();
            let line = format!("mbpoll -m tcp -p {MODBUS_PORT} -a 1 -r 1 -c {count} -1 -o 10 {device}");
            let said = scene.user("user-a").run(&line)?;
            let read: Vec<u16> = said
                .lines()
                .filter_map(|line| line.strip_prefix('[')?.split_whitespace().last()?.parse().ok())
                .collect();
            equal(format!("registers of {plant} (mbpoll: {said})"), &*read, registers)?;
            lines.push(format!("{device} at {plant}: {read:?}"));
        }
    }
    Ok(lines)
}

/// A UDP service answers; where there is none, the device's "port unreachable" reaches the program that asked.
/// Requirements: A6.
pub fn udp(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["north", "south", "store"] {
            let device = scene.device(plant, family)?;
            let ask = |port| exchange(scene.user("user-a"), device, port);
            equal(format!("answer of {device}"), ask(UDP_PORT)?, Ok(format!("{plant} hello")))?;
            equal(format!("a closed port of {device}"), ask(CLOSED_UDP_PORT)?, Err(ErrorKind::ConnectionRefused))?;
            lines.push(format!("{device} at {plant}: answers; port {CLOSED_UDP_PORT} refuses"));
        }
    }
    Ok(lines)
}

/// Sends a datagram, and gives the answer, or the error that a program gets in its place.
pub fn exchange(host: &Namespace, address: IpAddr, port: u16) -> Result<Result<String, ErrorKind>> {
    let ask = move || {
        let any = match address {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect((address, port))?;
        socket.send(b"hello")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let answered = host.enter(ask)?.join().expect("the thread does not panic");
    Ok(answered.map_err(|error| error.kind()))
}

/// Address and port as they stand in a URL.
pub fn authority(address: IpAddr, port: u16) -> String {
    SocketAddr::from((address, port)).to_string()
}
