//! What can happen to a child before it is the program, and must not happen to the caller.
#![allow(
    clippy::unwrap_used,
    reason = "what goes wrong in a test fails the test"
)]

mod common;
mod raw;
mod seen;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::leaks::{Census, assert_same};
use common::threads::from_threads;
use common::{isolated, isolated_as_both, isolated_as_user_with_subids, probe, require, sys};
use ringfence::{Command, Error, ErrorKind, IdMap, Plan, Result, Sandbox, Step};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Signal, dumpable_behavior, getrlimit,
    kill_process, pidfd_open, set_dumpable_behavior, setrlimit,
};
use seen::cgroup::Cgroup;
use seen::hold::{held_at, held_if_it_comes};
use seen::{looker, many_ids, minimal, seen};

/// A child that calls sethostname, which nobody else does, once the namespaces are there.
fn named() -> Sandbox {
    Sandbox::new()
        .user()
        .uts()
        .user_map(IdMap::root())
        .hostname("box")
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn await_end(pid: i32) {
    let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    assert!(probe::ends_within(pidfd.as_fd(), Duration::from_secs(10)));
}

/// The error of a spawn whose child is held at a call while something happens to it; `None` if its time was over before it
/// came there.
fn fails_if_it_comes(
    call: libc::c_long,
    command: &Command,
    act: impl FnOnce(i32) + Send,
) -> Option<Error> {
    let unlimited = command.clone().setup_timeout(Duration::from_secs(600));
    assert!(unlimited.status().is_ok());
    let plan = command.compile().unwrap();
    let before = Census::take().without(&["maps", "status"]);
    let (spawned, came) = held_if_it_comes(call, || plan.spawn(), act);
    let error = spawned.unwrap_err();
    assert_same(&before, &Census::take());
    came.then_some(error)
}

fn fails_held(call: libc::c_long, command: &Command, act: impl FnOnce(i32) + Send) -> Error {
    fails_if_it_comes(call, command, act).unwrap()
}

/// The first limit that is tried.
const SHORT: Duration = Duration::from_millis(300);
/// That of a spawn without a limit of its own.
const USUAL: Duration = Duration::from_secs(10);
const TOO_SHORT: i32 = 75;

/// A child to which something happens at a call is given up when its time is over, and not much later. On a machine that
/// does other things, too, it may need more time to come to the call.
fn assert_given_up(step: Step, call: libc::c_long, sandbox: &Sandbox, act: impl Fn(i32) + Sync) {
    let limits = (0..).map(|tries| SHORT * 2_u32.pow(tries));
    for limit in limits.take_while(|limit| *limit < USUAL / 2) {
        let status = common::in_forked_child(|| {
            let command = sandbox.clone().command("/bin/true").setup_timeout(limit);
            let begun = Instant::now();
            let Some(error) = fails_if_it_comes(call, &command, &act) else {
                return TOO_SHORT;
            };
            let took = begun.elapsed();
            assert_eq!(
                (error.step(), error.kind()),
                (Some(step), ErrorKind::TimedOut),
                "{error:?}"
            );
            assert!(took >= limit && took < USUAL, "took {took:?}");
            0
        });
        if status.code() != Some(TOO_SHORT) {
            return assert!(status.success(), "{status}");
        }
    }
    panic!("it does not come to the call");
}

#[test]
fn a_child_that_is_stopped_is_given_up() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        // It stops when the call returns, and the calling thread waits for it.
        assert_given_up(Step::Hostname, libc::SYS_sethostname, &named(), |pid| {
            signal(pid, Signal::STOP)
        });
    });
}

/// Process 1 ignores what comes from inside its namespace, be it SIGKILL.
#[test]
fn a_process_1_that_is_stopped_is_given_up() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        let sandbox = named().pid();
        assert_given_up(Step::Hostname, libc::SYS_sethostname, &sandbox, |pid| {
            signal(pid, Signal::STOP)
        });
    });
}

/// Without a limit of its own the timer inside has to do it.
#[test]
fn a_process_1_that_is_stopped_is_given_up_by_its_timer() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        let command = named().pid().command("/bin/true");
        let error = fails_held(libc::SYS_sethostname, &command, |pid| {
            signal(pid, Signal::STOP)
        });
        assert_eq!(
            (error.step(), error.kind()),
            (Some(Step::Hostname), ErrorKind::TimedOut),
            "{error:?}"
        );
    });
}

