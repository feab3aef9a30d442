//! Capabilities, the five sets of them that a process has, and securebits.

use crate::error::{Error, Result};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
use std::fmt;
use std::str::FromStr;

bitflags::bitflags! {
    /// A set of capabilities.
    ///
    /// Its text form is that of its names, such as `net_bind_service,kill`; `none` and `all` are
    /// names as well.
    ///
    /// See [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
    ///
    /// # Examples
    /// ```
    /// use ringfence::lockdown::Capabilities;
    ///
    /// let set: Capabilities = "CAP_KILL,net_bind_service".parse()?;
    /// assert_eq!(set, Capabilities::KILL | Capabilities::NET_BIND_SERVICE);
    /// assert_eq!(set.to_string(), "kill,net_bind_service");
    /// # Ok::<(), ringfence::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Capabilities: u64 {
        /// Change the owner of any file.
        const CHOWN = 1 << 0;
        /// Read, write and execute any file.
        const DAC_OVERRIDE = 1 << 1;
        /// Read any file and search any directory.
        const DAC_READ_SEARCH = 1 << 2;
        /// What is otherwise left to the owner of a file.
        const FOWNER = 1 << 3;
        /// Keep set-user-id bits when a file changes.
        const FSETID = 1 << 4;
        /// Signal any process.
        const KILL = 1 << 5;
        /// Take on other groups.
        const SETGID = 1 << 6;
        /// Take on other users, and write id maps.
        const SETUID = 1 << 7;
        /// Change the bounding set and securebits.
        const SETPCAP = 1 << 8;
        /// Change immutable and append-only attributes.
        const LINUX_IMMUTABLE = 1 << 9;
        /// Bind to ports below 1024.
        const NET_BIND_SERVICE = 1 << 10;
        /// Broadcast; unused by the kernel.
        const NET_BROADCAST = 1 << 11;
        /// Configure the network.
        const NET_ADMIN = 1 << 12;
        /// Raw and packet sockets.
        const NET_RAW = 1 << 13;
        /// Lock memory.
        const IPC_LOCK = 1 << 14;
        /// System V IPC objects of others.
        const IPC_OWNER = 1 << 15;
        /// Load kernel modules.
        const SYS_MODULE = 1 << 16;
        /// Raw I/O.
        const SYS_RAWIO = 1 << 17;
        /// chroot(2), and joining mount namespaces.
        const SYS_CHROOT = 1 << 18;
        /// Trace any process.
        const SYS_PTRACE = 1 << 19;
        /// Process accounting.
        const SYS_PACCT = 1 << 20;
        /// Mounts, namespaces and much more.
        const SYS_ADMIN = 1 << 21;
        /// Reboot.
        const SYS_BOOT = 1 << 22;
        /// Priorities and processors of any process.
        const SYS_NICE = 1 << 23;
        /// Exceed and raise limits.
        const SYS_RESOURCE = 1 << 24;
        /// Set the clock.
        const SYS_TIME = 1 << 25;
        /// Configure terminals.
        const SYS_TTY_CONFIG = 1 << 26;
        /// Make device files.
        const MKNOD = 1 << 27;
        /// Take leases on any file.
        const LEASE = 1 << 28;
        /// Write to the audit log.
        const AUDIT_WRITE = 1 << 29;
        /// Configure auditing.
        const AUDIT_CONTROL = 1 << 30;
        /// Give files capabilities.
        const SETFCAP = 1 << 31;
        /// Override mandatory access control.
        const MAC_OVERRIDE = 1 << 32;
        /// Configure mandatory access control.
        const MAC_ADMIN = 1 << 33;
        /// The kernel's log.
        const SYSLOG = 1 << 34;
        /// Wake the system up.
        const WAKE_ALARM = 1 << 35;
        /// Keep the system awake.
        const BLOCK_SUSPEND = 1 << 36;
        /// Read the audit log.
        const AUDIT_READ = 1 << 37;
        /// Performance monitoring (Linux 5.8).
        const PERFMON = 1 << 38;
        /// BPF (Linux 5.8).
        const BPF = 1 << 39;
        /// Checkpoint and restore (Linux 5.9).
        const CHECKPOINT_RESTORE = 1 << 40;
        const _ = !0;
    }
}

impl Capabilities {
    /// What [`Sandbox::container`](crate::Sandbox::container) leaves: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`,
    /// `FSETID`, `KILL`, `NET_BIND_SERVICE`, `SETGID` and `SETUID`. With them a service can give files
    /// away, take on another user and stop what it has started; mounts, the network, devices, tracing and
    /// capabilities themselves are beyond it.
    pub const CONTAINER: Self = Self::CHOWN
        .union(Self::DAC_OVERRIDE)
        .union(Self::FOWNER)
        .union(Self::FSETID)
        .union(Self::KILL)
        .union(Self::NET_BIND_SERVICE)
        .union(Self::SETGID)
        .union(Self::SETUID);

