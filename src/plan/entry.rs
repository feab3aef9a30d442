//! What is put into the root, one operation for each entry.

use super::op::{Action, Bind, FileSystem, MAX_LOWERS, Op, Overlay, Source, Upper};
use super::place::{EMPTY, Links, Place, c_path, c_string};
use crate::error::{Error, Result, Step};
use crate::mount::{Attributes, Tree};
use crate::ns::{Kind, Namespaces};
use crate::sandbox::rootfs::{BindSource, Entry, Tmpfs, What};
use crate::sandbox::{HidePid, Proc, overlay};
use rustix::mount::MountAttrFlags;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Nothing on a file system of the kernel's own is a program or a device.
const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
/// What a remount can add on every kernel.
const REMOUNTABLE: Attributes = Attributes::READ_ONLY
    .union(Attributes::NOSUID)
    .union(Attributes::NODEV)
    .union(Attributes::NOEXEC)
    .union(Attributes::NOSYMFOLLOW);

pub(super) fn op(step: Step, object: impl Display, action: Action) -> Op {
    Op {
        step,
        object: object.to_string(),
        action,
    }
}

/// Compiles entries, and keeps in mind what they make.
pub(super) struct Entries {
    namespaces: Namespaces,
    fresh: Fresh,
    /// How many trees of a spawn are not the caller's.
    pub(super) first_tree: usize,
}

impl Entries {
    pub(super) fn new(namespaces: Namespaces, empty_root: bool) -> Self {
        Self {
            namespaces,
            fresh: Fresh {
                empty_root,
                ..Fresh::default()
            },
            first_tree: 0,
        }
    }

    fn place(&mut self, entry: &Entry) -> Result<Place> {
        let setter = entry.what.setter();
        let links = match entry.what {
            // What the kernel makes must be where its path says, or it hides nothing.
            What::Proc(_)
            | What::Sysfs { .. }
            | What::Mqueue
            | What::Devpts
            | What::Cgroup2 { .. }
            | What::BinfmtMisc
            | What::Dev => Links::Refuse,
            _ => Links::Follow,
        };
        let mut at = Place::new(&entry.at, links).map_err(|what| Error::invalid(setter, what))?;
        if at.steps.is_empty() {
            return Err(Error::invalid(setter, "the root itself is set by rootfs"));
        }
        at.fresh = self.fresh.note(&at, matches!(entry.what, What::Dir { .. }));
        Ok(at)
    }

    /// What is mounted at the place of an entry no longer shows what is mounted on it elsewhere.
    pub(super) fn cut_off(entry: &Entry) -> Result<Op> {
        let setter = entry.what.setter();
        let at =
            Place::new(&entry.at, Links::Follow).map_err(|what| Error::invalid(setter, what))?;
        let object = format!("what is mounted at {} private", entry.at.display());
        Ok(op(Step::Propagation, object, Action::CutOff { at }))
    }

    /// The directory that an entry will be mounted on later.
    pub(super) fn mount_point(&mut self, entry: &Entry) -> Result<Op> {
        let at = self.place(entry)?;
        let object = format!("{}, to mount on", entry.at.display());
        if let What::Bind {
            source: BindSource::Data { .. },
            ..
        } = &entry.what
        {
            let (bytes, mode) = (Arc::new([]), 0o644);
            return Ok(op(Step::File, object, Action::File { at, bytes, mode }));
        }
        Ok(op(Step::Dir, object, Action::Dir { at, mode: 0o755 }))
    }

