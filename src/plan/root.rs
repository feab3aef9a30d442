//! The mounts of a plan: propagation, the root, its entries in the caller's order, pivot_root.

use super::features::Features;
use super::op::{Action, Bind, FileSystem, Op};
use super::place::{Links, Place, c_string};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Kind, Namespaces};
use crate::sandbox::Sandbox;
use crate::sandbox::rootfs::{Access, Entry, RootKind, Tmpfs, What};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) fn compile(sandbox: &Sandbox, features: &Features) -> Result<Vec<Op>> {
    let mut ops = vec![op(
        Step::Propagation,
        "the whole tree private",
        Action::Propagation(MountPropagationFlags::PRIVATE | MountPropagationFlags::REC),
    )];
    if sandbox.rootfs.is_none() && sandbox.entries.is_empty() {
        return Ok(ops);
    }
    if !features.mount_fd || !features.mount_setattr {
        return Err(Error::other(
            ErrorKind::Unsupported,
            Step::Compile,
            "the file-descriptor based mount calls are not available",
        )
        .with_hint(Some(
            "they came with Linux 5.12; on a newer kernel a seccomp filter hides them".into(),
        )));
    }
    ops.push(op(
        Step::Root,
        "no umask while files are made",
        Action::ClearUmask,
    ));
    let mut fresh = Fresh::default();
    ops.push(match sandbox.rootfs.as_ref().map(|rootfs| &rootfs.0) {
        None => op(Step::Root, "the inherited root", Action::RootInherited),
        Some(RootKind::Dir(path)) => op(
            Step::Root,
            path.display(),
            Action::RootDir {
                source: source("rootfs", path)?,
            },
        ),
        Some(RootKind::Tmpfs(tmpfs)) => {
            fresh.empty_root = true;
            op(
                Step::Root,
                describe_tmpfs(tmpfs),
                Action::RootTmpfs(tmpfs_args("rootfs", tmpfs)?),
            )
        }
    });
    for entry in &sandbox.entries {
        ops.push(compile_entry(sandbox.namespaces, entry, &mut fresh)?);
    }
    if sandbox.rootfs.is_some() {
        ops.push(op(
            Step::PivotRoot,
            "enter the new root, detach the old one",
            Action::PivotRoot,
        ));
    }
    Ok(ops)
}

fn op(step: Step, object: impl std::fmt::Display, action: Action) -> Op {
    Op {
        step,
        object: object.to_string(),
        action,
    }
}

fn compile_entry(namespaces: Namespaces, entry: &Entry, fresh: &mut Fresh) -> Result<Op> {
    let setter = entry.what.setter();
    let links = match entry.what {
        // What the kernel makes must be where its path says, or it hides nothing.
        What::Proc | What::Sysfs | What::Mqueue | What::Dev => Links::Refuse,
        _ => Links::Follow,
    };
    let mut at = Place::new(&entry.at, links).map_err(|what| Error::invalid(setter, what))?;
    if at.steps.is_empty() {
        return Err(Error::invalid(setter, "the root itself is set by rootfs"));
    }
    at.fresh = fresh.note(&at, matches!(entry.what, What::Dir { .. }));
    let shown = entry.at.display();
    Ok(match &entry.what {
        What::Bind {
            source: from,
            access,
        } => {
            let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
            let mut how = "";
            if *access == Access::ReadOnly {
                attributes |= libc::MOUNT_ATTR_RDONLY;
                how = ", read-only";
            }
            op(
                Step::Bind,
                format!("{} at {shown}{how}", from.display()),
                Action::Bind(Bind {
                    source: source(setter, from)?,
                    attributes,
                    at,
                }),
            )
        }
        What::Tmpfs(tmpfs) => op(
            Step::Tmpfs,
            format!("{shown}, {}", describe_tmpfs(tmpfs)),
            Action::Mount {
                file_system: tmpfs_args(setter, tmpfs)?,
                at,
            },
        ),
        What::Proc => {
            needs_own(setter, namespaces, Kind::Pid)?;
            mount(Step::Proc, &shown, c"proc", MountAttrFlags::empty(), at)
        }
        What::Sysfs => {
            needs_own(setter, namespaces, Kind::Net)?;
            let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
            mount(Step::Sysfs, &shown, c"sysfs", read_only, at)
        }
        What::Mqueue => {
            needs_own(setter, namespaces, Kind::Ipc)?;
            mount(Step::Mqueue, &shown, c"mqueue", MountAttrFlags::empty(), at)
        }
        What::Dev => op(Step::Dev, shown, Action::Dev { at }),
        What::Symlink { target } => {
            match target.as_os_str().len() {
                0 => return Err(Error::invalid(setter, "the target is empty")),
                1..4096 => {}
                _ => {
                    return Err(Error::invalid(
                        setter,
                        "the target is longer than 4095 bytes",
                    ));
                }
            }
            op(
                Step::Symlink,
                format!("{shown} -> {}", target.display()),
                Action::Symlink {
                    target: bytes(setter, target)?,
                    at,
                },
            )
        }
        What::Dir { mode } => op(
            Step::Dir,
            format!("{shown}, mode {mode:04o}"),
            Action::Dir {
                at,
                mode: check_mode(setter, *mode)?,
            },
        ),
        What::File { bytes, mode } => op(
            Step::File,
            format!("{shown}, {} bytes, mode {mode:04o}", bytes.len()),
            Action::File {
                at,
                bytes: bytes.clone(),
                mode: check_mode(setter, *mode)?,
            },
        ),
    })
}

