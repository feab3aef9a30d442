//! Limits of a cgroup, each a file of a controller.

use super::Controllers;
use std::fmt;

/// An upper limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// At most this.
    At(u64),
    /// No limit (`max`).
    Unlimited,
}

impl From<u64> for Limit {
    fn from(value: u64) -> Self {
        Self::At(value)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(value) => write!(f, "{value}"),
            Self::Unlimited => f.write_str("max"),
        }
    }
}

/// A block device, by the numbers that `lsblk` shows as `MAJ:MIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockDevice {
    /// The driver's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
}

/// Limits on the use of one block device: those that are given, the others stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct IoLimit {
    values: [Option<Limit>; 4],
}

impl IoLimit {
    const NAMES: [&'static str; 4] = ["rbps", "wbps", "riops", "wiops"];

    /// Leaves all as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes read in a second.
    pub fn read_bytes(self, limit: impl Into<Limit>) -> Self {
        self.with(0, limit.into())
    }

    /// Bytes written in a second.
    pub fn write_bytes(self, limit: impl Into<Limit>) -> Self {
        self.with(1, limit.into())
    }

    /// Operations that read in a second.
    pub fn read_operations(self, limit: impl Into<Limit>) -> Self {
        self.with(2, limit.into())
    }

    /// Operations that write in a second.
    pub fn write_operations(self, limit: impl Into<Limit>) -> Self {
        self.with(3, limit.into())
    }

    fn with(mut self, index: usize, limit: Limit) -> Self {
        if let Some(value) = self.values.get_mut(index) {
            *value = Some(limit);
        }
        self
    }
}

/// Limits to [set](super::Cgroup::set) for a cgroup, those that are given.
///
/// See [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html), and for each file the kernel's
/// [documentation](https://docs.kernel.org/admin-guide/cgroup-v2.html).
///
/// # Examples
/// ```
/// use ringfence::cgroup::{Limit, Limits};
/// use std::time::Duration;
///
/// let limits = Limits::new()
///     .memory_max(512 << 20)
///     .pids_max(100)
///     .cpu_max(Duration::from_millis(50), Duration::from_millis(100));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    pub(super) writes: Vec<Write>,
}

/// A text for a file, of one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: Controllers,
    pub(super) file: &'static str,
    pub(super) text: String,
}

