//! Mounts by `listmount(2)` and `statmount(2)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::parse::Tags;
use super::{Device, Mount, Options};
use crate::mount::PropagationState;
use crate::sys::statmount::{
    LSMT_ROOT, MOUNT_ATTR_ATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, OWN_NAMESPACE, STATMOUNT_FS_SUBTYPE, STATMOUNT_FS_TYPE,
    STATMOUNT_MNT_BASIC, STATMOUNT_MNT_OPTS, STATMOUNT_MNT_POINT, STATMOUNT_MNT_ROOT,
    STATMOUNT_PROPAGATE_FROM, STATMOUNT_SB_BASIC, STATMOUNT_SB_SOURCE, Statmount, listmount,
    statmount,
};

const WANTED: u64 = STATMOUNT_SB_BASIC
    | STATMOUNT_MNT_BASIC
    | STATMOUNT_PROPAGATE_FROM
    | STATMOUNT_MNT_ROOT
    | STATMOUNT_MNT_POINT
    | STATMOUNT_FS_TYPE
    | STATMOUNT_MNT_OPTS
    | STATMOUNT_FS_SUBTYPE
    | STATMOUNT_SB_SOURCE;

/// The mounts of another namespace, as far as the kernel tells them to an outsider.
pub(super) struct Foreign {
    pub(super) mounts: Vec<Mount>,
    /// `propagate_from` is only told of the caller's own namespace. It is certain to be absent where
    /// every master has a mount in the list.
    pub(super) masters_known: bool,
}

struct Listed {
    mount: Mount,
    parent_unique: u64,
}

/// The mounts below the calling thread's root.
pub(super) fn own() -> io::Result<Vec<Mount>> {
    let (_, listed) = list(OWN_NAMESPACE)?;
    Ok(listed.into_iter().map(|listed| listed.mount).collect())
}

/// The mounts of the namespace with this id.
pub(super) fn foreign(namespace: u64) -> io::Result<Foreign> {
    let (ids, listed) = list(namespace)?;
    if !shows_all(namespace, &ids, &listed)? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mounts: Vec<Mount> = listed.into_iter().map(|listed| listed.mount).collect();
    let has_peers = |group| {
        mounts
            .iter()
            .any(|mount| mount.propagation.peer_group == Some(group))
    };
    let masters_known = mounts
        .iter()
        .filter_map(|mount| mount.propagation.master)
        .all(has_peers);
    Ok(Foreign {
        mounts,
        masters_known,
    })
}

/// The propagation of the mount with this unique id, in the caller's namespace.
pub(in crate::mount) fn propagation_of_unique(id: u64) -> io::Result<PropagationState> {
    let mut buffer = Vec::new();
    let wanted = STATMOUNT_MNT_BASIC | STATMOUNT_PROPAGATE_FROM;
    propagation(&statmount(id, OWN_NAMESPACE, wanted, &mut buffer)?)
}

/// The kernel takes the first mount on a namespace's bottom mount for its root. That bottom is usually
/// covered by it, but not after booting from an initramfs: there the first mount is `/proc` or its
/// like, and only what is below that would be listed.
fn shows_all(namespace: u64, ids: &[u64], listed: &[Listed]) -> io::Result<bool> {
    let root = listed
        .iter()
        .find(|listed| listed.mount.target.as_os_str() == "/");
    match root {
        Some(root) => Ok(listmount(root.parent_unique, namespace)? == ids),
        None => Ok(false),
    }
}

/// Lists until nothing is mounted or unmounted meanwhile, but not for ever.
fn list(namespace: u64) -> io::Result<(Vec<u64>, Vec<Listed>)> {
    let mut ids = listmount(LSMT_ROOT, namespace)?;
    let mut listed = Vec::new();
    for _ in 0..super::read::ATTEMPTS {
        listed = read(&ids, namespace)?;
        let now = listmount(LSMT_ROOT, namespace)?;
        if now == ids {
            break;
        }
        ids = now;
    }
    Ok((ids, listed))
}