    pub(super) fn compile(&mut self, entry: &Entry, trees: &mut Vec<Arc<Tree>>) -> Result<Op> {
        let setter = entry.what.setter();
        let at = self.place(entry)?;
        let shown = entry.at.display();
        let needs_own = |kind| needs_own(setter, self.namespaces, kind);
        let userns = self.namespaces.contains(Namespaces::USER);
        Ok(match &entry.what {
            What::Bind {
                source, options, ..
            } => {
                let (source, name) = self.bind_source(setter, source, trees)?;
                let attributes = bind_attributes(*options);
                let how = match (attributes & libc::MOUNT_ATTR_RDONLY, options.optional) {
                    (0, false) => "",
                    (0, true) => ", if it exists",
                    (_, false) => ", read-only",
                    (_, true) => ", read-only, if it exists",
                };
                op(
                    Step::Bind,
                    format!("{name} at {shown}{how}"),
                    Action::Bind(Bind {
                        source,
                        attributes,
                        optional: options.optional,
                        at,
                    }),
                )
            }
            What::Tmpfs(tmpfs) => op(
                Step::Tmpfs,
                format!("{shown}, {}", describe_tmpfs(tmpfs)),
                Action::Mount {
                    file_system: tmpfs_args(setter, tmpfs)?,
                    at,
                },
            ),
            What::Proc(proc) => {
                needs_own(Kind::Pid)?;
                let file_system = FileSystem::new(c"proc", proc_options(*proc), INERT)?;
                op(Step::Proc, shown, Action::Mount { file_system, at })
            }
            What::Sysfs { writable } => {
                needs_own(Kind::Net)?;
                let (attributes, object) = if *writable {
                    (INERT, format!("{shown}, writable"))
                } else {
                    let read_only = INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
                    (read_only, shown.to_string())
                };
                let file_system = FileSystem::new(c"sysfs", vec![], attributes)?;
                op(Step::Sysfs, object, Action::Mount { file_system, at })
            }
            What::Mqueue => {
                needs_own(Kind::Ipc)?;
                let file_system = FileSystem::new(c"mqueue", vec![], INERT)?;
                op(Step::Mqueue, shown, Action::Mount { file_system, at })
            }
            What::Cgroup2 { writable } => {
                needs_own(Kind::Cgroup)?;
                let (attributes, how) = if *writable {
                    (INERT, "writable")
                } else {
                    (INERT | MountAttrFlags::MOUNT_ATTR_RDONLY, "read-only")
                };
                let file_system = FileSystem::new(c"cgroup2", vec![], attributes)?;
                let object = format!("{shown}, {how}");
                op(Step::Cgroup2, object, Action::Mount { file_system, at })
            }
            What::Devpts => {
                let file_system = devpts()?;
                op(Step::Devpts, shown, Action::Mount { file_system, at })
            }
            What::Overlay(overlay) => {
                let object = format!("{} at {shown}", describe_overlay(overlay));
                let mut overlay = overlay_args(setter, overlay, userns)?;
                overlay.attributes =
                    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                op(Step::Overlay, object, Action::Overlay { overlay, at })
            }
            What::Dev => {
                let attributes =
                    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                let mode = (c"mode", Some("755".to_owned()));
                let action = Action::Dev {
                    file_system: FileSystem::new(c"tmpfs", vec![mode], attributes)?,
                    devpts: devpts()?,
                    at,
                };
                op(Step::Dev, shown, action)
            }
            What::Mask { optional } => {
                let mode = (c"mode", Some("555".to_owned()));
                let attributes = INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
                let empty = FileSystem::new(c"tmpfs", vec![mode], attributes)?;
                let object = if_any(shown.to_string(), *optional);
                let optional = *optional;
                op(
                    Step::Mask,
                    object,
                    Action::Mask {
                        empty,
                        at,
                        optional,
                    },
                )
            }
            What::Remount {
                attributes,
                optional,
            } => {
                let refused = *attributes - REMOUNTABLE;
                if attributes.is_empty() || !refused.is_empty() {
                    return Err(Error::invalid(
                        setter,
                        format!("takes ro, nosuid, nodev, noexec, nosymfollow, not \"{refused}\""),
                    ));
                }
                op(
                    Step::Remount,
                    if_any(format!("{shown}, {attributes}"), *optional),
                    Action::Remount {
                        attributes: attributes.kernel(),
                        at,
                        optional: *optional,
                    },
                )
            }
            What::Symlink { target } => {
                match target.as_os_str().len() {
                    0 => return Err(Error::invalid(setter, "the target is empty")),
                    1..4096 => {}
                    _ => {
                        return Err(Error::invalid(
                            setter,
                            "the target is longer than 4095 bytes",
                        ));
                    }
                }
                op(
                    Step::Symlink,
                    format!("{shown} -> {}", target.display()),
                    Action::Symlink {
                        target: bytes(setter, target)?,
                        at,
                    },
                )
            }
            What::Dir { mode } => op(
                Step::Dir,
                format!("{shown}, mode {mode:04o}"),
                Action::Dir {
                    at,
                    mode: check_mode(setter, *mode)?,
                },
            ),
            What::File { bytes, mode } => op(
                Step::File,
                format!("{shown}, {} bytes, mode {mode:04o}", bytes.len()),
                Action::File {
                    at,
                    bytes: bytes.clone(),
                    mode: check_mode(setter, *mode)?,
                },
            ),
            What::BinfmtMisc => {
                if !userns {
                    return Err(Error::invalid(
                        setter,
                        "without user() it would be that of the whole system",
                    ));
                }
                let file_system = FileSystem::new(c"binfmt_misc", vec![], INERT)?;
                op(Step::BinfmtMisc, shown, Action::Mount { file_system, at })
            }
            What::Write { bytes, .. } => op(
                Step::BinfmtMisc,
                format!("{:?} to {shown}", String::from_utf8_lossy(bytes)),
                Action::Write {
                    at,
                    bytes: bytes.clone(),
                },
            ),
            What::Chmod { mode } => op(
                Step::Chmod,
                format!("{shown}, mode {mode:04o}"),
                Action::Chmod {
                    at,
                    mode: check_mode(setter, *mode)?,
                },
            ),
            What::FileFrom { fd, mode } => op(
                Step::File,
                format!("{shown} from {}, mode {mode:04o}", name_of(fd)),
                Action::FileFrom {
                    at,
                    from: Arc::clone(fd),
                    mode: check_mode(setter, *mode)?,
                },
            ),
        })
    }

