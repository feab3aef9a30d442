//! The filter of a container.
//!
//! Laid out by hand, as a tree of comparisons: the kernel goes through a filter for each system call that there
//! is when it is installed, which makes a list of comparisons twice as dear.

use super::bpf::{self, Instruction};
use super::seccomp::SeccompFilter;
use crate::error::Result;

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
const NAMESPACES: i32 = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// `TIOCSTI` pushes input into a terminal, `TIOCLINUX` pastes into the console.
const TERMINAL: [u32; 2] = [0x5412, 0x541c];

/// This file is compiled only where it is known.
const ARCH: u32 = match bpf::ARCH {
    Some(arch) => arch,
    None => 0,
};

/// The bit of system calls of the x32 ABI.
const X32: u32 = 0x4000_0000;

impl SeccompFilter {
    /// What a container may not call: it gets `EPERM` for mounts, namespaces, kernel modules, keys, BPF,
    /// io_uring, userfaultfd, tracing, clocks, host and domain name, swap, quota, raw I/O, opening by handle,
    /// and for the ioctls by which input is pushed into a terminal. clone3(2), whose flags no filter sees,
    /// is `ENOSYS`, so that libc uses clone(2), and so are system calls of the x32 ABI; programs of
    /// another architecture are killed.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on other architectures than x86_64 and
    /// aarch64.
    pub fn container() -> Result<Self> {
        Ok(Self::new(program()))
    }
}

/// Offsets into `struct seccomp_data`, on a little-endian machine.
mod at {
    pub(super) const NUMBER: u32 = 0;
    pub(super) const ARCH: u32 = 4;
    pub(super) const FIRST: u32 = 16;
    pub(super) const SECOND: u32 = 24;
}

