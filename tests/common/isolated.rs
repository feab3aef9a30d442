//! A test body in a process of its own.
//!
//! libtest runs a test on a thread of its own beside the main thread, whatever `--test-threads`
//! says, and `unshare(CLONE_NEWUSER)` is EINVAL with two threads. So three processes take part:
//!
//! 1. the test runner starts its own executable again, for this one test;
//! 2. that process, with libtest's two threads, forks;
//! 3. the child, in which `fork` has left **one** thread, runs the body.
//!
//! The second process adopts what the body leaves behind, and ends it. The body's process group is
//! not the runner's, and where root runs the tests, nor is its mount namespace, in which everything
//! is private. If the runner dies, all of them do.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, geteuid, getpid, pidfd_open, set_child_subreaper,
    set_parent_process_death_signal, waitpid,
};
use rustix::thread::UnshareFlags;

use super::probe::{self, Process};
use super::{sys, threads};

/// Names the test to run, in the process started for it.
pub(crate) const MARK: &str = "RINGFENCE_ISOLATED";
/// Exit statuses of the second process. libtest's own 0 would also mean that no test has that name.
pub(crate) const PASSED: i32 = 42;
pub(crate) const FAILED: i32 = 43;

/// `isolated_test! { fn name() { ... } }` is `#[test] fn name() { isolated(|| { ... }); }`.
///
/// rustfmt does not look inside the macro; what is longer than a few lines is better written out.
macro_rules! isolated_test {
    ($($(#[$attr:meta])* fn $name:ident() $body:block)*) => {
        $(
            #[test]
            $(#[$attr])*
            fn $name() {
                $crate::common::isolated(|| $body);
            }
        )*
    };
}
pub(crate) use isolated_test;

/// Runs the body in a single-threaded process of its own, as the user who runs the tests.
///
/// To be called by the test function itself, with a closure: the test's name is taken from it. What
/// the test does before the call it does again in the process started for it.
pub(crate) fn isolated<F: FnOnce()>(body: F) {
    let test = test_of(std::any::type_name::<F>());
    if is_started_for(test) {
        run_body(body);
    }
    report(test, start(command(test), timeout()));
}

/// The test's name from that of a type defined in it: `binary::module::name::{{closure}}`.
pub(crate) fn test_of(type_name: &'static str) -> &'static str {
    let path = type_name
        .split_once("::")
        .map_or(type_name, |(_binary, path)| path);
    let path = path
        .split_once("::{{")
        .map_or(path, |(path, _closure)| path);
    path.strip_suffix("::here").unwrap_or(path)
}

pub(crate) fn is_started_for(test: &str) -> bool {
    env::var_os(MARK).is_some_and(|mark| mark == test)
}

/// The test binary again, for one test. `/proc/self/exe` rather than its path: another user may
/// not reach that.
pub(crate) fn command(test: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .args([
            test,
            "--exact",
            "--nocapture",
            "--quiet",
            "--test-threads=1",
        ])
        .env(MARK, test)
        // With arenas of their own it would be left to chance how many there are, which a census sees: a thread that
        // comes late takes over that of another that has ended.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null());
    command
}

/// How a process ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if it had to be killed for taking too long.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) output: String,
    /// What it and all that it had started were doing when it had to be killed.
    pub(crate) doing: String,
}

/// A body that takes longer is killed, and its test fails. On a slow machine the environment has another number of
/// seconds.
pub(crate) fn timeout() -> Duration {
    let seconds = env::var("RINGFENCE_TEST_TIMEOUT").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(120))
}

/// Runs the command in a process group of its own and waits for it; past the timeout, ends it with
/// all that it has started.
pub(crate) fn start(mut command: Command, timeout: Duration) -> Ended {
    let capture = Capture::new();
    command
        .process_group(0)
        .stdout(capture.stdio())
        .stderr(capture.stdio());
    let mut child = command.spawn().expect("the test binary starts again");
    let pid = i32::try_from(child.id()).unwrap();
    let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    let in_time = probe::ends_within(&pidfd, timeout);
    let doing = (!in_time).then(|| probe::doing(pid));
    if !in_time {
        probe::kill_descendants(pid);
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    Ended {
        status: in_time.then_some(status),
        output: capture.text(),
        doing: doing.unwrap_or_default(),
    }
}

/// Passes or fails the test by what became of the process started for it.
pub(crate) fn report(test: &str, ended: Ended) {
    let Ended {
        status,
        output,
        doing,
    } = ended;
    for line in output.lines().filter(|line| line.starts_with("SKIPPED ")) {
        // Not eprintln, which libtest captures.
        let _ = writeln!(io::stderr(), "{line}");
    }
    match status {
        None => panic!("{test} took too long and was killed\n{output}\n{doing}"),
        Some(status) => match status.code() {
            Some(PASSED) => print!("{output}"),
            Some(FAILED) => panic!("{test} failed in its own process\n{output}"),
            Some(0) => panic!("this test binary has no test of the name {test}\n{output}"),
            _ => panic!("the process of {test} ended with {status}\n{output}"),
        },
    }
}

/// Forks, runs the body in the child, and ends this process with the verdict.
pub(crate) fn run_body(body: impl FnOnce()) -> ! {
    die_with_parent();
    // Any pid but 0 means yes.
    set_child_subreaper(Some(getpid())).unwrap();
    let Some(child) = sys::fork().unwrap() else {
        die_with_parent();
        set_child_subreaper(None).unwrap();
        own_mounts();
        let failed = catch_unwind(AssertUnwindSafe(body)).is_err();
        std::process::exit(i32::from(failed));
    };
    let status = wait_for(child);
    for left in end_children(&[]) {
        println!("left behind: {left:?}");
    }
    if !status.success() && status.code() != Some(1) {
        println!("the process of the test body ended with {status}");
    }
    std::process::exit(if status.success() { PASSED } else { FAILED });
}

/// Kills and reaps the children of this process, but for those to keep, and what it adopts
/// through that. Returns them as they were.
pub(crate) fn end_children(keep: &[Process]) -> Vec<Process> {
    let me = getpid().as_raw_pid();
    let mut ended = Vec::new();
    loop {
        let mut children = probe::children(me);
        children.retain(|child| keep.iter().all(|kept| !kept.is_same(child)));
        if children.is_empty() {
            return ended;
        }
        for child in &children {
            child.kill();
            wait_for(child.pid);
        }
        ended.append(&mut children);
    }
}

/// A mount namespace for this thread, if the caller may have one.
pub(crate) fn own_mounts() {
    if geteuid().is_root() && sys::unshare(UnshareFlags::NEWNS).is_ok() {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
    }
}

pub(crate) fn die_with_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
}

pub(crate) fn wait_for(pid: i32) -> ExitStatus {
    let pid = Pid::from_raw(pid).unwrap();
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return ExitStatus::from_raw(status.as_raw()),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("waitpid: {error}"),
        }
    }
}

