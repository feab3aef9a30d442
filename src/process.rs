//! The running program.

use crate::error::{Error, Result, Step};
use crate::ns::{NamespaceIds, NamespaceSet};
use crate::plan::Compiled;
use crate::spawn::{Control, Start};
use crate::sys::process::wait;
use crate::sys::stage::message;
use crate::terminal::{Controlling, Pty};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The caller's ends of the pipes to a program.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    pub(crate) pty: Option<Pty>,
    /// The socket that the listener of a filter comes by.
    pub(crate) listener: Option<OwnedFd>,
}

/// A program that was started by [`Plan::spawn`](crate::Plan::spawn).
///
/// It holds a pidfd, which also is what [`AsFd`] gives: readable when the program has ended, and never
/// mistaken for another process. Like std's, a child that is dropped goes on running and is not reaped,
/// unless [`Command::kill_on_drop`](crate::Command::kill_on_drop) was asked for.
///
/// # Examples
/// ```
/// use ringfence::{Sandbox, Stdio};
/// use std::io::Read;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut child = Sandbox::new().command("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
/// let mut text = String::new();
/// child.stdout.take().expect("is piped").read_to_string(&mut text)?;
/// assert_eq!(text, "hello\n");
/// assert!(child.wait()?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Child {
    /// The program's standard input, if it was [piped](crate::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// The program's standard output, if it was [piped](crate::Stdio::piped).
    pub stdout: Option<ChildStdout>,
    /// The program's standard error, if it was [piped](crate::Stdio::piped).
    pub stderr: Option<ChildStderr>,
    /// The other end of the program's terminal, if a stream is [one](crate::Stdio::pty).
    pub pty: Option<Pty>,
    pid: u32,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
    usage: Option<ResourceUsage>,
    plan: Arc<Compiled>,
    control: Option<Control>,
    pub(crate) controlling: Option<Controlling>,
    listener: Option<OwnedFd>,
    at_gate: bool,
    /// What ends with this: its places in networks.
    #[cfg(feature = "net")]
    attached: Vec<crate::sandbox::attach::Attached>,
}

/// What a program and its descendants that it has waited for have used, as
/// [getrusage(2)](https://man7.org/linux/man-pages/man2/getrusage.2.html) counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceUsage {
    /// Processor time in user mode.
    pub user_time: Duration,
    /// Processor time in the kernel.
    pub system_time: Duration,
    /// The largest resident set, in bytes.
    pub max_resident: u64,
    /// Page faults that needed no I/O.
    pub minor_faults: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// Switches to other processes because the program waited for something.
    pub voluntary_switches: u64,
    /// Switches to other processes because its time was up.
    pub involuntary_switches: u64,
}

impl From<&libc::rusage> for ResourceUsage {
    fn from(usage: &libc::rusage) -> Self {
        let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
        let time = |time: libc::timeval| {
            Duration::from_secs(count(time.tv_sec)) + Duration::from_micros(count(time.tv_usec))
        };
        Self {
            user_time: time(usage.ru_utime),
            system_time: time(usage.ru_stime),
            // The kernel counts in units of 1024 bytes.
            max_resident: count(usage.ru_maxrss).saturating_mul(1024),
            minor_faults: count(usage.ru_minflt),
            major_faults: count(usage.ru_majflt),
            voluntary_switches: count(usage.ru_nvcsw),
            involuntary_switches: count(usage.ru_nivcsw),
        }
    }
}

impl Child {
    pub(crate) fn new(
        plan: &Arc<Compiled>,
        pid: u32,
        pidfd: OwnedFd,
        pipes: Pipes,
        control: Option<Control>,
    ) -> Self {
        Self {
            stdin: pipes.stdin,
            stdout: pipes.stdout,
            stderr: pipes.stderr,
            pty: pipes.pty,
            pid,
            pidfd,
            status: None,
            usage: None,
            #[cfg(feature = "net")]
            attached: Vec::new(),
            at_gate: plan.stage.as_ref().is_some_and(|stage| stage.waits()),
            plan: Arc::clone(plan),
            control,
            controlling: None,
            listener: pipes.listener,
        }
    }

    /// The child, with the caller's terminal that its program may have.
    pub(crate) fn with_terminal(mut self, controlling: Option<Controlling>) -> Self {
        self.controlling = controlling;
        if !self.at_gate {
            self.note_group();
        }
        self
    }

