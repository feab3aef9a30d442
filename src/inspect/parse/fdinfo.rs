use super::number;

/// What `/proc/PID/fdinfo/FD` says of a descriptor, as far as it is of use here. What is missing or malformed is
/// `None`, or empty.
///
/// See [proc_pid_fdinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FdInfo {
    /// `flags`: those of open(2), with `O_CLOEXEC`.
    pub flags: Option<u32>,
    /// `mnt_id`: the mount that the file was opened through.
    pub mnt_id: Option<u32>,
    /// `ino`: the inode number (Linux 5.14).
    pub ino: Option<u64>,
    /// `Pid` of a pidfd: the process; -1 if it has ended, 0 if it has no number here.
    pub pid: Option<i32>,
    /// `NSpid` of a pidfd: the numbers in the pid namespace of this `/proc` and those below.
    pub ns_pid: Vec<u32>,
}

impl FdInfo {
    /// Parses the text. A line that is not known is passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let field = |name: &[u8]| {
            let mut lines = text.split(|&byte| byte == b'\n');
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"));
            value.map(<[u8]>::trim_ascii)
        };
        let flags = field(b"flags").and_then(|value| std::str::from_utf8(value).ok());
        let pid = field(b"Pid").and_then(|value| std::str::from_utf8(value).ok());
        let ns_pid = field(b"NSpid").unwrap_or_default();
        Self {
            flags: flags.and_then(|flags| u32::from_str_radix(flags, 8).ok()),
            mnt_id: field(b"mnt_id").and_then(number),
            ino: field(b"ino").and_then(number),
            pid: pid.and_then(|pid| pid.parse().ok()),
            ns_pid: ns_pid
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .map_while(number)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn reads_files_and_pidfds() {
        let file = FdInfo::parse(b"pos:\t0\nflags:\t02100000\nmnt_id:\t3\nino:\t4026531840\n");
        assert_eq!(file.flags, Some(0o2_100_000));
        assert_eq!((file.mnt_id, file.ino), (Some(3), Some(4_026_531_840)));
        let pidfd = FdInfo::parse(b"flags:\t02000002\nPid:\t-1\nNSpid:\t-1\n");
        assert_eq!((pidfd.pid, pidfd.ns_pid), (Some(-1), vec![]));
        let nested = FdInfo::parse(b"Pid:\t80\nNSpid:\t80\t2\n");
        assert_eq!((nested.pid, nested.ns_pid), (Some(80), vec![80, 2]));
        for text in [b"" as &[u8], b"flags:\t9\nino:\t-1\n", b"\xff:\n"] {
            assert_eq!(FdInfo::parse(text), FdInfo::default());
        }
    }

    #[test]
    fn is_that_of_an_open_file() {
        let file = std::fs::File::open("/proc/self/ns/net").unwrap();
        let text = std::fs::read(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
        let info = FdInfo::parse(&text);
        let number = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
        assert!(info.ino.is_none_or(|ino| ino == number));
        assert!(info.flags.is_some() && info.mnt_id.is_some());
    }
}