fn program() -> Vec<Instruction> {
    let mut numbers: Vec<u32> = DENIED
        .iter()
        .chain(DENIED_HERE)
        .map(|&n| number(n))
        .collect();
    numbers.sort_unstable();
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let [inject, paste] = TERMINAL;
    let mut program = vec![
        load(at::ARCH),
        jump(libc::BPF_JEQ, ARCH, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(at::NUMBER),
        jump(libc::BPF_JGE, X32, 1, 0),
        jump(libc::BPF_JEQ, number(libc::SYS_clone3), 0, 1),
        answer(missing),
        jump(libc::BPF_JEQ, number(libc::SYS_clone), 0, 4),
        load(at::FIRST),
        jump(libc::BPF_JSET, NAMESPACES.cast_unsigned(), 0, 1),
        answer(refuse),
        answer(libc::SECCOMP_RET_ALLOW),
        jump(libc::BPF_JEQ, number(libc::SYS_ioctl), 0, 5),
        // The kernel looks at the lower half of the request only, and so does this.
        load(at::SECOND),
        jump(libc::BPF_JEQ, inject, 1, 0),
        jump(libc::BPF_JEQ, paste, 0, 1),
        answer(refuse),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    program.extend(tree(&numbers, refuse));
    program
}

/// Refuses these numbers, which ascend, and allows all others.
fn tree(numbers: &[u32], refuse: u32) -> Vec<Instruction> {
    const FEW: usize = 3;
    let (lower, upper) = numbers.split_at(numbers.len() / 2);
    match upper.first() {
        Some(&middle) if numbers.len() > FEW => {
            let (lower, upper) = (tree(lower, refuse), tree(upper, refuse));
            let over = u8::try_from(lower.len()).unwrap_or(u8::MAX);
            let jump = jump(libc::BPF_JGE, middle, over, 0);
            [vec![jump], lower, upper].concat()
        }
        _ => {
            let left = (1..=numbers.len()).rev();
            let tests = left.zip(numbers).map(|(left, &number)| {
                jump(libc::BPF_JEQ, number, u8::try_from(left).unwrap_or(0), 0)
            });
            let answers = [answer(libc::SECCOMP_RET_ALLOW), answer(refuse)];
            tests.chain(answers).collect()
        }
    }
}

fn number(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn answer(action: u32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, action)
}

/// Skips `jt` instructions if the condition holds, and `jf` if not.
fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, jt, jf, k)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> Instruction {
    let code = u16::try_from(code).unwrap_or(0);
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lockdown::bpf::{Data, Program};

    /// What the kernel would answer.
    fn run(program: &[Instruction], number: u32, arch: u32, args: [u64; 2]) -> u32 {
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).expect("is as wide");
        let [first, second] = args.map(|arg| [half(arg), half(arg >> 32)]);
        let mut words = [Some(0); 16];
        words[0] = Some(number);
        words[1] = Some(arch);
        for (word, value) in words[4..].iter_mut().zip([first, second].concat()) {
            *word = Some(value);
        }
        let program = Program::new(program).expect("the kernel takes it");
        match program.answers(&Data(words))[..] {
            [Some(answer)] => answer,
            ref other => panic!("answers {other:?}"),
        }
    }

    const REFUSED: u32 = 0x5_0001;
    const MISSING: u32 = 0x5_0026;

    #[test]
    fn each_number_has_its_answer() {
        let program = program();
        for number in 0..1024 {
            let expected = match i64::from(number) {
                libc::SYS_clone3 => MISSING,
                other if DENIED.contains(&other) || DENIED_HERE.contains(&other) => REFUSED,
                _ => libc::SECCOMP_RET_ALLOW,
            };
            assert_eq!(run(&program, number, ARCH, [0, 0]), expected, "{number}");
            assert_eq!(
                run(&program, number | X32, ARCH, [0, 0]),
                MISSING,
                "{number}"
            );
            let killed = libc::SECCOMP_RET_KILL_PROCESS;
            assert_eq!(run(&program, number, ARCH ^ 1, [0, 0]), killed, "{number}");
        }
        for flag in 0..64 {
            let made = NAMESPACES
                .cast_unsigned()
                .checked_shr(flag)
                .is_some_and(|rest| rest & 1 == 1);
            let expected = if made {
                REFUSED
            } else {
                libc::SECCOMP_RET_ALLOW
            };
            let clone = number(libc::SYS_clone);
            assert_eq!(
                run(&program, clone, ARCH, [1 << flag, 0]),
                expected,
                "{flag}"
            );
        }
        for (request, expected) in [
            (0x5412, REFUSED),
            (0xffff_ffff_0000_5412, REFUSED),
            (0x541c, REFUSED),
            (0x5413, libc::SECCOMP_RET_ALLOW),
        ] {
            let ioctl = number(libc::SYS_ioctl);
            assert_eq!(
                run(&program, ioctl, ARCH, [0, request]),
                expected,
                "{request:x}"
            );
        }
    }

    /// A compiler of others' makes the same of the same rules.
    #[cfg(feature = "seccomp")]
    #[test]
    fn seccompiler_agrees() {
        use seccompiler::{BpfProgram, SeccompAction, SeccompFilter as Other, TargetArch};
        let always = DENIED.iter().chain(DENIED_HERE);
        let rules = always.map(|&number| (number, Vec::new())).collect();
        let arch = TargetArch::try_from(std::env::consts::ARCH).expect("is known");
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let other = Other::new(rules, SeccompAction::Allow, refuse, arch);
        let other = BpfProgram::try_from(other.expect("is valid")).expect("compiles");
        let other: Vec<_> = other.into_iter().map(Instruction::from).collect();
        let ours = program();
        for number in (0..1024).filter(|&number| i64::from(number) != libc::SYS_clone3) {
            let theirs = run(&other, number, ARCH, [0, 0]);
            assert_eq!(run(&ours, number, ARCH, [0, 0]), theirs, "{number}");
        }
        assert!(ours.len() < 256 && other.len() > ours.len());
    }
}
