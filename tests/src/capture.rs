//! What passes a host's interfaces, as a packet socket sees it.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with, sockopt},
};

use crate::namespace::Namespace;

/// Memory for packets that wait to be looked at, bytes.
const WAITING: usize = 64 << 20;
/// How soon an idle capture sees that it is over.
const LOOK: Duration = Duration::from_millis(50);
/// The largest packet.
const LARGEST: usize = 65_535;

/// A running capture of all interfaces of a host. It looks at each IP packet, without link header: in both directions,
/// and again on each interface that a packet passes.
#[derive(Debug)]
pub struct Capture<T> {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<T>>>,
}

impl<T: Send + 'static> Capture<T> {
    /// Starts, and keeps what `keep` makes of a packet that passed no later than the given moment.
    ///
    /// # Errors
    /// Without root.
    pub fn start(host: &Namespace, mut keep: impl FnMut(Instant, &[u8]) -> Option<T> + Send + 'static) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (ready, started) = mpsc::channel();
        let thread = {
            let over = Arc::clone(&over);
            host.enter(move || {
                let socket = match open() {
                    Ok(socket) => socket,
                    Err(error) => {
                        // Nobody waits for it only if the caller is gone.
                        let _ = ready.send(Err(error));
                        return Ok(Vec::new());
                    }
                };
                let _ = ready.send(Ok(()));
                collect(&socket, &over, &mut keep)
            })?
        };
        started.recv().context("the capture's thread ended")??;
        Ok(Self { over, thread })
    }

    /// Ends, and gives what was kept, the first packet first.
    ///
    /// # Errors
    /// If packets could not be looked at.
    pub fn finish(self) -> Result<Vec<T>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread does not panic")
    }
}

fn open() -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(eth::ALL))?;
    sockopt::set_socket_recv_buffer_size_force(&socket, WAITING)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(LOOK))?;
    Ok(socket)
}

fn collect<T>(
    socket: &OwnedFd,
    over: &AtomicBool,
    keep: &mut impl FnMut(Instant, &[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut kept = Vec::new();
    let mut packet = vec![0; LARGEST];
    loop {
        // What came before the end is looked at.
        let last = over.load(Ordering::Relaxed);
        match recv(socket, &mut *packet, if last { RecvFlags::DONTWAIT } else { RecvFlags::empty() }) {
            Ok((_, length)) => kept.extend(keep(Instant::now(), &packet[..length])),
            Err(Errno::AGAIN) if last => return Ok(kept),
            // The last one: an interface went down.
            Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => {}
            Err(error) => ensure!(false, "a capture ended: {error}"),
        }
    }
}
