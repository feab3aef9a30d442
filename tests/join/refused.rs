//! What cannot be joined, and why; nothing is left behind.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use ringfence::ns::{Mount, Namespace, Net, Pid, Time, User};
use ringfence::{AnyNamespace, Error, ErrorKind, IdMap, Kind, NamespaceSet, Rootfs, Sandbox, Step};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{Pid as RawPid, Signal, kill_process};
use rustix::thread::UnshareFlags;

use super::{stage, target};
use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, isolated_as_user, probe, require, seccomp, sys};
use crate::support::{Waiting, is_privileged};

#[test]
fn contradictions_name_their_setter() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let set = NamespaceSet::create(&Sandbox::new().all().user_map(IdMap::root())).unwrap();
        let join = |kind| Sandbox::new().join(set.get(kind).unwrap());
        let user = || join(Kind::User);
        let cases = [
            (
                join(Kind::Net).join_set(&set),
                "join",
                "net namespace is joined twice",
            ),
            (
                user().join(set.user.as_ref().unwrap()),
                "join",
                "user namespace is joined twice",
            ),
            (
                join(Kind::Net).net(),
                "join",
                "a net namespace is joined, and a new one",
            ),
            (join(Kind::Ipc).ipc(), "join", "ipc"),
            (join(Kind::Pid).pid(), "join", "pid"),
            (join(Kind::Time).time(), "join", "time"),
            (join(Kind::Cgroup).cgroup(), "join", "cgroup"),
            (user().user(), "join", "user"),
            (
                user().user_map(IdMap::root()),
                "user_map",
                "new user namespace",
            ),
            (
                join(Kind::Uts).hostname("x"),
                "hostname",
                "new uts namespace",
            ),
            (
                join(Kind::Net).loopback_down(),
                "loopback_down",
                "new net namespace",
            ),
            (join(Kind::Pid).init(), "init", "new pid namespace"),
            (
                join(Kind::Mount).tmpfs("/tmp"),
                "tmpfs",
                "new mnt namespace",
            ),
            (join(Kind::Pid).user(), "user", "not together"),
            (user().time(), "time", "not together"),
            (
                user().mount().rootfs(Rootfs::tmpfs()),
                "rootfs",
                "not together",
            ),
            (user().mount().bind("/usr", "/usr"), "bind", "not together"),
            (user().mount().join_root("/"), "mount", "join_root"),
            (
                Sandbox::new().join_root("/"),
                "join_root",
                "no namespace is joined",
            ),
            (
                Sandbox::new().join_dir("/"),
                "join_dir",
                "no namespace is joined",
            ),
            (user().join_dir("/\0"), "join_dir", "NUL"),
            (
                Sandbox::new().into_cgroup("/").join_cgroup(1),
                "join_cgroup",
                "into_cgroup",
            ),
        ];
        for (sandbox, setter, word) in cases {
            let error = sandbox.command("/bin/true").compile().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            assert_eq!(error.setter(), Some(setter), "{error:?}");
            assert!(format!("{error:?}").contains(word), "{word}: {error:?}");
        }
        let missing = Sandbox::new().join_all(u32::MAX >> 1);
        let error = missing.command("/bin/true").compile().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{error:?}");
    });
}

/// The error of a program that is not started, after which everything is as it was.
#[track_caller]
fn fails(sandbox: &Sandbox) -> Error {
    let plan = sandbox.clone().command("/bin/true").compile().unwrap();
    let failed = plan.spawn().unwrap_err();
    let before = Census::take().without(&["maps"]);
    let error = plan.spawn().unwrap_err();
    assert_same(&before, &Census::take().without(&["maps"]));
    assert_eq!(failed.to_string(), error.to_string());
    error
}

