//! A user namespace that is entered when all else has been set up.

use std::fs;

use ringfence::lockdown::{Capabilities, CapabilitySets, SeccompFilter};
use ringfence::ns::{Namespace, Net, User};
use ringfence::{ErrorKind, IdMap, Kind, MountLock, Sandbox, Stdio, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{kinds, link, stage};
use crate::common::leaks::{Census, assert_same};
use crate::common::{in_forked_child, isolated, isolated_as_both, probe, require, seccomp};
use crate::support::{Waiting, is_privileged, sh, shell, with_programs};

fn new() -> Namespace<User> {
    Namespace::create_with_map(IdMap::root()).unwrap()
}

/// One below the other.
struct Pair {
    upper: Namespace<User>,
    lower: Namespace<User>,
}

fn pair() -> Pair {
    let nested = Sandbox::new().user().user_map(IdMap::root()).mount();
    let nested = Waiting::start(&nested.lock_mounts(MountLock::Nested));
    let lower = Namespace::<User>::of_pid(nested.id()).unwrap();
    let upper = lower.parent().unwrap().unwrap();
    assert!(!upper.is_current().unwrap());
    Pair { upper, lower }
}

#[test]
fn the_program_is_there_and_nowhere_else() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let user = new();
        let sandbox = Sandbox::new().join_user_last(&user);
        drop(Waiting::start(&sandbox));
        let before = Census::take().without(&["maps"]);
        for sandbox in [sandbox.clone(), sandbox.clone().init()] {
            // With a process that stands for process 1 it has another parent.
            let id = Waiting::start(&sandbox);
            let program = program_of(id.id());
            for kind in kinds() {
                let expected = match kind {
                    Kind::User => user.to_string(),
                    kind => link("self", kind),
                };
                assert_eq!(link(program, kind), expected, "{kind}");
            }
        }
        let mut held = Waiting::command(&sandbox).gate().spawn().unwrap();
        // Nobody may look into what is held but root.
        if is_privileged() {
            assert_eq!(link(held.id(), Kind::User), link("self", Kind::User));
        }
        held.release().unwrap();
        assert_eq!(link(held.id(), Kind::User), user.to_string());
        held.kill().unwrap();
        held.wait().unwrap();
        drop(held);
        assert_same(&before, &Census::take().without(&["maps"]));
    });
}

/// The child of that process, if it has one, or the process.
fn program_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    match children.split_whitespace().next() {
        Some(child) => child.parse().unwrap(),
        None => pid,
    }
}

/// What is made before belongs to the namespace above, and so does process 1.
#[test]
fn the_program_has_no_power_over_the_sandbox() {
    isolated_as_both(|| {
        require!(userns, netns);
        stage!();
        let Pair { upper, lower } = pair();
        let above = Sandbox::new().join(&upper).net().uts().pid().init();
        let sandbox = above.clone().hostname("box").join_user_last(&lower);
        let waiting = Waiting::start(&sandbox);
        // As above.
        if is_privileged() {
            assert_eq!(link(waiting.id(), Kind::User), upper.to_string());
        }
        let program = program_of(waiting.id());
        assert_eq!(link(program, Kind::User), lower.to_string());
        let net = Namespace::<Net>::of_pid(program).unwrap();
        assert_eq!(net.user_namespace().unwrap(), upper);
        drop(waiting);
        let rename = "hostname other; hostname; grep CapEff /proc/$$/status | tail -c 5";
        let may = sh(&above.hostname("box"), "hostname other; hostname");
        assert_eq!(may, "other");
        let said = sh(&sandbox, &format!("id -u; {rename}"));
        let lines: Vec<_> = said.lines().collect();
        // All capabilities, over nothing here.
        assert_eq!((lines[0], lines[2]), ("0", "box"), "{said}");
    });
}