    /// All that the running kernel knows, which may be fewer than have a name here, or more.
    #[must_use]
    pub fn of_kernel() -> Self {
        let known = |number: &u32| {
            let one = CapabilitySet::from_bits_retain(1 << number);
            capability_is_in_bounding_set(one).is_ok()
        };
        let count = (0..64).take_while(known).count();
        Self::from_bits_retain(
            u64::MAX
                .checked_shr(64 - u32::try_from(count).unwrap_or(64))
                .unwrap_or(0),
        )
    }

    /// The numbers of those in the set, ascending.
    pub(crate) fn numbers(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |number| self.bits() >> number & 1 == 1)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, number) in self.numbers().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let one = Self::from_bits_retain(1 << number);
            match one.iter_names().next() {
                Some((name, _)) => write!(f, "{comma}{}", name.to_ascii_lowercase())?,
                None => write!(f, "{comma}{number}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Capabilities {
    type Err = Error;

    /// Names with or without `cap_`, in any case, or numbers, with commas between them.
    fn from_str(text: &str) -> Result<Self> {
        let one = |word: &str| {
            let name = word.trim().to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            match name {
                "ALL" => return Ok(Self::of_kernel()),
                "NONE" | "" => return Ok(Self::empty()),
                _ => {}
            }
            let by_number = || name.parse().ok().filter(|&number: &u32| number < 64);
            Self::from_name(name)
                .or_else(|| by_number().map(|number| Self::from_bits_retain(1 << number)))
                .ok_or_else(|| {
                    Error::invalid("capabilities", format!("{word:?} is not the name of one"))
                })
        };
        text.split(',')
            .try_fold(Self::empty(), |all, word| Ok(all | one(word)?))
    }
}

/// The five sets of capabilities of a program.
///
/// [`keep`](Self::keep) is the safe way: the program, and everything that it starts, can never have a
/// capability that is not in the set. Each set can also be given by itself; one that is not
/// given is left as it is.
///
/// # Examples
/// ```
/// use ringfence::lockdown::{Capabilities, CapabilitySets};
///
/// // Also for a user other than 0:
/// let sets = CapabilitySets::keep(Capabilities::NET_BIND_SERVICE)
///     .ambient(Capabilities::NET_BIND_SERVICE);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct CapabilitySets {
    pub(crate) bounding: Option<Capabilities>,
    pub(crate) permitted: Option<Capabilities>,
    pub(crate) effective: Option<Capabilities>,
    pub(crate) inheritable: Option<Capabilities>,
    pub(crate) ambient: Option<Capabilities>,
}

impl CapabilitySets {
    /// Leaves every set as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and no others: they are the bounding, permitted and effective set; inheritable and ambient
    /// are empty.
    ///
    /// A program of user 0 then has them. Any other user loses all capabilities at exec, as the kernel has
    /// it, unless they are [ambient](Self::ambient).
    pub fn keep(set: Capabilities) -> Self {
        Self {
            bounding: Some(set),
            permitted: Some(set),
            effective: Some(set),
            inheritable: Some(Capabilities::empty()),
            ambient: Some(Capabilities::empty()),
        }
    }

    /// What can ever be gained by executing a file.
    #[doc(alias = "PR_CAPBSET_DROP")]
    pub fn bounding(mut self, set: Capabilities) -> Self {
        self.bounding = Some(set);
        self
    }

    /// What a process may make effective.
    pub fn permitted(mut self, set: Capabilities) -> Self {
        self.permitted = Some(set);
        self
    }

    /// What the kernel checks; a part of the permitted set.
    pub fn effective(mut self, set: Capabilities) -> Self {
        self.effective = Some(set);
        self
    }

    /// What survives the exec of a file with such inheritable capabilities.
    pub fn inheritable(mut self, set: Capabilities) -> Self {
        self.inheritable = Some(set);
        self
    }

