//! Which namespace owns which, and which lies within which.

use super::{AnyNamespace, Namespace, Nested, User};
use crate::error::{Error, Result, Step};
use crate::sys::nsfs;
use rustix::io::Errno;
use std::os::fd::AsFd;

impl AnyNamespace {
    /// The user namespace that owns it: who has capabilities there has them over this namespace. For a
    /// user namespace it is the parent.
    ///
    /// # Errors
    /// `EPERM` if the owner is not the caller's user namespace or within it.
    #[doc(alias = "NS_GET_USERNS")]
    pub fn user_namespace(&self) -> Result<Namespace<User>> {
        let failed = |errno| {
            let object = format!("the owner of {self}");
            let error = Error::system(Step::Namespace, object, "ioctl(NS_GET_USERNS)", errno);
            error.with_hint((errno == Errno::PERM).then(|| {
                "a user namespace outside the caller's own is not shown to the caller".into()
            }))
        };
        let fd = nsfs::owner(self.as_fd()).map_err(failed)?;
        Namespace::try_from(fd)
    }
}

impl<K: Nested> Namespace<K> {
    /// The namespace that it lies in. `None` for the first one, and for one whose parent is not the
    /// caller's own namespace or within it: the kernel does not tell the one from the other.
    ///
    /// # Errors
    /// When a filter forbids the call, or there are too many descriptors.
    #[doc(alias = "NS_GET_PARENT")]
    pub fn parent(&self) -> Result<Option<Self>> {
        match nsfs::parent(self.as_fd()) {
            Ok(fd) => Self::try_from(fd).map(Some),
            Err(Errno::PERM) => Ok(None),
            Err(errno) => Err(Error::system(
                Step::Namespace,
                format!("the parent of {self}"),
                "ioctl(NS_GET_PARENT)",
                errno,
            )),
        }
    }

    /// The namespaces that it lies in, the nearest first, up to the last that the caller may see.
    ///
    /// # Errors
    /// Those of [`parent`](Self::parent).
    pub fn ancestors(&self) -> Result<Vec<Self>> {
        let mut ancestors = Vec::new();
        let mut next = self.parent()?;
        while let Some(namespace) = next {
            next = namespace.parent()?;
            ancestors.push(namespace);
        }
        Ok(ancestors)
    }

    /// How many namespaces it lies in that the caller may see. The kernel allows 32 below the first.
    ///
    /// # Errors
    /// Those of [`parent`](Self::parent).
    pub fn level(&self) -> Result<usize> {
        self.ancestors().map(|ancestors| ancestors.len())
    }
}

impl Namespace<User> {
    /// The user who made it, by the number in the caller's user namespace; the overflow id, 65534, if it
    /// has none there.
    ///
    /// # Errors
    /// When a filter forbids the call.
    #[doc(alias = "NS_GET_OWNER_UID")]
    pub fn owner_uid(&self) -> Result<u32> {
        nsfs::owner_uid(self.as_fd()).map_err(|errno| {
            Error::system(
                Step::Namespace,
                format!("the creator of {self}"),
                "ioctl(NS_GET_OWNER_UID)",
                errno,
            )
        })
    }
}
