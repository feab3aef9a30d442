//! Makes the k-th system call of a process tree fail, from outside.
//!
//! The body runs in a forked child under a seccomp filter that reports the chosen system calls to
//! this process, which lets each of them through or makes it fail. The filter is inherited, so the
//! calls of a `CLONE_VM | CLONE_VFORK` child are seen like any others.
//!
//! A call counts if it is made inside [`window`] by a process that has not become another program
//! since. That is told by the name in `/proc/PID/comm`, which changes at `execve(2)`.
//!
//! Without privileges a filter takes no_new_privs, and so newuidmap, below it, its power.
//!
//! ```ignore
//! isolated(|| {
//!     require!(seccomp_notify);
//!     let faults = Faults::new(syscalls![SYS_mount, SYS_openat]);
//!     let body = || match faults::window(|| plan.spawn()) { ... };
//!     faults.sweep(libc::EIO, body, |k, run| assert!(run.succeeded(), "call {k}: {run}"));
//! });
//! ```

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, child_subreaper, getpid, pidfd_open, set_child_subreaper};

use super::isolated::{self, Capture};
use super::probe::{self, Process};
use super::seccomp::{Arg, Filter};
use super::sys::{self, Answer};

/// The `prctl` option that opens (1) and closes (0) a window; no option of the kernel's.
const MARK: u32 = 0x5246_4E43;
/// The name of the traced process until it becomes another program.
const COMM: &CStr = c"faults-body";
/// Where the child keeps the socket that it hands the listener over by.
const CHANNEL: i32 = 100;

/// Counts the system calls made meanwhile, by this process and those it starts.
///
/// Without an injector it is just the call.
pub(crate) fn window<T>(body: impl FnOnce() -> T) -> T {
    mark(1);
    let result = body();
    mark(0);
    result
}

fn mark(state: u64) {
    // EINVAL where nobody traps it.
    let _ = sys::prctl(MARK as i32, state);
}

/// A system call to trap, by number, and by name for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syscall {
    pub(crate) number: libc::c_long,
    pub(crate) name: &'static str,
}

/// `syscalls![SYS_mount, SYS_openat]`, by the names in `libc`.
macro_rules! syscalls {
    ($($name:ident),+ $(,)?) => {
        &[$($crate::common::faults::Syscall {
            number: libc::$name,
            name: stringify!($name),
        }),+]
    };
}
pub(crate) use syscalls;

/// Which system calls are trapped.
#[derive(Clone, Debug)]
#[must_use]
pub(crate) struct Faults {
    calls: Vec<Syscall>,
    timeout: Duration,
    second_stage: bool,
}

/// A call that was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) syscall: Syscall,
    pub(crate) args: [u64; 6],
    pub(crate) pid: i32,
    pub(crate) tid: i32,
    /// Made by the process that runs the body, not by one that it started.
    pub(crate) by_body: bool,
    pub(crate) failed: bool,
}

/// What happened in one run of the body.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The counted calls, in order: the first is number 1.
    pub(crate) calls: Vec<Call>,
    /// Trapped calls that did not count.
    pub(crate) passed: usize,
    /// How often the body opened a window.
    pub(crate) windows: usize,
    /// `None` if the body took too long and was killed with all that it had started.
    pub(crate) status: Option<ExitStatus>,
    /// What was written to standard output and error.
    pub(crate) output: String,
    /// Processes that the body started and that were not reaped when it ended. They are no more.
    pub(crate) left_behind: Vec<Process>,
}

impl Run {
    /// The body came to its end without a panic.
    pub(crate) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => writeln!(f, "the body ended with {status}")?,
            None => writeln!(f, "the body took too long and was killed")?,
        }
        for (index, call) in self.calls.iter().enumerate() {
            let Call {
                syscall,
                args,
                tid,
                by_body,
                failed,
                ..
            } = call;
            let who = if *by_body { "body" } else { "child" };
            let outcome = if *failed { "  <- made to fail" } else { "" };
            writeln!(
                f,
                "{:4} {who} {tid} {}({args:x?}){outcome}",
                index + 1,
                syscall.name
            )?;
        }
        writeln!(f, "{} calls passed through uncounted", self.passed)?;
        if !self.left_behind.is_empty() {
            writeln!(f, "left behind: {:?}", self.left_behind)?;
        }
        write!(f, "{}", self.output)
    }
}