    fn bind_source(
        &self,
        setter: &'static str,
        from: &BindSource,
        trees: &mut Vec<Arc<Tree>>,
    ) -> Result<(Source, String)> {
        match from {
            BindSource::Path(path) => Ok((
                Source::Path(source(setter, path)?),
                path.display().to_string(),
            )),
            BindSource::Fd(fd) => checked(setter, fd),
            BindSource::Tree(tree) => {
                let index = self.first_tree + trees.len();
                trees.push(Arc::clone(tree));
                Ok((Source::Tree { index }, "a copy of a mount tree".into()))
            }
            BindSource::Data { bytes, mode } => {
                let object = format!("{} bytes in memory, mode {mode:04o},", bytes.len());
                let source = Source::Data {
                    bytes: Arc::clone(bytes),
                    mode: check_mode(setter, *mode)?,
                };
                Ok((source, object))
            }
        }
    }
}

fn if_any(mut object: String, optional: bool) -> String {
    if optional {
        object.push_str(", if it exists");
    }
    object
}

pub(super) fn bind_attributes(options: crate::sandbox::Bind) -> u64 {
    [
        (options.read_only, libc::MOUNT_ATTR_RDONLY),
        (!options.suid, libc::MOUNT_ATTR_NOSUID),
        (!options.dev, libc::MOUNT_ATTR_NODEV),
        (options.noexec, libc::MOUNT_ATTR_NOEXEC),
        (options.nosymfollow, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ]
    .into_iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |attributes, (_, attribute)| attributes | attribute)
}

/// How people know a descriptor.
fn name_of(fd: &OwnedFd) -> String {
    let number = fd.as_raw_fd();
    match std::fs::read_link(format!("/proc/self/fd/{number}")) {
        Ok(path) => format!("descriptor {number} ({})", path.display()),
        Err(_) => format!("descriptor {number}"),
    }
}

fn checked(setter: &'static str, fd: &Arc<OwnedFd>) -> Result<(Source, String)> {
    let name = name_of(fd);
    let refuse = |what: String| Error::invalid(setter, format!("{name}: {what}"));
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_err(|error| refuse(error.to_string()))?;
    let stat = rustix::fs::fstat(fd).map_err(|errno| refuse(errno.to_string()))?;
    let found = rustix::fs::stat(&path).ok();
    if found.is_none_or(|found| (found.st_dev, found.st_ino) != (stat.st_dev, stat.st_ino)) {
        return Err(refuse(
            "no path leads to it, as it is deleted, or mounted nowhere that the caller can see"
                .into(),
        ));
    }
    let source = Source::Checked {
        path: bytes(setter, &path)?,
        device: stat.st_dev,
        inode: stat.st_ino,
        _held: Arc::clone(fd),
    };
    Ok((source, name))
}

