//! How a helper says that it is ready.

use crate::process::wait_readable;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub(super) enum Ready {
    /// Something comes through this pipe.
    Pipe(File),
    /// Its standard error is its PID file as well: a line of that is a number.
    Pid,
}

#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Ready,
    Ended,
    TooLate,
}

impl Ready {
    /// Waits for that, or for the end of all that could say it. What is read of standard error goes to `said`.
    pub(super) fn wait(
        &self,
        stderr: &File,
        said: &mut Vec<u8>,
        limit: Duration,
    ) -> Result<Outcome, Errno> {
        let deadline = Instant::now().checked_add(limit);
        let mut byte = Vec::new();
        let (mut from, into) = match self {
            Self::Pipe(pipe) => (pipe, &mut byte),
            Self::Pid => (stderr, said),
        };
        loop {
            if !wait_readable(from.as_fd(), deadline)? {
                return Ok(Outcome::TooLate);
            }
            let mut buffer = [0; 512];
            match from.read(&mut buffer).map_err(|error| errno(&error))? {
                0 => return Ok(Outcome::Ended),
                length => into.extend_from_slice(&buffer[..length]),
            }
            match self {
                Self::Pid if !has_number(into) => {}
                _ => return Ok(Outcome::Ready),
            }
        }
    }
}

fn has_number(text: &[u8]) -> bool {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.any(|line| match line.split_last() {
        Some((b'\n', number)) => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
        _ => false,
    })
}

/// What is there, without waiting for somebody who holds the other end.
pub(super) fn read_rest(mut pipe: &File, said: &mut Vec<u8>) {
    if fcntl_setfl(pipe, OFlags::NONBLOCK).is_ok() {
        let _ = pipe.read_to_end(said);
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::has_number;

    #[test]
    fn a_whole_line_that_is_a_number_is_found() {
        for text in ["1\n", "warning: 7\n4711\n", "4711\nmore"] {
            assert!(has_number(text.as_bytes()), "{text}");
        }
        for text in ["", "\n", "47", "pid 47\n", "47 \n", "warning\n47"] {
            assert!(!has_number(text.as_bytes()), "{text}");
        }
    }
}
