//! What the stage is told to do.

use super::calls::{Text, Texts};

/// The program to start, and how. All strings and arrays live as long as the stage.
#[derive(Debug)]
pub(super) struct Job {
    /// The socket to the caller.
    pub(super) control: i32,
    /// The program's terminal. Without the caller's, something else is there.
    pub(super) terminal: i32,
    /// As a subreaper: the list of the stage's own children, in `/proc`.
    pub(super) children: i32,
    /// Bits of [`setting`](super::message::setting).
    pub(super) settings: u32,
    /// The paths to try to execute, and their number.
    pub(super) first: Texts,
    pub(super) count: usize,
    pub(super) argv: Texts,
    pub(super) envp: Texts,
    /// The file with the work of the `join` role, if that is to be done.
    pub(super) work: i32,
    /// What binds the program, and then process 1.
    pub(super) lockdown: &'static [u64],
}

impl Job {
    pub(super) fn is(&self, setting: u32) -> bool {
        self.settings & setting != 0
    }

    pub(super) fn candidates(&self) -> &[Text] {
        // SAFETY: whoever has made the job says that there are so many.
        unsafe { core::slice::from_raw_parts(self.first, self.count) }
    }
}
