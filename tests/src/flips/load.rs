//! Programs of a user who works at whichever plant the real address leads to, and notes which one answers.
//!
//! They do not know when that changes. What an exchange has seen is an [`Answer`]; a datagram and a connection may have
//! any number of them, and all must be of one plant.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{device::UDP_PORT, namespace::Namespace};

/// Port of the server that answers each line of a connection with the plant's name in front.
pub const LINE_PORT: u16 = 2_001;

/// How long a program waits for an answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long a socket stays open after its last datagram, so that a late answer finds it.
const LATE: Duration = Duration::from_secs(2);
/// Datagrams of one socket, and lines of one connection.
const EXCHANGES: u64 = 6;
/// The pause between two of them.
const PAUSE: Duration = Duration::from_millis(10);

/// An answer of a plant.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The connection, or the one datagram: nothing else has this number.
    pub of: u64,
    /// Which protocol.
    pub protocol: Protocol,
    /// When the question was sent, and when its answer was there.
    pub sent: Instant,
    /// See there.
    pub answered: Instant,
    /// Who answered.
    pub plant: &'static str,
}

/// How a question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// In a connection.
    Tcp,
    /// In a datagram.
    Udp,
}

/// Running programs.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    programs: Vec<JoinHandle<Result<Vec<Answer>>>>,
}

impl Load {
    /// Starts so many programs of each protocol in the user's namespace, which ask `device`.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn start(user: &Namespace, device: Ipv4Addr, plants: [&'static str; 2], each: usize) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let numbers = Arc::new(AtomicU64::new(0));
        let mut programs = Vec::new();
        for _ in 0..each {
            for run in [lines as fn(&Program) -> Result<Vec<Answer>>, datagrams] {
                let program = Program { over: Arc::clone(&over), numbers: Arc::clone(&numbers), device, plants };
                programs.push(user.enter(move || run(&program))?);
            }
        }
        Ok(Self { over, programs })
    }

    /// Ends them, and gives all answers.
    ///
    /// # Errors
    /// What a program must not see: an answer of nobody, or of somebody else's question.
    pub fn finish(self) -> Result<Vec<Answer>> {
        self.over.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for program in self.programs {
            answers.extend(program.join().expect("the thread does not panic")?);
        }
        Ok(answers)
    }
}

/// What each program knows.
struct Program {
    over: Arc<AtomicBool>,
    numbers: Arc<AtomicU64>,
    device: Ipv4Addr,
    plants: [&'static str; 2],
}

impl Program {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The plant in an answer, and the number behind it.
    fn read(&self, answer: &str) -> Result<(&'static str, u64)> {
        let (name, number) = answer.split_once(' ').with_context(|| format!("the answer {answer:?}"))?;
        let plant = self.plants.into_iter().find(|plant| *plant == name);
        Ok((plant.with_context(|| format!("an answer of {name:?}"))?, number.trim().parse()?))
    }
}

/// Connections one after the other, and in each some lines.
fn lines(program: &Program) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while !program.is_over() {
        let of = program.number();
        let address = SocketAddrV4::new(program.device, LINE_PORT);
        // While the address leads elsewhere from one packet to the next, some connections fail.
        let Ok(stream) = TcpStream::connect_timeout(&address.into(), PATIENCE) else {
            thread::sleep(PAUSE);
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(&stream);
        for number in 0..EXCHANGES {
            let sent = Instant::now();
            let mut line = String::new();
            if (&stream).write_all(format!("{number}\n").as_bytes()).is_err() || reader.read_line(&mut line).is_err() {
                break;
            }
            // The plant never ends a connection before the user does.
            let (plant, answered) = program.read(&line)?;
            ensure!(answered == number, "line {answered} is answered in the place of line {number}");
            answers.push(Answer { of, protocol: Protocol::Tcp, sent, answered: Instant::now(), plant });
            thread::sleep(PAUSE);
        }
    }
    Ok(answers)
}

/// Sockets one after the other, and from each some datagrams.
fn datagrams(program: &Program) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut used = VecDeque::new();
    while !program.is_over() {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((program.device, UDP_PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut asked = Asked { socket, questions: Vec::new() };
        for _ in 0..EXCHANGES {
            let number = program.number();
            asked.questions.push((number, Instant::now()));
            // What the gateway refused stands in the socket as an error, and is reported by whatever comes next.
            if asked.socket.send(number.to_string().as_bytes()).is_ok() {
                asked.receive(program, &mut answers)?;
            }
            thread::sleep(PAUSE);
        }
        asked.socket.set_nonblocking(true)?;
        used.push_back((Instant::now(), asked));
        while used.front().is_some_and(|(last, _)| last.elapsed() > LATE) {
            if let Some((_, mut asked)) = used.pop_front() {
                asked.receive_all(program, &mut answers)?;
            }
        }
    }
    thread::sleep(LATE);
    for (_, mut asked) in used {
        asked.receive_all(program, &mut answers)?;
    }
    Ok(answers)
}

/// A socket, and what was asked by it.
struct Asked {
    socket: UdpSocket,
    questions: Vec<(u64, Instant)>,
}

impl Asked {
    /// Takes the next answer, if there is one in time.
    fn receive(&mut self, program: &Program, answers: &mut Vec<Answer>) -> Result<bool> {
        let mut datagram = [0; 64];
        let length = match self.socket.recv(&mut datagram) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
            // The gateway's word that it has refused one.
            Err(error) if error.kind() == ErrorKind::HostUnreachable => return Ok(true),
            Err(error) => return Err(error).context("receive an answer"),
        };
        let (plant, of) = program.read(std::str::from_utf8(&datagram[..length])?)?;
        let question = self.questions.iter().find(|(number, _)| *number == of);
        let (_, sent) = *question.with_context(|| format!("an answer to {of}, which this socket has not asked"))?;
        answers.push(Answer { of, protocol: Protocol::Udp, sent, answered: Instant::now(), plant });
        Ok(true)
    }

    fn receive_all(&mut self, program: &Program, answers: &mut Vec<Answer>) -> Result<()> {
        while self.receive(program, answers)? {}
        Ok(())
    }
}

/// A plant's server: answers each line with `name` in front, and never ends a connection before the client does.
///
/// # Errors
/// If the port is taken.
pub fn serve_lines(lan: &Namespace, device: Ipv4Addr, name: &'static str) -> Result<()> {
    let listener = lan.enter(move || TcpListener::bind((device, LINE_PORT)))?;
    let listener = listener.join().expect("the thread does not panic").context("the server of lines")?;
    // Both end with the process.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(&stream, name));
        }
    });
    Ok(())
}

fn answer(mut stream: &TcpStream, name: &str) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    // A client that is gone for good is no concern of the others.
    while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
        if stream.write_all(format!("{name} {line}").as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}
