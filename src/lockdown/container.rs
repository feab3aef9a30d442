//! The filter of a container.

use super::seccomp::{Instruction, SeccompFilter};
use crate::error::{Error, ErrorKind, Result, Step};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;

/// Mounts, namespaces, modules, clocks, tracing and what else configures the system. Most of it also takes
/// capabilities that a container does not have; a kernel has been wrong about that more than once.
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    OPEN_TREE_ATTR,
];

/// One number on all architectures, newer than the constants of libc.
const OPEN_TREE_ATTR: i64 = 467;

/// What only this architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Flags of clone(2) that make namespaces.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// `TIOCSTI` pushes input into a terminal, `TIOCLINUX` pastes into the console.
const TERMINAL: [u32; 2] = [0x5412, 0x541c];

impl SeccompFilter {
    /// What a container may not call: it gets `EPERM` for mounts, namespaces, kernel modules, keys, BPF,
    /// io_uring, userfaultfd, tracing, clocks, host and domain name, swap, quota, raw I/O, opening by handle, and for the
    /// ioctls by which input is pushed into a terminal. clone3(2), whose flags no filter sees, is
    /// `ENOSYS`, so that libc uses clone(2), and so are system calls of the x32 ABI; programs of another
    /// architecture are killed.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the crate seccompiler does not know the architecture.
    pub fn container() -> Result<Self> {
        let unsupported = |error: &dyn std::fmt::Display| {
            Error::other(ErrorKind::Unsupported, Step::Seccomp, error.to_string())
        };
        let arch =
            TargetArch::try_from(std::env::consts::ARCH).map_err(|error| unsupported(&error))?;
        let rules = rules().map_err(|error| unsupported(&error))?;
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = seccompiler::SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
        let program: BpfProgram = filter
            .and_then(BpfProgram::try_from)
            .map_err(|error| unsupported(&error))?;
        let program = program.into_iter().map(Instruction::from);
        Ok(Self::new(missing().into_iter().chain(program)))
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules() -> Result<Rules, seccompiler::BackendError> {
    let always = DENIED.iter().chain(DENIED_HERE);
    let mut rules: Rules = always.map(|&number| (number, Vec::new())).collect();
    let namespaces = NAMESPACES
        .iter()
        .map(|&flag| one_bit(0, flag.unsigned_abs()))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, namespaces);
    let terminal = TERMINAL
        .iter()
        .map(|&request| is(1, request))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, terminal);
    Ok(rules)
}

fn one_bit(index: u8, bit: u32) -> Result<SeccompRule, seccompiler::BackendError> {
    let bit = u64::from(bit);
    let condition = SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(bit),
        bit,
    )?;
    SeccompRule::new(vec![condition])
}

/// The kernel looks at the lower half of the argument only, and so does this.
fn is(index: u8, value: u32) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        value.into(),
    )?;
    SeccompRule::new(vec![condition])
}

/// The beginning of the filter: what is answered as if the kernel did not have it.
fn missing() -> [Instruction; 5] {
    const NUMBER: u32 = 0;
    const X32: u32 = 0x4000_0000;
    let ins = |code: u32, jt, jf, k| Instruction {
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    [
        ins(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER),
        ins(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0, X32),
        ins(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, clone3),
        ins(libc::BPF_RET | libc::BPF_K, 0, 0, enosys),
        // The rest begins at its own first instruction.
        ins(libc::BPF_JMP | libc::BPF_JA, 0, 0, 0),
    ]
}
