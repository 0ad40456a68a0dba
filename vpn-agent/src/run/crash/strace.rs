//! strace, which writes down what a child does, or kills it.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::Path,
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use super::{
    agent::{DONE, READY},
    child::Child,
};

/// Has every call be a place to die, and not one in each step: a start takes a second, in which the kernel looks at the
/// programs.
const EVERY: &str = "VPN_CRASH_EVERY";

/// Those by which the kernel and the files are changed.
const CALLS: &str = "bpf,sendto,sendmsg,write,writev,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,\
                     mkdirat,fsync,fdatasync";

/// What is in the arguments of those that only look, or wake a thread.
const WITHOUT_EFFECT: [&str; 7] =
    ["RTM_GET", "_LOOKUP_ELEM", "_GET_NEXT_", "_GET_INFO_", "BPF_OBJ_GET", "_QUERY", r#""\1\0\0\0\0\0\0\0", 8"#];

/// A system call at which a child is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The step that has begun before it.
    pub step: String,
    call: String,
    /// Which of the calls of this name.
    ordinal: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.call, self.ordinal, self.step)
    }
}

pub fn has_strace() -> bool {
    let has = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    if !has {
        eprintln!("skipped: there is no strace");
    }
    has
}

/// Writes down the calls of its tracee.
fn trace(file: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-s", "100", "-e", &format!("trace={CALLS}"), "-o"]).arg(file);
    command
}

/// Kills its tracee when it is about to make a call.
pub fn kill_at(place: &Place) -> Command {
    let Place { call, ordinal, .. } = place;
    let mut command = Command::new("strace");
    command.args(["-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={ordinal}")]);
    command
}

/// A tracer of a child.
pub struct Tracer(process::Child);

impl Tracer {
    /// Returns once the child cannot make a call unseen.
    pub fn attach(command: &mut Command, child: &Child) -> Self {
        let id = child.thread;
        let tracer = command.args(["-p", &id.to_string()]).stderr(Stdio::null()).spawn().unwrap();
        while fs::read_to_string(format!("/proc/{id}/status")).unwrap().contains("TracerPid:\t0\n") {
            thread::sleep(Duration::from_millis(1));
        }
        Self(tracer)
    }
}

impl Drop for Tracer {
    /// Lets go of the child, which goes on.
    fn drop(&mut self) {
        // Fails only if it has ended, as it does with the child.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// What writes down what a child does.
pub struct Trace {
    tracer: Tracer,
    file: NamedTempFile,
}

impl Trace {
    pub fn start(child: &Child) -> Self {
        let file = NamedTempFile::new().unwrap();
        let tracer = Tracer::attach(&mut trace(file.path()), child);
        Self { tracer, file }
    }

    /// Of the places those that `choose` takes.
    pub fn places(self, choose: &dyn Fn(Vec<Place>) -> Vec<Place>) -> Vec<Place> {
        drop(self.tracer);
        let places = places(&fs::read_to_string(self.file.path()).unwrap());
        if env::var_os(EVERY).is_some() { places } else { choose(places) }
    }
}

/// The places in what strace has written.
fn places(trace: &str) -> Vec<Place> {
    let mut places = Vec::new();
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut step = "accept".to_owned();
    for line in trace.lines() {
        let Some((call, arguments)) = line.split_once('(') else { continue };
        let count = counts.entry(call).or_default();
        *count += 1;
        let is_said = call == "writev";
        if let Some((_, name)) = arguments.split_once("step=").filter(|_| is_said) {
            step = name
                .chars()
                .skip_while(|c| !c.is_alphabetic())
                .take_while(|c| *c == '-' || c.is_alphabetic())
                .collect();
        }
        let is_end = is_said && [READY, DONE].iter().any(|word| arguments.contains(&format!("\"{word} ")));
        if is_end {
            step = "idle".to_owned();
        }
        if is_end || !is_said && !WITHOUT_EFFECT.iter().any(|found| arguments.contains(found)) {
            places.push(Place { step: step.clone(), call: call.to_owned(), ordinal: *count });
        }
    }
    places
}
