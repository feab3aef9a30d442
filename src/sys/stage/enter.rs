//! The system calls of the `join` role, with nothing but `core`.

use super::calls::{Errno, Text, close, number, syscall};

#[cfg(target_arch = "x86_64")]
mod nr {
    pub(super) const CHDIR: usize = 80;
    pub(super) const CHROOT: usize = 161;
    pub(super) const FCHDIR: usize = 81;
    pub(super) const FSTAT: usize = 5;
    pub(super) const FSTATFS: usize = 138;
    pub(super) const GETGID: usize = 104;
    pub(super) const GETGROUPS: usize = 115;
    pub(super) const GETUID: usize = 102;
    pub(super) const IOCTL: usize = 16;
    pub(super) const MMAP: usize = 9;
    pub(super) const MOUNT: usize = 165;
    pub(super) const OPENAT: usize = 257;
    pub(super) const PRCTL: usize = 157;
    pub(super) const SETDOMAINNAME: usize = 171;
    pub(super) const SETGROUPS: usize = 116;
    pub(super) const SETHOSTNAME: usize = 170;
    pub(super) const SETNS: usize = 308;
    pub(super) const SETRESGID: usize = 119;
    pub(super) const SETRESUID: usize = 117;
    pub(super) const SOCKET: usize = 41;
    pub(super) const UNSHARE: usize = 272;
}

#[cfg(target_arch = "aarch64")]
mod nr {
    pub(super) const CHDIR: usize = 49;
    pub(super) const CHROOT: usize = 51;
    pub(super) const FCHDIR: usize = 50;
    pub(super) const FSTAT: usize = 80;
    pub(super) const FSTATFS: usize = 44;
    pub(super) const GETGID: usize = 176;
    pub(super) const GETGROUPS: usize = 158;
    pub(super) const GETUID: usize = 174;
    pub(super) const IOCTL: usize = 29;
    pub(super) const MMAP: usize = 222;
    pub(super) const MOUNT: usize = 40;
    pub(super) const OPENAT: usize = 56;
    pub(super) const PRCTL: usize = 167;
    pub(super) const SETDOMAINNAME: usize = 162;
    pub(super) const SETGROUPS: usize = 159;
    pub(super) const SETHOSTNAME: usize = 161;
    pub(super) const SETNS: usize = 268;
    pub(super) const SETRESGID: usize = 149;
    pub(super) const SETRESUID: usize = 147;
    pub(super) const SOCKET: usize = 198;
    pub(super) const UNSHARE: usize = 97;
}

/// Maps a file that the caller has mapped as well. What lies behind its end must not be touched.
pub(super) fn map_shared(fd: i32, length: usize) -> Result<*mut u64, Errno> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_SHARED: usize = 1;
    let args = [0, length, PROT_READ_WRITE, MAP_SHARED, number(fd), 0];
    // SAFETY: a new mapping at a place that the kernel chooses.
    let at = unsafe { syscall(nr::MMAP, args) }?;
    Ok(core::ptr::with_exposed_provenance_mut(at))
}

/// Nobody without privilege over the caller's user namespace looks into this process.
pub(super) fn hide() -> Result<(), Errno> {
    const PR_SET_DUMPABLE: usize = 4;
    // SAFETY: no pointers.
    unsafe { syscall(nr::PRCTL, [PR_SET_DUMPABLE, 0]) }.map(drop)
}

pub(super) fn setns(fd: i32, kind: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(nr::SETNS, [number(fd), kind as usize]) }.map(drop)
}

/// New namespaces only.
pub(super) fn unshare(kinds: u32) -> Result<(), Errno> {
    // SAFETY: no pointers, and no descriptor table is left.
    unsafe { syscall(nr::UNSHARE, [kinds as usize]) }.map(drop)
}

/// The directory in the procfs of this mount namespace that has the links to one's own namespaces; -1 without procfs.
pub(super) fn own_links() -> i32 {
    const AT_FDCWD: i32 = -100;
    const O_PATH: usize = 0o10_000_000;
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let path = c"/proc/self/ns".to_bytes_with_nul().as_ptr();
    // SAFETY: a null-terminated string.
    let Ok(links) = (unsafe { open_at(AT_FDCWD, path, O_PATH) }) else {
        return -1;
    };
    if file_system(links) == Ok(PROC_SUPER_MAGIC) {
        return links;
    }
    close(links);
    -1
}

/// Whether the link of this name leads to the namespace of a descriptor.
///
/// # Safety
/// A null-terminated string.
pub(super) unsafe fn is_own(links: i32, name: Text, namespace: i32) -> bool {
    const O_RDONLY: usize = 0;
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    // SAFETY: as the caller says.
    let Ok(own) = (unsafe { open_at(links, name, O_RDONLY) }) else {
        return false;
    };
    let identities = (identity(own), identity(namespace));
    let is_namespace = file_system(own) == Ok(NSFS_MAGIC);
    close(own);
    is_namespace && matches!(identities, (Ok(own), Ok(other)) if own == other)
}

/// # Safety
/// A null-terminated string.
unsafe fn open_at(directory: i32, path: Text, how: usize) -> Result<i32, Errno> {
    const O_CLOEXEC: usize = 0o2_000_000;
    let args = [number(directory), path.addr(), how | O_CLOEXEC];
    // SAFETY: as the caller says.
    let fd = unsafe { syscall(nr::OPENAT, args) }?;
    Ok(i32::try_from(fd).unwrap_or(-1))
}