#[track_caller]
fn assert_refused(error: &Error, object: &str, words: &[&str]) {
    assert_eq!(error.step(), Some(Step::Join), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert_eq!(error.syscall(), Some("setns"), "{error:?}");
    assert!(error.to_string().contains(object), "{error:?}");
    let hint = error.hint().unwrap();
    for word in words {
        assert!(hint.contains(word), "{word}: {error:?}");
    }
}

/// The error says who owns it.
#[test]
fn without_privilege() {
    isolated_as_user(|| {
        require!(userns);
        stage!();
        let set = NamespaceSet::create(&Sandbox::new().all().user_map(IdMap::root())).unwrap();
        let owner = set.user.as_ref().unwrap().to_string();
        for namespace in set.iter().filter(|one| one.kind() != Kind::User) {
            let error = fails(&Sandbox::new().join(namespace));
            let words = ["CAP_SYS_ADMIN", &owner];
            assert_refused(&error, &namespace.to_string(), &words);
        }
        // Those of the system, which the caller is shown by a descriptor.
        sys::unshare(UnshareFlags::NEWUSER).unwrap();
        let net = Namespace::<Net>::current().unwrap();
        sys::unshare(UnshareFlags::NEWNET).unwrap();
        let error = fails(&Sandbox::new().join(&net));
        assert_refused(&error, &net.to_string(), &["outside the caller's"]);
    });
}

#[test]
fn a_user_namespace_of_somebody_else() {
    isolated_as_user(|| {
        require!(userns);
        stage!();
        let first = Namespace::<User>::current().unwrap();
        crate::support::enter_userns(0, UnshareFlags::empty());
        // One may not go back up.
        let error = fails(&Sandbox::new().join(&first));
        assert_refused(&error, &first.to_string(), &["made", "above"]);
    });
}

/// A process in a mount namespace where this is what `/proc/self/ns/user` leads to.
fn with_forged_link(user: &Namespace<User>) -> i32 {
    let (mut ready, tell) = std::io::pipe().unwrap();
    if let Some(pid) = sys::fork().unwrap() {
        drop(tell);
        assert_eq!(ready.read(&mut [0]).unwrap(), 1);
        return pid;
    }
    crate::common::isolated::die_with_parent();
    sys::unshare(UnshareFlags::NEWNS).unwrap();
    mount("forged", "/tmp", "tmpfs", MountFlags::empty(), None).unwrap();
    fs::create_dir_all("/tmp/self/ns").unwrap();
    fs::write("/tmp/self/ns/user", "").unwrap();
    let source = format!("/proc/self/fd/{}", user.as_fd().as_raw_fd());
    mount_bind(source, "/tmp/self/ns/user").unwrap();
    mount_move("/tmp", "/proc").unwrap();
    (&tell).write_all(b"r").unwrap();
    loop {
        std::thread::park();
    }
}

/// Whoever has made a mount namespace does not say which user namespace it is that one is in already.
#[test]
fn a_forged_proc_in_the_joined_mount_namespace() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let user = Namespace::<User>::create().unwrap();
        // From here it is somebody else's, while mount namespaces can be made.
        crate::support::enter_userns(0, UnshareFlags::NEWNS);
        let forger = with_forged_link(&user);
        let mount = Namespace::<Mount>::of_pid(forger.cast_unsigned()).unwrap();
        let error = fails(&Sandbox::new().join(&mount).join(&user));
        assert_refused(&error, &user.to_string(), &["made", "above"]);
        kill_process(RawPid::from_raw(forger).unwrap(), Signal::KILL).unwrap();
        crate::common::isolated::wait_for(forger);
    });
}

#[test]
fn a_pid_namespace_whose_process_1_has_ended() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let sandbox = Sandbox::new().join_all(target.id());
        let pid = i32::try_from(target.id()).ok().and_then(RawPid::from_raw);
        kill_process(pid.unwrap(), Signal::KILL).unwrap();
        assert!(probe::ends_within(
            &*target,
            std::time::Duration::from_secs(10)
        ));
        let error = fails(&sandbox);
        assert_eq!(error.step(), Some(Step::Clone), "{error:?}");
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
        assert!(error.hint().unwrap().contains("process 1"), "{error:?}");
    });
}

#[test]
fn a_pid_namespace_above_the_callers() {
    isolated(|| {
        require!(root);
        stage!();
        let above = Namespace::<Pid>::current().unwrap();
        sys::unshare(UnshareFlags::NEWPID).unwrap();
        let status = crate::common::in_forked_child(|| {
            let error = fails(&Sandbox::new().join(&above));
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            assert!(error.hint().unwrap().contains("below"), "{error:?}");
            0
        });
        assert!(status.success());
    });
}

/// Every step that comes after the joins.
#[test]
fn what_fails_inside() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let sandbox = Sandbox::new().join_all(target.id());
        let failing = |command: ringfence::Command, step| {
            let plan = command.compile().unwrap();
            drop(plan.spawn());
            let before = Census::take().without(&["maps"]);
            let error = plan.spawn().unwrap_err();
            assert_same(&before, &Census::take().without(&["maps"]));
            assert_eq!(error.step(), Some(step), "{error:?}");
            error
        };
        let program = || sandbox.clone().command("/bin/true");
        let error = failing(sandbox.clone().command("/no/such"), Step::Exec);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = failing(program().current_dir("/no/such"), Step::CurrentDir);
        assert!(error.to_string().contains("/no/such"), "{error:?}");
        let error = failing(program().uid(12345), Step::Ids);
        assert!(error.to_string().contains("uid 12345"), "{error:?}");
        let error = failing(program().gid(12345), Step::Ids);
        assert!(error.to_string().contains("gid 12345"), "{error:?}");
    });
}

