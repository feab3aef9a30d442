//! Where the drop-ins and the originals are.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::geteuid;

use crate::common::user;

/// A drop-in and the tool that it replaces.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) ours: PathBuf,
    pub(super) original: Option<Original>,
}

#[derive(Debug)]
pub(super) struct Original {
    pub(super) path: PathBuf,
    /// What it says of its options.
    help: String,
    pub(super) version: String,
}

impl Pair {
    /// To be called before the process becomes another user as well: that one may not reach the drop-in.
    pub(super) fn find(name: &str) -> Self {
        Self {
            ours: ours(name),
            original: Original::find(name),
        }
    }
}

/// The example, which cargo puts beside the directory of the test binaries, or the copy for the user.
fn ours(name: &str) -> PathBuf {
    let copy = env::temp_dir().join(name);
    let Some(built) = built(name) else {
        assert!(
            copy.exists(),
            "the example {name} is not there: `cargo test` without a filter on targets builds it, and so does `cargo build --examples`"
        );
        return copy;
    };
    let is_for_the_user = fs::metadata(env::temp_dir()).is_ok_and(|dir| dir.uid() == user::UID);
    if is_for_the_user && geteuid().is_root() {
        fs::copy(&built, &copy).unwrap();
    }
    built
}

fn built(name: &str) -> Option<PathBuf> {
    let test = env::current_exe().ok()?;
    let example = test.parent()?.parent()?.join("examples").join(name);
    File::open(&example).is_ok().then_some(example)
}

impl Original {
    fn find(name: &str) -> Option<Self> {
        let path = env::split_paths(&env::var_os("PATH")?)
            .map(|dir| dir.join(name))
            .find(|path| path.is_file())?;
        let said = |option: &str| {
            let output = Command::new(&path).arg(option).output().ok()?;
            String::from_utf8(output.stdout).ok()
        };
        Some(Self {
            help: said("--help")?,
            version: said("--version")?.trim().to_owned(),
            path,
        })
    }

    /// Whether it says this of an option.
    pub(super) fn knows(&self, option: &str) -> bool {
        self.help.contains(option)
    }
}