#[test]
fn a_process_1_whose_system_call_hangs_is_given_up() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        assert_given_up(
            Step::Hostname,
            libc::SYS_sethostname,
            &named().pid(),
            await_end,
        );
    });
}

#[test]
fn a_process_1_whose_exec_hangs_is_given_up() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        let sandbox = Sandbox::new().user().pid();
        assert_given_up(Step::Exec, libc::SYS_execve, &sandbox, await_end);
    });
}

#[test]
fn a_child_whose_system_call_hangs_is_given_up() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        assert_given_up(Step::Hostname, libc::SYS_sethostname, &named(), await_end);
    });
}

#[test]
fn a_child_whose_exec_hangs_is_given_up() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        assert_given_up(Step::Exec, libc::SYS_execve, &Sandbox::new(), await_end);
    });
}

#[test]
fn a_child_that_is_killed_is_no_failure_of_exec() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        let command = named().command("/bin/true");
        let kill = |pid| signal(pid, Signal::KILL);
        let error = fails_held(libc::SYS_sethostname, &command, kill);
        let found = (error.step(), error.kind(), error.raw_os_error());
        assert_eq!(
            found,
            (Some(Step::Hostname), ErrorKind::DiedBeforeExec, None),
            "{error:?}"
        );
        assert!(error.hint().unwrap().contains("killed"), "{error:?}");
        assert!(error.to_string().contains("signal 9"), "{error:?}");
    });
}

/// Signals are no longer blocked then, and one to the process group reaches the child too.
#[test]
fn who_presses_ctrl_c_during_a_spawn_is_told_so() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let command = Sandbox::new().command("/bin/true");
        let interrupt = |pid| signal(pid, Signal::INT);
        let error = fails_held(libc::SYS_execve, &command, interrupt);
        assert_eq!(error.kind(), ErrorKind::DiedBeforeExec, "{error:?}");
        assert!(error.to_string().contains("signal 2"), "{error:?}");
        assert!(error.hint().unwrap().contains("Ctrl-C"), "{error:?}");
    });
}

#[test]
fn a_child_that_is_killed_in_exec_is_not_taken_for_the_program() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let command = Sandbox::new().command("/bin/true");
        let kill = |pid| signal(pid, Signal::KILL);
        let error = fails_held(libc::SYS_execve, &command, kill);
        let found = (error.step(), error.kind());
        assert_eq!(
            found,
            (Some(Step::Exec), ErrorKind::DiedBeforeExec),
            "{error:?}"
        );
    });
}

#[test]
fn a_program_that_is_killed_at_once_was_started() {
    isolated(|| {
        let shell = Sandbox::new().command("/bin/sh").args(["-c", "kill -9 $$"]);
        assert_eq!(shell.status().unwrap().signal(), Some(libc::SIGKILL));
        let error = Sandbox::new().command("/no/such").status().unwrap_err();
        let found = (
            error.step(),
            error.kind(),
            error.syscall(),
            error.raw_os_error(),
        );
        let expected = (
            Some(Step::Exec),
            ErrorKind::NotFound,
            Some("execve"),
            Some(libc::ENOENT),
        );
        assert_eq!(found, expected);
    });
}

#[test]
fn a_timer_of_the_set_up_does_not_reach_the_program() {
    isolated(|| {
        let limit = Duration::from_secs(2);
        let sleeper = Sandbox::new().command("/bin/sleep").arg("2.5");
        assert!(sleeper.setup_timeout(limit).status().unwrap().success());
    });
}

/// A crash leaves a core file in this directory, which is the working directory.
fn core_files_here() -> Result<tempfile::TempDir, String> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let mut limit = getrlimit(Resource::Core);
    if pattern.contains(['|', '/']) || limit.maximum.is_some_and(|most| most < 1 << 30) {
        return Err(format!("core_pattern is {pattern:?}, the limit {limit:?}"));
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Core, limit).unwrap();
    let dir = tempfile::tempdir().unwrap();
    rustix::process::chdir(dir.path()).unwrap();
    Ok(dir)
}

