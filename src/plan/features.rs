//! What the running kernel, and the filters in front of it, offer.

use crate::sys::{clone, fd, mount};
use core::ffi::CStr;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

/// Found by calls that cannot succeed, so that a filter which hides a system call is seen as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    pub(crate) clone3: bool,
    pub(crate) close_range: bool,
    pub(crate) close_range_cloexec: bool,
    pub(crate) mount_setattr: bool,
    pub(crate) mount_fd: bool,
    /// A vfork child may make a time namespace that its own exec enters (Linux 6.2).
    pub(crate) time_in_vfork: bool,
}

impl Features {
    pub(crate) fn probe() -> Self {
        Self {
            clone3: clone::HAVE_CLONE3 && clone::clone3_exists(),
            close_range: fd::close_range(i32::MAX, u32::MAX, fd::CloseRange::Close).is_ok(),
            close_range_cloexec: fd::close_range(i32::MAX, u32::MAX, fd::CloseRange::Cloexec)
                .is_ok(),
            mount_setattr: mount::mount_setattr_exists(),
            mount_fd: mount_fd_exists(),
            time_in_vfork: kernel_version() >= (6, 2),
        }
    }
}

/// fsopen, open_tree and move_mount came together (Linux 5.2), but filters may differ.
fn mount_fd_exists() -> bool {
    const EMPTY: &CStr = c"";
    let cwd = rustix::fs::CWD;
    let fsopen = rustix::mount::fsopen(EMPTY, FsOpenFlags::FSOPEN_CLOEXEC);
    let open_tree = rustix::mount::open_tree(cwd, EMPTY, OpenTreeFlags::OPEN_TREE_CLOEXEC);
    let move_mount = rustix::mount::move_mount(cwd, EMPTY, cwd, EMPTY, MoveMountFlags::empty());
    let fsconfig = rustix::mount::fsconfig_set_flag(cwd, EMPTY);
    let none = MountAttrFlags::empty();
    let fsmount = rustix::mount::fsmount(cwd, FsMountFlags::FSMOUNT_CLOEXEC, none);
    // Without CAP_SYS_ADMIN all but open_tree say EPERM before they look; so does a filter, which then
    // shows itself as an error of the step that needs the call.
    [
        fsopen.err(),
        open_tree.err(),
        move_mount.err(),
        fsconfig.err(),
        fsmount.err(),
    ]
    .into_iter()
    .flatten()
    .all(|errno| errno != Errno::NOSYS)
}

/// Major and minor version of the kernel.
pub(crate) fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    parse_version(uname.release())
}

fn parse_version(release: &CStr) -> (u32, u32) {
    let text = release.to_string_lossy();
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_releases() {
        assert_eq!(parse_version(c"6.18.44-fc-v595"), (6, 18));
        assert_eq!(parse_version(c"5.10.0-32-cloud-amd64"), (5, 10));
        assert_eq!(parse_version(c"7.2-rc1"), (7, 2));
        assert_eq!(parse_version(c"x"), (0, 0));
    }
}
