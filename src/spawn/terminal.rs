//! The program's terminal, opened by the child in the devpts of its sandbox, and handed to the caller.

use super::pass;
use super::record::{Call, Fail, Named};
use crate::error::{Error, Result, Step};
use crate::plan::op::Terminal;
use crate::sandbox::WindowSize;
use crate::sys::fd::dup_to;
use core::ffi::CStr;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The magic number of devpts.
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// In the child: opens the terminal, hands over the master, and puts the slave in place.
pub(super) fn open(terminal: &Terminal, path: &CStr, caller: BorrowedFd<'_>) -> Result<(), Fail> {
    let master = multiplexer(path)?;
    let slave = prepare(&master, terminal.size).named(Call::Ioctl)?;
    pass::send(caller, &[master.as_fd()])?;
    for (target, wanted) in (0..).zip(terminal.streams) {
        if wanted {
            use std::os::fd::AsRawFd;
            dup_to(slave.as_raw_fd(), target).named(Call::Dup)?;
        }
    }
    Ok(())
}

/// Whatever is at that path must be the devpts that was mounted there.
fn multiplexer(path: &CStr) -> Result<OwnedFd, Fail> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // Looked at before it is opened, as opening a device may have an effect.
    let found = rustix::fs::openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        links,
    )
    .named(Call::Openat2)?;
    let stat = rustix::fs::fstatfs(&found).named(Call::Fstatfs)?;
    if u64::try_from(stat.f_type) != Ok(DEVPTS_SUPER_MAGIC) {
        return Err(Fail::new(Call::Fstatfs, Errno::NOTTY));
    }
    let master =
        rustix::fs::openat2(CWD, path, flags, Mode::empty(), links).named(Call::Openat2)?;
    let stat = rustix::fs::fstatfs(&master).named(Call::Fstatfs)?;
    if u64::try_from(stat.f_type) != Ok(DEVPTS_SUPER_MAGIC) {
        return Err(Fail::new(Call::Fstatfs, Errno::NOTTY));
    }
    Ok(master)
}

/// A pseudo-terminal of the caller's own devpts: master and slave.
pub(super) fn open_here(size: WindowSize) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    let slave = prepare(&master, size)?;
    Ok((master, slave))
}

/// Opens the other end without looking for a path.
fn prepare(master: &OwnedFd, size: WindowSize) -> Result<OwnedFd, Errno> {
    rustix::pty::unlockpt(master)?;
    rustix::termios::tcsetwinsize(master, size.into())?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags)
}

/// In the caller, when the child has got so far: the master.
pub(super) fn receive(socket: &OwnedFd) -> Result<OwnedFd> {
    pass::receive(socket)
        .map_err(|errno| Error::system(Step::Stdio, "the terminal", "recvmsg", errno))
}
