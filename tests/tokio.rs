//! Programs that are awaited in a tokio runtime.
#![cfg(feature = "tokio")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails by a panic"
)]

mod common;

use common::probe::{Process, children, ends_within};
use common::require::missing;
use common::{isolated, require, seccomp, sys, test_name};
use ringfence::tokio::Child;
use ringfence::{Command, Sandbox, Stdio, Step};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::getpid;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// What must happen happens sooner.
const SOON: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    runtime()
        .block_on(async { timeout(SOON, future).await })
        .expect("is done in time")
}

fn sh(script: &str) -> Command {
    Sandbox::new().command("/bin/sh").args(["-c", script])
}

fn piped(script: &str) -> Command {
    sh(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
}

fn spawn(command: &Command) -> Child {
    command.spawn().unwrap().into_tokio().unwrap()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn waits_for_status_and_usage() {
    isolated(|| {
        run(async {
            let mut child = spawn(&sh("exit 7"));
            assert_eq!(child.resource_usage(), None);
            assert_eq!(child.wait().await.unwrap().code(), Some(7));
            assert_eq!(child.wait().await.unwrap().code(), Some(7), "once more");
            assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
            assert!(child.resource_usage().unwrap().max_resident > 0);
            let mut child = spawn(&sh("kill -9 $$"));
            assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGKILL));
        });
        assert_eq!(children(getpid().as_raw_pid()), []);
    });
}

#[test]
fn an_end_before_the_conversion_is_seen() {
    isolated(|| {
        let mut child = sh("exit 3").spawn().unwrap();
        poll(&mut [PollFd::new(&child, PollFlags::IN)], None).unwrap();
        run(async {
            let mut child = child.into_tokio().unwrap();
            assert_eq!(child.wait().await.unwrap().code(), Some(3));
        });
        child = sh("exit 4").spawn().unwrap();
        child.wait().unwrap();
        run(async {
            let mut child = Child::try_from(child).unwrap();
            assert_eq!(child.wait().await.unwrap().code(), Some(4), "was reaped");
        });
    });
}

/// All wait on one thread, and while they wait nothing else is started or handled.
#[test]
fn waits_for_many_without_threads_or_signal_handlers() {
    isolated(|| {
        let before = sys::signal_disposition(libc::SIGCHLD);
        run(async {
            let mut waiting = tokio::task::JoinSet::new();
            let mut gates = Vec::new();
            for index in 0..50 {
                let mut child =
                    spawn(&sh(&format!("read line; exit {index}")).stdin(Stdio::piped()));
                gates.push(child.stdin.take().unwrap());
                waiting.spawn(async move { child.wait().await.unwrap().code() });
            }
            tokio::task::yield_now().await;
            assert_eq!(threads(), 1);
            assert_eq!(sys::signal_disposition(libc::SIGCHLD), before);
            drop(gates);
            let mut codes: Vec<_> = waiting.join_all().await.into_iter().flatten().collect();
            codes.sort_unstable();
            assert_eq!(codes, (0..50).collect::<Vec<_>>());
        });
        assert_eq!(children(getpid().as_raw_pid()), []);
    });
}

#[test]
fn a_dropped_wait_loses_nothing() {
    isolated(|| {
        run(async {
            let mut child = spawn(&piped("read line; exit 5"));
            let mut gate = child.stdin.take().unwrap();
            for _ in 0..3 {
                let waited = timeout(Duration::ZERO, child.wait()).await;
                assert!(waited.is_err(), "it still runs: {waited:?}");
            }
            gate.write_all(b"go\n").await.unwrap();
            assert_eq!(child.wait().await.unwrap().code(), Some(5));
        });
    });
}

#[test]
fn wait_closes_standard_input() {
    isolated(|| {
        run(async {
            let mut child = spawn(&piped("cat; exit 6"));
            assert_eq!(child.wait().await.unwrap().code(), Some(6));
            assert!(child.stdin.is_none());
        });
    });
}

#[test]
fn talks_through_pipes() {
    isolated(|| {
        run(async {
            let mut child = spawn(&piped(
                "while read line; do echo got $line; echo err >&2; done",
            ));
            let mut stdin = child.stdin.take().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            for round in 0..3 {
                stdin
                    .write_all(format!("{round}\n").as_bytes())
                    .await
                    .unwrap();
                let mut answer = [0; 6];
                stdout.read_exact(&mut answer).await.unwrap();
                assert_eq!(answer, format!("got {round}\n").as_bytes());
            }
            drop(stdin);
            let output = child.wait_with_output().await.unwrap();
            assert_eq!(output.stderr, b"err\nerr\nerr\n");
            assert!(output.status.success());
        });
    });
}

/// The description of the caller's end only: a program that finds its own nonblocking gets errors.
#[test]
fn the_programs_ends_of_the_pipes_stay_blocking() {
    isolated(|| {
        run(async {
            let child = spawn(&piped(
                "grep flags /proc/self/fdinfo/0 /proc/self/fdinfo/1 >&2",
            ));
            let output = child.wait_with_output().await.unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            let flags: Vec<_> = text
                .lines()
                .map(|line| line.rsplit_once('\t').unwrap().1)
                .map(|flags| u32::from_str_radix(flags, 8).unwrap())
                .collect();
            assert_eq!(flags.len(), 2, "{text}");
            let nonblocking = libc::O_NONBLOCK.unsigned_abs();
            assert!(flags.iter().all(|flags| flags & nonblocking == 0), "{text}");
        });
    });
}

