//! Pseudo-terminals: the caller's end of the one that a program runs on.

mod controlling;
mod raw;

pub(crate) use controlling::Controlling;
pub(crate) use raw::RawMode;

use crate::error::{Error, Result, Step};
use crate::sandbox::WindowSize;
use rustix::io::Errno;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The caller's end of a program's terminal, from [`Stdio::pty`](crate::Stdio::pty): what is written to it the
/// program reads as typed; what is read from it the program has written.
///
/// When it is dropped, the program gets `SIGHUP`.
///
/// # Examples
/// ```
/// use ringfence::{Sandbox, Stdio};
/// use std::io::Read;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let command = Sandbox::new().command("sh").args(["-c", "test -t 1 && echo terminal"]);
/// let mut child = command.stdin(Stdio::pty()).stdout(Stdio::pty()).spawn()?;
/// let mut text = String::new();
/// child.pty.take().expect("asked for").read_to_string(&mut text)?;
/// assert_eq!(text, "terminal\r\n");
/// assert!(child.wait()?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[doc(alias = "openpty")]
pub struct Pty(OwnedFd);

impl Pty {
    pub(crate) fn new(master: OwnedFd) -> Self {
        Self(master)
    }

    /// Tells the terminal its size; the program in its foreground gets `SIGWINCH`.
    ///
    /// # Errors
    /// None that is known.
    #[doc(alias = "TIOCSWINSZ")]
    pub fn resize(&self, size: WindowSize) -> Result<()> {
        let set = rustix::termios::tcsetwinsize(&self.0, size.into());
        set.map_err(|errno| Error::system(Step::Stdio, "the size of a terminal", "ioctl", errno))
    }
}

impl Read for Pty {
    /// The end is where no process has the terminal open any more.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(read(self.as_fd(), bytes)?)
    }
}

/// Reads of a master. 0 is the end.
pub(crate) fn read(master: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, Errno> {
    // The kernel looks for bytes first and for the end then. What the last program wrote between the two, before it
    // ended, only another look finds.
    for _ in 0..2 {
        match rustix::io::read(master, &mut *bytes) {
            Err(Errno::IO) => {}
            other => return other,
        }
    }
    Ok(0)
}

impl Write for Pty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Pty> for OwnedFd {
    fn from(pty: Pty) -> Self {
        pty.0
    }
}
