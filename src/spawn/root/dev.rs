//! A minimal /dev.

use super::place::{DIR_MODE, Spot};
use super::way::Way;
use crate::plan::op::FileSystem;
use crate::spawn::record::{Call, Fail, Named};
use core::ffi::CStr;
use rustix::fs::{FileType, Mode};
use std::os::fd::AsFd;

/// The null device of the caller, with its number.
pub(super) const NULL: (&CStr, (u32, u32)) = (c"/dev/null", (1, 3));

/// Device nodes of the caller's /dev, with their numbers.
const NODES: [(&CStr, &CStr, (u32, u32)); 6] = [
    (NULL.0, c"null", NULL.1),
    (c"/dev/zero", c"zero", (1, 5)),
    (c"/dev/full", c"full", (1, 7)),
    (c"/dev/random", c"random", (1, 8)),
    (c"/dev/urandom", c"urandom", (1, 9)),
    (c"/dev/tty", c"tty", (5, 0)),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

/// A tmpfs that nobody else can reach while it is filled, so names in it are as good as descriptors.
pub(super) fn make(
    way: Way<'_>,
    file_system: &FileSystem,
    devpts: &FileSystem,
    at: &Spot<'_>,
) -> Result<(), Fail> {
    let dev = way.make(file_system)?;
    way.attach(&dev, at)?;
    let dev = &dev.fd;
    for (source, name, number) in NODES {
        let node = way.device(source, number)?;
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(dev, name, FileType::RegularFile, mode, 0).named(Call::Mknodat)?;
        way.attach_named(&node, dev.as_fd(), name)?;
    }
    for (name, mode) in [(c"pts", DIR_MODE), (c"shm", 0o1777)] {
        rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(mode)).named(Call::Mkdirat)?;
    }
    way.attach_named(&way.make(devpts)?, dev.as_fd(), c"pts")?;
    for (target, name) in LINKS {
        rustix::fs::symlinkat(target, dev, name).named(Call::Symlinkat)?;
    }
    Ok(())
}