/// Runs `body` in a forked child, which has one thread, and ends it with the status returned.
///
/// This process must have one thread, too, but for those that are about to end, which are waited for: also what a thread
/// does last, when it has long given its answer, takes locks (see [`sys::fork`]).
pub(crate) fn in_forked_child(body: impl FnOnce() -> i32) -> ExitStatus {
    threads::await_end_of_others();
    in_forked_child_of_many(body)
}

/// [`in_forked_child`] of a process that may have other threads, where `body` makes system calls only.
pub(crate) fn in_forked_child_of_many(body: impl FnOnce() -> i32) -> ExitStatus {
    match sys::fork().unwrap() {
        None => sys::exit_now(catch_unwind(AssertUnwindSafe(body)).unwrap_or(101)),
        Some(child) => wait_for(child),
    }
}

/// Output collected in a file, so that a process that outlives the writer holds nobody up.
#[derive(Debug)]
pub(crate) struct Capture(File);

impl Capture {
    pub(crate) fn new() -> Self {
        let file = memfd_create(c"output", MemfdFlags::CLOEXEC).unwrap();
        fcntl_setfl(&file, OFlags::APPEND).unwrap();
        Self(File::from(file))
    }

    fn stdio(&self) -> Stdio {
        Stdio::from(self.0.try_clone().unwrap())
    }

    /// Makes it this process's standard output and error.
    pub(crate) fn take_over(&self) {
        sys::dup_over(self.0.as_fd(), 1).unwrap();
        sys::dup_over(self.0.as_fd(), 2).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        let size = usize::try_from(self.0.metadata().unwrap().len()).unwrap();
        let mut bytes = vec![0; size];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
