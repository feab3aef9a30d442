//! Filters of system calls, as programs that somebody has compiled.

pub use super::bpf::Instruction;
use super::bpf::{Data, MAX, Program};
use crate::error::{Error, ErrorKind, Result, Step};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

impl From<libc::sock_filter> for Instruction {
    fn from(from: libc::sock_filter) -> Self {
        let libc::sock_filter { code, jt, jf, k } = from;
        Self { code, jt, jf, k }
    }
}

#[cfg(feature = "seccomp")]
impl From<seccompiler::sock_filter> for Instruction {
    fn from(from: seccompiler::sock_filter) -> Self {
        let seccompiler::sock_filter { code, jt, jf, k } = from;
        Self { code, jt, jf, k }
    }
}

impl Instruction {
    pub(crate) fn bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [a, b, self.jt, self.jf, c, d, e, f]
    }

    fn from_bytes([a, b, jt, jf, c, d, e, f]: [u8; 8]) -> Self {
        Self {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes([c, d, e, f]),
        }
    }
}

/// A compiled filter of system calls, from any producer.
///
/// Several can be put above each other; the strictest answer wins. They are installed last of all, in the
/// order in which they were given, directly before the program is executed: a filter has to permit
/// execve(2), and each but the last has to permit seccomp(2) as well. A filter that never does, whatever the
/// arguments, is an error of [`compile`](crate::Command::compile), and so is a program that the kernel would not take.
///
/// See [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).
///
/// # Examples
/// ```
/// use ringfence::lockdown::{Instruction, SeccompFilter};
///
/// // BPF_RET | BPF_K, SECCOMP_RET_ALLOW
/// let allow = Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };
/// let filter = SeccompFilter::new([allow]).log();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct SeccompFilter {
    pub(crate) program: Arc<[Instruction]>,
    pub(crate) log: bool,
    pub(crate) spec_allow: bool,
    pub(crate) notify: bool,
    pub(crate) wait_killable: bool,
}

impl SeccompFilter {
    /// A filter of these instructions: `libc::sock_filter`, with feature `seccomp` the `BpfProgram` of the
    /// crate seccompiler, or the like.
    pub fn new(program: impl IntoIterator<Item = impl Into<Instruction>>) -> Self {
        Self {
            program: program.into_iter().map(Into::into).collect(),
            log: false,
            spec_allow: false,
            notify: false,
            wait_killable: false,
        }
    }

    /// A filter from the bytes of its instructions, as `seccomp_export_bpf(3)` writes them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if these are not whole instructions.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (instructions, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(Error::invalid(
                "seccomp",
                format!(
                    "{} bytes are no multiple of an instruction's 8",
                    bytes.len()
                ),
            ));
        }
        Ok(Self::new(
            instructions.iter().copied().map(Instruction::from_bytes),
        ))
    }

    /// [`from_bytes`](Self::from_bytes) of what a descriptor gives until its end.
    ///
    /// # Errors
    /// As there, and when it cannot be read.
    pub fn from_fd(fd: impl AsFd) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut some = [0; 4096];
        loop {
            match rustix::io::read(&fd, &mut some[..]) {
                Ok(0) => return Self::from_bytes(&bytes),
                Ok(length) => bytes.extend(some.iter().take(length)),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::system(
                        Step::Seccomp,
                        "the instructions of a filter",
                        "read",
                        errno,
                    ));
                }
            }
            if bytes.len() > MAX * 8 {
                return Err(Error::other(
                    ErrorKind::InvalidInput,
                    Step::Seccomp,
                    format!("more than {MAX} instructions"),
                ));
            }
        }
    }

    /// The filter of a container, which is not written for this architecture.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn container() -> Result<Self> {
        Err(Error::other(
            ErrorKind::Unsupported,
            Step::Seccomp,
            "the filter of a container is written for x86_64 and aarch64 only",
        ))
    }

    /// What the filter does not allow is logged.
    #[doc(alias = "SECCOMP_FILTER_FLAG_LOG")]
    pub fn log(mut self) -> Self {
        self.log = true;
        self
    }

    /// The processor's guard against speculative store bypass stays off (Linux 4.17).
    #[doc(alias = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    pub fn spec_allow(mut self) -> Self {
        self.spec_allow = true;
        self
    }

    /// The caller gets a descriptor, [`Child::seccomp_listener`](crate::Child::seccomp_listener), that
    /// tells of the system calls for which the filter says `SECCOMP_RET_USER_NOTIF`. The kernel takes one
    /// such filter; it is installed after all others, and has to allow sendmsg(2), by which the descriptor
    /// comes to the caller, and execve(2): nobody answers before.
    ///
    /// See [seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html).
    #[doc(alias = "SECCOMP_FILTER_FLAG_NEW_LISTENER")]
    pub fn notify(mut self) -> Self {
        self.notify = true;
        self
    }

    /// [`notify`](Self::notify), and a system call that somebody looks at is not interrupted by signals that
    /// do not kill (Linux 5.19).
    #[doc(alias = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    pub fn notify_killable(mut self) -> Self {
        self.wait_killable = true;
        self.notify()
    }

    pub(crate) fn flags(&self) -> u64 {
        [
            (self.log, libc::SECCOMP_FILTER_FLAG_LOG),
            (self.spec_allow, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
            (self.notify, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
            (
                self.wait_killable,
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
            ),
        ]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |all, (_, flag)| all | flag)
    }

    /// What the kernel would not take, or what would not let a call through that follows: its number, its
    /// name, and what it is for.
    pub(crate) fn check(&self, later: &[(libc::c_long, &str, &str)]) -> Result<()> {
        let program = Program::new(&self.program)
            .map_err(|refused| Error::invalid("seccomp", format!("{self}: {refused}")))?;
        for &(number, call, purpose) in later {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let answers = program.answers(&Data::of_call(number));
            if answers
                .into_iter()
                .any(|answer| answer.is_none_or(may_permit))
            {
                continue;
            }
            let what = format!("{self} never permits {call}(2), which {purpose}");
            return Err(Error::invalid("seccomp", what).with_hint(Some(
                "filters are in force before the program is executed, and nobody answers a notification by then; is it made for this architecture?"
                    .into(),
            )));
        }
        Ok(())
    }
}