    /// Tells the caller's terminal which process group is the program's.
    fn note_group(&mut self) {
        let leader = match self.control() {
            None => Some(self.pid.cast_signed()),
            // What process 1 has started first.
            Some(_) if self.controlling.is_some() => {
                let path = format!("/proc/{0}/task/{0}/children", self.pid);
                let children = std::fs::read_to_string(path).unwrap_or_default();
                let first = children.split_whitespace().next();
                first.and_then(|pid| pid.parse().ok())
            }
            Some(_) => None,
        };
        if let Some(controlling) = &mut self.controlling {
            controlling.started(leader.and_then(Pid::from_raw));
        }
    }

    #[cfg(feature = "net")]
    pub(crate) fn keep(&mut self, attached: crate::sandbox::attach::Attached) {
        self.attached.push(attached);
    }

    /// The descriptor by which the system calls are heard of and answered that a
    /// [filter](crate::lockdown::SeccompFilter::notify) of the program's sends here. It is given once; there is
    /// none while the program is held at the [gate](crate::Command::gate).
    ///
    /// See [seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html).
    pub fn seccomp_listener(&mut self) -> Option<OwnedFd> {
        let received = crate::spawn::receive_descriptor(self.listener.as_ref()?).ok()?;
        self.listener = None;
        Some(received)
    }

    pub(crate) fn control(&self) -> Option<&Control> {
        self.control.as_ref().filter(|control| control.reaps())
    }

    /// The program has been stopped since this was asked last, and still is.
    pub(crate) fn has_stopped(&self) -> bool {
        match self.control() {
            Some(control) => control.has_stopped(),
            None => crate::sys::process::has_stopped(self.pidfd.as_fd()),
        }
    }

    pub(crate) fn plan(&self) -> &Compiled {
        &self.plan
    }

    /// The process id, in the pid namespace of the caller.
    /// It is not used for another process before the child has been waited for.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// The process ids that the child has: in the pid namespace that `/proc` shows, and then in each below it
    /// down to its own. With [`Sandbox::pid`](crate::Sandbox::pid) the last one is 1.
    ///
    /// # Errors
    /// When `/proc` is not there or shows a pid namespace that the child is not in, or the child has been
    /// waited for.
    ///
    /// # Kernel
    /// `NSpid` in `/proc/PID/fdinfo/N` of the pidfd, proc(5).
    #[doc(alias = "NSpid")]
    pub fn pids(&self) -> Result<Vec<u32>> {
        crate::ns::pids_of(self.pidfd.as_fd())
    }

    /// The identities of the namespaces that the program is in.
    ///
    /// # Errors
    /// When the program has ended, or has become something that the caller may not look into.
    pub fn namespace_ids(&self) -> Result<NamespaceIds> {
        let failed = |error| {
            Error::io(
                Step::Wait,
                format!("namespaces of process {}", self.pid),
                error,
            )
        };
        let pid = match pid_in_procfs(self.as_raw_fd()) {
            // Closed to a process that is not dumpable, before Linux 5.14.
            Err((_, Errno::ACCESS)) => self.pid,
            other => other.map_err(|(_, errno)| failed(errno.into()))?,
        };
        let ids = NamespaceIds::of_pid(pid)?;
        // Read by number: the answer holds if the process was there until now.
        if self.status.is_some() || pidfd_send_signal_0(&self.pidfd).is_err() {
            return Err(failed(Errno::SRCH.into()));
        }
        Ok(ids)
    }

    /// Handles of the namespaces that the program is in.
    ///
    /// # Errors
    /// When the program has ended, or has become something that the caller may not look into.
    pub fn namespaces(&self) -> Result<NamespaceSet> {
        NamespaceSet::of_pidfd(&self.pidfd)
    }

