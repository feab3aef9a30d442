use crate::error::{Error, Result, Step};
use rustix::termios::Winsize;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Where a standard stream of the program goes, as in [`std::process::Stdio`].
///
/// Unlike std's it can be cloned, and a descriptor given to it serves every spawn of a plan.
#[derive(Clone, Debug)]
pub struct Stdio(pub(crate) Stream);

#[derive(Clone, Debug)]
pub(crate) enum Stream {
    Inherit,
    Null,
    Piped,
    Pty,
    Fd(Arc<OwnedFd>),
}

impl Stdio {
    /// The caller's own stream.
    #[must_use]
    pub fn inherit() -> Self {
        Self(Stream::Inherit)
    }

    /// The caller's `/dev/null`.
    #[must_use]
    pub fn null() -> Self {
        Self(Stream::Null)
    }

    /// A new pipe for each spawn; the other end is in [`Child`](crate::Child).
    #[must_use]
    pub fn piped() -> Self {
        Self(Stream::Piped)
    }
}

impl Stdio {
    /// A new pseudo-terminal for each spawn, one for all streams that ask for it; its other end is
    /// [`Child::pty`](crate::Child::pty). The program leads a session of its own, whose controlling terminal it
    /// is, so that it has nothing to do with a terminal of the caller.
    ///
    /// With [`Sandbox::dev`](crate::Sandbox::dev) it belongs to the devpts of the sandbox, as `ttyname` finds
    /// it; otherwise to the caller's.
    ///
    /// # Kernel
    /// [ioctl_tty(2)](https://man7.org/linux/man-pages/man2/ioctl_tty.2.html), `TIOCGPTPEER`: no path
    /// inside is looked up for the program's end.
    #[must_use]
    #[doc(alias = "openpty")]
    pub fn pty() -> Self {
        Self(Stream::Pty)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self(Stream::Fd(Arc::new(fd)))
    }
}

impl From<Arc<OwnedFd>> for Stdio {
    fn from(fd: Arc<OwnedFd>) -> Self {
        Self(Stream::Fd(fd))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl WindowSize {
    /// The present size of a terminal.
    ///
    /// # Errors
    /// `ENOTTY` for what is no terminal.
    #[doc(alias = "TIOCGWINSZ")]
    pub fn of(terminal: impl AsFd) -> Result<Self> {
        let size = rustix::termios::tcgetwinsize(terminal);
        let failed = |errno| Error::system(Step::Stdio, "the size of a terminal", "ioctl", errno);
        let size = size.map_err(failed)?;
        Ok(Self {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    }
}

impl Default for WindowSize {
    /// 24 rows of 80 columns.
    fn default() -> Self {
        Self {
            rows: 24,
            columns: 80,
        }
    }
}

impl From<WindowSize> for Winsize {
    fn from(size: WindowSize) -> Self {
        Self {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}