/// A signal that has come while they were blocked acts before the program does, and on the caller's memory.
#[test]
fn a_signal_that_waited_leaves_no_core_file_of_the_caller() {
    isolated_as_both(|| {
        require!(userns);
        let dir = match core_files_here() {
            Ok(dir) => dir,
            Err(why) => return require::missing(common::test_name!(), "core_file", &why),
        };
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let sandbox = Sandbox::new().user().user_map(IdMap::root());
        let sandbox = sandbox.map_writer(move |child| {
            let file = |name| format!("/proc/{}/{name}", child.id());
            fs::write(file("setgroups"), "deny")?;
            fs::write(file("uid_map"), format!("0 {uid} 1"))?;
            fs::write(file("gid_map"), format!("0 {gid} 1"))?;
            let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::QUIT)?;
            Ok(())
        });
        let error = sandbox.command("/bin/true").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiedBeforeExec, "{error:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a core file");
        rustix::process::chdir("/").unwrap();
    });
}

/// Makes a call end this thread's process, and its children, with SIGSYS and a core file.
fn crash_at(call: libc::c_long) {
    let statement = |code: u32, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf,
        k,
    };
    let program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            u32::try_from(call).unwrap(),
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_KILL_PROCESS,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    rustix::thread::set_no_new_privs(true).unwrap();
    sys::seccomp_set_filter(&program, 0).unwrap();
}

#[test]
fn a_crash_leaves_no_core_file_of_the_caller() {
    isolated_as_both(|| {
        require!(userns);
        let dir = match core_files_here() {
            Ok(dir) => dir,
            Err(why) => return require::missing(common::test_name!(), "core_file", &why),
        };
        let files = || fs::read_dir(dir.path()).unwrap().count();
        let plan = named().command("/bin/true").compile().unwrap();
        crash_at(libc::SYS_sethostname);

        let error = plan.spawn().unwrap_err();
        let found = (error.step(), error.kind());
        assert_eq!(
            found,
            (Some(Step::Hostname), ErrorKind::DiedBeforeExec),
            "{error:?}"
        );
        assert!(error.to_string().contains("signal 31"), "{error:?}");
        assert_eq!(files(), 0, "a core file");

        // A crash of any other child does leave one here.
        let crash = || i32::from(rustix::system::sethostname(b"crash").is_ok());
        let status = common::in_forked_child(crash);
        assert!(status.core_dumped(), "{status}");
        assert_eq!(files(), 1);
        // And the program has the limit of the caller.
        let own = fs::read_to_string("/proc/self/limits").unwrap();
        let core = own
            .lines()
            .map(str::trim_end)
            .find(|line| line.starts_with("Max core file size"));
        let program = seen(looker(Sandbox::new()).spawn().unwrap());
        assert!(
            program.iter().any(|line| Some(line.as_str()) == core),
            "{program:?}"
        );
        rustix::process::chdir("/").unwrap();
    });
}

#[test]
fn signals_that_the_caller_ignores_are_not_ignored_by_the_program() {
    isolated_as_both(|| {
        for number in [
            libc::SIGPIPE,
            libc::SIGHUP,
            libc::SIGCHLD,
            libc::SIGRTMIN() + 3,
        ] {
            raw::ignore(number);
        }
        let program = seen_ignoring_sigchld(looker(Sandbox::new()));
        assert!(program.contains("SigIgn:\t0000000000000000"), "{program}");
        assert!(program.contains("SigBlk:\t0000000000000000"), "{program}");
    });
}

/// The status of a program of which nobody can wait for the end.
fn seen_ignoring_sigchld(command: Command) -> String {
    let mut child = command.stdin(ringfence::Stdio::null()).spawn().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
    text
}

fn from_8_threads(plans: &[Plan], each: usize) {
    from_threads(8, |thread| {
        let plan = &plans[thread % plans.len()];
        for _ in 0..each {
            let status = plan.spawn().unwrap().wait().unwrap();
            assert!(status.success(), "{status}");
        }
    });
}

