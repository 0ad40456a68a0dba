//! One virtual machine, from boot to power-off.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cache;

use super::{
    emulator, host,
    initramfs::Initramfs,
    kernel::{self, Kernel},
};

/// Under this address a guest with a network reaches the host's loopback.
pub const HOST: &str = "10.0.2.2";

/// The environment variable of the guest's command that names the file to write its report to.
pub const REPORT: &str = "VPN_VM_REPORT";

const MODULES: [&str; 9] =
    ["virtio_pci", "virtio_net", "veth", "tun", "dummy", "wireguard", "sch_ingress", "cls_bpf", "8021q"];
const PROGRAMS: [&str; 8] = ["ip", "wg", "curl", "nmap", "ping", "traceroute", "tracepath", "iperf3"];
/// Without its tables of ports and protocols nmap does not start.
const NMAP_DATA: [&str; 3] = ["nmap-services", "nmap-protocols", "nmap-payloads"];

/// How long a guest on KVM may take to its first sign of life before emulation is tried instead. It takes a second.
const KVM_PATIENCE: Duration = Duration::from_secs(10);
/// First line on the report port, written by the guest's init.
const BOOTED: &str = "booted\n";

/// A machine to be: what is put into it. Any number of runs can be made of one, each from a fresh boot.
#[derive(Debug, Clone)]
pub struct Machine {
    kernel: Kernel,
    /// Programs and libraries: where each is on the host, and in the guest.
    programs: Vec<(PathBuf, PathBuf)>,
    files: Vec<(PathBuf, PathBuf)>,
    /// Kernel modules besides [`MODULES`].
    modules: Vec<&'static str>,
    network: bool,
    memory_mib: u32,
    counts_instructions: bool,
}

/// Memory of a machine unless it is told otherwise; files in it take their share.
const MEMORY_MIB: u32 = 2_048;

/// The processors of an emulated guest take turns in one thread of this host. With a thread for each, QEMU before 8.1
/// translates code while another processor changes it, and keeps the translation of what it was (its commit deba78709a
/// mends that). Linux changes its own code when the first program wants packets with time stamps, and when the last one
/// has gone, and ping and traceroute do. Seen with threads, in 45 rounds of both and other tools: a kernel that met a
/// breakpoint which was no longer there (`Oops: int3` in `netif_receive_skb_list_internal`), and seven packets lost at
/// once. In turns, 56 rounds saw neither; and two machines side by side need a third less of the host's processor time.
const EMULATION: &str = "tcg,thread=single";

/// Every instruction takes 2² ns, much longer than on any core that a gateway has. While the guest sleeps its clock goes as
/// this host's does, so that it has patience with a server outside.
const CLOCK: &str = "shift=2,sleep=on";

impl Machine {
    /// A machine with the usual network tools and modules, without a network and without programs of ours.
    pub fn new(kernel: &Kernel) -> Self {
        Self {
            kernel: kernel.clone(),
            programs: Vec::new(),
            files: Vec::new(),
            modules: Vec::new(),
            network: false,
            memory_mib: MEMORY_MIB,
            counts_instructions: false,
        }
    }

    /// Puts a program of the host into `/sbin`, with the libraries it needs.
    pub fn program(self, host: impl Into<PathBuf>) -> Self {
        let host = host.into();
        let guest = Path::new("/sbin").join(host.file_name().unwrap_or_default());
        self.library(host, guest)
    }

    /// Puts a library of the host at an absolute path in the guest, with the libraries that it needs in turn.
    pub fn library(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.programs.push((host.into(), guest.into()));
        self
    }

    /// Puts a file of the host at an absolute path in the guest.
    pub fn file(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.files.push((host.into(), guest.into()));
        self
    }

    /// Has the guest load a module of its kernel besides the usual ones, with those that it needs.
    pub fn module(mut self, name: &'static str) -> Self {
        self.modules.push(name);
        self
    }

    /// With a network, the guest's `eth0` (10.0.2.15/24) reaches the host's loopback ports at [`HOST`], and nothing else.
    pub fn network(mut self, wanted: bool) -> Self {
        self.network = wanted;
        self
    }

    /// Gives the machine so much memory, in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Gives the machine one processor, and has the clock of an emulated guest count its instructions while it is busy, 250
    /// million a second: so what it measures does not depend on how fast this host is, nor on what else the host does.
    /// (Linux 6.1 does not start a second one on that clock.)
    pub fn counts_instructions(mut self) -> Self {
        self.counts_instructions = true;
        self
    }