    /// Waits for the end of the program. Standard input is closed first, as std does it.
    ///
    /// # Errors
    /// `ECHILD` when somebody else has reaped it, as a caller does that ignores `SIGCHLD`.
    ///
    /// See [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html).
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        match self.reap(true)? {
            Some(status) => Ok(status),
            None => Err(self.wait_error(Errno::CHILD)),
        }
    }

    /// The status, if the program has ended.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> ringfence::Result<()> {
    /// let mut child = ringfence::Sandbox::new().command("cat").stdin(ringfence::Stdio::piped()).spawn()?;
    /// assert_eq!(child.try_wait()?, None); // it waits for its input
    /// assert!(child.wait()?.success()); // which has ended
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.reap(false)
    }

    /// Waits for the end of the program, but not longer than this.
    ///
    /// Pipes are not read meanwhile: a program that fills one goes on when it is read, and so may wait until its time is
    /// up. Read them on another thread, or use the feature `tokio`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    /// A program that has to be done in time, with all that it has started:
    /// ```
    /// use std::os::unix::process::ExitStatusExt;
    /// use std::time::Duration;
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// # if ringfence::support::Report::new().user_namespaces.is_some() { return Ok(()) }
    /// let mut child = ringfence::Sandbox::new().user().pid().command("sleep").arg("1000").spawn()?;
    /// let limit = Duration::from_millis(10);
    /// let status = match child.wait_timeout(limit)? {
    ///     Some(status) => status,
    ///     None => {
    ///         child.kill_all()?;
    ///         child.wait()?
    ///     }
    /// };
    /// assert_eq!(status.signal(), Some(9));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// See [`shutdown`](Self::shutdown) for a polite end.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let deadline = Instant::now().checked_add(limit);
            wait_readable(self.pidfd.as_fd(), deadline).map_err(|errno| {
                Error::system(Step::Wait, format!("process {}", self.pid), "poll", errno)
            })?;
        }
        self.reap(false)
    }

    /// Waits for the end of the program, and collects what it writes to pipes meanwhile, however much that is. Of a program
    /// that is not trusted, take the pipes and read as much as you want to have.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), or when a pipe cannot be read.
    pub fn wait_with_output(mut self) -> Result<Output> {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let read = read_both(
            self.stdout.take().map(OwnedFd::from),
            self.stderr.take().map(OwnedFd::from),
            &mut stdout,
            &mut stderr,
        );
        read.map_err(|error| {
            Error::io(Step::Wait, format!("output of process {}", self.pid), error)
        })?;
        let status = self.wait()?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// What the program has used, once its end has been waited for.
    ///
    /// What was killed together with the program, as by [`kill_all`](Self::kill_all), is not counted, since nobody has waited
    /// for it; with [`init`](crate::Sandbox::init) nor is the program itself, if process 1 was killed. The
    /// [statistics](crate::cgroup::Cgroup::stats) of a cgroup have all of it.
    ///
    /// See [getrusage(2)](https://man7.org/linux/man-pages/man2/getrusage.2.html).
    #[must_use]
    pub fn resource_usage(&self) -> Option<ResourceUsage> {
        self.usage
    }

    /// Lets a program go that is held at the gate ([`Command::gate`](crate::Command::gate)), and returns when it has
    /// been executed.
    ///
    /// # Errors
    /// As [`Plan::spawn`](crate::Plan::spawn), for what is left to do: a program that cannot be executed. `EINVAL` when it
    /// is not held. After an error nothing is left of the child.
    pub fn release(&mut self) -> Result<()> {
        let held = std::mem::take(&mut self.at_gate) && self.status.is_none();
        let asked = match &self.control {
            Some(control) if held => control.ask(message::RELEASE, 0).map(|()| control),
            _ => {
                let what = "the program is not held at a gate";
                return Err(Error::system(Step::Init, what, "sendto", Errno::INVAL));
            }
        };
        let deadline = Instant::now().checked_add(self.plan.setup_timeout);
        let start = match asked {
            Ok(control) => control.await_start(deadline),
            Err(_) => Start::Lost,
        };
        if matches!(start, Start::Running) {
            self.note_group();
            return Ok(());
        }
        let _ = crate::sys::process::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let waited = wait(self.pidfd.as_fd(), true);
        if let Ok(Some(waited)) = &waited {
            self.status = Some(ExitStatus::from_raw(waited.status));
        }
        self.take_terminal_back(true);
        let waited = waited.and_then(|waited| waited.ok_or(Errno::CHILD));
        Err(crate::spawn::start_error(&self.plan, &start, waited))
    }

    /// Kills the program (`SIGKILL`). It is not an error if it has ended.
    ///
    /// # Errors
    /// When the program may no longer be signalled by the caller.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal, by number, to the program. It is not an error if it has ended.
    ///
    /// With [`init`](crate::Sandbox::init) process 1, or what stands for it, passes it on, in the order of the
    /// calls; but `SIGKILL` ends the whole sandbox.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal, `EPERM` when the program may no longer be signalled.
    ///
    /// See [pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html).
    pub fn signal(&self, number: i32) -> Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        let failed = |errno| {
            Error::system(
                Step::Wait,
                format!("signal {number} to process {}", self.pid),
                "pidfd_send_signal",
                errno,
            )
        };
        match self.send(number) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn send(&self, number: i32) -> Result<(), Errno> {
        let process = |number| crate::sys::process::pidfd_signal(self.pidfd.as_fd(), number);
        let direct = || process(number);
        let by_kernel = number == libc::SIGKILL && (self.at_gate || !self.plan.is_subreaped());
        match (&self.control, u32::try_from(number)) {
            (Some(control), Ok(value)) if control.reaps() && !by_kernel => {
                if !(0..=64).contains(&number) {
                    return Err(Errno::INVAL);
                }
                if number == libc::SIGKILL {
                    // Somebody may have stopped it.
                    process(libc::SIGCONT)?;
                }
                match control.ask(message::SIGNAL, value) {
                    // It has ended.
                    Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
                    // It is stopped, or does not come to run.
                    Err(Errno::AGAIN) => direct(),
                    other => other,
                }
            }
            _ => direct(),
        }
    }

    fn reap(&mut self, block: bool) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let waited = wait(self.pidfd.as_fd(), block).map_err(|errno| self.wait_error(errno))?;
            if let Some(waited) = waited {
                let own = (
                    ExitStatus::from_raw(waited.status),
                    ResourceUsage::from(&waited.usage),
                );
                // What process 1 has said of the program, unless it was killed before that.
                let program = self.control().and_then(Control::ended);
                let (status, usage) = program.unwrap_or(own);
                self.status = Some(status);
                self.usage = Some(usage);
                self.take_terminal_back(status.signal().is_some());
            }
        }
        Ok(self.status)
    }

    fn take_terminal_back(&mut self, killed: bool) {
        if let Some(controlling) = &mut self.controlling {
            controlling.ended(killed);
        }
    }

    fn wait_error(&self, errno: Errno) -> Error {
        let error = Error::system(Step::Wait, format!("process {}", self.pid), "waitid", errno);
        error.with_hint((errno == Errno::CHILD).then(|| {
            "somebody else has reaped it: the caller ignores SIGCHLD, or waits for any child".into()
        }))
    }
}