/// Device and inode, with which `struct stat` begins on either architecture. It takes less than this.
fn identity(fd: i32) -> Result<[u64; 2], Errno> {
    let mut stat = [0_u64; 32];
    // SAFETY: a structure large enough.
    unsafe { syscall(nr::FSTAT, [number(fd), stat.as_mut_ptr().addr()]) }?;
    let [device, inode, ..] = stat;
    Ok([device, inode])
}

/// The magic number, with which the `struct statfs` of fifteen words begins.
fn file_system(fd: i32) -> Result<u64, Errno> {
    let mut statfs = [0_u64; 15];
    // SAFETY: a structure of the kernel's size.
    unsafe { syscall(nr::FSTATFS, [number(fd), statfs.as_mut_ptr().addr()]) }?;
    let [magic, ..] = statfs;
    Ok(magic)
}

pub(super) fn make_private() -> Result<(), Errno> {
    const MS_REC: usize = 0x4000;
    const MS_PRIVATE: usize = 0x4_0000;
    let root = c"/".as_ptr().addr();
    // SAFETY: a null-terminated string, and null where nothing is looked at.
    unsafe { syscall(nr::MOUNT, [0, root, 0, MS_REC | MS_PRIVATE, 0]) }.map(drop)
}

pub(super) fn fchdir(fd: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(nr::FCHDIR, [number(fd)]) }.map(drop)
}

/// Makes the working directory the root.
pub(super) fn chroot_here() -> Result<(), Errno> {
    // SAFETY: a null-terminated string.
    unsafe { syscall(nr::CHROOT, [c".".as_ptr().addr()]) }.map(drop)
}

/// # Safety
/// A null-terminated string.
pub(super) unsafe fn chdir(path: Text) -> Result<(), Errno> {
    // SAFETY: as the caller says.
    unsafe { syscall(nr::CHDIR, [path.addr()]) }.map(drop)
}

pub(super) fn sethostname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: a name of that length.
    unsafe { syscall(nr::SETHOSTNAME, [name.as_ptr().addr(), name.len()]) }.map(drop)
}

pub(super) fn setdomainname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: a name of that length.
    unsafe { syscall(nr::SETDOMAINNAME, [name.as_ptr().addr(), name.len()]) }.map(drop)
}

/// A socket to ask about interfaces by.
pub(super) fn socket() -> Result<i32, Errno> {
    const AF_UNIX: usize = 1;
    const SOCK_DGRAM: usize = 2;
    const SOCK_CLOEXEC: usize = 0o2_000_000;
    // SAFETY: no pointers.
    let fd = unsafe { syscall(nr::SOCKET, [AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0]) }?;
    Ok(i32::try_from(fd).unwrap_or(-1))
}

/// Brings the interface `lo` up.
pub(super) fn loopback_up(socket: i32) -> Result<(), Errno> {
    const SIOCSIFFLAGS: usize = 0x8914;
    const IFF_UP_RUNNING: u8 = 0x41;
    // `struct ifreq`: a name of 16 bytes, then the flags.
    let mut request = [0_u8; 40];
    let [first, second, ..] = &mut request;
    (*first, *second) = (b'l', b'o');
    if let Some(flags) = request.get_mut(16) {
        *flags = IFF_UP_RUNNING;
    }
    let args = [number(socket), SIOCSIFFLAGS, request.as_ptr().addr()];
    // SAFETY: a structure of the kernel's size.
    unsafe { syscall(nr::IOCTL, args) }.map(drop)
}

/// # Safety
/// There are so many numbers of four bytes at that address.
pub(super) unsafe fn setgroups(count: usize, groups: *const u8) -> Result<(), Errno> {
    // SAFETY: as the caller says.
    unsafe { syscall(nr::SETGROUPS, [count, groups.addr()]) }.map(drop)
}

/// Whether the process has supplementary groups.
pub(super) fn has_groups() -> Result<bool, Errno> {
    // SAFETY: with a size of 0 nothing is written.
    unsafe { syscall(nr::GETGROUPS, [0, 0]) }.map(|count| count != 0)
}

pub(super) fn setresgid(id: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(nr::SETRESGID, [id as usize; 3]) }.map(drop)
}

pub(super) fn setresuid(id: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(nr::SETRESUID, [id as usize; 3]) }.map(drop)
}

pub(super) fn own_gid() -> u32 {
    // SAFETY: no arguments.
    let id = unsafe { syscall::<0>(nr::GETGID, []) }.unwrap_or(usize::MAX);
    u32::try_from(id).unwrap_or(u32::MAX)
}

pub(super) fn own_uid() -> u32 {
    // SAFETY: no arguments.
    let id = unsafe { syscall::<0>(nr::GETUID, []) }.unwrap_or(usize::MAX);
    u32::try_from(id).unwrap_or(u32::MAX)
}

/// Keeps the permitted capabilities when the user id changes.
pub(super) fn keep_caps() -> Result<(), Errno> {
    const PR_SET_KEEPCAPS: usize = 8;
    // SAFETY: no pointers.
    unsafe { syscall(nr::PRCTL, [PR_SET_KEEPCAPS, 1, 0, 0, 0]) }.map(drop)
}
