//! `statmount(2)`, `listmount(2)` and the ids of mount namespaces.
#![allow(
    unsafe_code,
    reason = "raw system calls are made here and nowhere else"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::ioctl::{Opcode, opcode};

// Not in libc yet. Since 5.1 every architecture numbers new system calls alike, but for an offset of
// its ABI, which the neighbour carries.
const SYS_STATMOUNT: libc::c_long = libc::SYS_mount_setattr + 15;
const SYS_LISTMOUNT: libc::c_long = libc::SYS_mount_setattr + 16;

/// The root of the namespace, as the parent given to [`listmount`].
pub(crate) const LSMT_ROOT: u64 = u64::MAX;

/// The calling thread's own mount namespace.
pub(crate) const OWN_NAMESPACE: u64 = 0;

pub(crate) const STATMOUNT_SB_BASIC: u64 = 0x1;
pub(crate) const STATMOUNT_MNT_BASIC: u64 = 0x2;
pub(crate) const STATMOUNT_PROPAGATE_FROM: u64 = 0x4;
pub(crate) const STATMOUNT_MNT_ROOT: u64 = 0x8;
pub(crate) const STATMOUNT_MNT_POINT: u64 = 0x10;
pub(crate) const STATMOUNT_FS_TYPE: u64 = 0x20;
pub(crate) const STATMOUNT_MNT_OPTS: u64 = 0x80;
pub(crate) const STATMOUNT_FS_SUBTYPE: u64 = 0x100;
pub(crate) const STATMOUNT_SB_SOURCE: u64 = 0x200;

pub(crate) const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 0x4;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub(crate) const MOUNT_ATTR_ATIME: u64 = 0x70;
pub(crate) const MOUNT_ATTR_RELATIME: u64 = 0x0;
pub(crate) const MOUNT_ATTR_NOATIME: u64 = 0x10;
pub(crate) const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
pub(crate) const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
pub(crate) const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

const NSIO: u8 = 0xb7;

/// `struct mnt_id_req`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct MntIdReq {
    size: u32,
    spare: u32,
    mnt_id: u64,
    param: u64,
    mnt_ns_id: u64,
}

impl MntIdReq {
    fn new(mnt_id: u64, param: u64, mnt_ns_id: u64) -> Self {
        const SIZE: u32 = 32;
        const { assert!(size_of::<MntIdReq>() == SIZE as usize) };
        Self {
            size: SIZE,
            spare: 0,
            mnt_id,
            param,
            mnt_ns_id,
        }
    }
}

/// The fixed part of `struct statmount`; strings are offsets from its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Fixed {
    size: u32,
    mnt_opts: u32,
    mask: u64,
    sb_dev_major: u32,
    sb_dev_minor: u32,
    sb_magic: u64,
    sb_flags: u32,
    fs_type: u32,
    mnt_id: u64,
    mnt_parent_id: u64,
    mnt_id_old: u32,
    mnt_parent_id_old: u32,
    mnt_attr: u64,
    mnt_propagation: u64,
    mnt_peer_group: u64,
    mnt_master: u64,
    propagate_from: u64,
    mnt_root: u32,
    mnt_point: u32,
    mnt_ns_id: u64,
    fs_subtype: u32,
    sb_source: u32,
    reserved: [u64; 48],
}

const FIXED: usize = size_of::<Fixed>();
const _: () = assert!(FIXED == 512);

/// What `statmount(2)` says of one mount. A string that the kernel left out, because it is empty or
/// because this kernel does not know it, is `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statmount<'a> {
    pub(crate) dev_major: u32,
    pub(crate) dev_minor: u32,
    pub(crate) sb_flags: u32,
    pub(crate) parent_unique: u64,
    pub(crate) id: u32,
    pub(crate) parent: u32,
    pub(crate) attr: u64,
    pub(crate) propagation: u64,
    pub(crate) peer_group: u64,
    pub(crate) master: u64,
    pub(crate) propagate_from: u64,
    pub(crate) root: Option<&'a [u8]>,
    pub(crate) point: Option<&'a [u8]>,
    pub(crate) fs_type: Option<&'a [u8]>,
    pub(crate) fs_subtype: Option<&'a [u8]>,
    pub(crate) source: Option<&'a [u8]>,
    pub(crate) options: Option<&'a [u8]>,
}

