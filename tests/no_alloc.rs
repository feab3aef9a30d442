//! The child neither allocates nor frees, and leaves errno, which it shares, alone.
#![allow(
    clippy::unwrap_used,
    reason = "what goes wrong in a test fails the test"
)]

mod common;
mod raw;
mod seen;

use std::os::fd::OwnedFd;

use common::alloc::ParentOnly;
use common::{isolated, isolated_as_both, require, seccomp};
use ringfence::{Command, Engine, ErrorKind, IdMap, Rootfs, Sandbox, Step};
use seen::{everything, locked_down, looker, many_ids, minimal, seen};

#[global_allocator]
static ALLOC: ParentOnly = ParentOnly;

const ENGINES: [Engine; 3] = [Engine::Clone3, Engine::Clone, Engine::Fork];

fn memfd() -> OwnedFd {
    rustix::fs::memfd_create(c"handed over", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
}

/// Between them, every operation that an unprivileged plan can have.
fn commands(engine: Engine) -> [Command; 6] {
    let inherited = || {
        Sandbox::new()
            .user()
            .pid()
            .mount()
            .net()
            .ipc()
            .user_map(IdMap::root())
    };
    [
        looker(Sandbox::new().engine(engine)),
        looker(everything().engine(engine))
            .descriptor(memfd(), 3)
            .descriptor(memfd(), 9)
            .uid(0)
            .gid(0)
            .umask(0o27)
            .current_dir("/tmp")
            .new_session(),
        looker(minimal(inherited().engine(engine))).die_with_parent(),
        looker(locked_down(inherited().engine(engine)).disable_userns()),
        looker(locked_down(inherited().engine(engine)).init()).current_dir("/"),
        looker(inherited().engine(engine).proc("/proc").tmpfs("/tmp")).current_dir("/"),
    ]
}

#[test]
fn in_children_that_start_their_program() {
    isolated_as_both(|| {
        require!(userns, netns, timens, new_proc);
        ParentOnly::arm();
        for engine in ENGINES {
            for command in commands(engine) {
                seen(command.spawn().unwrap());
            }
        }
        let root = Sandbox::new().user().pid().mount().user_map(IdMap::root());
        let status = root.rootfs(Rootfs::dir("/")).command("/bin/true").status();
        assert!(status.unwrap().success());
    });
}

#[test]
fn in_children_whose_maps_others_write() {
    isolated(|| {
        require!(root);
        ParentOnly::arm();
        for engine in ENGINES {
            seen(
                looker(many_ids().engine(engine))
                    .uid(5)
                    .gid(6)
                    .spawn()
                    .unwrap(),
            );
            let bound = looker(locked_down(many_ids().engine(engine))).uid(5);
            seen(bound.gid(6).spawn().unwrap());
            let groups = looker(Sandbox::new().engine(engine)).uid(5).groups([7, 8]);
            seen(groups.spawn().unwrap());
        }
    });
}

#[test]
fn in_children_that_go_on_as_another_process() {
    isolated_as_both(|| {
        require!(userns, timens);
        raw::pretend_old_kernel();
        ParentOnly::arm();
        for engine in [Engine::Auto, Engine::Clone, Engine::Fork] {
            let user = Sandbox::new().user().user_map(IdMap::root()).time();
            seen(looker(user.engine(engine)).spawn().unwrap());
        }
    });
}

/// A call that fails in the child, whatever it does; with the step that needs it.
const FAILING: [(libc::c_long, Step); 17] = [
    (libc::SYS_timer_create, Step::Prepare),
    (libc::SYS_write, Step::IdMap),
    (libc::SYS_sethostname, Step::Hostname),
    (libc::SYS_setdomainname, Step::Domainname),
    (libc::SYS_socket, Step::Loopback),
    (libc::SYS_mount, Step::Propagation),
    (libc::SYS_fsmount, Step::Root),
    (libc::SYS_mount_setattr, Step::Bind),
    (libc::SYS_symlinkat, Step::Symlink),
    (libc::SYS_mkdirat, Step::Bind),
    (libc::SYS_pivot_root, Step::PivotRoot),
    (libc::SYS_umount2, Step::PivotRoot),
    (libc::SYS_setsid, Step::Session),
    (libc::SYS_setresuid, Step::Ids),
    (libc::SYS_dup3, Step::Stdio),
    (libc::SYS_rt_sigaction, Step::Prepare),
    (libc::SYS_execve, Step::Exec),
];

#[test]
fn in_children_that_fail_and_errno_stays() {
    isolated_as_both(|| {
        require!(userns, netns, timens, new_proc);
        for engine in ENGINES {
            for (call, step) in FAILING {
                let status = common::in_forked_child(|| {
                    fails_at(call, step, engine);
                    0
                });
                assert!(status.success(), "{step}, {engine:?}: {status}");
            }
        }
    });
}

fn fails_at(call: libc::c_long, step: Step, engine: Engine) {
    let command = looker(everything().engine(engine)).uid(0).new_session();
    let plan = command.compile().unwrap();
    // What a first spawn allocates in the parent, it allocates with system calls that may set errno.
    seen(plan.spawn().unwrap());
    seccomp::deny(&[(call, libc::EDOM)]).unwrap();
    ParentOnly::arm();
    raw::set_errno(libc::EHWPOISON);
    let result = plan.spawn();
    let errno = raw::errno();
    ParentOnly::disarm();
    let error = result.unwrap_err();
    assert_eq!(error.step(), Some(step), "{error:?}");
    assert_eq!(error.raw_os_error(), Some(libc::EDOM), "{error:?}");
    assert_eq!(errno, libc::EHWPOISON, "the child's call has set errno");
}

#[test]
fn in_children_that_look_for_the_reason_of_a_failed_exec() {
    isolated_as_both(|| {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        for engine in ENGINES {
            let sandbox = || Sandbox::new().engine(engine);
            let missing = sandbox().command(&script).compile().unwrap();
            let directory = sandbox().command(dir.path()).compile().unwrap();
            ParentOnly::arm();
            raw::set_errno(libc::EHWPOISON);
            let errors = [missing.spawn(), directory.spawn()].map(Result::unwrap_err);
            let errno = raw::errno();
            ParentOnly::disarm();
            assert_eq!(errno, libc::EHWPOISON);
            assert!(errors[0].hint().unwrap().contains("/no/such/interpreter"));
            let kinds = errors.map(|error| (error.step(), error.kind()));
            let exec = Some(Step::Exec);
            let expected = [ErrorKind::NotFound, ErrorKind::PermissionDenied];
            assert_eq!(kinds, expected.map(|kind| (exec, kind)));
        }
    });
}

/// The allocator does catch a child: std's, which forks, allocates before exec if it is told to.
#[test]
fn is_seen_where_it_happens() {
    isolated(|| {
        ParentOnly::arm();
        let mut command = std::process::Command::new("/bin/true");
        let allocates = || {
            drop(std::hint::black_box(Box::new(1)));
            Ok(())
        };
        let status = raw::before_exec(&mut command, allocates).status().unwrap();
        assert_eq!(status.code(), Some(common::alloc::STATUS));
    });
}