    /// What survives the exec of any ordinary file. The kernel wants it permitted and inheritable, so
    /// the inheritable set gets it as well.
    #[doc(alias = "PR_CAP_AMBIENT")]
    pub fn ambient(mut self, set: Capabilities) -> Self {
        self.ambient = Some(set);
        if !set.is_empty() {
            self.inheritable = Some(self.inheritable.unwrap_or_default() | set);
        }
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What cannot be, in the words of an error.
    pub(crate) fn contradiction(&self, kernel: Capabilities) -> Option<String> {
        let given = [
            ("bounding", self.bounding),
            ("permitted", self.permitted),
            ("effective", self.effective),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ];
        for (name, set) in given {
            let unknown = set.unwrap_or_default() - kernel;
            if !unknown.is_empty() {
                return Some(format!("this kernel does not know {unknown} ({name})"));
            }
        }
        for (part, whole) in [(2, 1), (4, 1), (4, 3), (3, 0)] {
            let ((part, Some(some)), (whole, Some(all))) = (given[part], given[whole]) else {
                continue;
            };
            let beyond = some - all;
            if !beyond.is_empty() {
                return Some(format!("{beyond} is {part} but not {whole}"));
            }
        }
        None
    }
}

impl From<Capabilities> for CapabilitySets {
    /// [`CapabilitySets::keep`].
    fn from(set: Capabilities) -> Self {
        Self::keep(set)
    }
}

impl fmt::Display for CapabilitySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ambient = self.ambient.unwrap_or_default();
        if let Some(set) = self.permitted
            && *self == Self::keep(set).ambient(ambient)
        {
            write!(f, "keep {set}")?;
            return match ambient.is_empty() {
                true => Ok(()),
                false => write!(f, ", ambient {ambient}"),
            };
        }
        let mut comma = "";
        for (name, set) in [
            ("bounding", self.bounding),
            ("permitted", self.permitted),
            ("effective", self.effective),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ] {
            if let Some(set) = set {
                write!(f, "{comma}{name} {set}")?;
                comma = "; ";
            }
        }
        Ok(())
    }
}

bitflags::bitflags! {
    /// How the kernel treats user 0 and changes of ids; each with a lock that keeps it for good.
    ///
    /// See [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Securebits: u32 {
        /// User 0 gains nothing by executing a file.
        const NOROOT = 1;
        /// No other bit of `NOROOT`'s can be changed.
        const NOROOT_LOCKED = 1 << 1;
        /// Changes of ids from and to 0 leave the capabilities alone.
        const NO_SETUID_FIXUP = 1 << 2;
        /// `NO_SETUID_FIXUP` stays as it is.
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// Permitted capabilities survive a change of ids, until the next exec.
        const KEEP_CAPS = 1 << 4;
        /// `KEEP_CAPS` stays as it is.
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// Nothing can be made ambient.
        const NO_CAP_AMBIENT_RAISE = 1 << 6;
        /// `NO_CAP_AMBIENT_RAISE` stays as it is.
        const NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7;
    }
}

impl fmt::Display for Securebits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let text = bitflags::parser::to_writer(self, &mut *f);
        text.map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_printed() {
        for (text, set) in [
            ("none", Capabilities::empty()),
            ("chown", Capabilities::CHOWN),
            (
                "CAP_SYS_ADMIN,kill",
                Capabilities::SYS_ADMIN | Capabilities::KILL,
            ),
            ("63", Capabilities::from_bits_retain(1 << 63)),
            ("40", Capabilities::CHECKPOINT_RESTORE),
        ] {
            let parsed: Capabilities = text.parse().expect(text);
            assert_eq!(parsed, set);
            assert_eq!(parsed.to_string().parse::<Capabilities>().expect(text), set);
        }
        assert_eq!(
            (Capabilities::SYS_ADMIN | Capabilities::KILL).to_string(),
            "kill,sys_admin"
        );
        for text in ["kil", "64", "-1", "cap_"] {
            assert!(
                text.parse::<Capabilities>().is_err() || text == "cap_",
                "{text}"
            );
        }
    }

    #[test]
    fn the_kernel_says_how_many_there_are() {
        let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("is there");
        let last: u32 = text.trim().parse().expect("a number");
        assert_eq!(Capabilities::of_kernel().numbers().max(), Some(last));
        assert_eq!(Capabilities::of_kernel().bits().count_ones(), last + 1);
    }

    #[test]
    fn contradictions_are_found() {
        let kernel = Capabilities::of_kernel();
        let (kill, chown) = (Capabilities::KILL, Capabilities::CHOWN);
        let well = [
            CapabilitySets::keep(kill | chown).ambient(kill),
            CapabilitySets::new().bounding(kill),
            CapabilitySets::new(),
        ];
        for sets in well {
            assert_eq!(sets.contradiction(kernel), None, "{sets}");
        }
        for (sets, what) in [
            (
                CapabilitySets::keep(kill).ambient(chown),
                "ambient but not permitted",
            ),
            (
                CapabilitySets::keep(kill).effective(chown),
                "effective but not permitted",
            ),
            (
                CapabilitySets::keep(kill).inheritable(chown),
                "inheritable but not bounding",
            ),
            (
                CapabilitySets::new().bounding(Capabilities::from_bits_retain(1 << 62)),
                "does not know 62",
            ),
        ] {
            let said = sets.contradiction(kernel).unwrap_or_default();
            assert!(said.contains(what), "{said}");
        }
        assert_eq!(CapabilitySets::keep(kill).to_string(), "keep kill");
        assert_eq!(
            CapabilitySets::keep(kill).ambient(kill).to_string(),
            "keep kill, ambient kill"
        );
        assert_eq!(
            CapabilitySets::new().bounding(chown).to_string(),
            "bounding chown"
        );
    }
}