    /// What it boots.
    pub const fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Boots, runs `command`, and returns when the guest is off. `on_line` gets each line of the console as it comes.
    ///
    /// A command that fails is a [`Report`] with its exit code; a guest that is not done by `limit` is switched off and
    /// is the error [`TimedOut`].
    pub fn run(&self, command: &[&str], limit: Duration, mut on_line: impl FnMut(&str)) -> Result<Report> {
        let directory = tempfile::tempdir().context("create a temporary directory")?;
        let initramfs = directory.path().join("initramfs");
        fs::write(&initramfs, self.initramfs(command)?).context("write the initramfs")?;

        if kvm_may_work() {
            match self.boot(Accelerator::Kvm, &directory, limit, &mut on_line) {
                Err(error) if error.is::<NoSignOfLife>() => KVM_IS_DEAD.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        self.boot(Accelerator::Emulation, &directory, limit, &mut on_line)
    }

    fn boot(
        &self,
        accelerator: Accelerator,
        directory: &TempDir,
        limit: Duration,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Report> {
        let started = Instant::now();
        let report = directory.path().join("report");
        let mut guest = Guest::start(&mut self.qemu(accelerator, directory.path(), &report))?;
        let lines = guest.lines();
        let mut console = Vec::new();
        let mut alive = accelerator == Accelerator::Emulation;
        loop {
            let deadline = if alive { limit } else { KVM_PATIENCE.min(limit) };
            let left = deadline.saturating_sub(started.elapsed());
            // A guest that never falls silent is out of time as well, although there is always a line to receive.
            let next = if left.is_zero() { Err(RecvTimeoutError::Timeout) } else { lines.recv_timeout(left) };
            match next {
                Ok(line) => {
                    on_line(&line);
                    console.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if alive => return Err(TimedOut { limit, console }.into()),
                Err(RecvTimeoutError::Timeout) => {
                    alive = has_booted(&report);
                    if !alive {
                        return Err(NoSignOfLife { console }.into());
                    }
                }
            }
        }
        if !has_booted(&report) {
            return Err(NoSignOfLife { console }.into());
        }
        guest.wait()?;
        Report::read(&report, console)
    }

    fn qemu(&self, accelerator: Accelerator, directory: &Path, report: &Path) -> Command {
        let mut qemu = emulator::command(&cache::cache_dir());
        match accelerator {
            // Its complaints concern nobody: emulation is tried next.
            Accelerator::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]).stderr(Stdio::null()),
            Accelerator::Emulation => {
                let clock = if self.counts_instructions { &["-icount", CLOCK, "-rtc", "clock=vm"][..] } else { &[] };
                qemu.args(["-accel", EMULATION, "-cpu", "max"]).args(clock)
            }
        };
        qemu.arg("-m").arg(format!("{}M", self.memory_mib)).args([
            "-smp",
            if self.counts_instructions { "1" } else { "2" },
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
        ]);
        if self.network {
            // `restrict` would close the host's loopback too; the guest gets no route instead.
            qemu.args(["-nic", "user,model=virtio-net-pci"]);
        }
        qemu.args(["-serial", "stdio", "-serial"]).arg(format!("file:{}", report.display()));
        qemu.arg("-kernel").arg(self.kernel.image()).arg("-initrd").arg(directory.join("initramfs"));
        qemu.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check"]);
        qemu
    }

    fn initramfs(&self, command: &[&str]) -> Result<Vec<u8>> {
        let mut root = Initramfs::default();
        for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/var", "/etc", "/modules"] {
            root.directory(Path::new(directory));
        }
        root.link(Path::new("/var/run"), "/run");
        root.file(Path::new("/etc/hosts"), b"127.0.0.1 localhost\n::1 localhost\n");
        root.file(Path::new("/etc/passwd"), b"root:x:0:0:root:/tmp:/bin/sh\n");
        root.file(Path::new("/init"), include_bytes!("init.sh"));
        root.file(Path::new("/command"), shell_line(command).as_bytes());

        // What the test brings goes first: it may replace one of the tools below.
        for (host, guest) in &self.files {
            root.copy(host, guest)?;
        }
        for (host, guest) in &self.programs {
            root.program(host, guest)?;
        }
        for name in PROGRAMS {
            root.program(&host::program(name)?, &Path::new("/sbin").join(name))?;
        }
        for name in NMAP_DATA {
            let path = Path::new("/usr/share/nmap").join(name);
            root.copy(&path, &path)?;
        }
        root.program(&host::program("dash")?, Path::new("/bin/sh"))?;
        let busybox = host::program("busybox")?;
        root.copy(&busybox, Path::new("/bin/busybox"))?;
        for applet in String::from_utf8_lossy(&host::output_of(Command::new(&busybox).arg("--list"))?).lines() {
            root.link(&Path::new("/bin").join(applet), "busybox");
        }
        for (order, module) in self.kernel.modules(&[&MODULES, self.modules.as_slice()].concat())?.iter().enumerate() {
            // The guest loads them in the order of their names.
            let name = module.file_stem().unwrap_or_default().to_string_lossy();
            let guest = format!("/modules/{order:02}-{}", name.trim_end_matches(".ko"));
            root.file(Path::new(&guest), &kernel::read_module(module)?);
        }
        Ok(root.finish())
    }
}

/// What came out of a guest that ran to its end.
#[derive(Debug, Clone)]
pub struct Report {
    /// The exit code of the command.
    pub exit: i32,
    /// The lines of the console, of the kernel as well as of the command.
    pub console: Vec<String>,
    /// What the command wrote to the file that [`REPORT`] names.
    pub text: String,
}

impl Report {
    fn read(path: &Path, console: Vec<String>) -> Result<Self> {
        let report = fs::read(path).context("read the report of the guest")?;
        let report = String::from_utf8_lossy(&report);
        let text = report.strip_prefix(BOOTED).unwrap_or(&report).trim_end();
        let exit = text.rsplit('\n').next().and_then(|line| line.strip_prefix("exit="));
        let Some(code) = exit.and_then(|code| code.parse().ok()) else {
            bail!("the guest went off before the command was done; its console ended with:\n{}", tail(&console));
        };
        let text = text.rsplit_once('\n').map_or(String::new(), |(text, _)| format!("{text}\n"));
        Ok(Self { exit: code, console, text })
    }
}

/// A guest was not done in time.
#[derive(Debug, Clone)]
pub struct TimedOut {
    limit: Duration,
    console: Vec<String>,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, tail) = (self.limit.as_secs(), tail(&self.console));
        write!(out, "the guest was not done after {seconds} s; its console ended with:\n{tail}")
    }
}

