//! The mounts of a plan: propagation, the root, its entries in the caller's order, pivot_root.

use super::entry::{Entries, bind_attributes, op};
use super::entry::{describe_overlay, describe_tmpfs, overlay_args, source, tmpfs_args};
use super::features::Features;
use super::op::{Action, Op};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::mount::{Propagation, Tree};
use crate::ns::Namespaces;
use crate::sandbox::overlay::Upper;
use crate::sandbox::rootfs::{BindSource, Entry, RootEntry, RootKind, Rootfs, What};
use crate::sandbox::{Bind, MountLock, Sandbox};
use rustix::mount::MountPropagationFlags as Flags;
use std::path::Path;
use std::sync::Arc;

/// All about mounts that a plan consists of.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) ops: Vec<Op>,
    /// Trees of the caller's, to be copied for each spawn.
    pub(super) trees: Vec<Arc<Tree>>,
    /// What is done once; the result is one more tree.
    pub(super) template: Option<Vec<Op>>,
}

pub(super) fn compile(sandbox: &Sandbox, features: &Features, ids: (u32, u32)) -> Result<Mounts> {
    if sandbox.template && sandbox.rootfs.is_none() {
        return Err(Error::invalid("template", "needs a root, see rootfs()"));
    }
    let mut mounts = Mounts::default();
    let idle = sandbox.rootfs.is_none() && sandbox.entries.is_empty();
    let (first, last) = propagation(sandbox, idle)?;
    mounts.ops.extend(first);
    if !idle {
        build(sandbox, features, &mut mounts)?;
    }
    mounts.ops.extend(last);
    if let Some(root) = change_root(sandbox)? {
        if idle {
            mounts.ops.push(root.open);
        }
        mounts.ops.push(root.enter);
    }
    if let Some(lock) = sandbox.mount_lock {
        mounts.ops.extend(mount_lock(lock, ids));
    }
    Ok(mounts)
}

/// Another root directory: entries are put into it when it is open, before it is entered.
pub(super) struct ChangeRoot {
    pub(super) open: Op,
    pub(super) enter: Op,
}

pub(super) fn change_root(sandbox: &Sandbox) -> Result<Option<ChangeRoot>> {
    let Some(path) = &sandbox.chroot else {
        return Ok(None);
    };
    if sandbox.rootfs.is_some() {
        let what =
            "there is a new root already, see rootfs(); Rootfs::chroot enters that by chroot";
        return Err(Error::invalid("chroot", what));
    }
    if sandbox.mount_lock == Some(MountLock::Nested) {
        let what =
            "the kernel makes no user namespace in a changed root, see MountLock::DropCapability";
        return Err(Error::invalid("lock_mounts", what));
    }
    let object = format!("{} by chroot", path.display());
    let action = Action::RootInherited {
        path: source("chroot", path)?,
    };
    Ok(Some(ChangeRoot {
        open: op(Step::PivotRoot, &object, action),
        enter: op(Step::PivotRoot, &object, Action::Chroot),
    }))
}

/// What to do with the inherited tree before anything is mounted, and with the result.
fn propagation(sandbox: &Sandbox, idle: bool) -> Result<(Option<Op>, Option<Op>)> {
    if sandbox.inherit_propagation {
        return match sandbox.rootfs {
            None => Ok((None, None)),
            Some(_) => Err(Error::invalid(
                "inherit_propagation",
                "a new root needs a propagation of its own, see propagation()",
            )),
        };
    }
    let wanted = sandbox.propagation.unwrap_or(Propagation::Private);
    let change = |flags: Flags, object: String| {
        let action = Action::Propagation(flags | Flags::REC);
        op(Step::Propagation, object, action)
    };
    let whole = |flags, name: &str| change(flags, format!("the whole tree {name}"));
    let again = |flags| Some(change(flags, format!("the result {wanted}")));
    let idle = idle || shows_outside(sandbox);
    let (first, last) = match wanted {
        Propagation::Private => (whole(Flags::PRIVATE, "private"), None),
        Propagation::Slave => (whole(Flags::DOWNSTREAM, "slave"), None),
        Propagation::SlaveShared => (whole(Flags::DOWNSTREAM, "slave"), again(Flags::SHARED)),
        Propagation::Shared if idle => (whole(Flags::SHARED, "shared"), None),
        Propagation::Shared => (whole(Flags::PRIVATE, "private"), again(Flags::SHARED)),
        Propagation::Unbindable => (whole(Flags::PRIVATE, "private"), again(Flags::UNBINDABLE)),
    };
    Ok((Some(first), last))
}

/// Whether what is mounted in the inherited root may show in the caller's namespace.
fn shows_outside(sandbox: &Sandbox) -> bool {
    let shared = sandbox.propagation == Some(Propagation::Shared);
    sandbox.rootfs.is_none() && (shared || sandbox.inherit_propagation)
}

