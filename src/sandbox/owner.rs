//! Who owns the new user namespace.

use super::Sandbox;

/// The user and group that make the user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Sandbox {
    /// The new user namespace belongs to this user, who has all capabilities in it from outside; it belongs to the
    /// caller if not set. Needs [`user`](Self::user).
    ///
    /// The child takes on these ids, without supplementary groups, before it makes the namespaces, and the
    /// program has them, by the numbers that they have inside. The maps are about the caller's ids all the same, and
    /// the caller writes them. Clock offsets cannot be set then.
    ///
    /// # Privileges
    /// `CAP_SETUID` and `CAP_SETGID`, unless they are the caller's own.
    ///
    /// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
    #[doc(alias = "NS_GET_OWNER_UID")]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some(Owner { uid, gid });
        self
    }
}