impl std::error::Error for TimedOut {}

/// A guest that did not come to its init. Some hosts offer KVM, and then qemu stops or the kernel hangs in it.
#[derive(Debug)]
struct NoSignOfLife {
    console: Vec<String>,
}

impl fmt::Display for NoSignOfLife {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the guest did not come to its init; its console ended with:\n{}", tail(&self.console))
    }
}

impl std::error::Error for NoSignOfLife {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accelerator {
    Kvm,
    Emulation,
}

/// Learned once a process: each guest that waits for a dead KVM costs [`KVM_PATIENCE`].
static KVM_IS_DEAD: AtomicBool = AtomicBool::new(false);

fn kvm_may_work() -> bool {
    let processor = || fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    !KVM_IS_DEAD.load(Ordering::Relaxed)
        && OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
        && processor().split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

fn has_booted(report: &Path) -> bool {
    fs::read(report).is_ok_and(|report| report.starts_with(BOOTED.as_bytes()))
}

/// A qemu that ends with this value.
struct Guest {
    qemu: Child,
}

impl Guest {
    fn start(qemu: &mut Command) -> Result<Self> {
        let qemu = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start qemu-system-x86_64; `cargo xtask setup` provides it")?;
        Ok(Self { qemu })
    }

    /// The lines of the console; disconnected when qemu has ended.
    fn lines(&mut self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel();
        let console = self.qemu.stdout.take().expect("the console is a pipe, and taken once");
        thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        receiver
    }

    fn wait(mut self) -> Result<()> {
        let status = self.qemu.wait().context("wait for qemu")?;
        match status.success() {
            true => Ok(()),
            false => bail!("qemu failed with {status}"),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// `command` as a line of shell, with each word quoted.
fn shell_line(command: &[&str]) -> String {
    let words: Vec<String> = command.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    format!("exec {}\n", words.join(" "))
}

fn tail(console: &[String]) -> String {
    console[console.len().saturating_sub(20)..].join("\n")
}
