//! Attributes of mounts.

use std::fmt;

bitflags::bitflags! {
    /// What a mount forbids, and when it notes access times: attributes of the mount, not of the file
    /// system on it.
    ///
    /// Of the four that concern access times, a mount has one of `RELATIME`, `NOATIME` and `STRICTATIME`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Attributes: u32 {
        /// Nothing can be written.
        const READ_ONLY = 1;
        /// Set-user-id bits and file capabilities are without effect.
        const NOSUID = 1 << 1;
        /// Device files are without effect.
        const NODEV = 1 << 2;
        /// No program can be executed.
        const NOEXEC = 1 << 3;
        /// No symbolic link is followed (Linux 5.14).
        const NOSYMFOLLOW = 1 << 4;
        /// Access times are not noted.
        const NOATIME = 1 << 5;
        /// Access times of directories are not noted.
        const NODIRATIME = 1 << 6;
        /// Access times are noted once a day, and when they would be before the last change.
        const RELATIME = 1 << 7;
        /// Every access is noted.
        const STRICTATIME = 1 << 8;
    }
}

impl Attributes {
    const KERNEL: [(Self, u64); 9] = [
        (Self::READ_ONLY, libc::MOUNT_ATTR_RDONLY),
        (Self::NOSUID, libc::MOUNT_ATTR_NOSUID),
        (Self::NODEV, libc::MOUNT_ATTR_NODEV),
        (Self::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (Self::NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
        (Self::NOATIME, libc::MOUNT_ATTR_NOATIME),
        (Self::NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (Self::RELATIME, libc::MOUNT_ATTR_RELATIME),
        (Self::STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
    ];
    /// The attributes of which a mount has exactly one; the kernel keeps them in one field.
    pub(crate) const ACCESS_TIMES: Self =
        Self::NOATIME.union(Self::RELATIME).union(Self::STRICTATIME);

    /// The bits of mount_setattr(2).
    pub(crate) fn kernel(self) -> u64 {
        Self::KERNEL
            .into_iter()
            .filter(|(own, _)| self.contains(*own))
            .fold(0, |bits, (_, kernel)| bits | kernel)
    }

    /// What has to be cleared so that these can be set.
    pub(super) fn cleared_first(self) -> u64 {
        if self.intersects(Self::ACCESS_TIMES) {
            libc::MOUNT_ATTR__ATIME
        } else {
            0
        }
    }
}

impl fmt::Display for Attributes {
    /// The names as mount(8) knows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for (name, _) in self.iter_names() {
            let name = match name {
                "READ_ONLY" => "ro".to_owned(),
                other => other.to_ascii_lowercase(),
            };
            write!(f, "{gap}{name}")?;
            gap = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_named_as_mount_names_them() {
        let some = Attributes::READ_ONLY | Attributes::NOSUID | Attributes::RELATIME;
        assert_eq!(some.to_string(), "ro,nosuid,relatime");
        assert_eq!(
            some.kernel(),
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID
        );
        assert_eq!(some.cleared_first(), libc::MOUNT_ATTR__ATIME);
        assert_eq!(Attributes::NODEV.cleared_first(), 0);
    }
}
