//! Limits, priorities and processors of the program.

use std::fmt;

/// A resource that the kernel limits for each process.
///
/// See [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of address space.
    #[doc(alias = "RLIMIT_AS")]
    AddressSpace,
    /// Bytes of a core file.
    #[doc(alias = "RLIMIT_CORE")]
    Core,
    /// Seconds of processor time, of each process: `SIGXCPU` at the soft limit, `SIGKILL` at the hard one.
    #[doc(alias = "RLIMIT_CPU")]
    Cpu,
    /// Bytes of the data segment.
    #[doc(alias = "RLIMIT_DATA")]
    Data,
    /// Bytes of a file that is written: beyond it `SIGXFSZ`, or `EFBIG` where that is ignored.
    #[doc(alias = "RLIMIT_FSIZE")]
    FileSize,
    /// Locks and leases on files; unused by the kernel.
    #[doc(alias = "RLIMIT_LOCKS")]
    Locks,
    /// Bytes of locked memory.
    #[doc(alias = "RLIMIT_MEMLOCK")]
    LockedMemory,
    /// Bytes in POSIX message queues of the user.
    #[doc(alias = "RLIMIT_MSGQUEUE")]
    MessageQueue,
    /// How far the nice value can be raised: 20 minus this.
    #[doc(alias = "RLIMIT_NICE")]
    Nice,
    /// One more than the highest descriptor: beyond it open(2) fails with `EMFILE`.
    #[doc(alias = "RLIMIT_NOFILE")]
    Descriptors,
    /// Processes and threads of the user, since Linux 5.14 those in its user namespace and below: beyond it fork(2)
    /// fails with `EAGAIN`. User 0 of the first user namespace is not bound, nor who has `CAP_SYS_RESOURCE` or
    /// `CAP_SYS_ADMIN` there. For the processes of one sandbox see [`Limits::pids_max`](crate::cgroup::Limits::pids_max).
    #[doc(alias = "RLIMIT_NPROC")]
    Processes,
    /// Bytes of the resident set; unused by the kernel.
    #[doc(alias = "RLIMIT_RSS")]
    ResidentSet,
    /// The highest real-time priority.
    #[doc(alias = "RLIMIT_RTPRIO")]
    RealtimePriority,
    /// Microseconds that a real-time process runs without a system call that waits.
    #[doc(alias = "RLIMIT_RTTIME")]
    RealtimeTime,
    /// Signals that are pending for the user.
    #[doc(alias = "RLIMIT_SIGPENDING")]
    PendingSignals,
    /// Bytes of the stack.
    #[doc(alias = "RLIMIT_STACK")]
    Stack,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::AddressSpace,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::FileSize,
        Self::Locks,
        Self::LockedMemory,
        Self::MessageQueue,
        Self::Nice,
        Self::Descriptors,
        Self::Processes,
        Self::ResidentSet,
        Self::RealtimePriority,
        Self::RealtimeTime,
        Self::PendingSignals,
        Self::Stack,
    ];

    pub(crate) fn number(self) -> u32 {
        let number = match self {
            Self::AddressSpace => libc::RLIMIT_AS,
            Self::Core => libc::RLIMIT_CORE,
            Self::Cpu => libc::RLIMIT_CPU,
            Self::Data => libc::RLIMIT_DATA,
            Self::FileSize => libc::RLIMIT_FSIZE,
            Self::Locks => libc::RLIMIT_LOCKS,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
            Self::MessageQueue => libc::RLIMIT_MSGQUEUE,
            Self::Nice => libc::RLIMIT_NICE,
            Self::Descriptors => libc::RLIMIT_NOFILE,
            Self::Processes => libc::RLIMIT_NPROC,
            Self::ResidentSet => libc::RLIMIT_RSS,
            Self::RealtimePriority => libc::RLIMIT_RTPRIO,
            Self::RealtimeTime => libc::RLIMIT_RTTIME,
            Self::PendingSignals => libc::RLIMIT_SIGPENDING,
            Self::Stack => libc::RLIMIT_STACK,
        };
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "the C libraries differ in the type"
        )]
        let number = number as u32;
        number
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressSpace => "as",
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::FileSize => "fsize",
            Self::Locks => "locks",
            Self::LockedMemory => "memlock",
            Self::MessageQueue => "msgqueue",
            Self::Nice => "nice",
            Self::Descriptors => "nofile",
            Self::Processes => "nproc",
            Self::ResidentSet => "rss",
            Self::RealtimePriority => "rtprio",
            Self::RealtimeTime => "rttime",
            Self::PendingSignals => "sigpending",
            Self::Stack => "stack",
        })
    }
}

/// A soft limit, which holds, and a hard one, up to which the program may raise it.
///
/// # Examples
/// ```
/// use ringfence::lockdown::Rlimit;
///
/// assert_eq!(Rlimit::new(1024, 4096).to_string(), "1024, at most 4096");
/// assert_eq!(Rlimit::fixed(0), Rlimit::new(0, 0));
/// assert_eq!(Rlimit::UNLIMITED.to_string(), "unlimited");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Rlimit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl Rlimit {
    /// No limit, soft or hard.
    #[doc(alias = "RLIM_INFINITY")]
    pub const UNLIMITED: Self = Self {
        soft: Self::INFINITY,
        hard: Self::INFINITY,
    };

    /// The value that stands for no limit.
    #[doc(alias = "RLIM_INFINITY")]
    pub const INFINITY: u64 = u64::MAX;

    /// A soft and a hard limit.
    pub fn new(soft: u64, hard: u64) -> Self {
        Self { soft, hard }
    }

    /// A limit that the program cannot raise.
    pub fn fixed(limit: u64) -> Self {
        Self::new(limit, limit)
    }
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |f: &mut fmt::Formatter<'_>, value: u64| match value {
            Self::INFINITY => f.write_str("unlimited"),
            value => write!(f, "{value}"),
        };
        one(f, self.soft)?;
        if self.hard != self.soft {
            f.write_str(", at most ")?;
            one(f, self.hard)?;
        }
        Ok(())
    }
}

/// The class and priority of a program's I/O.
///
/// See [ioprio_set(2)](https://man7.org/linux/man-pages/man2/ioprio_set.2.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IoPriority {
    /// Before everybody else, 0 being the highest of eight levels. Needs `CAP_SYS_ADMIN` or
    /// `CAP_SYS_NICE` of the first user namespace.
    Realtime(u8),
    /// As usual, 0 being the highest of eight levels.
    BestEffort(u8),
    /// Only when nobody else has anything to do.
    Idle,
}

impl IoPriority {
    /// As the kernel takes it, unless the level is none.
    pub(crate) fn value(self) -> Option<u16> {
        const CLASS_SHIFT: u16 = 13;
        let (class, level) = match self {
            Self::Realtime(level) => (1, level),
            Self::BestEffort(level) => (2, level),
            Self::Idle => (3, 0),
        };
        (level < 8).then(|| class << CLASS_SHIFT | u16::from(level))
    }
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realtime(level) => write!(f, "realtime {level}"),
            Self::BestEffort(level) => write!(f, "best-effort {level}"),
            Self::Idle => f.write_str("idle"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_is_one_of_the_kernels() {
        let mut numbers: Vec<_> = Resource::ALL.iter().map(|kind| kind.number()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn io_priorities_have_eight_levels() {
        assert_eq!(IoPriority::BestEffort(7).value(), Some(2 << 13 | 7));
        assert_eq!(IoPriority::Idle.value(), Some(3 << 13));
        assert_eq!(IoPriority::Realtime(8).value(), None);
    }
}
