//! Hints: the usual causes of a failure, looked up on this machine after it happened.

use crate::error::Step;
use crate::ns::{AnyNamespace, Kind, Namespaces, forbidden};
use crate::plan::Compiled;
use crate::plan::op::Op;
use crate::spawn::{Call, Fail, Note};
use rustix::io::Errno;
use std::path::PathBuf;

/// The system as far as hints depend on it; tests make others.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) root: PathBuf,
}

impl System {
    pub(crate) fn here() -> Self {
        Self { root: "/".into() }
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    pub(crate) fn status(&self, field: &str) -> Option<String> {
        let text = self.read("proc/self/status")?;
        text.lines().find_map(|line| {
            Some(
                line.strip_prefix(field)?
                    .strip_prefix(':')?
                    .trim()
                    .to_owned(),
            )
        })
    }

    /// Whether the caller has CAP_SYS_ADMIN, which the switches for the unprivileged do not concern.
    pub(crate) fn is_privileged(&self) -> bool {
        const CAP_SYS_ADMIN: u32 = 21;
        self.status("CapEff")
            .and_then(|text| u64::from_str_radix(&text, 16).ok())
            .is_some_and(|set| set >> CAP_SYS_ADMIN & 1 == 1)
    }
}

/// What to do where `/proc` is missing.
pub(crate) const NOT_PROCFS: &str = "the caller's /proc is not a procfs: mount one";

/// Why the clone with new namespaces may have failed.
pub(crate) fn clone(plan: &Compiled, errno: Errno) -> Option<String> {
    clone_hint(
        &System::here(),
        plan.namespaces,
        plan.born_in_cgroup && plan.cgroup.is_some(),
        errno,
    )
}

fn clone_hint(
    system: &System,
    namespaces: Namespaces,
    into_cgroup: bool,
    errno: Errno,
) -> Option<String> {
    let user = namespaces.contains(Namespaces::USER);
    match errno {
        Errno::PERM | Errno::ACCESS if user => Some(user_namespaces_forbidden(system)),
        Errno::PERM if !namespaces.is_empty() => Some(
            "new namespaces need CAP_SYS_ADMIN; with user() they need no privilege".to_owned(),
        ),
        Errno::NOSPC => Some(limit_reached(system, namespaces)),
        Errno::USERS => Some("user or pid namespaces are nested too deeply: 32 levels at most".into()),
        Errno::INVAL => kind_missing(system, namespaces)
            .map(|kind| format!("this kernel has no {kind} namespaces")),
        Errno::AGAIN => Some(
            "too many processes: see RLIMIT_NPROC, pids.max of the cgroup, kernel.pid_max".into(),
        ),
        Errno::BUSY | Errno::OPNOTSUPP if into_cgroup => Some(
            "the cgroup hands its resources on to children (cgroup.subtree_control) or is threaded: processes go into a leaf".into(),
        ),
        Errno::NODEV if into_cgroup => Some("the cgroup has been removed".into()),
        Errno::NOSYS => Some("a seccomp filter hides the system call".into()),
        _ => None,
    }
}

pub(crate) const APPARMOR: &str = "AppArmor restricts user namespaces: give the program a profile with the rule \"userns,\", or as root, sysctl kernel.apparmor_restrict_unprivileged_userns=0";

/// AppArmor refuses either the namespace or, where its policy has a profile for it, all capabilities in
/// it: writing the maps is the first that needs one.
fn apparmor_restricts(system: &System) -> bool {
    !system.is_privileged()
        && system
            .read("proc/sys/kernel/apparmor_restrict_unprivileged_userns")
            .as_deref()
            == Some("1")
}

/// The five ways in which user namespaces are switched off.
fn user_namespaces_forbidden(system: &System) -> String {
    if !system.is_privileged()
        && system
            .read("proc/sys/kernel/unprivileged_userns_clone")
            .as_deref()
            == Some("0")
    {
        return "kernel.unprivileged_userns_clone is 0: as root, sysctl kernel.unprivileged_userns_clone=1"
            .into();
    }
    if system.read("proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        return "user.max_user_namespaces is 0: as root, sysctl user.max_user_namespaces=10000"
            .into();
    }
    if apparmor_restricts(system) {
        return APPARMOR.into();
    }
    if system.status("Seccomp").as_deref() == Some("2") {
        return "a seccomp filter of this process forbids it: a container needs a profile that allows clone3 and unshare with CLONE_NEWUSER"
            .into();
    }
    if system.read("sys/fs/selinux/enforce").as_deref() == Some("1") {
        return "SELinux is enforcing: its policy must allow user_namespace { create } for this domain"
            .into();
    }
    "this process is in a chroot, or its ids are not mapped in its user namespace, or a security module forbids it"
        .into()
}

fn limit_reached(system: &System, namespaces: Namespaces) -> String {
    if namespaces.contains(Namespaces::USER)
        && system.read("proc/sys/user/max_user_namespaces").as_deref() == Some("0")
    {
        return user_namespaces_forbidden(system);
    }
    let limits: Vec<_> = namespaces
        .kinds()
        .filter_map(|kind| {
            let file = format!("max_{}_namespaces", kind.proc_name());
            let value = system.read(&format!("proc/sys/user/{file}"))?;
            Some(format!("user.{file} is {value}"))
        })
        .collect();
    format!(
        "too many namespaces of one kind for this user ({}), or nested more than 32 levels deep",
        limits.join(", ")
    )
}

fn kind_missing(system: &System, namespaces: Namespaces) -> Option<Kind> {
    let present = system.root.join("proc/self/ns");
    if !present.exists() {
        return None;
    }
    namespaces
        .kinds()
        .find(|kind| !present.join(kind.proc_name()).exists())
}

/// Why a child may have been killed before its program was started.
pub(crate) fn killed(plan: &Compiled, signal: i32) -> Option<String> {
    let cause = match (signal, &plan.cgroup) {
        (libc::SIGKILL, Some(cgroup)) => format!(
            "cgroup.kill was used on {0}: it kills everything born there from then on; remove and re-create it",
            cgroup.path.display()
        ),
        (libc::SIGKILL, None) => {
            "somebody killed it: the memory limit of a cgroup, or another process".into()
        }
        (libc::SIGINT | libc::SIGQUIT, _) => {
            "somebody pressed Ctrl-C or the like: the signal went to all processes of the terminal, this one included, before the program was started".into()
        }
        (libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGABRT | libc::SIGTRAP, _) => {
            "the child crashed before the program was started: please report this".into()
        }
        (libc::SIGSYS, _) => "a seccomp filter kills who makes the system call".into(),
        (1.., _) => {
            "somebody sent the signal, to this process or to its process group, before the program was started".into()
        }
        _ => return None,
    };
    Some(cause)
}

/// Why an operation of the child may have failed.
pub(crate) fn child(plan: &Compiled, op: &Op, fail: &Fail, text: &str) -> Option<String> {
    noted(fail, text)
        .or_else(|| joining(plan, op, fail))
        .or_else(|| by_step(plan, op, fail))
        .or_else(|| by_errno(fail))
}

/// Why the second stage may not have got into a namespace, or a process not have been born into one.
fn joining(plan: &Compiled, op: &Op, fail: &Fail) -> Option<String> {
    if op.step == Step::Join {
        return setns(plan.join.namespace(op)?, fail.errno);
    }
    plan.join.by_stage.as_ref()?;
    let hint = match (op.step, fail.call, fail.errno) {
        (Step::Clone, Call::Clone, Errno::NOMEM) => {
            "process 1 of the pid namespace has ended: nobody can be born into it any more"
        }
        (Step::Clone, Call::Unshare, Errno::PERM) => {
            "new namespaces need CAP_SYS_ADMIN in the user namespace that was joined, or in the caller's"
        }
        (Step::Ids, Call::Setgroups, Errno::PERM) => {
            "the user namespace denies setgroups(2), as one does that was made without privilege; or the caller has no CAP_SETGID there"
        }
        (Step::Ids, _, Errno::INVAL) => {
            "the id does not exist in the user namespace that was joined: see Command::uid, Command::gid and JoinCredentials"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn setns(namespace: &AnyNamespace, errno: Errno) -> Option<String> {
    match (errno, namespace.kind()) {
        (Errno::PERM, _) => Some(forbidden(namespace)),
        (Errno::INVAL, Kind::User) => Some("the process is in that user namespace already".into()),
        (Errno::INVAL, Kind::Pid) => {
            Some("only pid namespaces below the caller's own can be joined".into())
        }
        _ => None,
    }
}

/// What the child found out itself.
pub(crate) fn noted(fail: &Fail, text: &str) -> Option<String> {
    Some(match fail.note {
        Note::InterpreterMissing if text.is_empty() => {
            "the program exists inside the root, but something that it needs to start does not"
                .into()
        }
        Note::InterpreterMissing => format!(
            "the program exists inside the root, but its interpreter {text} does not: bind the directory that it is in"
        ),
        Note::NoExec => "the program is on a file system that is mounted noexec".into(),
        Note::NotExecutable => {
            "the program exists but may not be executed by this user: see its mode".into()
        }
        Note::WrongDevice => "a file in the caller's /dev is not the device of that name".into(),
        Note::NotProcfs => NOT_PROCFS.into(),
        Note::HiddenMount => "a mount below the source is covered by another one, and without mount_setattr (Linux 5.12) it cannot get the attributes: bind a part of the source".into(),
        Note::KernelSays if !text.is_empty() => format!("the kernel says: {}", text.trim()),
        Note::Swapped => "the path by which the descriptor was opened does not lead to the same file any more".into(),
        Note::UsernsMade => "the limit user.max_user_namespaces does not hold here".into(),
        Note::Layer if fail.errno == Errno::NOTDIR => format!("the layer {text} is not a directory"),
        Note::Layer => format!("the layer {text} cannot be opened"),
        Note::NothingToMask if fail.errno == Errno::NOENT => "there is nothing to hide".into(),
        _ => return None,
    })
}

fn by_step(plan: &Compiled, op: &Op, fail: &Fail) -> Option<String> {
    let (step, errno, call) = (op.step, fail.errno, fail.call);
    let hint = match step {
        Step::Init if (call, errno) == (Call::Execveat, Errno::NOENT) => {
            "the security module TOMOYO may have to see a program in memory at /dev/fd: mount /dev and /proc inside, or leave the module out (lsm= on the kernel's command line)"
        }
        Step::IdMap if matches!(errno, Errno::ACCESS) => {
            "this process is not dumpable (PR_SET_DUMPABLE, or it changed its ids): its files in /proc belong to root, and it may not map ids"
        }
        Step::IdMap if errno == Errno::PERM && apparmor_restricts(&System::here()) => {
            return Some(APPARMOR.into());
        }
        Step::IdMap if errno == Errno::PERM => {
            "the kernel refused the map: the id is not the caller's, or not mapped in its own user namespace"
        }
        Step::TimeOffsets if errno == Errno::RANGE => {
            "the clock would become negative, or overflow"
        }
        Step::Proc if errno == Errno::PERM => {
            "the procfs that is visible here is partly masked, as containers mask it, so the kernel refuses a fresh one: bind it instead, or unmask it (docker: --security-opt systempaths=unconfined)"
        }
        Step::Sysfs | Step::Mqueue if errno == Errno::PERM => {
            "the one that is visible here is partly masked, so the kernel refuses a fresh one"
        }
        Step::Bind | Step::Root if call == Call::OpenTree && errno == Errno::NOENT => {
            "the source does not exist"
        }
        Step::Bind | Step::Root
            if matches!(call, Call::OpenTree | Call::Openat) && errno == Errno::ACCESS =>
        {
            "the source, or a directory above it, is not accessible with the ids that the child has during the set-up"
        }
        Step::Bind | Step::Root
            if errno == Errno::INVAL
                && (call == Call::OpenTree || (step, call) == (Step::Bind, Call::Mount)) =>
        {
            "the source belongs to another mount namespace, as do the links of procfs such as /proc/self/exe: give the path that it leads to; or it is on an unbindable mount"
        }
        Step::Bind if call == Call::Openat2 && errno == Errno::NOTDIR => {
            "a directory can be bound only on a directory, a file only on a file"
        }
        Step::Proc | Step::Sysfs | Step::Mqueue | Step::Dev if errno == Errno::LOOP => {
            "there is a symbolic link on the way to this path: what the kernel shows must be where its path says"
        }
        Step::Tmpfs | Step::Dir | Step::File | Step::Symlink if errno == Errno::NOTDIR => {
            "something that is no directory is at this path inside, or on the way to it"
        }
        Step::File if errno == Errno::EXIST => {
            "there is a file already; bind() covers it with another one"
        }
        Step::Symlink if errno == Errno::EXIST => "something else is there already",
        Step::Overlay | Step::Root if call == Call::Mount && errno == Errno::INVAL => {
            "of an overlay, the upper and the work directory are on one file system, which is not itself an overlay, and neither is within the other; in a user namespace nothing that the caller mounted is below a layer; see dmesg"
        }
        Step::Overlay | Step::Root if call == Call::Mount && errno == Errno::LOOP => {
            "a layer is given twice, or is within another one"
        }
        Step::Overlay if errno == Errno::NODEV => {
            "the kernel has no overlay file system: it is a module (overlay) that only root of the host can load"
        }
        Step::Overlay | Step::Root if call == Call::Mount && errno == Errno::PERM => {
            "overlays in a user namespace need Linux 5.11"
        }
        Step::Overlay | Step::Root if call == Call::Mount && errno == Errno::BUSY => {
            "the upper or the work directory is in use by another overlay"
        }
        Step::Tmpfs | Step::Proc | Step::Devpts | Step::Root
            if call == Call::Mount && errno == Errno::INVAL =>
        {
            "the kernel refused an option, see dmesg"
        }
        Step::Propagation if errno == Errno::INVAL => {
            "it is no mount point of its own, so what is mounted there would show outside"
        }
        Step::BinfmtMisc if matches!(errno, Errno::PERM | Errno::NODEV) => {
            "binfmt_misc in a user namespace needs Linux 6.7, and its module (binfmt_misc) loaded"
        }
        Step::BinfmtMisc if errno == Errno::NOENT => {
            "no binfmt_misc is mounted at this path: see Sandbox::binfmt_misc"
        }
        Step::BinfmtMisc if errno == Errno::INVAL => {
            "it reads :name:type:offset:magic:mask:interpreter:flags, as the kernel's documentation of binfmt_misc has it"
        }
        Step::Remount | Step::Chmod if errno == Errno::NOENT => {
            "there is nothing at this path inside"
        }
        Step::CurrentDir if errno == Errno::NOENT => {
            "the program sees no such directory: in a new root dir() makes one, and bind() shows one of the caller's"
        }
        Step::CurrentDir if errno == Errno::NOTDIR => "it is no directory",
        Step::PivotRoot if matches!(errno, Errno::NOENT | Errno::NOTDIR) => {
            "there is no such directory"
        }
        Step::Ids if errno == Errno::PERM => {
            "other ids need CAP_SETUID and CAP_SETGID; with user() and a map that has them they need no privilege"
        }
        Step::Ids if errno == Errno::INVAL => "the id does not exist in this user namespace",
        Step::OomScore if errno == Errno::ACCESS => {
            "below the caller's own value it takes CAP_SYS_RESOURCE, outside of any user namespace; and a process that is not dumpable may not write to its files in /proc"
        }
        Step::DisableUserns if matches!(errno, Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
            "the caller's /proc/sys is read-only, as in most containers"
        }
        Step::DisableUserns if errno == Errno::NOSPC => {
            "the limit on user namespaces is reached: see user.max_user_namespaces"
        }
        Step::Capabilities | Step::Securebits if errno == Errno::PERM => {
            "the bounding set and securebits take CAP_SETPCAP, and nobody gets a capability that it lacks; with user() the child has all of them"
        }
        Step::Landlock if errno == Errno::PERM => "without no_new_privs it takes CAP_SYS_ADMIN",
        Step::Landlock if errno == Errno::OPNOTSUPP || errno == Errno::NOSYS => {
            "the kernel has no Landlock, or it is switched off: see its parameter lsm="
        }
        Step::Landlock if errno == Errno::BADFD => "the descriptor is no Landlock ruleset",
        Step::Landlock if errno == Errno::TOOBIG => {
            "there are 16 rulesets above each other at most"
        }
        Step::Seccomp if errno == Errno::ACCESS => "without no_new_privs it takes CAP_SYS_ADMIN",
        Step::Seccomp if errno == Errno::INVAL => {
            "the kernel does not accept these instructions, or does not know a flag"
        }
        Step::Seccomp if call == Call::Seccomp && errno == Errno::BUSY => {
            "there is a listener already, of a filter of the caller's own"
        }
        Step::Seccomp if call == Call::Sendmsg => {
            "a filter with a listener has to allow sendmsg(2)"
        }
        Step::Rlimit if errno == Errno::PERM => {
            "a hard limit above the caller's takes CAP_SYS_RESOURCE, outside of any user namespace"
        }
        Step::Nice | Step::IoPriority if matches!(errno, Errno::PERM | Errno::ACCESS) => {
            "before others only with CAP_SYS_NICE, outside of any user namespace"
        }
        Step::Affinity if errno == Errno::INVAL => {
            "none of the processors exists, or the cpuset of the program has none of them"
        }
        Step::Exec if errno == Errno::PERM && plan.filters() => {
            "a filter of system calls has to permit execve(2)"
        }
        Step::Exec if matches!(errno, Errno::NOENT | Errno::NOTDIR) => {
            return Some(match plan.program.candidates.as_slice() {
                [path] => format!("there is no {} inside the root", path.to_string_lossy()),
                _ => "it is in no directory of the program's PATH inside the root".into(),
            });
        }
        Step::Exec if errno == Errno::ACCESS => match plan.program.candidates.as_slice() {
            [_] => "it is a directory, or this user may not look into one on the way to it",
            _ => {
                "no directory of the program's PATH has it, and this user may not look into all of them"
            }
        },
        Step::Exec if errno == Errno::NOEXEC => {
            "the kernel cannot execute this file: for another architecture, or a script without #!"
        }
        Step::Exec if errno == Errno::TOOBIG => {
            "the arguments and the environment are too long: each by itself, of which the kernel takes less than 128 KiB, or all together, see ARG_MAX and RLIMIT_STACK"
        }
        Step::Loopback if errno == Errno::NODEV => "there is no loopback interface",
        _ => return None,
    };
    Some(hint.into())
}

fn by_errno(fail: &Fail) -> Option<String> {
    match fail.errno {
        Errno::NOSYS => Some(format!(
            "{} is missing from this kernel, or a seccomp filter hides it",
            fail.call.name()
        )),
        Errno::OVERFLOW => Some(
            "the ids that the child has are not mapped in the user namespace of this file system"
                .into(),
        ),
        Errno::ROFS => {
            Some("the file system is read-only: the path must exist in it already".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let dir = tempfile::tempdir().expect("temporary directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let root = dir.path().to_owned();
        (dir, System { root })
    }

    #[test]
    fn names_each_way_of_switching_user_namespaces_off() {
        let cases = [
            (
                "proc/sys/kernel/unprivileged_userns_clone",
                "0\n",
                "unprivileged_userns_clone",
            ),
            (
                "proc/sys/user/max_user_namespaces",
                "0\n",
                "max_user_namespaces",
            ),
            (
                "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "apparmor_restrict_unprivileged_userns",
            ),
            ("proc/self/status", "Name:\tx\nSeccomp:\t2\n", "seccomp"),
            ("sys/fs/selinux/enforce", "1", "SELinux"),
        ];
        for (path, text, word) in cases {
            let (_dir, system) = system(&[(path, text)]);
            let hint = clone_hint(&system, Namespaces::all(), false, Errno::PERM);
            assert!(
                hint.as_deref().is_some_and(|hint| hint.contains(word)),
                "{hint:?}"
            );
        }
        let (_dir, privileged) = system(&[
            ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            (
                "proc/self/status",
                "CapEff:\t000001ffffffffff\nSeccomp:\t2\n",
            ),
        ]);
        let hint = clone_hint(&privileged, Namespaces::USER, false, Errno::PERM);
        assert!(hint.is_some_and(|hint| hint.contains("seccomp")));
        let (_dir, system) = system(&[("proc/sys/user/max_user_namespaces", "0")]);
        let hint = clone_hint(&system, Namespaces::USER, false, Errno::NOSPC);
        assert!(hint.is_some_and(|hint| hint.contains("sysctl user.max_user_namespaces")));
    }

    #[test]
    fn names_limits_and_missing_kinds() {
        let (_dir, system) = system(&[
            ("proc/sys/user/max_net_namespaces", "7"),
            ("proc/self/ns/net", ""),
        ]);
        let hint = clone_hint(&system, Namespaces::NET, false, Errno::NOSPC);
        assert!(hint.is_some_and(|hint| hint.contains("user.max_net_namespaces is 7")));
        let hint = clone_hint(
            &system,
            Namespaces::NET | Namespaces::TIME,
            false,
            Errno::INVAL,
        );
        assert_eq!(hint.as_deref(), Some("this kernel has no time namespaces"));
    }
}
