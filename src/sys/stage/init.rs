//! The stage's life: the gate, then either the program in its place, or PID 1, or what stands for it.

use super::calls::{self, PollFd, Waited};
use super::children;
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
    if job.is(setting::DIE_WITH_PARENT) && !dies_with_parent(job) {
        calls::exit(127);
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
    if job.is(setting::SUBREAPER) {
        calls::become_subreaper();
    }
    let Some(program) = exec::start(job) else {
        calls::exit(127)
    };
    // Out of the caller's process group: what is sent to the group reaches the program by itself, and
    // only what is sent to PID 1 is forwarded. Refused only where it leads a session already.
    let _ = calls::new_group();
    close_others(job);
    reduce(job);
    let (signals, report) = match calls::signalfd() {
        Ok(signals) => (Some(signals), report(STARTED, 0, 0, 0)),
        Err(errno) => (None, report(FAILED, errno, call::SIGNALFD, 0)),
    };
    let mut init = Init::new(job, program, signals.unwrap_or(-1));
    // Other ids have made the kernel forget it.
    let orphaned = job.is(setting::DIE_WITH_PARENT) && !dies_with_parent(job);
    match (calls::send(job.control, &report), signals) {
        (Ok(()), Some(_)) if !orphaned => init.serve(),
        // A caller that is gone would never know of the program.
        _ => init.end(),
    }
}

fn report(kind: u32, value: i32, call: u32, note: u32) -> Report {
    Report {
        kind,
        value,
        call,
        note,
    }
}

fn close_others(job: &Job) {
    let mut kept = [job.control, job.control];
    if job.is(setting::SUBREAPER) {
        kept = [job.control.min(job.children), job.control.max(job.children)];
    }
    let mut first = 0;
    for fd in kept.map(i32::unsigned_abs) {
        if fd > first {
            calls::close_range(first, fd - 1);
        }
        first = fd.saturating_add(1);
    }
    calls::close_range(first, u32::MAX);
}

/// Gives away what process 1 does not need once the program runs.
fn reduce(job: &Job) {
    for (op, list) in lockdown::process_1(job.lockdown) {
        // SAFETY: the plan has laid it out.
        if let Err(failed) = unsafe { lockdown::apply(list, calls::any) } {
            give_up(job.control, failed.code(), failed.errno, op)
        }
    }
}

/// Ends, and everything in the namespace with it.
pub(super) fn give_up(control: i32, call: u32, errno: i32, note: u32) -> ! {
    // Whether it arrives or not, there is nothing else to do.
    let _ = calls::send(control, &report(FAILED, errno, call, note));
    calls::exit(127)
}

/// The last real-time signal, which nobody sends.
const PARENT_ENDED: u32 = 64;

/// Nobody looks into this process, and no signal is lost.
fn protect(job: &Job) {
    const PR_SET_DUMPABLE: usize = 4;
    calls::prctl(PR_SET_DUMPABLE, 0);
    calls::set_name(c"ringfence-init");
    let _ = calls::set_signal_mask(u64::MAX);
    calls::set_cloexec(job.control);
    if job.is(setting::SUBREAPER) {
        calls::set_cloexec(job.children);
    }
}

/// exec forgets it where it changes capabilities, and so do new ids and a clone. False when the caller has
/// ended already.
fn dies_with_parent(job: &Job) -> bool {
    let signal = job.settings >> setting::DEATH_SIGNAL_SHIFT;
    // A subreaper has to end others first.
    let ends_others = job.is(setting::SUBREAPER) && signal == calls::SIGKILL;
    calls::die_with_parent(if ends_others { PARENT_ENDED } else { signal });
    let mut control = [PollFd::new(job.control)];
    calls::poll(&mut control, false) != Ok(1) || !is_closed(&control)
}

fn is_closed(control: &[PollFd]) -> bool {
    control
        .first()
        .is_some_and(|control| control.revents & !PollFd::IN != 0)
}

/// A caller that is gone would never know of the program.
fn tell(job: &Job, kind: u32, value: i32) {
    if calls::send(job.control, &report(kind, value, 0, 0)).is_err() {
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

/// PID 1, or the subreaper.
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
            } else if signal == PARENT_ENDED && self.outlives_nobody() {
                self.end();
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
    fn signal(&mut self, signal: u32, value: Option<u64>) {
        if signal == calls::SIGKILL {
            // The kernel has it for PID 1 alone.
            self.end();
        }
        // What a program gets that has ended is lost, and it may be for the others.
        self.reap();
        // A terminal stops the whole group.
        let to_group = self.job.is(setting::SIGNAL_GROUP)
            || (self.job.is(setting::FOREGROUND) && signal == calls::SIGCONT);
        let to = match self.program {
            Some(program) if to_group => -program,
            Some(program) => program,
            None if self.job.is(setting::SUBREAPER) => {
                children::signal(self.job.children, signal);
                return;
            }
            None => -1,
        };
        // Whoever it is for may have ended.
        let _ = match value {
            Some(value) if to > 0 => calls::queue(to, signal, value),
            _ => calls::kill(to, signal),
        };
    }

    /// The signal of [`PARENT_ENDED`] is what it says.
    fn outlives_nobody(&self) -> bool {
        self.job.is(setting::SUBREAPER) && self.job.is(setting::DIE_WITH_PARENT)
    }

    /// Reaps everything that has ended.
    fn reap(&mut self) {
        loop {
            match self.reap_one(calls::WNOHANG) {
                Ok(true) if self.program.is_none() && !self.job.is(setting::WAIT_FOR_ALL) => {
                    self.end();
                }
                Ok(true) => {}
                Ok(false) => break,
                // No children are left.
                Err(_) if self.program.is_none() => calls::exit(self.status),
                Err(_) => break,
            }
        }
        self.mirror();
    }

    /// Whether there was one.
    fn reap_one(&mut self, how: usize) -> Result<bool, calls::Errno> {
        let mut usage = MaybeUninit::<Usage>::zeroed();
        // SAFETY: zeroes are integers.
        let usage = unsafe { usage.assume_init_mut() };
        let waited = calls::wait(None, calls::WEXITED | how, usage)?;
        if let Some(waited) = waited
            && Some(waited.pid) == self.program
        {
            self.program = None;
            self.ended(waited, usage);
        }
        Ok(waited.is_some())
    }

    /// Ends everything. In a pid namespace the kernel does that, before anybody sees this end.
    fn end(&mut self) -> ! {
        if self.job.is(setting::SUBREAPER) {
            // Each that ends leaves its children here, which are found in the next round. One that may not
            // be killed is left to the next reaper.
            while children::signal(self.job.children, calls::SIGKILL) && self.reap_one(0).is_ok() {
                while self.reap_one(calls::WNOHANG) == Ok(true) {}
            }
        }
        calls::exit(self.status)
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
    }

    /// Reports a stop of the program, one at a time, so that the socket cannot fill up.
    fn mirror(&mut self) {
        let Some(program) = self.program else { return };
        if self.unseen {
            return;
        }
        let what = calls::WSTOPPED | calls::WCONTINUED;
        let mut usage: Usage = [0; 18];
        let Ok(Some(waited)) = calls::wait(Some(program), what | calls::WNOHANG, &mut usage) else {
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
