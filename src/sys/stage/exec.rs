//! Executing the program, as execvp does, and looking at why it failed.

use super::calls::{self, Errno, Stack, Text};
use super::job::Job;
use super::lockdown;
use super::message::{FAILED, Failed, HEAD, Report, call, note, setting};
use core::mem::MaybeUninit;

/// One try to execute the program, in memory that the stage and its vfork child share.
struct Attempt<'a> {
    job: &'a Job,
    failed: bool,
    report: Report,
    /// Zeroed only when it is needed: that keeps the page out of memory.
    head: MaybeUninit<[u8; HEAD]>,
}

impl Attempt<'_> {
    fn fail(&mut self, call: u32, errno: Errno, note: u32) {
        self.failed = true;
        self.report = Report {
            kind: FAILED,
            value: errno,
            call,
            note,
        };
    }

    /// Returns only when the program could not be executed.
    fn run(&mut self) {
        if let Err((call, errno)) = prepare(self.job) {
            return self.fail(call, errno, note::NOTHING);
        }
        if let Err((call, errno, note)) = lock_down(self.job) {
            return self.fail(call, errno, note);
        }
        let mut last = calls::ENOENT;
        let mut refused = None;
        for &path in self.job.candidates() {
            // SAFETY: a candidate, the arguments and the environment of the job.
            let errno = unsafe { calls::execve(path, self.job.argv, self.job.envp) };
            let seen = self.look(path, errno);
            match errno {
                calls::ENOENT
                | calls::ENOTDIR
                | calls::ESTALE
                | calls::ENODEV
                | calls::ETIMEDOUT
                    if seen == note::NOTHING =>
                {
                    last = errno;
                }
                calls::EACCES => refused = Some(seen),
                _ => return self.fail(call::EXECVE, errno, seen),
            }
        }
        match refused {
            Some(seen) => self.fail(call::EXECVE, calls::EACCES, seen),
            None => self.fail(call::EXECVE, last, note::NOTHING),
        }
    }

    fn look(&mut self, path: Text, errno: Errno) -> u32 {
        match errno {
            calls::ENOENT => {
                // SAFETY: a candidate of the job.
                let fd = match unsafe { calls::open(path) } {
                    Ok(fd) => fd,
                    Err(calls::ENOENT | calls::ENOTDIR) => return note::NOTHING,
                    Err(_) => -1,
                };
                let head = self.head.write([0; HEAD]);
                // The rest stays zero, if there is less, or nothing to read.
                let _ = calls::read(fd, head);
                calls::close(fd);
                note::EXISTS
            }
            // SAFETY: a candidate of the job.
            calls::EACCES if unsafe { calls::is_noexec(path) } => note::NOEXEC,
            // SAFETY: as above.
            calls::EACCES if unsafe { calls::lacks_execute(path) } => note::NOT_EXECUTABLE,
            _ => note::NOTHING,
        }
    }

    fn send(&self) {
        let fd = self.job.control;
        // Whether it arrives or not, there is nothing else to do.
        let _ = if self.report.note == note::EXISTS {
            let failed = Failed {
                report: self.report,
                // SAFETY: `look` has written it when it gave this note.
                head: unsafe { self.head.assume_init() },
            };
            calls::send(fd, &failed)
        } else {
            calls::send(fd, &self.report)
        };
    }
}

/// What the program is given by its own process, as it must not hold for PID 1.
fn prepare(job: &Job) -> Result<(), (u32, Errno)> {
    if job.is(setting::NEW_SESSION) {
        calls::new_session().map_err(|errno| (call::SETSID, errno))?;
    } else if job.is(setting::SIGNAL_GROUP | setting::FOREGROUND) {
        calls::new_group().map_err(|errno| (call::SETPGID, errno))?;
    }
    if job.is(setting::CONTROLLING_TERMINAL) {
        calls::take_terminal(job.terminal).map_err(|errno| (call::IOCTL, errno))?;
    }
    if job.is(setting::FOREGROUND) {
        match calls::to_foreground(job.terminal) {
            // The caller has given something else for want of a terminal.
            Ok(()) | Err(calls::ENOTTY) => {}
            Err(errno) => return Err((call::IOCTL, errno)),
        }
        calls::close(job.terminal);
    }
    if job.is(setting::SUBREAPER) {
        // Who ends what is left if the stage is killed?
        calls::die_with_parent(calls::SIGKILL);
    }
    // A mask that is valid cannot be refused.
    let _ = calls::set_signal_mask(0);
    Ok(())
}

/// Last of all: from here on only execve has to be permitted.
fn lock_down(job: &Job) -> Result<(), (u32, Errno, u32)> {
    for (op, list) in lockdown::program(job.lockdown) {
        // SAFETY: the plan has laid it out.
        unsafe { lockdown::apply(list, calls::any) }.map_err(|failed| {
            let call = failed.code();
            (call, failed.errno, op)
        })?;
    }
    Ok(())
}

unsafe extern "C" fn child(attempt: *mut Attempt<'_>) -> ! {
    // SAFETY: `start` passes its own, and is suspended.
    unsafe { &mut *attempt }.run();
    calls::exit(127)
}

fn attempt(job: &Job) -> Attempt<'_> {
    Attempt {
        job,
        failed: false,
        report: Report::default(),
        head: MaybeUninit::uninit(),
    }
}

/// Starts the program in a process of its own. `None` when it could not be: the caller is told.
pub(super) fn start(job: &Job) -> Option<i32> {
    let mut attempt = attempt(job);
    let mut stack = Stack(MaybeUninit::uninit());
    match calls::vfork(&mut stack, child, &mut attempt) {
        Ok(pid) if !attempt.failed => return Some(pid),
        Ok(_) => {}
        Err(errno) => attempt.fail(call::CLONE, errno, note::NOTHING),
    }
    attempt.send();
    None
}

/// Executes the program in this process. Returns when that has failed, and the caller has been told.
pub(super) fn replace(job: &Job) {
    let mut attempt = attempt(job);
    attempt.run();
    attempt.send();
}
