//! The steps of the child, between the clone and the program.
//!
//! Descriptors are left open until exec closes them: same work, fewer calls.

use std::ffi::{CStr, CString, c_int};

use super::Row;
use super::raw::{self, Exit};

pub(super) struct Recipe {
    pub(super) row: Row,
    pub(super) kinds: c_int,
    pub(super) close_first: bool,
    pub(super) uid_map: String,
    pub(super) gid_map: String,
    pub(super) binds: Vec<Bind>,
    pub(super) program: CString,
    pub(super) argv: raw::StringList,
    pub(super) envp: raw::StringList,
}

pub(super) struct Bind {
    pub(super) source: CString,
    pub(super) target: CString,
}

impl Recipe {
    fn makes(&self, kind: c_int) -> bool {
        self.kinds & kind != 0
    }
}

/// What failed; the number is the child's exit status.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Step {
    Descriptors = 200,
    IdMaps,
    TimeOffsets,
    Loopback,
    Private,
    Filesystem,
    Directory,
    Bind,
    Attach,
    Device,
    Symlink,
    Pivot,
    Detach,
    Exec,
}

impl Step {
    const ALL: [Self; 14] = [
        Self::Descriptors,
        Self::IdMaps,
        Self::TimeOffsets,
        Self::Loopback,
        Self::Private,
        Self::Filesystem,
        Self::Directory,
        Self::Bind,
        Self::Attach,
        Self::Device,
        Self::Symlink,
        Self::Pivot,
        Self::Detach,
        Self::Exec,
    ];

    pub(super) fn of(exit: Exit) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|step| exit == Exit::Status(*step as c_int))
    }
}

pub(super) fn run(recipe: &Recipe) -> ! {
    if recipe.close_first {
        let closed = raw::close_range(3, libc::CLOSE_RANGE_UNSHARE);
        check(Step::Descriptors, closed);
    }
    if recipe.makes(libc::CLONE_NEWUSER) {
        write_file(Step::IdMaps, c"/proc/self/setgroups", b"deny");
        write_file(
            Step::IdMaps,
            c"/proc/self/uid_map",
            recipe.uid_map.as_bytes(),
        );
        write_file(
            Step::IdMaps,
            c"/proc/self/gid_map",
            recipe.gid_map.as_bytes(),
        );
    }
    if recipe.makes(libc::CLONE_NEWTIME) {
        let offsets = b"monotonic 86400 0\nboottime 86400 0";
        write_file(Step::TimeOffsets, c"/proc/self/timens_offsets", offsets);
    }
    if recipe.makes(libc::CLONE_NEWNET) {
        bring_lo_up();
    }
    if recipe.makes(libc::CLONE_NEWNS) {
        make_private();
    }
    if recipe.row >= Row::MinimalRoot {
        enter_root(recipe);
    }
    if !recipe.close_first {
        let marked = raw::close_range(3, libc::CLOSE_RANGE_CLOEXEC);
        check(Step::Descriptors, marked);
    }
    raw::set_signal_mask(0);
    let refused = raw::execve(&recipe.program, &recipe.argv, &recipe.envp);
    check(Step::Exec, refused);
    raw::exit(Step::Exec as c_int)
}

/// Nothing that is mounted from here on is seen outside, or the other way round.
fn make_private() {
    const PRIVATE: libc::mount_attr = raw::propagation(libc::MS_PRIVATE);
    let private = raw::mount_setattr(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, &PRIVATE);
    check(Step::Private, private);
}

fn enter_root(recipe: &Recipe) {
    const READ_ONLY: libc::mount_attr =
        raw::attributes(libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID);

    let root = filesystem(
        c"tmpfs",
        &[(c"mode", c"755")],
        libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
    );
    // Attached before it is filled: 6.12 and older mount nothing inside a detached tree. On "/" it
    // needs no mount point, and absolute paths still start beneath it.
    attach(root, libc::AT_FDCWD, c"/");
    check(Step::Directory, raw::fchdir(root));

    for Bind { source, target } in &recipe.binds {
        directory(target);
        let tree = raw::open_tree(source, libc::AT_RECURSIVE);
        let tree = check(Step::Bind, tree);
        let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
        let sealed = raw::mount_setattr(tree, c"", flags, &READ_ONLY);
        check(Step::Bind, sealed);
        attach(tree, libc::AT_FDCWD, target);
    }

    directory(c"proc");
    let proc_attributes =
        libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let proc = filesystem(c"proc", &[], proc_attributes);
    attach(proc, libc::AT_FDCWD, c"proc");

    if recipe.row >= Row::AllEight {
        fill_dev();
    }

    // The old root lands on top of the new one, where "." finds it.
    check(Step::Pivot, raw::pivot_root(c".", c"."));
    check(Step::Detach, raw::umount2(c".", libc::MNT_DETACH));
}

/// A plain directory: a tmpfs of its own costs 30 µs.
fn fill_dev() {
    const NODES: [(&CStr, &CStr); 6] = [
        (c"/dev/null", c"dev/null"),
        (c"/dev/zero", c"dev/zero"),
        (c"/dev/full", c"dev/full"),
        (c"/dev/random", c"dev/random"),
        (c"/dev/urandom", c"dev/urandom"),
        (c"/dev/tty", c"dev/tty"),
    ];
    const LINKS: [(&CStr, &CStr); 5] = [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
        (c"pts/ptmx", c"dev/ptmx"),
    ];

    directory(c"dev");
    for (source, target) in NODES {
        // Cheaper than open(O_CREAT), and it leaves nothing to close.
        check(Step::Device, raw::create_file(target));
        let node = check(Step::Device, raw::open_tree(source, 0));
        attach(node, libc::AT_FDCWD, target);
    }

    directory(c"dev/pts");
    // Every devpts is a new instance since 4.7.
    let pts = filesystem(
        c"devpts",
        &[(c"ptmxmode", c"0666"), (c"mode", c"0620")],
        libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
    );
    attach(pts, libc::AT_FDCWD, c"dev/pts");
    for (target, path) in LINKS {
        check(Step::Symlink, raw::symlink(target, path));
    }
}

fn bring_lo_up() {
    // The interface ioctls work on a socket of any family, and this one is the cheapest.
    let socket = check(
        Step::Loopback,
        raw::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC),
    );
    check(Step::Loopback, raw::set_interface_up(socket, c"lo"));
}

fn write_file(step: Step, path: &CStr, text: &[u8]) {
    let file = check(step, raw::open(path, libc::O_WRONLY | libc::O_CLOEXEC));
    check(step, raw::write(file, text));
}

fn directory(path: &CStr) {
    check(Step::Directory, raw::mkdir(path, 0o755));
}

fn filesystem(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> c_int {
    let context = check(Step::Filesystem, raw::fsopen(kind));
    for (key, value) in options {
        check(Step::Filesystem, raw::fsconfig_string(context, key, value));
    }
    check(Step::Filesystem, raw::fsconfig_create(context));
    check(Step::Filesystem, raw::fsmount(context, attributes))
}

fn attach(tree: c_int, directory: c_int, path: &CStr) {
    check(Step::Attach, raw::move_mount(tree, directory, path));
}

fn check(step: Step, result: isize) -> c_int {
    match c_int::try_from(result) {
        Ok(value) if value >= 0 => value,
        _ => raw::exit(step as c_int),
    }
}