fn mount(
    step: Step,
    shown: &dyn std::fmt::Display,
    kind: &'static core::ffi::CStr,
    attributes: MountAttrFlags,
    at: Place,
) -> Op {
    let file_system = FileSystem {
        kind,
        options: Box::default(),
        attributes: attributes
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    };
    op(step, shown, Action::Mount { file_system, at })
}

/// A file system that shows a namespace belongs to it: inside a new user namespace only its own can
/// be mounted.
fn needs_own(setter: &'static str, namespaces: Namespaces, kind: Kind) -> Result<()> {
    if namespaces.contains(Namespaces::USER) && !namespaces.contains(kind.into()) {
        return Err(Error::invalid(
            setter,
            format!("with user() it needs a new {kind} namespace as well, asked for by {kind}()"),
        ));
    }
    Ok(())
}

fn check_mode(setter: &'static str, mode: u32) -> Result<u32> {
    if mode > 0o7777 {
        return Err(Error::invalid(
            setter,
            format!("mode {mode:o} is more than 7777"),
        ));
    }
    Ok(mode)
}

fn tmpfs_args(setter: &'static str, tmpfs: &Tmpfs) -> Result<FileSystem> {
    let mut options = Vec::new();
    let mode = check_mode(setter, tmpfs.mode.unwrap_or(0o1777))?;
    let mut option = |key, value: String| -> Result<()> {
        let value = c_string(value.as_bytes()).map_err(|what| Error::invalid(setter, what))?;
        options.push((key, value));
        Ok(())
    };
    option(c"mode", format!("{mode:o}"))?;
    for (key, name, limit) in [
        (c"size", "size", tmpfs.size),
        (c"nr_inodes", "inodes", tmpfs.inodes),
    ] {
        match limit {
            // To the kernel it would mean no limit at all.
            Some(0) => return Err(Error::invalid(setter, format!("{name} of a tmpfs is 0"))),
            Some(limit) => option(key, limit.to_string())?,
            None => {}
        }
    }
    Ok(FileSystem {
        kind: c"tmpfs",
        options: options.into(),
        attributes: MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    })
}

fn describe_tmpfs(tmpfs: &Tmpfs) -> String {
    let mut text = format!("tmpfs, mode {:04o}", tmpfs.mode.unwrap_or(0o1777));
    if let Some(size) = tmpfs.size {
        text.push_str(&format!(", at most {size} bytes"));
    }
    if let Some(inodes) = tmpfs.inodes {
        text.push_str(&format!(", at most {inodes} inodes"));
    }
    text
}

fn bytes(setter: &'static str, path: &Path) -> Result<CString> {
    c_string(path.as_os_str().as_bytes()).map_err(|what| Error::invalid(setter, what))
}

/// A path of the caller's, made absolute now.
fn source(setter: &'static str, path: &Path) -> Result<CString> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::invalid(setter, format!("{}: {error}", path.display())))?;
    bytes(setter, &path)
}

/// What is known to be missing from a root that starts empty, so that the child need not look.
#[derive(Default)]
struct Fresh {
    empty_root: bool,
    seen: HashSet<CString>,
    plain_dirs: HashSet<CString>,
}

impl Fresh {
    /// Notes that an entry is made at a place; says whether nothing was there before.
    fn note(&mut self, at: &Place, plain_dir: bool) -> bool {
        let in_known_dir = match at.steps.as_ref() {
            [_] => true,
            [.., parent, _] => self.plain_dirs.contains(&parent.prefix),
            [] => false,
        };
        // Missing parents are made as well, so they are no longer missing.
        for step in &at.steps[..at.steps.len() - 1] {
            self.seen.insert(step.prefix.clone());
        }
        let fresh = self.empty_root && in_known_dir && self.seen.insert(at.path.clone());
        if fresh && plain_dir {
            self.plain_dirs.insert(at.path.clone());
        }
        fresh
    }
}
