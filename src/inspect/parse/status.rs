use super::number;

/// The four ids of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Ids {
    /// The real id.
    pub real: u32,
    /// The effective id.
    pub effective: u32,
    /// The saved id.
    pub saved: u32,
    /// The id for access to file systems.
    pub fs: u32,
}

/// The five sets of capabilities, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Capabilities {
    /// `CapInh`.
    pub inheritable: u64,
    /// `CapPrm`.
    pub permitted: u64,
    /// `CapEff`.
    pub effective: u64,
    /// `CapBnd`.
    pub bounding: u64,
    /// `CapAmb`.
    pub ambient: u64,
}

/// What `/proc/PID/status` says of a process, as far as it is of use here. What is missing or malformed
/// is `None`, or empty: older kernels do not have every line.
///
/// See [proc_pid_status(5)](https://man7.org/linux/man-pages/man5/proc_pid_status.5.html).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Status {
    /// `Tgid`: the id of the process.
    pub tgid: Option<u32>,
    /// `Pid`: the id of the thread.
    pub pid: Option<u32>,
    /// `PPid`: the id of the parent.
    pub ppid: Option<u32>,
    /// `Uid`.
    pub uid: Option<Ids>,
    /// `Gid`.
    pub gid: Option<Ids>,
    /// `Groups`.
    pub groups: Vec<u32>,
    /// `NSpid`: the id in the pid namespace of this `/proc` and in each below it down to the process's own.
    pub ns_pid: Vec<u32>,
    /// `Threads`.
    pub threads: Option<u32>,
    /// The sets of capabilities.
    pub capabilities: Option<Capabilities>,
    /// `NoNewPrivs`.
    pub no_new_privs: Option<bool>,
    /// `Seccomp`: 0 none, 1 strict, 2 a filter.
    pub seccomp: Option<u32>,
}

impl Status {
    /// Parses the text. A line that is not known is passed over, and of two with the same name the first counts: the
    /// kernel escapes newlines in the name of a process, so that it cannot make up a line.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let field = |name: &[u8]| {
            let mut lines = text.split(|&byte| byte == b'\n');
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"))
        };
        let one = |name: &[u8]| field(name).and_then(|value| number(value.trim_ascii()));
        Self {
            tgid: one(b"Tgid"),
            pid: one(b"Pid"),
            ppid: one(b"PPid"),
            uid: field(b"Uid").and_then(ids),
            gid: field(b"Gid").and_then(ids),
            groups: field(b"Groups").and_then(numbers).unwrap_or_default(),
            ns_pid: field(b"NSpid").and_then(numbers).unwrap_or_default(),
            threads: one(b"Threads"),
            capabilities: capabilities(|name| field(name).and_then(hexadecimal)),
            no_new_privs: one(b"NoNewPrivs").map(|value| value != 0),
            seccomp: one(b"Seccomp"),
        }
    }
}

fn capabilities(set: impl Fn(&[u8]) -> Option<u64>) -> Option<Capabilities> {
    Some(Capabilities {
        inheritable: set(b"CapInh")?,
        permitted: set(b"CapPrm")?,
        effective: set(b"CapEff")?,
        bounding: set(b"CapBnd")?,
        ambient: set(b"CapAmb")?,
    })
}

fn hexadecimal(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    u64::from_str_radix(text, 16).ok()
}

fn numbers(value: &[u8]) -> Option<Vec<u32>> {
    let words = value.split(u8::is_ascii_whitespace);
    let words = words.filter(|word| !word.is_empty());
    words.map(number).collect()
}

fn ids(value: &[u8]) -> Option<Ids> {
    match numbers(value)?.as_slice() {
        &[real, effective, saved, fs] => Some(Ids {
            real,
            effective,
            saved,
            fs,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_prints() {
        let text = b"Name:\ta\\nTgid:\t9\nTgid:\t12\nNgid:\t0\nPid:\t13\nPPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n\
            Groups:\t4 24 \nNSpid:\t12\t3\t1\nThreads:\t2\nCapInh:\t0\nCapPrm:\t1\nCapEff:\t000001ffffffffff\nCapBnd:\t3\n\
            CapAmb:\t4\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let status = Status::parse(text);
        assert_eq!(
            (status.tgid, status.pid, status.ppid),
            (Some(12), Some(13), Some(7))
        );
        assert_eq!(status.uid.unwrap().fs, 4);
        assert_eq!(status.gid.unwrap().real, 5);
        assert_eq!(status.groups, [4, 24]);
        assert_eq!(status.ns_pid, [12, 3, 1]);
        assert_eq!(status.capabilities.unwrap().effective, 0x1ff_ffff_ffff);
        assert_eq!(status.no_new_privs, Some(true));
        assert_eq!((status.threads, status.seccomp), (Some(2), Some(2)));
    }

    #[test]
    fn what_is_missing_or_malformed_is_absent() {
        for text in [
            b"" as &[u8],
            b"Uid:\t1\t2\t3\nNSpid:\tx\nPid:\t-1\nCapEff:\tzz\n",
            b"\xff\xfe",
        ] {
            assert_eq!(Status::parse(text), Status::default());
        }
    }

    #[test]
    fn is_that_of_this_process() {
        let text = std::fs::read("/proc/self/status").unwrap();
        let status = Status::parse(&text);
        assert_eq!(status.tgid, Some(std::process::id()));
        assert_eq!(
            status.uid.map(|uid| uid.effective),
            Some(rustix::process::geteuid().as_raw())
        );
        assert_eq!(status.ns_pid.first(), status.tgid.as_ref());
        assert!(status.capabilities.is_some());
    }
}