fn build(sandbox: &Sandbox, features: &Features, mounts: &mut Mounts) -> Result<()> {
    let classic = !features.mount_fd || !features.mount_setattr;
    let rootfs = sandbox.rootfs.as_ref();
    let userns = sandbox.namespaces.contains(Namespaces::USER);
    let read_only = |rootfs: &Rootfs| {
        rootfs
            .read_only
            .then(|| op(Step::Root, "read-only", Action::RootReadOnly))
    };
    let (prepared, mut entries) = match rootfs {
        Some(rootfs) if sandbox.template => {
            check_template(rootfs, classic)?;
            split(&sandbox.entries)
        }
        _ => (Vec::new(), sandbox.entries.iter().collect()),
    };
    let hardening = sandbox.hardening_entries();
    entries.extend(&hardening);
    if let (Some(rootfs), true) = (rootfs, sandbox.template) {
        // The template stays detached, in the caller's user namespace.
        let mut ops = set_up(false, &[], false);
        let mut inside = Entries::new(
            Namespaces::empty(),
            matches!(rootfs.kind, RootKind::Tmpfs(_)),
        );
        ops.push(root(Some(rootfs), false)?);
        for entry in prepared {
            ops.push(inside.compile(entry, &mut mounts.trees)?);
        }
        for entry in &entries {
            if makes_its_place(&entry.what) && !is_below(&entries, entry) {
                ops.push(inside.mount_point(entry)?);
            }
        }
        ops.extend(read_only(rootfs));
        mounts.template = Some(ops);
    }
    let overlay = if sandbox.template {
        false
    } else {
        rootfs_overlay(rootfs)
    };
    mounts.ops.extend(set_up(overlay, &entries, classic));
    let empty =
        !sandbox.template && rootfs.is_some_and(|rootfs| matches!(rootfs.kind, RootKind::Tmpfs(_)));
    mounts.ops.push(if sandbox.template {
        let action = Action::RootTree { index: 0 };
        op(Step::Root, "a copy of the template", action)
    } else {
        match change_root(sandbox)? {
            Some(root) => root.open,
            None => root(rootfs, userns)?,
        }
    });
    let mut compiler = Entries::new(sandbox.namespaces, empty);
    compiler.first_tree = usize::from(sandbox.template);
    let shows_outside = shows_outside(sandbox);
    for entry in entries {
        if shows_outside && entry.what.mounts() {
            mounts.ops.push(Entries::cut_off(entry)?);
        }
        mounts.ops.push(compiler.compile(entry, &mut mounts.trees)?);
    }
    let staged = mounts
        .ops
        .iter()
        .any(|op| matches!(op.action, Action::Stage { .. }));
    if staged && shows_outside {
        let what = "what is mounted over the root for the set-up would show outside";
        let hint = "without mount_setattr (Linux 5.12), and for overlays and files with contents, mounts have to be private, or in a root of their own";
        let error = Error::other(ErrorKind::Unsupported, Step::Propagation, what);
        return Err(error.with_hint(Some(hint.into())));
    }
    if sandbox.mount_lock == Some(MountLock::Nested) {
        let object = "/proc/self of the caller";
        mounts
            .ops
            .push(op(Step::MountLock, object, Action::KeepProc));
    }
    match rootfs {
        None if staged => mounts
            .ops
            .push(op(Step::Root, "the stage goes", Action::Unstage)),
        None => {}
        Some(rootfs) => {
            if !sandbox.template {
                mounts.ops.extend(read_only(rootfs));
            }
            mounts.ops.push(match rootfs.entry {
                RootEntry::Pivot => op(
                    Step::PivotRoot,
                    "enter the new root, detach the old one",
                    Action::PivotRoot,
                ),
                RootEntry::Chroot => op(
                    Step::PivotRoot,
                    "enter the new root by chroot",
                    Action::Chroot,
                ),
            });
        }
    }
    Ok(())
}

/// What has to be done before the root is made.
fn set_up(overlay: bool, entries: &[&Entry], classic: bool) -> Vec<Op> {
    let mut ops = vec![op(
        Step::Root,
        "no umask while files are made",
        Action::ClearUmask,
    )];
    let on_stage = |what: &What| {
        let source = match what {
            What::Overlay(_) => return true,
            What::Bind { source, .. } => source,
            _ => return false,
        };
        matches!(source, BindSource::Data { .. })
    };
    if classic || overlay || entries.iter().any(|entry| on_stage(&entry.what)) {
        ops.push(op(
            Step::Root,
            "a stage over the old root",
            Action::Stage { classic },
        ));
    }
    ops
}

fn rootfs_overlay(rootfs: Option<&Rootfs>) -> bool {
    rootfs.is_some_and(|rootfs| matches!(rootfs.kind, RootKind::Overlay(_)))
}

