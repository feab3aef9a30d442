//! The trees of one spawn: copies of the caller's, and of the prepared root.

use super::child::State;
use super::record::{Fail, Record};
use super::root::{self, Surroundings};
use crate::diagnose;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::plan::op::{Action, Op};
use crate::plan::{Compiled, Template};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{FsPickFlags, OpenTreeFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};

/// A detached copy of every tree that the plan holds. The child could not make them: to its mount
/// namespace they are strangers.
pub(super) fn copies(plan: &Compiled) -> Result<Vec<OwnedFd>> {
    let mut copies = Vec::new();
    if let Some(template) = &plan.template {
        copies.push(copy(prepared(template)?.as_fd(), "the prepared root")?);
    }
    for tree in &plan.trees {
        copies.push(copy(tree.as_fd(), "a copy of a mount tree")?);
    }
    Ok(copies)
}

fn copy(tree: BorrowedFd<'_>, object: &str) -> Result<OwnedFd> {
    let failed = |call| {
        move |errno| Error::system(Step::Prepare, object, call, errno).with_hint(hint(errno))
    };
    let copy = clone_tree(tree).map_err(failed("open_tree"))?;
    // What is mounted inside must not show in the caller's namespace.
    root::make_private(copy.as_fd()).map_err(failed("mount_setattr"))?;
    Ok(copy)
}

fn clone_tree(tree: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(tree, c"", flags)
}

fn hint(errno: Errno) -> Option<String> {
    match errno {
        Errno::PERM => Some("copying a mount tree needs CAP_SYS_ADMIN in the caller".into()),
        Errno::INVAL => Some("detached mount trees can be copied since Linux 6.15".into()),
        _ => None,
    }
}

const NEEDS: &str = "a template needs CAP_SYS_ADMIN in the caller; without template() the root is made for each program, which does not";

/// The prepared root, made by whoever needs it first.
fn prepared(template: &Template) -> Result<Arc<OwnedFd>> {
    let mut tree = template.tree.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tree) = &*tree {
        return Ok(Arc::clone(tree));
    }
    // A thread can have a umask of its own. The tree is never attached, so its mounts need no place; only
    // what is made in the caller's mount namespace can be copied there.
    let built = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("ringfence-template".into())
            .spawn_scoped(scope, || build(&template.ops))
            .map_err(|error| Error::io(Step::Prepare, "a thread for the template", error))?;
        builder.join().unwrap_or_else(|_| {
            let what = "the thread for the template has panicked";
            Err(Error::other(ErrorKind::System, Step::Prepare, what))
        })
    })?;
    Ok(Arc::clone(tree.insert(Arc::new(built))))
}

fn build(ops: &[Op]) -> Result<OwnedFd> {
    let failed = |call| move |errno| Error::system(Step::Prepare, "the template", call, errno);
    let flags = libc::CLONE_FS.unsigned_abs();
    crate::sys::process::unshare(u64::from(flags)).map_err(failed("unshare"))?;
    let record = Record::default();
    let mut state = State::default();
    for op in ops {
        perform(&record, &mut state, op).map_err(|fail| {
            Error::system(op.step, &op.object, fail.call.name(), fail.errno)
                .with_hint(diagnose::noted(&fail, &record.text()))
                .with_hint((fail.errno == Errno::PERM).then(|| NEEDS.to_owned()))
        })?;
    }
    let root = state.root.as_ref().ok_or(Errno::BADF);
    let root = root.map_err(failed("open_tree"))?;
    if ops
        .iter()
        .any(|op| matches!(op.action, Action::RootTmpfs(_)))
    {
        // The file system, not just a mount: root inside could make that writable again.
        read_only(root).map_err(failed("fsconfig"))?;
    }
    state
        .root
        .take()
        .ok_or(Errno::BADF)
        .map_err(failed("open_tree"))
}

fn perform(record: &Record, state: &mut State, op: &Op) -> Result<(), Fail> {
    use super::record::{Call, Named};
    match &op.action {
        Action::Propagation(flags) => rustix::mount::mount_change(c"/", *flags).named(Call::Mount),
        Action::ClearUmask => {
            rustix::process::umask(Mode::empty());
            Ok(())
        }
        action => {
            let around = Surroundings {
                record,
                trees: &[],
                detached: true,
            };
            root::perform(around, state, action)
        }
    }
}

fn read_only(root: &OwnedFd) -> Result<(), Errno> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = rustix::mount::fspick(root, c"", flags)?;
    rustix::mount::fsconfig_set_flag(&context, c"ro")?;
    rustix::mount::fsconfig_reconfigure(&context)
}
