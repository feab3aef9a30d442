//! Whose end is whose.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::time::Duration;

use ringfence::{Command, IdMap, Sandbox, Stdio};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use rustix::thread::gettid;

use crate::common::{isolated, isolated::wait_for, isolated_as_both, probe, require, sys, threads};
use crate::support::{ENGINES, Waiting, with_programs};

/// More than what is to happen can take.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_dropped_child_is_killed_if_asked_for() {
    isolated_as_both(|| {
        for engine in ENGINES {
            let command = Waiting::command(&Sandbox::new().engine(engine)).stdin(Stdio::piped());
            let child = command.clone().kill_on_drop().spawn().unwrap();
            let (pid, pidfd) = (child.id(), child.as_fd().try_clone_to_owned().unwrap());
            drop(child);
            assert!(probe::ends_within(&pidfd, Duration::ZERO), "{engine:?}");
            assert_eq!(probe::Process::read(pid), None, "reaped");

            let (input, _writer) = io::pipe().unwrap();
            let child = command.stdin(OwnedFd::from(input)).spawn().unwrap();
            let (pid, pidfd) = (child.id(), child.as_fd().try_clone_to_owned().unwrap());
            drop(child);
            assert!(!probe::ends_within(&pidfd, Duration::ZERO), "{engine:?}");
            pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
            wait_for(i32::try_from(pid).unwrap());
        }
    });
}

#[test]
fn a_waited_for_child_is_not_killed_on_drop() {
    isolated(|| {
        let mut child = Sandbox::new()
            .command("true")
            .kill_on_drop()
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
        drop(child);
        let output = Sandbox::new()
            .command("echo")
            .arg("x")
            .kill_on_drop()
            .output();
        assert_eq!(output.unwrap().stdout, b"x\n");
    });
}

/// A program that lives as long as this process, as far as its end goes.
fn bound(sandbox: Sandbox) -> Command {
    Waiting::command(&sandbox).die_with_parent()
}

#[test]
fn the_end_of_the_thread_does_not_end_the_program() {
    isolated_as_both(|| {
        for engine in ENGINES {
            let command = bound(Sandbox::new().engine(engine))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let thread = std::thread::spawn(move || (gettid(), command.spawn().unwrap()));
            let (thread, mut child) = thread.join().unwrap();
            // Joined is not gone: the kernel's part of a thread ends a moment later.
            while std::fs::exists(format!("/proc/self/task/{thread}")).unwrap() {
                std::thread::yield_now();
            }
            child.stdin.as_ref().unwrap().write_all(b"?").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            assert_eq!(child.try_wait().unwrap(), None);
            assert!(child.wait().unwrap().success());
        }
    });
}

#[test]
fn the_caller_can_change_its_ids_meanwhile() {
    isolated_as_both(|| {
        let _child = Waiting::of(bound(Sandbox::new()));
        assert!(threads::ids_can_change());
    });
}

/// How a process that has started a program comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    Exits,
    Executes,
}

/// What is left of a process that has started a program and has come to its end.
struct Left {
    program: OwnedFd,
    input: io::PipeWriter,
    output: io::PipeReader,
}

impl Left {
    /// Starts the command, which must copy its input to its output, in a process that then ends.
    fn of(command: Command, end: End) -> Self {
        let (mut pids, pid_writer) = io::pipe().unwrap();
        let (go_reader, go) = io::pipe().unwrap();
        let (program_input, input) = io::pipe().unwrap();
        let (output, program_output) = io::pipe().unwrap();
        let Some(server) = sys::fork().unwrap() else {
            drop((pids, go, input, output));
            let command = command
                .stdin(OwnedFd::from(program_input))
                .stdout(OwnedFd::from(program_output));
            let child = command.spawn();
            let pid = child.as_ref().map_or(0, ringfence::Child::id);
            (&pid_writer).write_all(&pid.to_ne_bytes()).unwrap();
            (&go_reader).read_exact(&mut [0]).unwrap();
            if matches!(end, End::Executes) {
                let _ = std::process::Command::new("true").exec();
            }
            sys::exit_now(0);
        };
        drop((pid_writer, go_reader, program_input, program_output));
        let mut pid = [0; 4];
        pids.read_exact(&mut pid).unwrap();
        let pid = Pid::from_raw(i32::from_ne_bytes(pid)).expect("the program was started");
        let program = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let left = Self {
            program,
            input,
            output,
        };
        assert!(left.answers(), "before the end");
        match end {
            End::Killed => kill_process(Pid::from_raw(server).unwrap(), Signal::KILL).unwrap(),
            End::Exits | End::Executes => (&go).write_all(b"!").unwrap(),
        }
        wait_for(server);
        left
    }

    fn answers(&self) -> bool {
        (&self.input).write_all(b"?").is_ok() && (&self.output).read_exact(&mut [0]).is_ok()
    }

    fn ends(&self) -> bool {
        probe::ends_within(&self.program, SOON)
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        // It may have ended, which is as well.
        let _ = pidfd_send_signal(&self.program, Signal::KILL);
    }
}

const ENDS: [End; 3] = [End::Killed, End::Exits, End::Executes];

#[test]
fn a_program_outlives_its_parent_unless_bound() {
    isolated(|| {
        for end in ENDS {
            let left = Left::of(Waiting::command(&Sandbox::new()), end);
            assert!(left.answers(), "{end:?}");
        }
    });
}

#[test]
fn a_bound_program_goes_with_its_parent() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            let user = || Sandbox::new().user().user_map(IdMap::root());
            for (sandbox, end) in [
                (Sandbox::new(), End::Killed),
                (Sandbox::new(), End::Exits),
                (Sandbox::new(), End::Executes),
                (user(), End::Killed),
                (user().pid(), End::Killed),
                (with_programs(user().pid()), End::Killed),
            ] {
                let left = Left::of(bound(sandbox.engine(engine)), end);
                assert!(left.ends(), "{engine:?} {end:?}");
            }
        }
    });
}

/// The kernel forgets the parent death signal when ids change.
#[test]
fn a_bound_program_with_other_ids_goes_with_its_parent() {
    isolated(|| {
        require!(root);
        let range = IdMap::range(0, 100_000, 10);
        let range = Sandbox::new()
            .user()
            .user_map(range.clone())
            .group_map(range);
        for engine in ENGINES {
            for command in [
                bound(Sandbox::new().engine(engine)).uid(1000).gid(1000),
                bound(Sandbox::new().pid().engine(engine)).uid(1000),
                bound(range.clone().engine(engine)).uid(5),
                bound(Sandbox::new().engine(engine)).new_session(),
            ] {
                let left = Left::of(command, End::Killed);
                assert!(left.ends(), "{engine:?}");
            }
        }
    });
}