fn proc_options(proc: Proc) -> Vec<(&'static CStr, Option<String>)> {
    let mut options = Vec::new();
    if proc.subset_pid {
        options.push((c"subset", Some("pid".to_owned())));
    }
    if let Some(hidepid) = proc.hidepid {
        let number = match hidepid {
            HidePid::Off => 0,
            HidePid::NoAccess => 1,
            HidePid::Invisible => 2,
            HidePid::Ptraceable => 4,
        };
        options.push((c"hidepid", Some(number.to_string())));
    }
    options
}

fn devpts() -> Result<FileSystem> {
    FileSystem::new(
        c"devpts",
        vec![
            (c"newinstance", None),
            (c"ptmxmode", Some("0666".into())),
            (c"mode", Some("0620".into())),
        ],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}

impl FileSystem {
    /// The values contain no comma.
    fn new(
        kind: &'static CStr,
        options: Vec<(&'static CStr, Option<String>)>,
        attributes: MountAttrFlags,
    ) -> Result<Self> {
        let string =
            |text: &str| c_string(text.as_bytes()).map_err(|what| Error::invalid("rootfs", what));
        let words: Vec<String> = options
            .iter()
            .map(|(key, value)| match value {
                Some(value) => format!("{}={value}", key.to_string_lossy()),
                None => key.to_string_lossy().into_owned(),
            })
            .collect();
        Ok(Self {
            kind,
            data: string(&words.join(","))?,
            options: options
                .into_iter()
                .map(|(key, value)| Ok((key, value.as_deref().map(string).transpose()?)))
                .collect::<Result<_>>()?,
            attributes,
        })
    }
}

/// A file system that shows a namespace belongs to it: inside a new user namespace only its own can
/// be mounted.
fn needs_own(setter: &'static str, namespaces: Namespaces, kind: Kind) -> Result<()> {
    if namespaces.contains(Namespaces::USER) && !namespaces.contains(kind.into()) {
        return Err(Error::invalid(
            setter,
            format!("with user() it needs a new {kind} namespace as well, asked for by {kind}()"),
        ));
    }
    Ok(())
}

fn check_mode(setter: &'static str, mode: u32) -> Result<u32> {
    if mode > 0o7777 {
        return Err(Error::invalid(
            setter,
            format!("mode {mode:o} is more than 7777"),
        ));
    }
    Ok(mode)
}

pub(super) fn tmpfs_args(setter: &'static str, tmpfs: &Tmpfs) -> Result<FileSystem> {
    let mode = check_mode(setter, tmpfs.mode.unwrap_or(0o1777))?;
    let mut options = vec![(c"mode", Some(format!("{mode:o}")))];
    for (key, name, limit) in [
        (c"size", "size", tmpfs.size),
        (c"nr_inodes", "inodes", tmpfs.inodes),
    ] {
        match limit {
            // To the kernel it would mean no limit at all.
            Some(0) => return Err(Error::invalid(setter, format!("{name} of a tmpfs is 0"))),
            Some(limit) => options.push((key, Some(limit.to_string()))),
            None => {}
        }
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    FileSystem::new(c"tmpfs", options, attributes)
}

pub(super) fn overlay_args(
    setter: &'static str,
    overlay: &overlay::Overlay,
    userxattr: bool,
) -> Result<Overlay> {
    let lowers = overlay
        .lowers
        .iter()
        .map(|path| source(setter, path))
        .collect::<Result<Box<[_]>>>()?;
    if lowers.len() > MAX_LOWERS {
        return Err(Error::invalid(
            setter,
            format!("{} layers, {MAX_LOWERS} at most", lowers.len()),
        ));
    }
    let upper = match &overlay.upper {
        overlay::Upper::None if lowers.len() < 2 => {
            return Err(Error::invalid(
                setter,
                "an overlay that is never written to needs two lower directories; one is a bind_ro",
            ));
        }
        overlay::Upper::None => Upper::None,
        overlay::Upper::Dirs { upper, work } => Upper::Dirs {
            upper: source(setter, upper)?,
            work: source(setter, work)?,
        },
        overlay::Upper::Throwaway(tmpfs) => Upper::Throwaway(tmpfs_args(setter, tmpfs)?),
    };
    Ok(Overlay {
        lowers,
        upper,
        userxattr,
        attributes: MountAttrFlags::empty(),
    })
}

pub(super) fn describe_overlay(overlay: &overlay::Overlay) -> String {
    let lowers: Vec<String> = overlay
        .lowers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let writes = match &overlay.upper {
        overlay::Upper::None => "read-only".to_owned(),
        overlay::Upper::Dirs { upper, .. } => format!("written to {}", upper.display()),
        overlay::Upper::Throwaway(_) => "written to memory".to_owned(),
    };
    format!("overlay of {}, {writes}", lowers.join(", "))
}

pub(super) fn describe_tmpfs(tmpfs: &Tmpfs) -> String {
    let mut text = format!("tmpfs, mode {:04o}", tmpfs.mode.unwrap_or(0o1777));
    if let Some(size) = tmpfs.size {
        text.push_str(&format!(", at most {size} bytes"));
    }
    if let Some(inodes) = tmpfs.inodes {
        text.push_str(&format!(", at most {inodes} inodes"));
    }
    text
}

fn bytes(setter: &'static str, path: &Path) -> Result<CString> {
    c_string(path.as_os_str().as_bytes()).map_err(|what| Error::invalid(setter, what))
}

/// A path of the caller's, made absolute now.
pub(super) fn source(setter: &'static str, path: &Path) -> Result<CString> {
    if path.as_os_str().is_empty() {
        return Err(Error::invalid(setter, EMPTY));
    }
    let path = std::path::absolute(path)
        .map_err(|error| Error::invalid(setter, format!("{}: {error}", path.display())))?;
    c_path(path.as_os_str()).map_err(|what| Error::invalid(setter, what))
}

/// What is known to be missing from a root that starts empty, so that the child need not look.
#[derive(Default)]
struct Fresh {
    empty_root: bool,
    seen: HashSet<CString>,
    plain_dirs: HashSet<CString>,
}

impl Fresh {
    /// Notes that an entry is made at a place; says whether nothing was there before.
    fn note(&mut self, at: &Place, plain_dir: bool) -> bool {
        let in_known_dir = match at.steps.as_ref() {
            [_] => true,
            [.., parent, _] => self.plain_dirs.contains(&parent.prefix),
            [] => false,
        };
        // Missing parents are made as well, so they are no longer missing.
        for step in &at.steps[..at.steps.len() - 1] {
            self.seen.insert(step.prefix.clone());
        }
        let fresh = self.empty_root && in_known_dir && self.seen.insert(at.path.clone());
        if fresh && plain_dir {
            self.plain_dirs.insert(at.path.clone());
        } else if !fresh && !plain_dir {
            // It may cover any of them: by its own path those at and below it, through a link any other. What covers
            // them may be in the reach of others.
            self.plain_dirs.clear();
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::place::Links;

    #[test]
    fn knows_what_is_missing() {
        let mut fresh = Fresh {
            empty_root: true,
            ..Fresh::default()
        };
        let mut note = |path: &str, plain_dir| {
            let at = Place::new(Path::new(path), Links::Follow).expect("valid");
            fresh.note(&at, plain_dir)
        };
        assert!(note("/a", true));
        assert!(note("/a/b", false));
        assert!(!note("/a/b", false));
        assert!(!note("/a/b/c", false));
        assert!(!note("/x/y", false));
        assert!(!note("/x", true));
        // Covered: what is below is no longer the new root's, however deep.
        assert!(note("/f", true));
        assert!(note("/f/e", true));
        assert!(note("/f/e/f", true));
        assert!(!note("/f", false));
        assert!(!note("/f/d", true));
        assert!(!note("/f/e/g", true));
        assert!(!note("/f/e/f/g", true));
        // Through a link any of them may be.
        assert!(note("/d", true));
        assert!(note("/l", false));
        assert!(note("/d/e", true));
        assert!(!note("/l/d", false));
        assert!(!note("/d/e/f", true));
        assert!(!note("/d/f", true));
        assert!(note("/e", true));
    }
}
