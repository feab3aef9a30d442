//! Overlays.
//!
//! The layers are opened first and named by their descriptors: what was checked is what is used,
//! whatever bytes their paths consist of, and many layers fit into the page that mount(2) takes.

use super::way::{FdPath, Mount, Stage, Way};
use crate::plan::op::{MAX_LOWERS, Overlay, Upper};
use crate::spawn::record::{Call, Fail, Named, Note};
use core::ffi::CStr;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};
use std::os::fd::{BorrowedFd, OwnedFd};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn make(way: Way<'_>, overlay: &Overlay) -> Result<Mount, Fail> {
    match way.stage {
        Some(stage) => on_stage(way, stage, overlay),
        None => detached(way, overlay),
    }
}

/// Where no stage can be, which is where the kernel is new enough to take layers one by one (Linux 6.7).
fn detached(way: Way<'_>, overlay: &Overlay) -> Result<Mount, Fail> {
    let context = way.open(c"overlay")?;
    for path in &overlay.lowers {
        way.set_layer(&context, c"lowerdir+", &layer(way, CWD, path)?)?;
    }
    let mut attributes = overlay.attributes;
    match &overlay.upper {
        Upper::Dirs { upper, work } => {
            way.set_layer(&context, c"upperdir", &layer(way, CWD, upper)?)?;
            way.set_layer(&context, c"workdir", &layer(way, CWD, work)?)?;
        }
        Upper::None => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
        Upper::Throwaway(_) => return Err(Fail::new(Call::Fsconfig, Errno::INVAL)),
    }
    if overlay.userxattr {
        way.set_flag(&context, c"userxattr")?;
    }
    way.finish(&context, attributes)
}

/// Makes an overlay on the stage.
fn on_stage(way: Way<'_>, stage: &Stage, overlay: &Overlay) -> Result<Mount, Fail> {
    let mut options = Options::new();
    let mut lowers: [Option<OwnedFd>; MAX_LOWERS] = [const { None }; MAX_LOWERS];
    let mut key: &[u8] = b"lowerdir=";
    for (slot, path) in lowers.iter_mut().zip(&overlay.lowers) {
        let lower = layer(way, CWD, path)?;
        options.push(key);
        options.push(FdPath::of(&lower).as_c_str().to_bytes());
        *slot = Some(lower);
        key = b":";
    }
    let writable = match &overlay.upper {
        Upper::None => None,
        Upper::Dirs { upper, work } => Some((layer(way, CWD, upper)?, layer(way, CWD, work)?)),
        Upper::Throwaway(file_system) => {
            let top = stage.mount_upper(file_system.kind, &file_system.data)?;
            // The overlay shows the mode of its upper directory.
            let mode = match lowers.first() {
                Some(Some(lower)) => rustix::fs::fstat(lower).named(Call::Fstat)?.st_mode & 0o7777,
                _ => 0o755,
            };
            let open = |name: &CStr, mode| {
                rustix::fs::mkdirat(&top, name, Mode::from_raw_mode(mode)).named(Call::Mkdirat)?;
                rustix::fs::openat(&top, name, DIRECTORY, Mode::empty()).named(Call::Openat)
            };
            Some((open(c"upper", mode)?, open(c"work", 0o700)?))
        }
    };
    if let Some((upper, work)) = &writable {
        for (key, fd) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
            options.push(key);
            options.push(FdPath::of(fd).as_c_str().to_bytes());
        }
    }
    if overlay.userxattr {
        options.push(b",userxattr");
    }
    let data = options
        .as_c_str()
        .ok_or(Fail::new(Call::Mount, Errno::NAMETOOLONG))?;
    let mut flags = super::remount::flags(u64::from(overlay.attributes.bits()));
    if writable.is_none() {
        flags |= MountFlags::RDONLY;
    }
    stage.mount(c"overlay", flags, data)
}

fn layer(way: Way<'_>, dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Fail> {
    rustix::fs::openat(dir, path, DIRECTORY, Mode::empty()).map_err(|errno| {
        way.record.set_text(path.to_bytes());
        Fail::new(Call::Openat, errno).noted(Note::Layer)
    })
}

/// The option string of mount(2), a page at most.
struct Options {
    text: [u8; 4096],
    length: usize,
}

impl Options {
    const fn new() -> Self {
        Self {
            text: [0; 4096],
            length: 0,
        }
    }

    fn push(&mut self, text: &[u8]) {
        for &byte in text {
            if let Some(slot) = self.text.get_mut(self.length) {
                *slot = byte;
            }
            self.length = self.length.saturating_add(1);
        }
    }

    /// The text, if all of it found room.
    fn as_c_str(&self) -> Option<&CStr> {
        if self.length >= self.text.len() {
            return None;
        }
        CStr::from_bytes_until_nul(&self.text).ok()
    }
}
