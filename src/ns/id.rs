use super::Kind;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The identity of a namespace: as long as anything holds it, no other namespace has the same one.
///
/// Printed as the kernel writes it, `net:[4026531840]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    pub fn current() -> std::io::Result<Self> {
        Self::read(Path::new("/proc/thread-self/ns"))
    }

    /// Those of the process `pid`. A kind that the kernel does not have is left out.
    ///
    /// # Errors
    /// `PermissionDenied` for a process that the caller may not look into, `NotFound` when there is none.
    pub fn of_pid(pid: u32) -> std::io::Result<Self> {
        let directory = format!("/proc/{pid}/ns");
        std::fs::metadata(&directory)?;
        Self::read(Path::new(&directory))
    }

    fn read(directory: &Path) -> std::io::Result<Self> {
        let mut ids = Vec::with_capacity(Kind::ALL.len());
        for kind in Kind::ALL {
            ids.extend(NamespaceId::read(directory, kind)?);
        }
        Ok(Self { ids })
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
        }
        assert_eq!(
            ids,
            NamespaceIds::of_pid(std::process::id()).expect("own process")
        );
    }
}
