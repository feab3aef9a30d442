//! Waiting for what a descriptor tells.

use crate::error::{Error, Result};
use crate::process::wait_readable;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::time::Instant;

/// Something that tells of events, and whose descriptor is readable when there may be one.
pub(super) trait Teller: AsFd {
    type Event;

    /// The next event if there is one.
    fn try_take(&mut self) -> Result<Option<Self::Event>>;

    /// The error of a system call.
    fn failed(call: &'static str, errno: Errno) -> Error;

    /// The next event, or `None` when the time is up. What is readable need not be an event.
    fn take_until(&mut self, deadline: Option<Instant>) -> Result<Option<Self::Event>> {
        loop {
            let event = self.try_take()?;
            let wait = || wait_readable(self.as_fd(), deadline);
            if event.is_some() || !wait().map_err(|errno| Self::failed("poll", errno))? {
                return Ok(event);
            }
        }
    }

    /// The next event, however long that takes.
    fn take(&mut self) -> Result<Self::Event> {
        loop {
            if let Some(event) = self.take_until(None)? {
                return Ok(event);
            }
        }
    }
}