#[test]
fn two_full_pipes_do_not_block_each_other() {
    isolated(|| {
        run(async {
            let script = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; \
                          head -c 300000 /dev/zero >&2; exit 2";
            let output = spawn(&piped(script)).wait_with_output().await.unwrap();
            assert_eq!(output.stdout.len(), 1_000_000);
            assert_eq!(output.stderr.len(), 1_300_000);
            assert_eq!(output.status.code(), Some(2));
        });
    });
}

#[test]
fn dropping_kills_only_if_asked_for() {
    isolated(|| {
        let own = getpid().as_raw_pid();
        run(async {
            let forever = sh("while :; do sleep 1000; done").stdout(Stdio::piped());
            let child = spawn(&forever.clone().kill_on_drop());
            let waited = timeout(Duration::ZERO, child.wait_with_output()).await;
            assert!(waited.is_err(), "{waited:?}");
            assert_eq!(children(own), []);

            let mut child = spawn(&forever.kill_on_drop());
            let id = child.id();
            assert!(timeout(Duration::ZERO, child.wait()).await.is_err());
            drop(child);
            assert_eq!(Process::read(id), None);

            let mut child = spawn(&piped("read line"));
            let gate = child.stdin.take();
            let id = child.id();
            let pidfd = child.as_fd().try_clone_to_owned().unwrap();
            drop(child);
            assert!(Process::read(id).is_some_and(|process| !process.is_zombie()));
            drop(gate);
            assert!(ends_within(&pidfd, SOON));
        });
    });
}

#[test]
fn kills_and_signals() {
    isolated(|| {
        run(async {
            let mut child = spawn(&sh("while :; do sleep 1000; done"));
            child.signal(libc::SIGTERM).unwrap();
            assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGTERM));
            let mut child = spawn(&sh("while :; do sleep 1000; done"));
            child.kill().unwrap();
            assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGKILL));
            child.kill().expect("has ended, which is no error");
        });
    });
}

#[test]
fn kills_what_the_program_has_started() {
    isolated(|| {
        require!(userns);
        run(async {
            let sandbox = Sandbox::new().user().pid();
            let script = "sleep 1000 & echo started; wait";
            let command = sandbox.command("/bin/sh").args(["-c", script]);
            let mut child = spawn(&command.stdout(Stdio::piped()));
            let mut stdout = child.stdout.take().unwrap();
            stdout.read_exact(&mut [0; 8]).await.unwrap();
            child.kill_all().unwrap();
            assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGKILL));
            // Whoever is left holds the pipe.
            assert_eq!(stdout.read_to_end(&mut Vec::new()).await.unwrap(), 0);
            let mut alone = spawn(&sh("exit 0"));
            let error = alone.kill_all().unwrap_err();
            assert_eq!(error.kind(), ringfence::ErrorKind::Unsupported);
            alone.wait().await.unwrap();
        });
    });
}

/// A child that somebody else traces is the tracer's first: the pidfd is readable when it cannot be
/// reaped yet.
#[test]
fn waits_for_a_program_that_somebody_traces() {
    isolated(|| {
        let (mut told, teller) = std::io::pipe().unwrap();
        let (end, ender) = std::io::pipe().unwrap();
        run(async {
            let mut child = spawn(&piped("read line; exit 9"));
            let mut gate = child.stdin.take().unwrap();
            let target = i32::try_from(child.id()).unwrap();
            let Some(tracer) = sys::fork().unwrap() else {
                drop(ender);
                let error = sys::trace(target).err();
                let number = error.and_then(|error| error.raw_os_error()).unwrap_or(0);
                let _ = (&teller).write_all(&number.to_ne_bytes());
                let _ = (&end).read(&mut [0]);
                sys::exit_now(0);
            };
            let mut number = [0; 4];
            told.read_exact(&mut number).unwrap();
            let traced = i32::from_ne_bytes(number);
            if traced != 0 {
                let why = std::io::Error::from_raw_os_error(traced).to_string();
                return missing(test_name!(), "ptrace", &why);
            }
            gate.write_all(b"go\n").await.unwrap();
            assert!(ends_within(&child, SOON));
            assert_eq!(child.try_wait().unwrap(), None, "the tracer has it");
            let waited = timeout(Duration::from_millis(10), child.wait()).await;
            assert!(waited.is_err(), "the tracer has it: {waited:?}");
            drop(ender);
            assert_eq!(child.wait().await.unwrap().code(), Some(9));
            common::isolated::wait_for(tracer);
        });
    });
}

#[test]
fn a_program_that_cannot_be_watched_is_ended() {
    isolated(|| {
        run(async {
            let child = sh("while :; do sleep 1000; done").spawn().unwrap();
            seccomp::deny(&[(libc::SYS_epoll_ctl, libc::ENOSPC)]).unwrap();
            let error = child.into_tokio().unwrap_err();
            assert_eq!(error.step(), Some(Step::Prepare));
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            assert_eq!(children(getpid().as_raw_pid()), []);
        });
    });
}
