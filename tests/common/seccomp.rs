//! Seccomp filters in classic BPF, for switching system calls off and for trapping them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::thread::set_no_new_privs;

use super::sys;

/// `AUDIT_ARCH_*` of <linux/audit.h>.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;

/// Offsets into `struct seccomp_data`.
const NR: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGS: u32 = 16;

/// Lets every system call through: `BPF_RET | BPF_K`.
pub(crate) const ALLOW: libc::sock_filter = libc::sock_filter {
    code: 6,
    jt: 0,
    jf: 0,
    k: libc::SECCOMP_RET_ALLOW,
};

/// A condition on an argument, by its number from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// At least one of these bits is set.
    HasAny(u32, u64),
    /// The argument's lower half, in which a C int is passed, is this.
    Is(u32, u32),
}

/// Makes system calls fail with the given error in this thread and all that it starts, so that the
/// older way of doing something is taken: `deny(&[(libc::SYS_clone3, libc::ENOSYS)])`.
///
/// Sets no_new_privs if the caller is not privileged.
pub(crate) fn deny(calls: &[(libc::c_long, i32)]) -> io::Result<()> {
    let mut filter = Filter::new();
    for &(call, errno) in calls {
        filter = filter.deny(call, errno);
    }
    filter.install()
}

/// A list of rules, of which the first that matches decides. Without a match, or for a system
/// call of another architecture, the call is let through.
#[derive(Clone, Debug, Default)]
#[must_use]
pub(crate) struct Filter {
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    call: u32,
    arg: Option<Arg>,
    action: u32,
}

impl Filter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn deny(self, call: libc::c_long, errno: i32) -> Self {
        self.rule(call, None, fail_with(errno))
    }

    pub(crate) fn deny_if(self, call: libc::c_long, arg: Arg, errno: i32) -> Self {
        self.rule(call, Some(arg), fail_with(errno))
    }

    pub(crate) fn allow_if(self, call: libc::c_long, arg: Arg) -> Self {
        self.rule(call, Some(arg), libc::SECCOMP_RET_ALLOW)
    }

    pub(crate) fn trap(self, call: libc::c_long) -> Self {
        self.rule(call, None, libc::SECCOMP_RET_USER_NOTIF)
    }

    pub(crate) fn trap_if(self, call: libc::c_long, arg: Arg) -> Self {
        self.rule(call, Some(arg), libc::SECCOMP_RET_USER_NOTIF)
    }

    fn rule(mut self, call: libc::c_long, arg: Option<Arg>, action: u32) -> Self {
        let call = u32::try_from(call).expect("a system call number");
        self.rules.push(Rule { call, arg, action });
        self
    }

    pub(crate) fn install(&self) -> io::Result<()> {
        self.set(0).map(drop)
    }

    /// Makes no system call once the filter is in force.
    pub(crate) fn install_with_listener(&self) -> io::Result<OwnedFd> {
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // With the second flag (Linux 5.19) a signal does not make a trapped call start again,
        // and so be counted twice.
        let listener = self.set(flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
        let listener = match listener {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.set(flags),
            other => other,
        };
        listener.map(sys::own)
    }

    fn set(&self, flags: libc::c_ulong) -> io::Result<i32> {
        let program = self.assemble();
        match sys::seccomp_set_filter(&program, flags) {
            // Root does without, so that set-user-ID programs keep working below the filter.
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                set_no_new_privs(true)?;
                sys::seccomp_set_filter(&program, flags)
            }
            other => other,
        }
    }

    fn assemble(&self) -> Vec<libc::sock_filter> {
        let mut code = vec![load(ARCH_AT), jump_if(libc::BPF_JEQ, ARCH, 1, 0), ALLOW];
        for rule in &self.rules {
            let test = match rule.arg {
                None => Vec::new(),
                Some(Arg::Is(index, value)) => {
                    vec![load(ARGS + 8 * index), jump_if(libc::BPF_JEQ, value, 0, 1)]
                }
                // Both supported architectures are little-endian: the lower half comes first.
                Some(Arg::HasAny(index, bits)) => vec![
                    load(ARGS + 8 * index),
                    jump_if(libc::BPF_JSET, lower(bits), 2, 0),
                    load(ARGS + 8 * index + 4),
                    jump_if(libc::BPF_JSET, lower(bits >> 32), 0, 1),
                ],
            };
            let rest = u8::try_from(test.len() + 1).unwrap();
            code.extend([load(NR), jump_if(libc::BPF_JEQ, rule.call, 0, rest)]);
            code.extend(test);
            code.push(statement(libc::BPF_RET | libc::BPF_K, rule.action));
        }
        code.push(ALLOW);
        code
    }
}

fn fail_with(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (errno.cast_unsigned() & libc::SECCOMP_RET_DATA)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the other half is tested on its own"
)]
fn lower(bits: u64) -> u32 {
    bits as u32
}

fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf: 0,
        k,
    }
}

/// Skips `jt` instructions if the condition holds, and `jf` if not.
fn jump_if(condition: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = u16::try_from(libc::BPF_JMP | condition | libc::BPF_K).unwrap();
    libc::sock_filter { code, jt, jf, k }
}