/// Root makes mounts and a network as root, for a program that is root only over its own ids.
#[test]
fn root_sets_up_what_the_program_cannot_touch() {
    isolated(|| {
        require!(root, userns, netns);
        stage!();
        let user = Namespace::<User>::create_with_map(IdMap::range(0, 100_000, 10)).unwrap();
        let sandbox = with_programs(Sandbox::new().pid().net().init())
            .proc("/proc")
            .dev("/dev")
            .tmpfs("/tmp")
            .join_user_last(&user);
        let script = "id -u; cat /proc/self/uid_map; umount /tmp; mount -o remount,rw /usr; touch /usr/x /tmp/x; ls /tmp";
        let command = shell(&sandbox, script).uid(100_000).gid(100_000);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.starts_with("0\n         0     100000         10\n"),
            "{said}"
        );
        assert!(
            said.contains("umount:") && said.contains("mount:"),
            "{said}"
        );
        assert!(said.contains("touch: cannot touch '/usr/x'"), "{said}");
        // It is not its tmpfs, whose mode does not permit that either.
        assert!(
            said.contains("touch: cannot touch '/tmp/x'") || said.ends_with("x\n"),
            "{said}"
        );
        assert!(!std::path::Path::new("/usr/x").exists());
    });
}

#[test]
fn the_program_is_bound_in_it() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let kill = Capabilities::KILL;
        let sandbox = Sandbox::new()
            .join_user_last(&new())
            .capabilities(CapabilitySets::keep(kill).ambient(kill))
            .seccomp(SeccompFilter::new([seccomp::ALLOW]));
        let waiting = Waiting::start(&sandbox);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let found = probe::status(waiting.id().to_string(), set).unwrap();
            assert_eq!(found, format!("{:016x}", kill.bits()), "{set}");
        }
        let field = |name| probe::status(waiting.id().to_string(), name).unwrap();
        assert_eq!(
            (field("NoNewPrivs"), field("Seccomp")),
            ("1".into(), "2".into())
        );
    });
}

#[test]
fn it_dies_with_its_parent() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let user = new();
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let status = in_forked_child(|| {
            let sandbox = Sandbox::new().join_user_last(&user);
            let command = sandbox.command("/bin/sleep").arg("1000").die_with_parent();
            let command = command.stdin(Stdio::null());
            let mut child = command.stdout(theirs.try_clone().unwrap()).spawn().unwrap();
            assert!(child.try_wait().unwrap().is_none());
            0
        });
        assert!(status.success());
        drop(theirs);
        let limit = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        let mut ended = [PollFd::new(&ours, PollFlags::IN)];
        assert_eq!(poll(&mut ended, Some(&limit)), Ok(1));
    });
}

#[test]
fn contradictions_are_refused() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let user = new();
        let last = Sandbox::new().join_user_last(&user);
        for sandbox in [
            last.clone().user(),
            last.clone().mount().lock_mounts(MountLock::Nested),
        ] {
            let error = sandbox.command("true").compile().unwrap_err();
            assert_eq!(error.setter(), Some("join_user_last"), "{error:?}");
        }
        seccomp::deny(&[(libc::SYS_execveat, libc::EPERM)]).unwrap();
        let error = last.command("true").compile().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn what_the_kernel_refuses_is_an_error() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let Pair { upper, lower } = pair();
        let own = Namespace::<User>::current().unwrap();
        let other = new();
        for (sandbox, errno, hint) in [
            (Sandbox::new().join_user_last(&own), libc::EINVAL, "already"),
            (
                Sandbox::new().join(&lower).join_user_last(&upper),
                libc::EPERM,
                "CAP_SYS_ADMIN",
            ),
            (
                Sandbox::new().join(&upper).join_user_last(&other),
                libc::EPERM,
                "CAP_SYS_ADMIN",
            ),
        ] {
            let plan = sandbox.command("/bin/true").compile().unwrap();
            plan.spawn().unwrap_err();
            let before = Census::take().without(&["maps"]);
            let error = plan.spawn().unwrap_err();
            assert_same(&before, &Census::take().without(&["maps"]));
            assert_eq!(error.step(), Some(Step::Join), "{error:?}");
            assert_eq!(error.syscall(), Some("setns"), "{error:?}");
            assert_eq!(error.raw_os_error(), Some(errno), "{error:?}");
            assert!(error.hint().unwrap().contains(hint), "{error:?}");
        }
    });
}