impl Faults {
    pub(crate) fn new(calls: &[Syscall]) -> Self {
        Self {
            calls: calls.to_vec(),
            timeout: Duration::from_secs(20),
            second_stage: false,
        }
    }

    /// Counts the calls of the crate's second stage as well, although it is another program.
    pub(crate) fn with_second_stage(self) -> Self {
        Self {
            second_stage: true,
            ..self
        }
    }

    /// How long one run of the body may take.
    pub(crate) fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Runs the body and only watches.
    pub(crate) fn watch(&self, body: impl FnOnce()) -> Run {
        self.run(None, body)
    }

    /// Runs the body with the `k`-th counted call, from 1, failing with `errno` unmade.
    pub(crate) fn fail(&self, k: usize, errno: i32, body: impl FnOnce()) -> Run {
        self.run(Some((k, errno)), body)
    }

    /// Watches the body once, then runs it with each counted call failing in turn, and returns how
    /// many there were. `check` gets the number of the call and what happened.
    ///
    /// The body has to end well every time: it is to expect the error, and to see that nothing
    /// else came of it.
    #[track_caller]
    pub(crate) fn sweep(
        &self,
        errno: i32,
        body: impl Fn(),
        mut check: impl FnMut(usize, &Run),
    ) -> usize {
        let clean = self.watch(&body);
        assert!(clean.succeeded(), "without a failure: {clean}");
        assert!(
            !clean.calls.is_empty(),
            "none of the calls was made in a window: {clean}"
        );
        for k in 1..=clean.calls.len() {
            let run = self.fail(k, errno, &body);
            // The calls before the failing one are the same, unless the order is left to chance.
            assert!(
                run.calls.get(k - 1).is_some_and(|call| call.failed),
                "no call {k}: {run}"
            );
            check(k, &run);
        }
        clean.calls.len()
    }

    fn run(&self, fault: Option<(usize, i32)>, body: impl FnOnce()) -> Run {
        let threads = probe::status("self", "Threads");
        assert_eq!(
            threads.as_deref(),
            Some("1"),
            "run this in an isolated test: it forks"
        );
        let me = getpid().as_raw_pid();
        let had = probe::children(me);
        let was_subreaper = child_subreaper().unwrap();
        // What the body leaves behind is ours to find and to end.
        set_child_subreaper(Some(getpid())).unwrap();

        let output = Capture::new();
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let Some(child) = sys::fork().unwrap() else {
            drop(ours);
            isolated::die_with_parent();
            set_child_subreaper(None).unwrap();
            output.take_over();
            drop(output);
            self.enter(theirs);
            let failed = catch_unwind(AssertUnwindSafe(body)).is_err();
            std::process::exit(i32::from(failed));
        };
        drop(theirs);
        let Some(listener) = receive(&ours) else {
            isolated::wait_for(child);
            panic!("the filter was not installed\n{}", output.text());
        };
        drop(ours);

        let mut supervisor = Supervisor::new(self, child, fault);
        let in_time = supervisor.serve(&listener, Instant::now() + self.timeout);
        let mut left_behind = Vec::new();
        if in_time {
            left_behind = probe::descendants(child);
        } else {
            probe::kill_descendants(child);
            Process::read(child).iter().for_each(Process::kill);
        }
        let status = isolated::wait_for(child);
        left_behind.extend(isolated::end_children(&had));
        // Only now: without a listener a trapped call would be ENOSYS.
        drop(listener);
        set_child_subreaper(was_subreaper).unwrap();

        let Supervisor {
            calls,
            passed,
            windows,
            ..
        } = supervisor;
        let status = in_time.then_some(status);
        let run = Run {
            calls,
            passed,
            windows,
            status,
            output: output.text(),
            left_behind,
        };
        assert!(
            run.windows > 0 || !run.succeeded(),
            "the body opened no window: {run}"
        );
        run
    }

