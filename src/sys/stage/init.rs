//! The stage's life: the gate, then either the program in its place, or PID 1.

use super::calls::{self, PollFd, Waited};
use super::exec;
use super::job::Job;
use super::message::{
    AT_GATE, CONTINUED, ENDED, Ended, FAILED, RELEASE, Report, SEEN, SIGNAL, STARTED, STOPPED,
    Usage, call, setting,
};
use super::{join, lockdown};
use core::mem::MaybeUninit;

/// Does what the job says, and never returns.
pub(super) fn run(job: &Job) -> ! {
    protect(job);
    if job.is(setting::JOIN) {
        join::run(job)
    }
    begin(job)
}

/// What is left once the process is where it belongs.
pub(super) fn begin(job: &Job) -> ! {
    if job.is(setting::DIE_WITH_PARENT) {
        die_with_parent(job);
    }
    if job.is(setting::GATE) {
        tell(job, AT_GATE, 0);
        await_release(job);
    }
    if !job.is(setting::REAPER) {
        tell(job, STARTED, 0);
        exec::replace(job);
        calls::exit(127)
    }
    let Some(program) = exec::start(job) else {
        calls::exit(127)
    };
    // Out of the caller's process group: what is sent to the group reaches the program by itself, and
    // only what is sent to PID 1 is forwarded. Refused only where it leads a session already.
    let _ = calls::new_group();
    let last = job.control.unsigned_abs();
    calls::close_range(0, last.saturating_sub(1));
    calls::close_range(last.saturating_add(1), u32::MAX);
    reduce(job);
    match calls::signalfd() {
        Ok(signals) => {
            tell(job, STARTED, 0);
            Init::new(job, program, signals).serve()
        }
        Err(errno) => give_up(job.control, call::SIGNALFD, errno),
    }
}

/// Gives away what process 1 does not need once the program runs.
fn reduce(job: &Job) {
    for (_, list) in lockdown::process_1(job.lockdown) {
        // SAFETY: the plan has laid it out.
        if let Err(failed) = unsafe { lockdown::apply(list, calls::any) } {
            let call = failed.code();
            give_up(job.control, call, failed.errno)
        }
    }
}

/// Ends, and everything in the namespace with it.
pub(super) fn give_up(control: i32, call: u32, errno: i32) -> ! {
    let report = Report {
        kind: FAILED,
        value: errno,
        call,
        note: 0,
    };
    let _ = calls::send(control, &report);
    calls::exit(127)
}

/// Nobody looks into this process, and no signal is lost.
fn protect(job: &Job) {
    const PR_SET_DUMPABLE: usize = 4;
    calls::prctl(PR_SET_DUMPABLE, 0);
    calls::set_name(c"ringfence-init");
    let _ = calls::set_signal_mask(u64::MAX);
    calls::set_cloexec(job.control);
}

/// exec forgets it where it changes capabilities, and so do new ids and a clone.
fn die_with_parent(job: &Job) {
    const PR_SET_PDEATHSIG: usize = 1;
    calls::prctl(PR_SET_PDEATHSIG, calls::SIGKILL as usize);
    let mut control = [PollFd::new(job.control)];
    if calls::poll(&mut control, false) == Ok(1) && is_closed(&control) {
        calls::exit(127);
    }
}

fn is_closed(control: &[PollFd]) -> bool {
    control
        .first()
        .is_some_and(|control| control.revents & !PollFd::IN != 0)
}

/// A caller that is gone would never know of the program.
fn tell(job: &Job, kind: u32, value: i32) {
    let report = Report {
        kind,
        value,
        ..Report::default()
    };
    if calls::send(job.control, &report).is_err() {
        calls::exit(127);
    }
}

fn await_release(job: &Job) {
    loop {
        match calls::receive(job.control) {
            Ok(Some(request)) if request.kind == RELEASE => return,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => calls::exit(127),
        }
    }
}

/// PID 1.
struct Init<'a> {
    job: &'a Job,
    signals: i32,
    /// The program, until it has been reaped.
    program: Option<i32>,
    /// The status to end with, once the program has.
    status: i32,
    /// The caller has not yet read the last report of a stop.
    unseen: bool,
}

impl<'a> Init<'a> {
    fn new(job: &'a Job, program: i32, signals: i32) -> Self {
        Self {
            job,
            signals,
            program: Some(program),
            status: 0,
            unseen: false,
        }
    }