fn read(ids: &[u64], namespace: u64) -> io::Result<Vec<Listed>> {
    let mut buffer = Vec::new();
    let mut listed = Vec::with_capacity(ids.len());
    let mut sources = false;
    for id in ids {
        let stat = match statmount(*id, namespace, WANTED, &mut buffer) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            result => result?,
        };
        sources |= stat.source.is_some();
        if let Some(mount) = mount(&stat)? {
            listed.push(Listed {
                mount,
                parent_unique: stat.parent_unique,
            });
        }
    }
    // Sources and subtypes came with Linux 6.13. An empty source is not told from a missing one, but
    // the table whose sources are all empty does not suffer from being read from /proc.
    if sources {
        Ok(listed)
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// `None` for a mount that has no path below the root, which mountinfo leaves out as well.
fn mount(stat: &Statmount<'_>) -> io::Result<Option<Mount>> {
    let (Some(root), Some(target), Some(fs_type)) = (stat.root, stat.point, stat.fs_type) else {
        return Ok(None);
    };
    let mut fs_type = fs_type.to_vec();
    if let Some(subtype) = stat.fs_subtype {
        fs_type.push(b'.');
        fs_type.extend_from_slice(subtype);
    }
    Ok(Some(Mount {
        id: stat.id,
        parent: stat.parent,
        device: Device {
            major: stat.dev_major,
            minor: stat.dev_minor,
        },
        root: PathBuf::from(OsStr::from_bytes(root)),
        target: PathBuf::from(OsStr::from_bytes(target)),
        options: mount_options(stat.attr),
        propagation: propagation(stat)?,
        fs_type: OsString::from_vec(fs_type),
        source: OsStr::from_bytes(stat.source.unwrap_or_default()).to_owned(),
        super_options: super_options(stat),
    }))
}

fn propagation(stat: &Statmount<'_>) -> io::Result<PropagationState> {
    let has = |flag: MountPropagationFlags| stat.propagation & u64::from(flag.bits()) != 0;
    let group =
        |id: u64| u32::try_from(id).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    let slave = has(MountPropagationFlags::DOWNSTREAM);
    let dominant = slave && stat.propagate_from != 0 && stat.propagate_from != stat.master;
    let tags = Tags {
        shared: has(MountPropagationFlags::SHARED)
            .then(|| group(stat.peer_group))
            .transpose()?,
        master: slave.then(|| group(stat.master)).transpose()?,
        propagate_from: dominant.then(|| group(stat.propagate_from)).transpose()?,
        unbindable: has(MountPropagationFlags::UNBINDABLE),
    };
    Ok(tags.state())
}

fn mount_options(attr: u64) -> Options {
    let has = |flag| attr & flag != 0;
    let atime = attr & MOUNT_ATTR_ATIME;
    listed(
        has(MOUNT_ATTR_RDONLY),
        &[
            (has(MOUNT_ATTR_NOSUID), b"nosuid"),
            (has(MOUNT_ATTR_NODEV), b"nodev"),
            (has(MOUNT_ATTR_NOEXEC), b"noexec"),
            (atime == MOUNT_ATTR_NOATIME, b"noatime"),
            (has(MOUNT_ATTR_NODIRATIME), b"nodiratime"),
            (atime == MOUNT_ATTR_RELATIME, b"relatime"),
            (has(MOUNT_ATTR_NOSYMFOLLOW), b"nosymfollow"),
            (has(MOUNT_ATTR_IDMAP), b"idmapped"),
        ],
        None,
    )
}

fn super_options(stat: &Statmount<'_>) -> Options {
    let has = |flag: MountFlags| stat.sb_flags & flag.bits() != 0;
    listed(
        has(MountFlags::RDONLY),
        &[
            (has(MountFlags::SYNCHRONOUS), b"sync"),
            (has(MountFlags::DIRSYNC), b"dirsync"),
            (has(MountFlags::LAZYTIME), b"lazytime"),
        ],
        stat.options,
    )
}

/// The options in mountinfo's order, which are compared as text.
fn listed(read_only: bool, flags: &[(bool, &[u8])], rest: Option<&[u8]>) -> Options {
    let mut options = if read_only {
        b"ro".to_vec()
    } else {
        b"rw".to_vec()
    };
    let set = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
    for option in set.chain(rest) {
        options.push(b',');
        options.extend_from_slice(option);
    }
    Options::from_bytes(&options)
}