fn root(rootfs: Option<&Rootfs>, userns: bool) -> Result<Op> {
    let Some(rootfs) = rootfs else {
        let path = c"/".to_owned();
        return Ok(op(
            Step::Root,
            "the inherited root",
            Action::RootInherited { path },
        ));
    };
    Ok(match &rootfs.kind {
        RootKind::Dir { path, options } => op(
            Step::Root,
            describe_dir(path, options.as_ref()),
            Action::RootDir {
                source: source("rootfs", path)?,
                attributes: options.map_or(Ok(0), root_attributes)?,
                submounts_read_only: rootfs.read_only,
            },
        ),
        RootKind::Tmpfs(tmpfs) => op(
            Step::Root,
            describe_tmpfs(tmpfs),
            Action::RootTmpfs(tmpfs_args("rootfs", tmpfs)?),
        ),
        RootKind::Overlay(overlay) => op(
            Step::Root,
            describe_overlay(overlay),
            Action::RootOverlay(overlay_args("rootfs", overlay, userns)?),
        ),
    })
}

fn root_attributes(options: Bind) -> Result<u64> {
    if options.optional {
        return Err(Error::invalid("rootfs", "a root that may be missing"));
    }
    Ok(bind_attributes(options))
}

fn describe_dir(path: &Path, options: Option<&Bind>) -> String {
    let read_only = options.is_some_and(|options| options.read_only);
    let how = if read_only { ", read-only" } else { "" };
    format!("{}{how}", path.display())
}

fn check_template(rootfs: &Rootfs, classic: bool) -> Result<()> {
    let shared = match &rootfs.kind {
        RootKind::Dir { .. } => false,
        RootKind::Tmpfs(_) => !rootfs.read_only,
        RootKind::Overlay(overlay) => matches!(overlay.upper, Upper::Throwaway(_)),
    };
    if shared {
        return Err(Error::invalid(
            "template",
            "what a program writes into the root would show in all others; make it Rootfs::read_only()",
        ));
    }
    if classic {
        return Err(Error::other(
            ErrorKind::Unsupported,
            Step::Compile,
            "template: the file-descriptor based mount calls are not available",
        )
        .with_hint(Some("templates need Linux 6.15".into())));
    }
    Ok(())
}

/// What can be prepared once, and what is made for each program: that which it can write to while the
/// caller cannot see it, which shows its namespaces, or whose order with such a thing matters.
fn split(entries: &[Entry]) -> (Vec<&Entry>, Vec<&Entry>) {
    let mut once: Vec<&Entry> = Vec::new();
    let mut each: Vec<&Entry> = Vec::new();
    for entry in entries {
        let own = match &entry.what {
            What::Bind { source, .. } => {
                matches!(source, BindSource::Tree(_) | BindSource::Data { .. })
            }
            What::Symlink { .. }
            | What::Dir { .. }
            | What::File { .. }
            | What::FileFrom { .. }
            | What::Chmod { .. } => false,
            _ => true,
        };
        let related = each
            .iter()
            .any(|other| entry.at.starts_with(&other.at) || other.at.starts_with(&entry.at));
        if own || related {
            each.push(entry);
        } else {
            once.push(entry);
        }
    }
    (once, each)
}

fn makes_its_place(what: &What) -> bool {
    !matches!(
        what,
        What::Mask { .. } | What::Remount { .. } | What::Write { .. } | What::Chmod { .. }
    )
}

fn is_below(entries: &[&Entry], entry: &Entry) -> bool {
    entries
        .iter()
        .any(|other| entry.at != other.at && entry.at.starts_with(&other.at))
}

fn mount_lock(lock: MountLock, ids: (u32, u32)) -> Vec<Op> {
    match lock {
        MountLock::DropCapability => vec![op(
            Step::MountLock,
            "CAP_SYS_ADMIN gone for good",
            Action::DropSysAdmin,
        )],
        MountLock::Nested => nested(Step::MountLock, Namespaces::USER | Namespaces::MOUNT, ids),
    }
}

/// Namespaces once more, a user namespace among them, in which the ids stay what they are.
pub(super) fn nested(step: Step, namespaces: Namespaces, (uid, gid): (u32, u32)) -> Vec<Op> {
    let write = |file: &'static core::ffi::CStr, text: String| {
        let object = format!("{text:?} to /proc/self/{}", file.to_string_lossy());
        let text = text.as_bytes().into();
        op(step, object, Action::WriteProc { file, text })
    };
    let flags = namespaces.bits().into();
    vec![
        op(
            step,
            format!(
                "new namespaces: {}",
                namespaces.to_string().replace(' ', ", ")
            ),
            Action::Unshare { flags },
        ),
        write(c"setgroups", "deny".into()),
        write(c"uid_map", format!("{uid} {uid} 1")),
        write(c"gid_map", format!("{gid} {gid} 1")),
    ]
}
