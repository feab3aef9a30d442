use std::fmt;

/// One of the eight kinds of namespaces.
///
/// See [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// User and group ids, capabilities.
    #[doc(alias = "CLONE_NEWUSER")]
    User,
    /// Process ids.
    #[doc(alias = "CLONE_NEWPID")]
    Pid,
    /// Mounts.
    #[doc(alias = "CLONE_NEWNS")]
    Mount,
    /// Network devices, addresses, ports, firewalls.
    #[doc(alias = "CLONE_NEWNET")]
    Net,
    /// Host name and NIS domain name.
    #[doc(alias = "CLONE_NEWUTS")]
    Uts,
    /// System V IPC and POSIX message queues.
    #[doc(alias = "CLONE_NEWIPC")]
    Ipc,
    /// The root of the visible cgroup tree.
    #[doc(alias = "CLONE_NEWCGROUP")]
    Cgroup,
    /// The monotonic and boottime clocks.
    #[doc(alias = "CLONE_NEWTIME")]
    Time,
}

impl Kind {
    /// All kinds, in the order in which the crate prints them.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Pid,
        Self::Mount,
        Self::Net,
        Self::Uts,
        Self::Ipc,
        Self::Cgroup,
        Self::Time,
    ];

    /// The name of its link in `/proc/PID/ns`, which is also how the kernel prints it.
    #[must_use]
    pub const fn proc_name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// The kind whose link in `/proc/PID/ns` has this name.
    #[must_use]
    pub fn from_proc_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.proc_name() == name)
    }
}

impl fmt::Display for Kind {
    /// The kernel's name, `mnt` for mount.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.proc_name())
    }
}

bitflags::bitflags! {
    /// A set of kinds of namespaces, with the kernel's `CLONE_NEW*` values.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Namespaces: u32 {
        /// [`Kind::User`].
        const USER = 0x1000_0000;
        /// [`Kind::Pid`].
        const PID = 0x2000_0000;
        /// [`Kind::Mount`].
        const MOUNT = 0x0002_0000;
        /// [`Kind::Net`].
        const NET = 0x4000_0000;
        /// [`Kind::Uts`].
        const UTS = 0x0400_0000;
        /// [`Kind::Ipc`].
        const IPC = 0x0800_0000;
        /// [`Kind::Cgroup`].
        const CGROUP = 0x0200_0000;
        /// [`Kind::Time`].
        const TIME = 0x0000_0080;
    }
}

impl Namespaces {
    /// The kinds in the set, in the order of [`Kind::ALL`].
    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(move |&kind| self.contains(kind.into()))
    }
}

impl From<Kind> for Namespaces {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::User => Self::USER,
            Kind::Pid => Self::PID,
            Kind::Mount => Self::MOUNT,
            Kind::Net => Self::NET,
            Kind::Uts => Self::UTS,
            Kind::Ipc => Self::IPC,
            Kind::Cgroup => Self::CGROUP,
            Kind::Time => Self::TIME,
        }
    }
}

impl fmt::Display for Namespaces {
    /// The kinds, separated by spaces; `none` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, kind) in self.kinds().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{kind}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_flag_and_name() {
        let all = Kind::ALL
            .into_iter()
            .fold(Namespaces::empty(), |set, kind| set | kind.into());
        assert_eq!(all, Namespaces::all());
        for kind in Kind::ALL {
            assert_eq!(Kind::from_proc_name(kind.proc_name()), Some(kind));
        }
        assert_eq!(
            Namespaces::all().to_string(),
            "user pid mnt net uts ipc cgroup time"
        );
        assert_eq!(Namespaces::empty().to_string(), "none");
    }

    #[test]
    fn flags_are_those_of_libc() {
        assert_eq!(Namespaces::USER.bits().cast_signed(), libc::CLONE_NEWUSER);
        assert_eq!(Namespaces::PID.bits().cast_signed(), libc::CLONE_NEWPID);
        assert_eq!(Namespaces::MOUNT.bits().cast_signed(), libc::CLONE_NEWNS);
        assert_eq!(Namespaces::NET.bits().cast_signed(), libc::CLONE_NEWNET);
        assert_eq!(Namespaces::UTS.bits().cast_signed(), libc::CLONE_NEWUTS);
        assert_eq!(Namespaces::IPC.bits().cast_signed(), libc::CLONE_NEWIPC);
        assert_eq!(
            Namespaces::CGROUP.bits().cast_signed(),
            libc::CLONE_NEWCGROUP
        );
    }
}
