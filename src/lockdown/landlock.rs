//! Landlock rulesets of paths.

use crate::error::{Error, ErrorKind, Result, Step};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr,
};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What the rights here are those of: Linux 5.13. Later kernels know more, and are asked for what they know.
const OLDEST: ABI = ABI::V1;
const NEWEST: ABI = ABI::V5;

/// Directories and files that a program may use; every other is closed to it.
///
/// The paths are the caller's, looked up when the ruleset is made.
///
/// # Examples
/// ```no_run
/// use ringfence::{Sandbox, lockdown::LandlockPaths};
///
/// # fn main() -> ringfence::Result<()> {
/// let ruleset = LandlockPaths::new()
///     .execute("/usr")
///     .write("/srv/data")
///     .ruleset()?;
/// Sandbox::new().landlock(ruleset).command("/usr/bin/make").status()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LandlockPaths {
    rules: Vec<(PathBuf, Rights)>,
}

#[derive(Clone, Copy, Debug)]
enum Rights {
    Read,
    Execute,
    Write,
}

impl Rights {
    fn access(self) -> BitFlags<AccessFs> {
        match self {
            Self::Read => AccessFs::from_read(NEWEST) & !AccessFs::Execute,
            Self::Execute => AccessFs::from_read(NEWEST),
            Self::Write => AccessFs::from_all(NEWEST),
        }
    }
}

impl LandlockPaths {
    /// No path at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Files below this path can be read.
    pub fn read(self, path: impl Into<PathBuf>) -> Self {
        self.rule(path, Rights::Read)
    }

    /// Files below this path can be read and executed.
    pub fn execute(self, path: impl Into<PathBuf>) -> Self {
        self.rule(path, Rights::Execute)
    }

    /// Everything can be done below this path.
    pub fn write(self, path: impl Into<PathBuf>) -> Self {
        self.rule(path, Rights::Write)
    }

    fn rule(mut self, path: impl Into<PathBuf>, rights: Rights) -> Self {
        self.rules.push((path.into(), rights));
        self
    }

    /// The ruleset, for [`Sandbox::landlock`](crate::Sandbox::landlock).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the kernel has no Landlock, [`ErrorKind::NotFound`] for a path that
    /// does not exist.
    ///
    /// # Kernel
    /// Linux 5.13. Rights that a kernel does not know yet, such as that to truncate a file, are not taken
    /// away by it.
    pub fn ruleset(&self) -> Result<OwnedFd> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::other(ErrorKind::Unsupported, Step::Landlock, error.to_string()).with_hint(Some(
                "Landlock came with Linux 5.13; see the parameter lsm= of the kernel".into(),
            ))
        };
        let made = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(OLDEST))
            .and_then(|ruleset| {
                ruleset
                    .set_compatibility(CompatLevel::BestEffort)
                    .handle_access(AccessFs::from_all(NEWEST))
            })
            .and_then(Ruleset::create);
        let mut ruleset = made.map_err(|error| failed(&error))?;
        for (path, rights) in &self.rules {
            let opened = PathFd::new(path).map_err(|error| {
                Error::other(ErrorKind::NotFound, Step::Landlock, error.to_string())
            })?;
            let rule = PathBeneath::new(opened, rights.access());
            ruleset = ruleset.add_rule(rule).map_err(|error| failed(&error))?;
        }
        Option::<OwnedFd>::from(ruleset)
            .ok_or_else(|| failed(&"the kernel has no Landlock, or it is switched off"))
    }
}
