//! Without a pid namespace, a subreaper stands for process 1.

use super::{both_forms, require_stage, sandbox};
use crate::common::{in_forked_child, isolated, isolated_as_user, probe, require, sys};
use ringfence::lockdown::Capabilities;
use ringfence::{Child, Command, ErrorKind, IdMap, Init, Rootfs, Sandbox, Stdio};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use rustix::thread::UnshareFlags;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ChildStdout;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Leaves the program's session, and has no parent there any more; in its turn it has children.
const DAEMON: &str =
    "(setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & sleep 1001 & echo daemon; wait' &)";

fn shell(sandbox: Sandbox, script: &str) -> Command {
    sandbox.command("/bin/sh").args(["-c", script])
}

fn start(command: Command) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// Runs a program that ends with 5 when it is asked to and has started a daemon, and what there is of them.
fn with_daemon(sandbox: Sandbox, script: &str) -> (Child, Vec<probe::Process>) {
    let script = format!("trap 'exit 5' TERM; {DAEMON}; {script}");
    let (child, mut lines) = start(shell(sandbox, &script));
    assert_eq!(lines.next().unwrap().unwrap(), "daemon");
    let pid = child.id().cast_signed();
    let is_daemon =
        |process: &probe::Process| process.comm == "sleep" && process.session != process.group;
    let mut family = probe::descendants(pid);
    // Its first child may still be on its way to being sleep.
    while !family.iter().any(is_daemon) && family.len() < 4 {
        family = probe::descendants(pid);
    }
    let outer = probe::Process::read("self").unwrap().session;
    assert!(
        family.iter().any(|process| process.session != outer),
        "{family:?}"
    );
    family.extend(probe::Process::read(pid));
    (child, family)
}

#[track_caller]
fn assert_gone(family: &[probe::Process]) {
    for process in family {
        let now = probe::Process::read(process.pid);
        assert!(now.is_none_or(|now| !now.is_same(process)), "{process:?}");
    }
    assert_eq!(probe::descendants(std::process::id().cast_signed()), []);
}