#[test]
fn the_caller_stays_dumpable_under_concurrent_spawns() {
    isolated(|| {
        require!(root, userns);
        let plans = [
            Sandbox::new().command("/bin/true").uid(1234).gid(1234),
            Sandbox::new()
                .user()
                .user_map(IdMap::root())
                .command("/bin/true"),
            many_ids().command("/bin/true").uid(7),
            Sandbox::new().command("/bin/true"),
        ];
        let plans = plans.map(|command| command.compile().unwrap());
        for state in [DumpableBehavior::Dumpable, DumpableBehavior::NotDumpable] {
            set_dumpable_behavior(state).unwrap();
            from_8_threads(&plans, 40);
            assert_eq!(dumpable_behavior(), Ok(state));
        }
    });
}

/// Here those that need the flag and those that clear it must not meet.
#[test]
fn an_unprivileged_caller_stays_dumpable_under_concurrent_spawns() {
    isolated_as_user_with_subids(|| {
        require!(userns, subuid);
        let plans = [
            Sandbox::new()
                .user()
                .user_map(IdMap::root())
                .command("/bin/true"),
            Sandbox::new()
                .user()
                .user_map(IdMap::subids())
                .command("/bin/true")
                .uid(1)
                .gid(1),
        ];
        let plans = plans.map(|command| command.compile().unwrap());
        from_8_threads(&plans, 25);
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
    });
}

#[test]
fn a_frozen_cgroup_is_refused() {
    isolated(|| {
        require!(cgroup2);
        let cgroup = Cgroup::new();
        let plan = Sandbox::new()
            .into_cgroup(cgroup.path())
            .command("/bin/true");
        let plan = plan.compile().unwrap();
        assert!(plan.spawn().unwrap().wait().unwrap().success());
        cgroup.write("cgroup.freeze", "1");
        cgroup.await_line("cgroup.events", "frozen 1");
        let before = Census::take();
        let error = plan.spawn().unwrap_err();
        assert_same(&before, &Census::take());
        assert_eq!(
            (error.step(), error.kind()),
            (Some(Step::Cgroup), ErrorKind::System)
        );
        assert!(error.hint().unwrap().contains("cgroup.freeze"), "{error:?}");
        cgroup.write("cgroup.freeze", "0");
        cgroup.await_line("cgroup.events", "frozen 0");
        assert!(plan.spawn().unwrap().wait().unwrap().success());
    });
}

#[test]
fn a_child_that_is_frozen_meanwhile_is_given_up() {
    isolated(|| {
        require!(seccomp_notify, userns, cgroup2);
        let cgroup = Cgroup::new();
        let sandbox = named().into_cgroup(cgroup.path());
        // It freezes when the call returns.
        assert_given_up(Step::Hostname, libc::SYS_sethostname, &sandbox, |_| {
            cgroup.write("cgroup.freeze", "1")
        });
    });
}

#[test]
fn a_process_1_that_is_frozen_meanwhile_is_given_up() {
    isolated(|| {
        require!(seccomp_notify, userns, cgroup2);
        let cgroup = Cgroup::new();
        let sandbox = named().pid().into_cgroup(cgroup.path());
        assert_given_up(Step::Hostname, libc::SYS_sethostname, &sandbox, |_| {
            cgroup.write("cgroup.freeze", "1")
        });
    });
}

/// The kernel goes on killing what is born there.
#[test]
fn a_cgroup_that_was_killed_is_named() {
    isolated(|| {
        require!(cgroup2, kernel(5, 14));
        let cgroup = Cgroup::new();
        let plan = Sandbox::new()
            .into_cgroup(cgroup.path())
            .command("/bin/true");
        let plan = plan.compile().unwrap();
        let mut sleeper = Sandbox::new()
            .into_cgroup(cgroup.path())
            .command("/bin/sleep");
        sleeper = sleeper.arg("1000").kill_on_drop();
        let mut sleeper = sleeper.spawn().unwrap();
        cgroup.write("cgroup.kill", "1");
        assert_eq!(sleeper.wait().unwrap().signal(), Some(libc::SIGKILL));
        let before = Census::take();
        let result = plan.spawn();
        assert_cgroup_kill_told(result, cgroup.path());
        assert_same(&before, &Census::take());
    });
}