/// The number by which `/proc` shows the process of a pidfd, which the calling thread has under this number.
/// Not that of the caller's pid namespace, where the procfs is another one's. The error says which system
/// call failed.
pub(crate) fn pid_in_procfs(pidfd: RawFd) -> Result<u32, (&'static str, Errno)> {
    let path = format!("/proc/thread-self/fdinfo/{pidfd}");
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| ("openat", errno))?;
    let mut text = [0_u8; 1024];
    let length = rustix::io::read(&file, &mut text[..]).map_err(|errno| ("read", errno))?;
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or(&[]));
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        // 0 is a process that does not exist there; -1, which is no u32, one that has been reaped.
        .filter(|&pid| pid > 0)
        .ok_or(("read", Errno::SRCH))
}

fn pidfd_send_signal_0(pidfd: &OwnedFd) -> Result<(), Errno> {
    crate::sys::process::pidfd_signal(pidfd.as_fd(), 0)
}

/// Waits until a descriptor is readable, which is what it returns, or until the deadline; without one, for
/// ever.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<bool, Errno> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reads whichever pipe has something, until both are at their end: a program that fills one while the
/// caller waits for the other cannot block both.
fn read_both(
    first: Option<OwnedFd>,
    second: Option<OwnedFd>,
    first_text: &mut Vec<u8>,
    second_text: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut open: Vec<(std::fs::File, &mut Vec<u8>)> = Vec::with_capacity(2);
    open.extend(first.map(|fd| (fd.into(), first_text)));
    open.extend(second.map(|fd| (fd.into(), second_text)));
    while open.len() > 1 {
        let mut fds: Vec<_> = open
            .iter()
            .map(|(file, _)| PollFd::new(file, PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (index, _) in ready.iter().enumerate().rev().filter(|(_, ready)| **ready) {
            let mut buffer = [0; 65_536];
            let (file, text) = &mut open[index];
            match file.read(&mut buffer) {
                Ok(0) => drop(open.remove(index)),
                Ok(length) => text.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    if let Some((file, text)) = open.first_mut() {
        file.read_to_end(text)?;
    }
    Ok(())
}

impl AsFd for Child {
    /// The pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.plan.kill_on_drop && self.status.is_none() {
            let _ = self.kill();
            let _ = wait(self.pidfd.as_fd(), true);
            self.take_terminal_back(true);
        }
    }
}
