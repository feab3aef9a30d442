//! A cgroup of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::require;

/// A cgroup that is removed in the end.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// In the cgroup2 hierarchy.
    pub(crate) fn new() -> Self {
        Self::beneath(&require::cgroup2_dir().unwrap())
    }

    pub(crate) fn beneath(parent: &Path) -> Self {
        let path = parent.join(format!("ringfence-test-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    /// Returns when the file has a line that says this.
    pub(crate) fn await_line(&self, file: &str, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let read = || fs::read_to_string(self.0.join(file)).unwrap();
        while read().lines().all(|found| found != line) {
            assert!(Instant::now() < deadline, "{line}: {}", read());
            std::thread::yield_now();
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Busy until the kernel has forgotten the last process, which a test may have killed just now.
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}
