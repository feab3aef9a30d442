//! A terminal that the test is the user of: it holds the master.

use std::fs::File;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::sys;

/// The master of a new terminal.
pub(crate) fn open_master() -> File {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open("/dev/ptmx", flags, Mode::empty()).unwrap();
    unlockpt(&master).unwrap();
    master.into()
}

/// Makes this process the leader of a session on the terminal, which its standard streams are.
pub(crate) fn lead_session_on(master: &File) {
    setsid().unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(master, flags).unwrap();
    ioctl_tiocsctty(&slave).unwrap();
    for stream in 0..3 {
        sys::dup_over(&slave, stream).unwrap();
    }
}

/// Whether the terminal edits lines and shows what is typed, as it does at first.
pub(crate) fn is_cooked(master: &File) -> bool {
    let modes = tcgetattr(master).unwrap().local_modes;
    modes.contains(LocalModes::ECHO | LocalModes::ICANON)
}