fn assert_cgroup_kill_told(result: Result<ringfence::Child>, cgroup: &Path) {
    match result {
        // A kernel without that flaw.
        Ok(mut child) => assert!(child.wait().unwrap().success()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::DiedBeforeExec, "{error:?}");
            let hint = error.hint().unwrap();
            assert!(hint.contains("cgroup.kill"), "{error:?}");
            assert!(hint.contains(cgroup.to_str().unwrap()), "{error:?}");
        }
    }
}

/// The directory of this process in the memory controller of cgroup v1.
fn memory_cgroup() -> std::result::Result<PathBuf, String> {
    let mounts = probe::mountinfo("self").map_err(|error| error.to_string())?;
    let point = mounts.iter().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let is_memory = file_system.starts_with("cgroup ")
            && file_system
                .rsplit([' ', ','])
                .any(|option| option == "memory");
        is_memory.then(|| mount.split(' ').nth(4)).flatten()
    });
    let point = point.ok_or("no memory controller of cgroup v1")?;
    let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let own = own.lines().find_map(|line| line.split_once(":memory:"));
    let (_, own) = own.ok_or("not in the memory controller")?;
    Ok(Path::new(point).join(own.trim_start_matches('/')))
}

/// The out-of-memory killer must not take the caller for the child, whose memory it shares.
#[test]
fn a_child_without_memory_does_not_end_the_caller() {
    isolated(|| {
        require!(seccomp_notify, userns, root);
        let parent = match memory_cgroup() {
            Ok(parent) => parent,
            Err(why) => return require::missing(common::test_name!(), "memory_cgroup", &why),
        };
        let cgroup = Cgroup::beneath(&parent);
        cgroup.write("memory.limit_in_bytes", "2M");
        let mut sandbox = minimal(named().pid());
        for number in 0..20_000 {
            sandbox = sandbox.dir(format!("/d{number}"));
        }
        let plan = sandbox.command("/bin/true").compile().unwrap();
        let join = |pid: i32| cgroup.write("cgroup.procs", &pid.to_string());
        let error = held_at(libc::SYS_sethostname, || plan.spawn(), join).unwrap_err();
        assert_eq!(error.step(), Some(Step::Dir), "{error:?}");
        let kinds = [ErrorKind::LimitReached, ErrorKind::DiedBeforeExec];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        let failures = fs::read_to_string(cgroup.path().join("memory.failcnt")).unwrap();
        assert_ne!(failures.trim(), "0");
        assert_eq!(probe::children(rustix::process::getpid().as_raw_pid()), []);
    });
}

#[test]
fn of_19000_descriptors_none_reaches_the_program() {
    isolated(|| {
        const COUNT: usize = 19_000;
        let mut limit = getrlimit(Resource::Nofile);
        if limit.maximum.is_some_and(|most| most < COUNT as u64 + 100) {
            let why = format!("RLIMIT_NOFILE is {limit:?}");
            return require::missing(common::test_name!(), "nofile", &why);
        }
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        // Without close-on-exec.
        let copies: Vec<_> = (0..COUNT)
            .map(|_| rustix::io::dup(&null).unwrap())
            .collect();
        for engine in [
            ringfence::Engine::Clone3,
            ringfence::Engine::Clone,
            ringfence::Engine::Fork,
        ] {
            let program = seen(looker(Sandbox::new().engine(engine)).spawn().unwrap());
            let only = r#"descriptors {"0", "1", "2"}"#;
            assert!(program.iter().any(|line| line == only), "{program:?}");
        }
        let open = fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(open > copies.len(), "the caller has lost descriptors");
    });
}

#[test]
fn clocks_of_a_time_namespace_differ_for_the_program_only() {
    isolated_as_both(|| {
        require!(userns, timens);
        let now = || rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
        let sandbox = Sandbox::new().user().user_map(IdMap::root()).time();
        let command = sandbox
            .boottime_offset(Duration::from_secs(100_000))
            .command("/bin/cat");
        let before = now();
        let output = command.arg("/proc/uptime").output().unwrap();
        let after = now();
        let text = String::from_utf8(output.stdout).unwrap();
        let seconds: i64 = text.split('.').next().unwrap().parse().unwrap();
        assert!(
            (before + 100_000..=after + 100_000).contains(&seconds),
            "{text}"
        );
    });
}
