//! A file in memory that a process of another program maps as well.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const PAGE: usize = 4096;

/// The file, and a mapping of its beginning, where the other side stores one number.
#[derive(Debug)]
pub(crate) struct Shared {
    file: OwnedFd,
    at: NonNull<AtomicU32>,
}

// SAFETY: the mapping is owned, and what is read of it is atomic.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// With these bytes. The error says which system call failed.
    pub(crate) fn new(name: &core::ffi::CStr, bytes: &[u8]) -> Result<Self, (&'static str, Errno)> {
        // Mapped, not executed; before Linux 6.3 that cannot be said.
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL;
        let file = match rustix::fs::memfd_create(name, flags) {
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC),
            other => other,
        };
        let file = file.map_err(|errno| ("memfd_create", errno))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest).map_err(|errno| ("write", errno))?;
            rest = rest.get(written..).unwrap_or(&[]);
        }
        // SAFETY: a new mapping at a place that the kernel chooses.
        let at = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                PAGE,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            let errno = Errno::from_io_error(&std::io::Error::last_os_error());
            return Err(("mmap", errno.unwrap_or(Errno::NOMEM)));
        }
        let at = NonNull::new(at.cast()).ok_or(("mmap", Errno::NOMEM))?;
        Ok(Self { file, at })
    }

    /// The number at the beginning.
    pub(crate) fn number(&self) -> u32 {
        // SAFETY: mapped as long as this exists, and written to by the kernel only.
        unsafe { self.at.as_ref() }.load(Ordering::Acquire)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), PAGE) };
    }
}
