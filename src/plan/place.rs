//! Paths inside the new root, cut into the steps that the child takes.

use std::ffi::{CString, OsStr};
use std::path::{Component, Path};

/// The longest name in a directory.
const NAME_MAX: usize = 255;
/// The longest path, with the NUL byte behind it.
const PATH_MAX: usize = 4096;

/// What is said to a path that is none.
pub(crate) const EMPTY: &str = "the path is empty";

/// A place below the new root.
#[derive(Debug)]
pub(crate) struct Place {
    /// The path without the leading slash, `.` for the root itself.
    pub(crate) path: CString,
    /// One step for each component.
    pub(crate) steps: Box<[Step]>,
    /// What to do with symbolic links on the way.
    pub(crate) links: Links,
    /// Whether the last component is known to be missing, so that it is made without looking first.
    pub(crate) fresh: bool,
}

/// One component of a [`Place`].
#[derive(Debug)]
pub(crate) struct Step {
    /// The path up to and including this component.
    pub(crate) prefix: CString,
    /// The component.
    pub(crate) name: CString,
}

/// Symbolic links on the way to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Followed, inside the new root.
    Follow,
    /// Refused: what is mounted here must be where its path says.
    Refuse,
}

impl Place {
    pub(crate) fn new(at: &Path, links: Links) -> Result<Self, String> {
        let shown = at.display();
        if at.as_os_str().is_empty() {
            return Err(EMPTY.into());
        }
        if !at.is_absolute() {
            return Err(format!("{shown} is not an absolute path"));
        }
        let mut prefix = Vec::new();
        let mut steps = Vec::new();
        for component in at.components() {
            match component {
                Component::Normal(name) => {
                    let name = c_string(name.as_encoded_bytes())?;
                    if name.as_bytes().len() > NAME_MAX {
                        return Err(format!("a name in {shown} is longer than {NAME_MAX} bytes"));
                    }
                    if !prefix.is_empty() {
                        prefix.push(b'/');
                    }
                    prefix.extend_from_slice(name.as_bytes());
                    steps.push(Step {
                        prefix: c_string(&prefix)?,
                        name,
                    });
                }
                Component::ParentDir => return Err(format!("{shown} contains \"..\"")),
                _ => {}
            }
        }
        let path = if prefix.is_empty() {
            b".".to_vec()
        } else {
            prefix
        };
        if path.len() >= PATH_MAX {
            return Err(format!("{shown} is longer than 4095 bytes"));
        }
        Ok(Self {
            path: c_string(&path)?,
            steps: steps.into(),
            links,
            fresh: false,
        })
    }
}

/// A path for the kernel, which takes at most 4095 bytes.
pub(crate) fn c_path(path: &OsStr) -> Result<CString, String> {
    if path.len() >= PATH_MAX {
        let beginning: String = path.to_string_lossy().chars().take(40).collect();
        return Err(format!("{beginning}... is longer than 4095 bytes"));
    }
    c_string(path.as_encoded_bytes())
}

/// A string for the kernel; refuses NUL bytes.
pub(crate) fn c_string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes)
        .map_err(|_| format!("{:?} contains a NUL byte", String::from_utf8_lossy(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_paths_into_steps() {
        let place = Place::new(Path::new("//a/./b//c/"), Links::Follow).expect("valid");
        assert_eq!(place.path.as_bytes(), b"a/b/c");
        let steps: Vec<_> = place
            .steps
            .iter()
            .map(|step| (step.prefix.to_str(), step.name.to_str()))
            .collect();
        assert_eq!(
            steps,
            [
                (Ok("a"), Ok("a")),
                (Ok("a/b"), Ok("b")),
                (Ok("a/b/c"), Ok("c"))
            ]
        );
        let root = Place::new(Path::new("/"), Links::Follow).expect("valid");
        assert_eq!(root.path.as_bytes(), b".");
        assert!(root.steps.is_empty());
    }

    #[test]
    fn refuses_what_could_lead_elsewhere() {
        for (path, word) in [
            ("usr", "not an absolute"),
            ("", "empty"),
            ("/a/../b", "\"..\""),
            ("/a\0b", "NUL"),
        ] {
            let error = Place::new(Path::new(path), Links::Follow).expect_err("refused");
            assert!(error.contains(word), "{error}");
        }
        let long = format!("/{}", "x/".repeat(2049));
        assert!(Place::new(Path::new(&long), Links::Follow).is_err());
    }
}
