//! A device at a plant: a Modbus/TCP server, a UDP service and an HTTP server. It knows nothing of the VPN.

use std::{
    fs, future,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio_modbus::{
    ExceptionCode, Request, Response,
    server::tcp::{Server, accept_tcp_connection},
};

use crate::{background::Background, namespace::Namespace, steps::equal};

/// Port of the Modbus/TCP server (IANA).
pub const MODBUS_PORT: u16 = 502;
/// Port of the HTTP server.
pub const HTTP_PORT: u16 = 80;
/// Port of the UDP service, which sends every datagram back with the device's name in front.
pub const UDP_PORT: u16 = 2_000;

/// A running device.
#[derive(Debug)]
pub struct Device {
    _http: Background,
}

impl Device {
    /// Starts the servers in a namespace, for both address families if `address` is `::`. `registers` are the Modbus
    /// holding registers from address 0; `site` holds the files of the HTTP server.
    ///
    /// # Errors
    /// If a port is taken or a server does not start.
    pub fn start(
        namespace: &Namespace,
        name: &'static str,
        address: IpAddr,
        registers: &'static [u16],
        site: &Path,
    ) -> Result<Self> {
        let (ready, started) = mpsc::channel();
        // Ends with the process.
        let _ = namespace.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let bound = async {
                    let modbus = TcpListener::bind(SocketAddr::from((address, MODBUS_PORT))).await?;
                    let udp = tokio::net::UdpSocket::bind(SocketAddr::from((address, UDP_PORT))).await?;
                    std::io::Result::Ok((modbus, udp))
                };
                match bound.await {
                    Ok((modbus, udp)) => {
                        let _ = ready.send(Ok(()));
                        tokio::join!(serve_modbus(modbus, registers), serve_udp(udp, name));
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            });
        })?;
        started.recv().context("the device's thread ended")?.with_context(|| format!("device {name}"))?;
        let mut httpd = namespace.command("busybox");
        httpd.args(["httpd", "-f", "-p", &SocketAddr::from((address, HTTP_PORT)).to_string(), "-h"]).arg(site);
        Ok(Self { _http: Background::start(httpd)? })
    }
}

/// Files for a device's HTTP server: `name` says where one is, `blob` has so many bytes that differ by device, and
/// `archive` so many zeros, which take no room.
///
/// # Errors
/// If they cannot be written.
pub fn write_site(folder: &Path, name: &str, size: usize, archive: u64) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("name"), format!("{name}\n"))?;
    fs::write(folder.join("blob"), blob(name, size))?;
    fs::File::create(folder.join("archive"))?.set_len(archive)?;
    Ok(())
}

/// The content of a device's `blob`.
#[must_use]
pub fn blob(name: &str, size: usize) -> Vec<u8> {
    let seed = name.bytes().fold(7_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8).collect()
}

/// Sends `count` datagrams from a user to the UDP service of a plant's device, each after the reply to the one before;
/// gives bytes sent and received.
///
/// # Errors
/// If a reply does not come, or is not that device's.
pub fn exchange(user: &Namespace, device: Ipv4Addr, plant: &'static str, count: u64) -> Result<(u64, u64)> {
    let exchange = move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((device, UDP_PORT))?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let (mut sent, mut received) = (0, 0);
        for number in 0..count {
            let question = "?".repeat(1 + 40 * number as usize);
            sent += socket.send(question.as_bytes())? as u64;
            let mut answer = [0; 2_048];
            let length = socket.recv(&mut answer).context("no answer")?;
            equal("answer", &answer[..length], format!("{plant} {question}").as_bytes())?;
            received += length as u64;
        }
        Ok((sent, received))
    };
    user.enter(exchange)?.join().expect("the thread does not panic")
}

struct Registers(&'static [u16]);

impl tokio_modbus::server::Service for Registers {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = future::Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let response = match request {
            Request::ReadHoldingRegisters(first, count) => self
                .0
                .get(usize::from(first)..usize::from(first) + usize::from(count))
                .map(|registers| Response::ReadHoldingRegisters(registers.to_vec()))
                .ok_or(ExceptionCode::IllegalDataAddress),
            _ => Err(ExceptionCode::IllegalFunction),
        };
        future::ready(response)
    }
}

async fn serve_modbus(listener: TcpListener, registers: &'static [u16]) {
    let connected =
        |stream, peer| async move { accept_tcp_connection(stream, peer, |_| Ok(Some(Registers(registers)))) };
    // A client that breaks off is no concern of the others.
    let _ = Server::new(listener).serve(&connected, |_| ()).await;
}

async fn serve_udp(socket: tokio::net::UdpSocket, name: &str) {
    let mut datagram = [0; 2_048];
    while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
        let reply = [name.as_bytes(), b" ", &datagram[..length]].concat();
        // A lost reply is the client's business, as with every UDP service.
        let _ = socket.send_to(&reply, from).await;
    }
}
