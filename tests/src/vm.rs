//! Virtual machines for tests: a Debian kernel with WireGuard, an initramfs made here, and one command to run.
//!
//! The guest has no disk and no state. It boots in a few seconds without hardware virtualisation, on any kernel
//! of the host and without root.

mod emulator;
mod host;
mod initramfs;
mod kernel;
mod machine;

pub use kernel::Kernel;
pub use machine::{HOST, Machine, REPORT, Report, TimedOut};