/// A copy of the caller is not to be looked into by others.
#[test]
fn where_the_second_stage_would_be_a_copy_of_the_caller() {
    isolated_as_both(|| {
        require!(userns);
        let set = NamespaceSet::create(&Sandbox::new().all().user_map(IdMap::root()));
        seccomp::deny(&[(libc::SYS_execveat, libc::EPERM)]).unwrap();
        let set = set.unwrap();
        let before = Census::take().without(&["maps", "fds"]);
        for kind in [Kind::User, Kind::Pid, Kind::Mount, Kind::Time] {
            let Some(namespace) = set.get(kind) else {
                continue;
            };
            let command = Sandbox::new().join(namespace).command("/bin/true");
            let error = command.compile().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            assert!(error.hint().unwrap().contains("memfd_noexec"), "{error:?}");
        }
        assert_same(&before, &Census::take().without(&["maps", "fds"]));
        // What nobody is let in by can be joined all the same.
        if is_privileged() {
            let sandbox = Sandbox::new().join(set.net.as_ref().unwrap());
            let joined = Waiting::start(&sandbox);
            let net = AnyNamespace::of_pid(Kind::Net, joined.id()).unwrap();
            assert_eq!(net.id(), set.net.unwrap().id());
        }
    });
}

/// Where setns is forbidden altogether.
#[test]
fn a_filter_forbids_setns() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let set = NamespaceSet::create(&Sandbox::new().all().user_map(IdMap::root())).unwrap();
        seccomp::deny(&[(libc::SYS_setns, libc::ENOSYS)]).unwrap();
        for sandbox in [
            Sandbox::new().join_set(&set),
            Sandbox::new().join(set.net.as_ref().unwrap()),
        ] {
            let error = fails(&sandbox);
            assert_eq!(error.step(), Some(Step::Join));
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        }
    });
}

#[test]
fn the_plan_says_what_is_joined_and_in_which_order() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let sandbox = Sandbox::new().user().pid().uts().user_map(IdMap::root());
        let target = Waiting::start(&sandbox);
        let of = |kind| AnyNamespace::of_pid(kind, target.id()).unwrap();
        let (user, pid, uts) = (of(Kind::User), of(Kind::Pid), of(Kind::Uts));
        let time = Namespace::<Time>::current().unwrap();
        let command = Sandbox::new()
            .net()
            .mount()
            .hostname("box")
            .uts()
            .join(&uts)
            .join(&user)
            .join(&time)
            .join(&pid)
            .join_dir("/")
            .command("/bin/true")
            .keep_capabilities()
            .gid(0)
            .groups([0])
            .current_dir("/tmp");
        let plan = command.compile().unwrap().to_string();
        let expected = include_str!("plan.txt")
            .replace("{user}", &user.to_string())
            .replace("{pid}", &pid.to_string())
            .replace("{uts}", &uts.to_string())
            .replace("{time}", &time.to_string());
        assert_eq!(plan, expected.trim_end());
        let by_thread = Sandbox::new().join(&uts).command("/bin/true");
        let plan = by_thread.compile().unwrap().to_string();
        let expected = include_str!("thread.txt").replace("{uts}", &uts.to_string());
        assert_eq!(plan, expected.trim_end());
        let last = Sandbox::new().join_user_last(&Namespace::of_pid(target.id()).unwrap());
        let command = last
            .command("/bin/true")
            .die_with_parent()
            .keep_capabilities();
        let plan = command.compile().unwrap().to_string();
        let steps: Vec<_> = plan
            .lines()
            .filter_map(|line| line.split_once(". "))
            .collect();
        let expected = [
            &format!("join: {user}, last of all [setns, close, prctl]"),
            "capabilities: all that are permitted, ambient [capget, capset, prctl]",
            "exec: /bin/true [execve]",
        ];
        let found = steps.iter().map(|(_, step)| *step).rev().take(3);
        assert!(found.eq(expected.into_iter().rev()), "{plan}");
    });
}
