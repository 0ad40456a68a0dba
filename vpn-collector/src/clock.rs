//! From the kernel's clock to the calendar.
//!
//! Flows are stamped with `CLOCK_BOOTTIME`, which never jumps. The calendar does: a host starts with a wrong date
//! and is set right later. A flow's start decides its partition and stands in its sort key, so it must come out
//! the same in every snapshot, also after a restart of the collector. Hence each stamp is converted by the offset
//! that was in force when the stamp was made, and the offsets of this boot are kept on disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A change of the calendar by less than this is drift, and ignored.
const STEP_NS: i128 = 1_000_000_000;

/// The start of 2025. A host with an earlier date has not been told the date yet, and rows with such a date would be
/// deleted as too old.
const CALENDAR_START_NS: u64 = 1_735_689_600 * 1_000_000_000;

/// The kernel's name for the present boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Converts `CLOCK_BOOTTIME` to nanoseconds since 1970.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    kept: Kept,
}

/// What is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    boot: String,
    /// Ascending; the first is valid from the boot on.
    offsets: Vec<Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Offset {
    /// `CLOCK_BOOTTIME` from which it is valid.
    since_ns: u64,
    /// What to add to get nanoseconds since 1970.
    add_ns: u64,
}

impl Clock {
    /// Reads the offsets of this boot from `state_dir`. [`Clock::observe`] has to be called before the first
    /// conversion.
    ///
    /// # Errors
    /// If the boot id or the offsets cannot be read. Other offsets would give flows other starts, and double them.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let boot = fs::read_to_string(BOOT_ID)?.trim().to_owned();
        let file = state_dir.join("clock.json");
        let kept = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            bytes => Some(serde_json::from_slice::<Kept>(&bytes?).map_err(|error| {
                io::Error::other(format!("{}: {error}; restore it, or remove it and restart the host", file.display()))
            })?),
        };
        let kept = kept.filter(|kept| kept.boot == boot).unwrap_or(Kept { boot, offsets: Vec::new() });
        Ok(Self { file, kept })
    }

    /// The kernel's name for the present boot.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.kept.boot
    }

    /// Notices a step of the calendar. To be called often: stamps between the step and the call are converted by
    /// the old offset.
    ///
    /// # Errors
    /// If the calendar is not set yet, or a new offset cannot be written; it is then not used either.
    pub fn observe(&mut self) -> io::Result<()> {
        let boot_ns = now_ns(ClockId::Boottime);
        let real_ns = now_ns(ClockId::Realtime);
        if real_ns < CALENDAR_START_NS {
            return Err(io::Error::other("the host's date is before 2025; flows wait in the kernel until it is set"));
        }
        let Some(kept) = self.kept.with(boot_ns, real_ns.saturating_sub(boot_ns)) else { return Ok(()) };
        vpn_directory::replace(&self.file, &serde_json::to_vec(&kept)?)?;
        self.kept = kept;
        Ok(())
    }

    /// Nanoseconds since 1970 of a `CLOCK_BOOTTIME` stamp.
    #[must_use]
    pub fn real_ns(&self, boot_ns: u64) -> u64 {
        self.kept.real_ns(boot_ns)
    }
}

impl Kept {
    /// The offsets with one more, if the calendar was set since the last.
    fn with(&self, boot_ns: u64, add_ns: u64) -> Option<Self> {
        let since_ns = match self.offsets.last() {
            None => 0,
            Some(last) if (i128::from(last.add_ns) - i128::from(add_ns)).abs() < STEP_NS => return None,
            Some(_) => boot_ns,
        };
        let mut kept = self.clone();
        kept.offsets.push(Offset { since_ns, add_ns });
        Some(kept)
    }

    fn real_ns(&self, boot_ns: u64) -> u64 {
        let valid = self.offsets.partition_point(|offset| offset.since_ns <= boot_ns);
        let add_ns = valid.checked_sub(1).and_then(|at| self.offsets.get(at)).map_or(0, |offset| offset.add_ns);
        boot_ns.saturating_add(add_ns)
    }
}

/// The clock in nanoseconds.
#[must_use]
pub fn now_ns(clock: ClockId) -> u64 {
    Duration::try_from(clock_gettime(clock)).map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_stamp_keeps_its_time_when_the_calendar_is_set() {
        let none = Kept { boot: "b".into(), offsets: Vec::new() };
        let first = none.with(10 * SECOND, 1_000 * SECOND).unwrap();
        assert_eq!(first.real_ns(5 * SECOND), 1_005 * SECOND, "the first offset holds from the boot on");

        assert_eq!(first.with(20 * SECOND, 1_000 * SECOND + SECOND / 2), None, "drift");
        let second = first.with(20 * SECOND, 5_000 * SECOND).unwrap();
        assert_eq!(second.real_ns(5 * SECOND), 1_005 * SECOND, "what was stamped before stays");
        assert_eq!(second.real_ns(20 * SECOND), 5_020 * SECOND);

        let third = second.with(30 * SECOND, 1_000 * SECOND).unwrap();
        assert_eq!(third.real_ns(25 * SECOND), 5_025 * SECOND);
        assert_eq!(third.real_ns(31 * SECOND), 1_031 * SECOND, "back again");
    }

    /// Requirements: F8.
    #[test]
    fn a_restart_finds_the_same_offsets() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = now_ns(ClockId::Boottime) - SECOND;
        let open = || -> io::Result<Clock> {
            let mut clock = Clock::open(folder.path())?;
            clock.observe()?;
            Ok(clock)
        };
        let first = open().unwrap().real_ns(stamp);
        assert_eq!(open().unwrap().real_ns(stamp), first);

        let file = folder.path().join("clock.json");
        fs::write(&file, r#"{"boot":"another","offsets":[{"since_ns":0,"add_ns":1}]}"#).unwrap();
        let again = open().unwrap().real_ns(stamp);
        assert!(again.abs_diff(first) < SECOND, "offsets of another boot are not used");

        fs::write(&file, "{").unwrap();
        assert!(open().is_err(), "offsets that cannot be read are not replaced by others");
    }
}