both_forms! {
    fn a_daemon_ends_with_the_program() {
        for sandbox in [Sandbox::new().init(), sandbox()] {
            let (mut child, family) = with_daemon(sandbox, "read x; exit 3");
            // Standard input is closed.
            assert_eq!(child.wait().unwrap().code(), Some(3));
            assert_gone(&family);
        }
    }

    fn every_way_to_end_it_ends_all() {
        let ways: [fn(Child) -> Option<i32>; 5] = [
            |mut child| {
                let status = child.shutdown(libc::SIGTERM, LONG).unwrap();
                assert_eq!(status.code(), Some(5));
                Some(libc::SIGKILL)
            },
            |mut child| child.shutdown(libc::SIGWINCH, Duration::ZERO).unwrap().signal(),
            |mut child| {
                child.kill_all().unwrap();
                child.wait().unwrap().signal()
            },
            |mut child| {
                child.kill().unwrap();
                child.wait().unwrap().signal()
            },
            |mut child| {
                // Not even when somebody has stopped the subreaper.
                let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
                kill_process(pid, Signal::STOP).unwrap();
                child.kill().unwrap();
                child.wait().unwrap().signal()
            },
        ];
        for way in ways {
            let script = "while :; do sleep 0.01; done";
            let (child, family) = with_daemon(Sandbox::new().init(), script);
            assert_eq!(way(child), Some(libc::SIGKILL));
            assert_gone(&family);
        }
    }

    fn kill_on_drop() {
        let command = shell(Sandbox::new().init(), &format!("{DAEMON}; exec sleep 1000"));
        let (child, mut lines) = start(command.kill_on_drop());
        lines.next().unwrap().unwrap();
        drop(child);
        assert_gone(&[]);
    }

    fn at_the_gate() {
        let mut child = Sandbox::new().init().command("/bin/true").gate().spawn().unwrap();
        child.kill().unwrap();
        assert_eq!(child.release().unwrap_err().kind(), ErrorKind::DiedBeforeExec);
        let mut child = Sandbox::new().init().command("/bin/true").gate().spawn().unwrap();
        child.release().unwrap();
        assert!(child.wait().unwrap().success());
        assert_gone(&[]);
    }

    fn orphans_are_reaped_and_many_daemons_killed() {
        let script = "i=0; while [ $i -lt 1000 ]; do (: &); i=$((i+1)); done; \
                      i=0; while [ $i -lt 700 ]; do (setsid sleep 1000 >&- &); i=$((i+1)); done; \
                      echo done; read x";
        let (mut child, mut lines) = start(shell(Sandbox::new().init(), script));
        assert_eq!(lines.next().unwrap().unwrap(), "done");
        // More than the list of its children tells at once.
        let is_orphan = |process: &&probe::Process| process.comm != "sleep";
        while probe::descendants(child.id().cast_signed()).iter().filter(is_orphan).count() > 1 {
            std::thread::yield_now();
        }
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_gone(&[]);
    }

    fn statuses_and_signals() {
        for code in [0, 1, 127, 128, 255] {
            let status = shell(Sandbox::new().init(), &format!("exit {code}")).status().unwrap();
            assert_eq!(status.code(), Some(code));
        }
        let script = "for s in HUP INT USR1 TERM; do trap \"echo $s\" $s; done; \
                      trap 'exit 4' ALRM; echo ready; while :; do sleep 0.01; done";
        let (mut child, mut lines) = start(shell(Sandbox::new().init(), script));
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let subreaper = Pid::from_raw(child.id().cast_signed()).unwrap();
        for (number, name) in [(libc::SIGHUP, "HUP"), (libc::SIGUSR1, "USR1"), (libc::SIGTERM, "TERM")] {
            child.signal(number).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), name);
            kill_process(subreaper, Signal::from_named_raw(number).unwrap()).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), name);
        }
        child.signal(libc::SIGALRM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(4));
        let status = shell(Sandbox::new().init(), "kill -SEGV $$").status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGSEGV));
        let error = Sandbox::new().init().command("/nonexistent").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_gone(&[]);
    }

    fn others_that_are_waited_for_get_the_signals_alone() {
        let mut stranger = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let sandbox = Sandbox::new().init_with(Init::new().wait_for_all());
        let script = "(trap 'echo TERM; exit' TERM; echo ready; while :; do sleep 0.01; done) & exit 5";
        let (mut child, mut lines) = start(shell(sandbox, script));
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        // Until the first shell has ended, and its child is the subreaper's.
        let pid = child.id().cast_signed();
        while probe::children(pid).iter().any(|process| !probe::children(process.pid).iter().all(|process| process.comm == "sleep")) {
            std::thread::yield_now();
        }
        assert_eq!(child.try_wait().unwrap(), None);
        child.signal(libc::SIGTERM).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(5));
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    /// The process that reaps learns of both at the same time.
    fn a_signal_that_comes_after_the_end_is_for_the_others() {
        let sandbox = Sandbox::new().init_with(Init::new().wait_for_all());
        let script = "(trap 'echo TERM; exit' TERM; echo ready; while :; do sleep 0.01; done) & read x; exit 5";
        let (mut child, mut lines) = start(shell(sandbox, script));
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let pid = child.id().cast_signed();
        let [program] = probe::children(pid).try_into().unwrap();
        let stopped = Pid::from_raw(pid).unwrap();
        kill_process(stopped, Signal::STOP).unwrap();
        while probe::status(pid, "State").unwrap() != "T (stopped)" {
            std::thread::yield_now();
        }
        drop(child.stdin.take());
        while !probe::children(pid).iter().any(|process| process.pid == program.pid && process.is_zombie()) {
            std::thread::yield_now();
        }
        child.signal(libc::SIGTERM).unwrap();
        kill_process(stopped, Signal::CONT).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }

    fn in_a_root_without_proc() {
        require!(exec_without_dev);
        let mut sandbox = Sandbox::new()
            .user()
            .user_map(IdMap::root())
            .mount()
            .rootfs(Rootfs::tmpfs())
            .dev("/dev")
            .bind_ro("/usr", "/usr");
        for dir in ["bin", "sbin", "lib", "lib64"] {
            let path = Path::new("/").join(dir);
            sandbox = match path.read_link() {
                Ok(target) => sandbox.symlink(target, path),
                Err(_) if path.is_dir() => sandbox.bind_ro(&path, &path),
                Err(_) => sandbox,
            };
        }
        let (mut child, family) = with_daemon(sandbox.init(), "read x; exit 3");
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_gone(&family);
    }

    /// The subreaper has no other privilege left then, and the ids of the program.
    fn a_locked_down_program_with_other_ids() {
        require!(root);
        let sandbox = Sandbox::new().capabilities(Capabilities::empty()).no_new_privs().init();
        let command = shell(sandbox, &format!("{DAEMON}; read x; exit 3"));
        let (mut child, mut lines) = start(command.uid(65534).gid(65534).die_with_parent());
        assert_eq!(lines.next().unwrap().unwrap(), "daemon");
        let uid = probe::status(child.id(), "Uid").unwrap();
        assert!(uid.starts_with("65534"), "{uid}");
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_gone(&[]);
    }

    fn killed_from_outside() {
        set_child_subreaper(Some(getpid())).unwrap();
        let (mut child, mut lines) = start(shell(Sandbox::new().init(), "echo $$; exec sleep 1000"));
        let program: i32 = lines.next().unwrap().unwrap().parse().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        // The program is not left alone, and is reaped by the next reaper.
        let (reaped, status) = wait(WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(reaped.as_raw_pid(), program);
        assert_eq!(status.terminating_signal(), Some(libc::SIGKILL));
    }

    fn a_daemon_dies_with_the_caller() {
        set_child_subreaper(Some(getpid())).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let caller = match sys::fork().unwrap() {
            Some(pid) => Pid::from_raw(pid).unwrap(),
            None => {
                let sandbox = Sandbox::new().init();
                let command = shell(sandbox, &format!("{DAEMON}; exec sleep 1000"));
                let (_child, mut lines) = start(command.die_with_parent());
                lines.next().unwrap().unwrap();
                writer.write_all(b"started\n").unwrap();
                loop {
                    std::thread::park();
                }
            }
        };
        drop(writer);
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "started");
        kill_process(caller, Signal::KILL).unwrap();
        // All of them end, or this waits for ever.
        while wait(WaitOptions::empty()).is_ok() {}
        assert_gone(&[]);
    }
}

#[test]
fn as_an_unprivileged_user() {
    isolated_as_user(|| {
        require_stage!();
        let (mut child, family) = with_daemon(Sandbox::new().init(), "read x; exit 3");
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_gone(&family);
    });
}

#[test]
fn the_caller_has_to_see_itself_in_proc() {
    isolated(|| {
        require!(root);
        sys::unshare(UnshareFlags::NEWPID).unwrap();
        let status = in_forked_child(|| {
            let error = Sandbox::new()
                .init()
                .command("/bin/true")
                .spawn()
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.hint().is_some_and(|hint| hint.contains("/proc")));
            0
        });
        assert!(status.success(), "{status}");
    });
}
