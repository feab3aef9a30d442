use super::Kind;
use crate::error::{self, Error, Step};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;

/// The identity of a namespace: as long as anything holds it, no other namespace has the same one.
///
/// Printed as the kernel writes it, `net:[4026531840]`. Ordered by kind, then by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    kind: Kind,
    device: u64,
    inode: u64,
}

impl NamespaceId {
    /// The kind of the namespace.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of the device that the inode is on.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// The inode number.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    pub(crate) fn new(kind: Kind, device: u64, inode: u64) -> Self {
        Self {
            kind,
            device,
            inode,
        }
    }

    /// Of a descriptor that is known to be a namespace of this kind.
    pub(crate) fn of_fd(fd: BorrowedFd<'_>, kind: Kind) -> Result<Self, Errno> {
        Ok(Self::of_stat(&rustix::fs::fstat(fd)?, kind))
    }

    /// Of what is known to be a namespace of this kind.
    pub(super) fn of_stat(stat: &rustix::fs::Stat, kind: Kind) -> Self {
        Self {
            kind,
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    fn read(directory: &Path, kind: Kind) -> std::io::Result<Option<Self>> {
        match std::fs::metadata(directory.join(kind.proc_name())) {
            Ok(metadata) => Ok(Some(Self {
                kind,
                device: metadata.dev(),
                inode: metadata.ino(),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:[{}]", self.kind, self.inode)
    }
}

/// A text is not the identity of a namespace, such as `net:[4026531840]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the identity of a namespace, such as net:[4026531840]: {text:?}")]
pub struct ParseNamespaceIdError {
    text: String,
}

impl FromStr for NamespaceId {
    type Err = ParseNamespaceIdError;

    /// Reads what [`Display`](fmt::Display) and the kernel write. The device, which the text leaves out, is that of
    /// all namespaces; it is 0, and so the identity equal to no other, where `/proc` is not mounted.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, inode) = parse(text).ok_or_else(|| ParseNamespaceIdError {
            text: text.to_owned(),
        })?;
        let device = std::fs::metadata("/proc/thread-self/ns/user").map_or(0, |file| file.dev());
        Ok(Self {
            kind,
            device,
            inode,
        })
    }
}

/// Kind and inode number of `net:[4026531840]`.
pub(crate) fn parse(text: &str) -> Option<(Kind, u64)> {
    let (name, rest) = text.split_once(":[")?;
    let digits = rest.strip_suffix(']')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((Kind::from_proc_name(name)?, digits.parse().ok()?))
}

/// The identities of the namespaces that a process is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamespaceIds {
    ids: Vec<NamespaceId>,
}

impl NamespaceIds {
    /// Those of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> error::Result<Self> {
        Self::read("/proc/thread-self/ns")
    }

    /// Those of the process `pid`. A kind that the kernel does not have is left out.
    ///
    /// # Errors
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) for a process that the caller may not look into,
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is none.
    pub fn of_pid(pid: u32) -> error::Result<Self> {
        Self::read(&format!("/proc/{pid}/ns"))
    }

    fn read(directory: &str) -> error::Result<Self> {
        let failed = |error| Error::io(Step::Namespace, directory, error);
        std::fs::metadata(directory).map_err(failed)?;
        let mut ids = Vec::with_capacity(Kind::ALL.len());
        for kind in Kind::ALL {
            ids.extend(NamespaceId::read(Path::new(directory), kind).map_err(failed)?);
        }
        Ok(Self { ids })
    }

    /// In the order of [`Kind::ALL`], each kind once at most.
    pub(crate) fn new(ids: Vec<NamespaceId>) -> Self {
        Self { ids }
    }

    /// The namespace of one kind.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<NamespaceId> {
        self.ids.iter().copied().find(|id| id.kind == kind)
    }

    /// All of them, in the order of [`Kind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = NamespaceId> + '_ {
        self.ids.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_the_kernel_prints() {
        let ids = NamespaceIds::current().expect("proc is mounted");
        for id in ids.iter() {
            let link = std::fs::read_link(format!("/proc/thread-self/ns/{}", id.kind()))
                .expect("own namespaces are readable");
            assert_eq!(link.as_os_str(), id.to_string().as_str());
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(
            ids,
            NamespaceIds::of_pid(std::process::id()).expect("own process")
        );
    }

    #[test]
    fn refuses_what_is_no_identity() {
        for text in [
            "",
            "net",
            "net:[]",
            "net:[+1]",
            "net:[1",
            "net:1",
            "mount:[1]",
            "net:[99999999999999999999]",
            " net:[1]",
            "net:[1]\n",
        ] {
            let error = text.parse::<NamespaceId>().expect_err("is refused");
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
