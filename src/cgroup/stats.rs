//! What a cgroup has used, and what happened in it, from its files.

use super::limits::BlockDevice;
use std::time::Duration;

/// What a cgroup uses and has used, as far as its controllers are enabled.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of memory in use.
    pub memory: Option<u64>,
    /// The most bytes of memory that were in use at a time (Linux 5.19).
    pub memory_peak: Option<u64>,
    /// Bytes of swap in use.
    pub swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processor time, which every cgroup counts.
    pub cpu: Option<CpuStats>,
    /// Block I/O, by device.
    pub io: Vec<IoStats>,
}

/// Processor time of a cgroup: `cpu.stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuStats {
    /// In user mode and in the kernel.
    pub time: Duration,
    /// In user mode.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
    /// How often the limit of a period was reached.
    pub throttled: u64,
    /// How long something waited for the next period.
    pub throttled_time: Duration,
}

/// Block I/O of a cgroup on one device: a line of `io.stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoStats {
    /// The device.
    pub device: BlockDevice,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Operations that read.
    pub reads: u64,
    /// Operations that wrote.
    pub writes: u64,
}

/// What happened in a cgroup and below: `cgroup.events`, `memory.events` and `pids.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Events {
    /// There are processes.
    pub populated: bool,
    /// Nothing in it runs.
    pub frozen: bool,
    /// How often `memory.max` was about to be exceeded.
    pub memory_max: Option<u64>,
    /// How often nothing could be reclaimed.
    pub oom: Option<u64>,
    /// How many processes were killed for want of memory.
    pub oom_kill: Option<u64>,
    /// How often a process could not be made because of `pids.max`.
    pub pids_max: Option<u64>,
}

/// A resource that can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PressureOf {
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Block I/O.
    Io,
}

impl PressureOf {
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Cpu => "cpu.pressure",
            Self::Memory => "memory.pressure",
            Self::Io => "io.pressure",
        }
    }
}

/// How much of the time was lost waiting: for some of the processes, and for all of them at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Pressure {
    /// At least one waited.
    pub some: Stall,
    /// All waited, so nothing was done.
    pub full: Stall,
}

/// Shares of the last seconds, in percent, and time altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stall {
    /// Of the last ten seconds.
    pub last_10: f64,
    /// Of the last minute.
    pub last_60: f64,
    /// Of the last five minutes.
    pub last_300: f64,
    /// Since the cgroup was made.
    pub total: Duration,
}

/// The value of a key in a file of `key value` lines.
pub(super) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

pub(super) fn flag(text: &str, key: &str) -> bool {
    value(text, key) == Some(1)
}

/// A file of one number, which may be `max`.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

pub(super) fn cpu(text: &str) -> CpuStats {
    let time = |key| Duration::from_micros(value(text, key).unwrap_or(0));
    CpuStats {
        time: time("usage_usec"),
        user: time("user_usec"),
        system: time("system_usec"),
        throttled: value(text, "nr_throttled").unwrap_or(0),
        throttled_time: time("throttled_usec"),
    }
}

pub(super) fn io(text: &str) -> Vec<IoStats> {
    let line = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let value = |key| {
            rest.split(' ')
                .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
                .unwrap_or(0)
        };
        Some(IoStats {
            device: BlockDevice {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            },
            read_bytes: value("rbytes"),
            written_bytes: value("wbytes"),
            reads: value("rios"),
            writes: value("wios"),
        })
    };
    text.lines().filter_map(line).collect()
}

pub(super) fn pressure(text: &str) -> Pressure {
    let stall = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind));
        let line = line.unwrap_or_default();
        let value = |key: &str| {
            line.split(' ')
                .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or("0")
        };
        let share = |key| value(key).parse().unwrap_or(0.0);
        Stall {
            last_10: share("avg10"),
            last_60: share("avg60"),
            last_300: share("avg300"),
            total: Duration::from_micros(value("total").parse().unwrap_or(0)),
        }
    };
    Pressure {
        some: stall("some"),
        full: stall("full"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let text = "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 9\nnr_throttled 3\nthrottled_usec 7\n";
        let found = cpu(text);
        assert_eq!(found.time, Duration::from_millis(1500));
        assert_eq!(found.system, Duration::from_millis(500));
        assert_eq!((found.throttled, found.throttled_time.as_micros()), (3, 7));
        assert_eq!(cpu("").throttled, 0);

        let text =
            "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n8:0 \nx\n";
        let found = io(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0].device,
            BlockDevice {
                major: 8,
                minor: 16
            }
        );
        assert_eq!((found[0].read_bytes, found[0].writes), (1_459_200, 353));
        assert_eq!(found[1].reads, 0);

        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let found = pressure(text);
        assert!((found.some.last_10 - 1.5).abs() < 1e-9);
        assert_eq!(found.some.total, Duration::from_micros(12_345));
        assert_eq!(found.full.total, Duration::from_micros(5));

        assert_eq!(value("low 0\noom_kill 4\noom 2\n", "oom"), Some(2));
        assert_eq!(number("max\n"), None);
        assert!(flag("populated 1\nfrozen 0\n", "populated"));
        assert!(!flag("populated 1\nfrozen 0\n", "frozen"));
    }
}
