//! Bytes in both directions, each as fast as its reader takes them.

use super::{Ends, failed};
use crate::error::Result;
use crate::terminal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::termios::{SpecialCodeIndex, tcgetattr};
use std::os::fd::{AsFd, BorrowedFd};

/// What has been read and is still to be written. No more than a pipe that is ready takes without blocking.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    written: usize,
}

const SIZE: usize = 4096;

impl Buffer {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or(&[])
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Reads once; 0 is the end.
    fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        self.written = 0;
        self.bytes.resize(SIZE, 0);
        let read = read(&mut self.bytes);
        self.bytes.truncate(read.unwrap_or(0));
        read
    }

    /// Writes once.
    fn drain(&mut self, to: BorrowedFd<'_>) -> Result<(), Errno> {
        match rustix::io::write(to, self.rest()) {
            Ok(written) => self.written += written,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// The state of a relay. While it exists, reads and writes of the master do not block: it may wait for a program that
/// itself waits for its output to be read.
pub(super) struct Copy<'a> {
    master: BorrowedFd<'a>,
    flags: OFlags,
    /// Until its end.
    input: Option<BorrowedFd<'a>>,
    output: BorrowedFd<'a>,
    to_program: Buffer,
    to_output: Buffer,
    /// No process has the program's terminal open any more.
    hung_up: bool,
    /// What was read last ended a line.
    at_line_start: bool,
}

impl<'a> Copy<'a> {
    pub(super) fn new(ends: &Ends<'a>) -> Result<Self> {
        let master = ends.pty.as_fd();
        let flags = fcntl_getfl(master)
            .and_then(|flags| fcntl_setfl(master, flags | OFlags::NONBLOCK).map(|()| flags))
            .map_err(|errno| failed("the program's terminal", "fcntl", errno))?;
        Ok(Self {
            master,
            flags,
            input: Some(ends.input),
            output: ends.output,
            to_program: Buffer::default(),
            to_output: Buffer::default(),
            hung_up: false,
            at_line_start: true,
        })
    }

    /// Whether all that the program has written before it ended is in the output.
    pub(super) fn is_done(&mut self) -> bool {
        if self.to_output.is_empty() && !self.hung_up {
            self.read_master();
        }
        self.to_output.is_empty()
    }

    /// Waits until something can be copied, which it does, or one of the others is readable.
    pub(super) fn turn(&mut self, others: &[BorrowedFd<'_>]) -> Result<()> {
        let mut fds: Vec<_> = others
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let mut watch = |fd: Option<BorrowedFd<'a>>, flags| {
            fds.extend(fd.map(|fd| PollFd::from_borrowed_fd(fd, flags)));
            fd.map(|_| fds.len() - 1)
        };
        let reads = self.to_output.is_empty() && !self.hung_up;
        let writes = !self.to_program.is_empty();
        let input = watch(self.input.filter(|_| !writes), PollFlags::IN);
        let output = Some(self.output).filter(|_| !self.to_output.is_empty());
        let output = watch(output, PollFlags::OUT);
        // One that is not asked for anything would still report its end, again and again.
        let read = watch(Some(self.master).filter(|_| reads), PollFlags::IN);
        let write = watch(Some(self.master).filter(|_| writes), PollFlags::OUT);
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(failed("the terminals", "poll", errno)),
        }
        let ready = |at: Option<usize>| {
            let fd = at.and_then(|at| fds.get(at));
            fd.is_some_and(|fd| !fd.revents().is_empty())
        };
        let [input, output, read, write] = [input, output, read, write].map(ready);
        if input {
            self.read_input();
        }
        if read {
            self.read_master();
        }
        if write && self.to_program.drain(self.master).is_err() {
            // Nobody reads it.
            self.to_program.clear();
            self.input = None;
        }
        if output {
            let written = self.to_output.drain(self.output);
            written.map_err(|errno| failed("the output", "write", errno))?;
        }
        Ok(())
    }

    fn read_input(&mut self) {
        let Some(input) = self.input else { return };
        match self.to_program.fill(|bytes| rustix::io::read(input, bytes)) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal that has hung up is at its end.
            Ok(0) | Err(_) => {
                self.input = None;
                self.end_input();
            }
            Ok(_) => self.at_line_start = self.to_program.rest().ends_with(b"\n"),
        }
    }

    /// Within a line, the first such character only ends the line.
    fn end_input(&mut self) {
        let Ok(modes) = tcgetattr(self.master) else {
            return;
        };
        let end = modes.special_codes[SpecialCodeIndex::VEOF];
        let count = if self.at_line_start { 1 } else { 2 };
        self.to_program.written = 0;
        self.to_program.bytes = vec![end; count];
    }

    fn read_master(&mut self) {
        let master = self.master;
        match self.to_output.fill(|bytes| terminal::read(master, bytes)) {
            Err(Errno::AGAIN | Errno::INTR) | Ok(1..) => {}
            Ok(0) | Err(_) => self.hung_up = true,
        }
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        // The flags that it had cannot be refused.
        let _ = fcntl_setfl(self.master, self.flags);
    }
}