/// Whether a call may be made that a filter answers in this way: traced, if there is a tracer.
fn may_permit(answer: u32) -> bool {
    let action = answer & libc::SECCOMP_RET_ACTION_FULL;
    [
        libc::SECCOMP_RET_ALLOW,
        libc::SECCOMP_RET_LOG,
        libc::SECCOMP_RET_TRACE,
    ]
    .contains(&action)
}

impl fmt::Display for SeccompFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a filter of {} instructions", self.program.len())?;
        for (set, text) in [
            (self.log, "logged"),
            (self.spec_allow, "with speculation"),
            (self.notify, "with a listener"),
        ] {
            if set {
                write!(f, ", {text}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_instructions_are_the_same() {
        let one = Instruction {
            code: 0x15,
            jt: 3,
            jf: 4,
            k: 0x1234_5678,
        };
        let filter = SeccompFilter::from_bytes(&one.bytes()).expect("whole instructions");
        assert_eq!(filter, SeccompFilter::new([one]));
        assert!(SeccompFilter::from_bytes(&[0; 12]).is_err());
        let empty = SeccompFilter::from_bytes(&[]).expect("whole instructions");
        let error = empty.check(&[]).expect_err("has no instructions");
        assert_eq!(error.setter(), Some("seccomp"));
    }

    #[test]
    fn what_follows_has_to_be_permitted() {
        let answer = |k| {
            SeccompFilter::new([Instruction {
                code: 6,
                jt: 0,
                jf: 0,
                k,
            }])
        };
        let exec = [(libc::SYS_execve, "execve", "starts the program")];
        for (action, permits) in [
            (libc::SECCOMP_RET_ALLOW, true),
            (libc::SECCOMP_RET_LOG, true),
            (libc::SECCOMP_RET_TRACE | 1, true),
            (libc::SECCOMP_RET_USER_NOTIF, false),
            (libc::SECCOMP_RET_ERRNO, false),
            (libc::SECCOMP_RET_TRAP, false),
            (libc::SECCOMP_RET_KILL_THREAD, false),
            (libc::SECCOMP_RET_KILL_PROCESS, false),
            (0x7ffe_0000, false),
        ] {
            let checked = answer(action).check(&exec);
            assert_eq!(checked.is_ok(), permits, "{action:#x}");
            assert!(answer(action).check(&[]).is_ok());
        }
        let error = answer(0).check(&exec).expect_err("kills");
        let text = error.to_string();
        assert!(
            text.ends_with("never permits execve(2), which starts the program"),
            "{text}"
        );
    }
}
