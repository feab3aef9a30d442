//! Processes that have done something and wait to be looked at.
#![allow(dead_code, reason = "every test binary uses a part")]

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::isolated::{die_with_parent, wait_for};
use crate::common::{probe, sys};

/// A forked process that waits, and ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Animal {
    pub(crate) pid: u32,
    told: PipeReader,
}

impl Animal {
    /// Returns when the process has done `act`, which may [tell](Teller::tell) numbers; what it returns stays as it is.
    pub(crate) fn new<T>(act: impl FnOnce(&mut Teller) -> T) -> Self {
        let (told, writer) = std::io::pipe().unwrap();
        let child = sys::fork().unwrap();
        let Some(child) = child else {
            die_with_parent();
            drop(told);
            let mut teller = Teller(writer);
            let kept = act(&mut teller);
            teller.end();
            loop {
                std::hint::black_box(&kept);
                std::thread::park();
            }
        };
        drop(writer);
        Self {
            pid: child.cast_unsigned(),
            told,
        }
    }

    /// What the process has told, once it has done its act.
    pub(crate) fn told(&mut self) -> Vec<u64> {
        let mut text = Vec::new();
        let mut byte = [0];
        loop {
            assert_eq!(self.told.read(&mut byte).unwrap(), 1, "the act failed");
            if byte == *b"." {
                break;
            }
            text.push(byte[0]);
        }
        let text = String::from_utf8(text).unwrap();
        text.split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect()
    }

    /// [`told`](Self::told) where it is one number.
    pub(crate) fn number(&mut self) -> u64 {
        let [number] = self.told()[..] else {
            panic!("one number is expected")
        };
        number
    }

    /// Waits until its first thread has ended.
    pub(crate) fn wait_for_zombie(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !probe::Process::read(self.pid).unwrap().is_zombie() {
            assert!(Instant::now() < deadline, "the first thread does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Animal {
    fn drop(&mut self) {
        let pid = self.pid.cast_signed();
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        wait_for(pid);
    }
}

pub(crate) struct Teller(PipeWriter);

impl Teller {
    /// For another thread.
    pub(crate) fn another(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }

    pub(crate) fn tell(&mut self, number: u64) {
        write!(self.0, "{number} ").unwrap();
    }

    /// The act is done.
    pub(crate) fn end(&mut self) {
        self.0.write_all(b".").unwrap();
    }
}