    /// In the child: installs the filter and hands the listener to the supervisor.
    fn enter(&self, channel: OwnedFd) {
        rustix::thread::set_name(COMM).unwrap();
        // By its high number the filter knows the one message that must pass.
        let channel = fcntl_dupfd_cloexec(channel, CHANNEL).unwrap();
        let number = u32::try_from(channel.as_raw_fd()).unwrap();
        let mut filter = Filter::new()
            .allow_if(libc::SYS_sendmsg, Arg::Is(0, number))
            .trap_if(libc::SYS_prctl, Arg::Is(0, MARK));
        for call in &self.calls {
            filter = filter.trap(call.number);
        }
        let listener = filter.install_with_listener().unwrap();
        // No system call but this one until the supervisor answers.
        send(&channel, &listener).unwrap();
    }
}

fn send(channel: &OwnedFd, fd: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(
        channel,
        &[IoSlice::new(b"l")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// `None` if the other end closed without sending.
fn receive(channel: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        channel,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

struct Supervisor<'a> {
    faults: &'a Faults,
    body: i32,
    fault: Option<(usize, i32)>,
    in_window: bool,
    calls: Vec<Call>,
    passed: usize,
    windows: usize,
}

impl<'a> Supervisor<'a> {
    fn new(faults: &'a Faults, body: i32, fault: Option<(usize, i32)>) -> Self {
        Self {
            faults,
            body,
            fault,
            in_window: false,
            calls: Vec::new(),
            passed: 0,
            windows: 0,
        }
    }

    /// Answers until the body has ended; false if it had not by the deadline.
    fn serve(&mut self, listener: &OwnedFd, deadline: Instant) -> bool {
        let body = pidfd_open(Pid::from_raw(self.body).unwrap(), PidfdFlags::empty()).unwrap();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut fds = [
                PollFd::new(&body, PollFlags::IN),
                PollFd::new(listener, PollFlags::IN),
            ];
            match poll(&mut fds, Some(&Timespec::try_from(left).unwrap())) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
            if fds[1].revents().contains(PollFlags::IN) {
                self.answer(listener);
            } else if !fds[0].revents().is_empty() {
                return true;
            }
        }
    }

    fn answer(&mut self, listener: &OwnedFd) {
        let notification = match sys::notification(listener) {
            Ok(notification) => notification,
            // The caller was killed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return,
            Err(error) => panic!("SECCOMP_IOCTL_NOTIF_RECV: {error}"),
        };
        let id = notification.id;
        let answer = self.decide(&notification, || sys::still_waits(listener, id));
        match sys::answer(listener, id, answer) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => panic!("SECCOMP_IOCTL_NOTIF_SEND: {error}"),
        }
    }

    fn decide(&mut self, notification: &libc::seccomp_notif, valid: impl Fn() -> bool) -> Answer {
        let data = &notification.data;
        let number = libc::c_long::from(data.nr);
        if number == libc::SYS_prctl && data.args[0] == u64::from(MARK) {
            self.in_window = data.args[1] != 0;
            self.windows += usize::from(self.in_window);
            return Answer::Return(0);
        }
        let tid = notification.pid as i32;
        let syscall = self.faults.calls.iter().find(|call| call.number == number);
        let caller = self.in_window.then(|| self.caller(tid)).flatten();
        let (Some(&syscall), Some(pid), true) = (syscall, caller, valid()) else {
            self.passed += 1;
            return Answer::Continue;
        };
        let errno = self
            .fault
            .filter(|(k, _)| *k == self.calls.len() + 1)
            .map(|(_, errno)| errno);
        self.calls.push(Call {
            syscall,
            args: data.args,
            pid,
            tid,
            by_body: pid == self.body,
            failed: errno.is_some(),
        });
        errno.map_or(Answer::Continue, Answer::Fail)
    }

    /// The process of a thread, if it still runs the body's program.
    fn caller(&self, tid: i32) -> Option<i32> {
        let pid = probe::status(tid, "Tgid")?.parse().ok()?;
        let name = fs::read(format!("/proc/{tid}/comm")).ok()?;
        if self.faults.second_stage && name == b"ringfence-init\n" {
            return Some(pid);
        }
        // A thread, and so a child that it makes, may have a name of its own.
        let threads = fs::read_dir(format!("/proc/{}/task", self.body))
            .ok()?
            .flatten();
        let mut names = threads.filter_map(|thread| fs::read(thread.path().join("comm")).ok());
        names.any(|of_body| of_body == name).then_some(pid)
    }
}
