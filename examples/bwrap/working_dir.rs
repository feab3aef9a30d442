//! Where the program starts, without `--chdir`: in the caller's directory, at home, or at the top.

use crate::options::Options;
use crate::setup::Setup;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Those to be tried. To try one is to make a sandbox, so what is surely missing is not among them.
pub(crate) fn candidates(options: &Options) -> Vec<PathBuf> {
    if let Some(dir) = &options.chdir {
        return vec![dir.clone()];
    }
    // There is one try.
    if options.userns_block.is_some() {
        return vec!["/".into()];
    }
    let home = options.env.get(OsStr::new("HOME")).map(PathBuf::from);
    let own = std::env::current_dir().ok();
    let dirs = own.into_iter().chain(home);
    dirs.filter(|dir| dir.is_absolute() && !is_surely_missing(&options.setup, dir))
        .chain(["/".into()])
        .collect()
}

/// Whether nothing was put there, or one bind that does not have it.
fn is_surely_missing(setup: &[Setup], dir: &Path) -> bool {
    let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if dir.parent().is_none() || !dir.components().all(is_plain) {
        return false;
    }
    let mut related = setup
        .iter()
        .filter(|one| dir.starts_with(one.at()) || one.at().starts_with(dir));
    match (related.next(), related.next()) {
        (None, _) => true,
        (Some(Setup::Bind { source, at, .. }), None) => dir
            .strip_prefix(at)
            .is_ok_and(|below| lacks(source, below).unwrap_or(false)),
        _ => false,
    }
}

/// Links may lead out of the bind and are not followed: that is an error.
fn lacks(source: &Path, below: &Path) -> Result<bool, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let source = open(source, flags, Mode::empty())?;
    // Which may be the top of the bind.
    let below = Path::new(".").join(below);
    match openat2(
        source,
        below,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    ) {
        Ok(_) => Ok(false),
        Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(errno),
    }
}