/// `statmount(2)`, since Linux 6.8: the `wanted` facts about the mount with this unique id, in the
/// namespace with this id. The buffer grows as needed and can be used again.
pub(crate) fn statmount(
    unique_id: u64,
    namespace: u64,
    wanted: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<Statmount<'_>> {
    const LARGEST: usize = 1 << 20;
    let request = MntIdReq::new(unique_id, wanted, namespace);
    if buffer.len() < FIXED {
        buffer.resize(4096, 0);
    }
    loop {
        // SAFETY: the request is a live `struct mnt_id_req` that states its own size, and the kernel
        // writes at most `buffer.len()` bytes, all of them into the buffer that we borrow mutably.
        let result = unsafe {
            libc::syscall(
                SYS_STATMOUNT,
                std::ptr::from_ref(&request),
                buffer.as_mut_ptr(),
                buffer.len(),
                0,
            )
        };
        if result >= 0 {
            return decode(buffer);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EOVERFLOW) || buffer.len() >= LARGEST {
            return Err(error);
        }
        buffer.resize(buffer.len() * 2, 0);
    }
}

fn decode(buffer: &[u8]) -> io::Result<Statmount<'_>> {
    let Some((head, strings)) = buffer.split_at_checked(FIXED) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    // SAFETY: `head` is exactly as long as `Fixed`, which is plain integers without padding (512
    // bytes, asserted above), so that any bytes are a value of it; the read asks for no alignment.
    let fixed: Fixed = unsafe { std::ptr::read_unaligned(head.as_ptr().cast()) };
    let string = |bit: u64, offset: u32| {
        if fixed.mask & bit == 0 {
            return None;
        }
        strings
            .get(usize::try_from(offset).ok()?..)?
            .split(|byte| *byte == 0)
            .next()
    };
    Ok(Statmount {
        dev_major: fixed.sb_dev_major,
        dev_minor: fixed.sb_dev_minor,
        sb_flags: fixed.sb_flags,
        parent_unique: fixed.mnt_parent_id,
        id: fixed.mnt_id_old,
        parent: fixed.mnt_parent_id_old,
        attr: fixed.mnt_attr,
        propagation: fixed.mnt_propagation,
        peer_group: fixed.mnt_peer_group,
        master: fixed.mnt_master,
        propagate_from: fixed.propagate_from,
        root: string(STATMOUNT_MNT_ROOT, fixed.mnt_root),
        point: string(STATMOUNT_MNT_POINT, fixed.mnt_point),
        fs_type: string(STATMOUNT_FS_TYPE, fixed.fs_type),
        fs_subtype: string(STATMOUNT_FS_SUBTYPE, fixed.fs_subtype),
        source: string(STATMOUNT_SB_SOURCE, fixed.sb_source),
        options: string(STATMOUNT_MNT_OPTS, fixed.mnt_opts),
    })
}

/// `listmount(2)`, since Linux 6.8: the unique ids of all mounts below this one, in the order of
/// their creation, in the namespace with this id.
pub(crate) fn listmount(unique_id: u64, namespace: u64) -> io::Result<Vec<u64>> {
    const PAGE: usize = 256;
    let mut ids: Vec<u64> = Vec::new();
    loop {
        let listed = ids.len();
        let last = ids.last().copied().unwrap_or(0);
        let request = MntIdReq::new(unique_id, last, namespace);
        ids.resize(listed + PAGE, 0);
        // SAFETY: the request is a live `struct mnt_id_req` that states its own size, and the kernel
        // writes at most `PAGE` ids to the end of `ids`, which was just made that much longer.
        let result = unsafe {
            libc::syscall(
                SYS_LISTMOUNT,
                std::ptr::from_ref(&request),
                ids[listed..].as_mut_ptr(),
                PAGE,
                0,
            )
        };
        let Ok(count) = usize::try_from(result) else {
            return Err(io::Error::last_os_error());
        };
        ids.truncate(listed + count);
        if count < PAGE {
            return Ok(ids);
        }
    }
}

/// `ioctl(NS_GET_MNTNS_ID)`, since Linux 6.11: the id by which [`listmount`] knows a mount namespace.
pub(crate) fn mnt_ns_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    const NS_GET_MNTNS_ID: Opcode = opcode::read::<u64>(NSIO, 5);
    let mut id = 0_u64;
    // SAFETY: nsfs writes one u64, for which `id` has room; any other file refuses the request or, as
    // the size is part of its number, writes no more than that either.
    let result = unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            NS_GET_MNTNS_ID as libc::Ioctl,
            std::ptr::from_mut(&mut id),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(id)
}

/// `ioctl(NS_GET_NSTYPE)`: the `CLONE_NEW*` flag of a namespace.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    const NS_GET_NSTYPE: Opcode = opcode::none(NSIO, 3);
    // SAFETY: the request has no argument; the type is the return value.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as libc::Ioctl) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