    fn serve(&mut self) -> ! {
        let mut control = self.job.control;
        // The program may have ended before there was a descriptor to read SIGCHLD from.
        self.reap();
        loop {
            let mut fds = [PollFd::new(self.signals), PollFd::new(control)];
            if calls::poll(&mut fds, true).is_err() {
                continue;
            }
            let [signals, asked] = fds;
            if asked.revents != 0 && !self.obey(control) {
                calls::close(control);
                control = -1;
            }
            if signals.revents != 0 {
                self.read_signals();
            }
        }
    }

    /// Does what the caller asks for; false when there is no caller any more.
    fn obey(&mut self, control: i32) -> bool {
        match calls::receive(control) {
            Ok(Some(request)) if request.kind == SIGNAL => self.signal(request.value, None),
            Ok(Some(request)) if request.kind == SEEN => {
                self.unseen = false;
                self.mirror();
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
        true
    }

    fn read_signals(&mut self) {
        const SIZE: usize = 128;
        const SI_QUEUE: i32 = -1;
        let mut info = [0_u8; SIZE];
        let mut children = false;
        while calls::read(self.signals, &mut info) == Ok(SIZE) {
            let word = |at: usize| {
                let bytes = info.get(at..).and_then(<[u8]>::first_chunk);
                u32::from_ne_bytes(*bytes.unwrap_or(&[0; 4]))
            };
            let (signal, code) = (word(0), word(8).cast_signed());
            if signal == calls::SIGCHLD {
                children = true;
            } else if code <= 0 {
                // Sent by a process. What the kernel sends is for PID 1 alone.
                let low = u64::from(word(48));
                let value = low | u64::from(word(52)) << 32;
                self.signal(signal, (code == SI_QUEUE).then_some(value));
            }
        }
        if children {
            self.reap();
        }
    }

    /// Passes a signal on. When the program has ended and the others are waited for, they all get it.
    fn signal(&self, signal: u32, value: Option<u64>) {
        // A terminal stops the whole group.
        let to_group = self.job.is(setting::SIGNAL_GROUP)
            || (self.job.is(setting::FOREGROUND) && signal == calls::SIGCONT);
        let to = match self.program {
            Some(program) if to_group => -program,
            Some(program) => program,
            None => -1,
        };
        // Whoever it is for may have ended.
        let _ = match value {
            Some(value) if to > 0 => calls::queue(to, signal, value),
            _ => calls::kill(to, signal),
        };
    }

    /// Reaps everything that has ended.
    fn reap(&mut self) {
        let mut usage = MaybeUninit::<Usage>::zeroed();
        // SAFETY: zeroes are integers.
        let usage = unsafe { usage.assume_init_mut() };
        loop {
            match calls::wait(None, calls::WEXITED, usage) {
                Ok(Some(waited)) if Some(waited.pid) == self.program => {
                    self.program = None;
                    self.ended(waited, usage);
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                // No children are left.
                Err(_) if self.program.is_none() => calls::exit(self.status),
                Err(_) => break,
            }
        }
        self.mirror();
    }

    fn ended(&mut self, waited: Waited, usage: &Usage) {
        let status = match waited.code {
            calls::CLD_EXITED => (waited.value & 0xff) << 8,
            calls::CLD_DUMPED => waited.value | 0x80,
            _ => waited.value,
        };
        let ended = Ended {
            report: Report {
                kind: ENDED,
                value: status,
                ..Report::default()
            },
            usage: *usage,
        };
        let _ = calls::send(self.job.control, &ended);
        self.status = match waited.code {
            calls::CLD_EXITED => waited.value & 0xff,
            _ => 128 + waited.value,
        };
        if !self.job.is(setting::WAIT_FOR_ALL) {
            // The kernel ends all others before anybody sees this end.
            calls::exit(self.status);
        }
    }

    /// Reports a stop of the program, one at a time, so that the socket cannot fill up.
    fn mirror(&mut self) {
        let Some(program) = self.program else { return };
        if self.unseen {
            return;
        }
        let what = calls::WSTOPPED | calls::WCONTINUED;
        let mut usage: Usage = [0; 18];
        let Ok(Some(waited)) = calls::wait(Some(program), what, &mut usage) else {
            return;
        };
        let kind = match waited.code {
            calls::CLD_STOPPED => STOPPED,
            calls::CLD_CONTINUED => CONTINUED,
            _ => return,
        };
        let report = Report {
            kind,
            value: waited.value,
            ..Report::default()
        };
        self.unseen = calls::send(self.job.control, &report).is_ok();
    }
}