impl Limits {
    /// Limits nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(
        mut self,
        controller: Controllers,
        file: &'static str,
        text: impl fmt::Display,
    ) -> Self {
        let text = text.to_string();
        self.writes.push(Write {
            controller,
            file,
            text,
        });
        self
    }

    /// Bytes of memory; beyond it something in the cgroup is killed.
    #[doc(alias = "memory.max")]
    pub fn memory_max(self, limit: impl Into<Limit>) -> Self {
        self.with(Controllers::MEMORY, "memory.max", limit.into())
    }

    /// Bytes of memory beyond which the kernel reclaims as hard as it can.
    #[doc(alias = "memory.high")]
    pub fn memory_high(self, limit: impl Into<Limit>) -> Self {
        self.with(Controllers::MEMORY, "memory.high", limit.into())
    }

    /// Bytes of memory that are reclaimed only if there is nothing else.
    #[doc(alias = "memory.low")]
    pub fn memory_low(self, limit: impl Into<Limit>) -> Self {
        self.with(Controllers::MEMORY, "memory.low", limit.into())
    }

    /// Bytes of memory that are never reclaimed; rather, something elsewhere is killed.
    #[doc(alias = "memory.min")]
    pub fn memory_min(self, limit: impl Into<Limit>) -> Self {
        self.with(Controllers::MEMORY, "memory.min", limit.into())
    }

    /// Bytes of swap.
    /// What does not fit stays in memory, and counts there.
    #[doc(alias = "memory.swap.max")]
    pub fn swap_max(self, limit: impl Into<Limit>) -> Self {
        self.with(Controllers::MEMORY, "memory.swap.max", limit.into())
    }

    /// When memory runs out everything in the cgroup is killed, not one process of it.
    #[doc(alias = "memory.oom.group")]
    pub fn oom_group(self) -> Self {
        self.with(Controllers::MEMORY, "memory.oom.group", 1)
    }

    /// Processes and threads, in the cgroup and below it. Beyond it fork(2) and clone(2) fail with `EAGAIN`.
    #[doc(alias = "pids.max")]
    pub fn pids_max(self, limit: impl Into<Limit>) -> Self {
        self.with(Controllers::PIDS, "pids.max", limit.into())
    }

    /// This much processor time in each period, which the kernel wants between a millisecond and a
    /// second. On several processors the time may be longer than the period.
    #[doc(alias = "cpu.max")]
    pub fn cpu_max(self, time: std::time::Duration, period: std::time::Duration) -> Self {
        let text = format!("{} {}", time.as_micros(), period.as_micros());
        self.with(Controllers::CPU, "cpu.max", text)
    }

    /// No limit of processor time.
    pub fn cpu_unlimited(self) -> Self {
        self.with(Controllers::CPU, "cpu.max", Limit::Unlimited)
    }

    /// The share of processor time among siblings, from 1 to 10000; 100 if not set.
    #[doc(alias = "cpu.weight")]
    pub fn cpu_weight(self, weight: u16) -> Self {
        self.with(Controllers::CPU, "cpu.weight", weight)
    }

    /// How much a block device may be used. What is beyond it waits.
    #[doc(alias = "io.max")]
    pub fn io_max(self, device: BlockDevice, limit: IoLimit) -> Self {
        let mut text = format!("{}:{}", device.major, device.minor);
        for (name, value) in IoLimit::NAMES.iter().zip(limit.values) {
            if let Some(value) = value {
                text.push_str(&format!(" {name}={value}"));
            }
        }
        self.with(Controllers::IO, "io.max", text)
    }

    /// The share of block I/O among siblings, from 1 to 10000; 100 if not set.
    #[doc(alias = "io.weight")]
    pub fn io_weight(self, weight: u16) -> Self {
        self.with(Controllers::IO, "io.weight", format!("default {weight}"))
    }

    /// The processors to run on, by number. Those that the parent does not have are left out.
    #[doc(alias = "cpuset.cpus")]
    pub fn cpus(self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.with(Controllers::CPUSET, "cpuset.cpus", list(processors))
    }

    /// The memory nodes to allocate from, by number. Those that the parent does not have are left out.
    #[doc(alias = "cpuset.mems")]
    pub fn mems(self, nodes: impl IntoIterator<Item = usize>) -> Self {
        self.with(Controllers::CPUSET, "cpuset.mems", list(nodes))
    }
}

fn list(numbers: impl IntoIterator<Item = usize>) -> String {
    let numbers: Vec<_> = numbers.into_iter().map(|one| one.to_string()).collect();
    numbers.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_limit_is_the_text_of_its_file() {
        let device = BlockDevice {
            major: 8,
            minor: 16,
        };
        let limits = Limits::new()
            .memory_max(1 << 20)
            .memory_high(Limit::Unlimited)
            .memory_low(1)
            .memory_min(2)
            .swap_max(0)
            .oom_group()
            .pids_max(5)
            .cpu_max(Duration::from_millis(50), Duration::from_millis(100))
            .cpu_weight(7)
            .io_max(
                device,
                IoLimit::new()
                    .read_bytes(9)
                    .write_operations(Limit::Unlimited),
            )
            .io_weight(8)
            .cpus([0, 2])
            .mems([0]);
        let texts: Vec<_> = limits
            .writes
            .iter()
            .map(|write| (write.file, write.text.as_str()))
            .collect();
        assert_eq!(
            texts,
            [
                ("memory.max", "1048576"),
                ("memory.high", "max"),
                ("memory.low", "1"),
                ("memory.min", "2"),
                ("memory.swap.max", "0"),
                ("memory.oom.group", "1"),
                ("pids.max", "5"),
                ("cpu.max", "50000 100000"),
                ("cpu.weight", "7"),
                ("io.max", "8:16 rbps=9 wiops=max"),
                ("io.weight", "default 8"),
                ("cpuset.cpus", "0,2"),
                ("cpuset.mems", "0"),
            ]
        );
    }
}
