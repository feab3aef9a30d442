//! Parts of `/proc` and `/sys` that a program in a container has no use for.

use std::path::{Path, PathBuf};

/// Which parts of what the kernel shows are hidden from the program, or cannot be written.
///
/// It concerns every procfs and sysfs that the sandbox mounts, whatever path it has; the paths here begin with
/// `/proc` and `/sys`, others are refused when the command is compiled. What this kernel does not have is passed over.
///
/// Masks are mounts. Root inside can lift them unless it lacks `CAP_SYS_ADMIN`, see
/// [`Sandbox::capabilities`](crate::Sandbox::capabilities), or they are
/// [locked](crate::Sandbox::lock_mounts).
///
/// # Examples
/// ```
/// use ringfence::lockdown::Hardening;
///
/// // Docker's, but the program may set parameters of its namespaces.
/// let hardening = Hardening::container().allow("/proc/sys");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Hardening {
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) read_only: Vec<PathBuf>,
}

/// What tells of the host, or of other containers, or lets a program disturb them.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/debug",
];

/// What configures the kernel.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

impl Hardening {
    /// Hides nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What container engines hide: of `/proc` acpi, asound, interrupts, kcore, keys, latency_stats, sched_debug,
    /// scsi, timer_list and timer_stats; of `/sys` devices/virtual/powercap, firmware and kernel/debug.
    /// Read-only are `/proc/bus`, `/proc/fs`, `/proc/irq`, `/proc/sys` and `/proc/sysrq-trigger`. A sysfs is
    /// always read-only.
    pub fn container() -> Self {
        Self {
            masked: MASKED.map(PathBuf::from).into(),
            read_only: READ_ONLY.map(PathBuf::from).into(),
        }
    }

    /// Hides one more path.
    pub fn mask(mut self, path: impl Into<PathBuf>) -> Self {
        self.masked.push(path.into());
        self
    }

    /// Makes one more path read-only.
    pub fn read_only(mut self, path: impl Into<PathBuf>) -> Self {
        self.read_only.push(path.into());
        self
    }

    /// Neither hides this path nor makes it read-only.
    pub fn allow(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        self.masked.retain(|masked| masked != path);
        self.read_only.retain(|read_only| read_only != path);
        self
    }
}
