//! What is put into the sandbox, in the order of the command line.

use crate::options::Options;
use crate::tool::{Result, fail, with_cause};
use ringfence::lockdown::Hardening;
use ringfence::{Bind, Namespaces, Overlay, Rootfs, Sandbox, Tmpfs};
use rustix::termios::ttyname;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Setup {
    Bind {
        source: PathBuf,
        at: PathBuf,
        options: Bind,
        optional: bool,
    },
    BindFd {
        fd: Arc<OwnedFd>,
        at: PathBuf,
        options: Bind,
    },
    RemountReadOnly(PathBuf),
    Overlay {
        /// The lowest first.
        lowers: Vec<PathBuf>,
        upper: Option<(PathBuf, PathBuf)>,
        throwaway: bool,
        at: PathBuf,
    },
    Proc(PathBuf),
    Dev(PathBuf),
    Mqueue(PathBuf),
    Tmpfs {
        at: PathBuf,
        mode: u32,
        size: Option<u64>,
    },
    Dir {
        at: PathBuf,
        mode: u32,
    },
    File {
        bytes: Vec<u8>,
        at: PathBuf,
        mode: u32,
    },
    BindData {
        bytes: Vec<u8>,
        at: PathBuf,
        mode: u32,
        read_only: bool,
    },
    Symlink {
        target: PathBuf,
        at: PathBuf,
    },
    Chmod {
        mode: u32,
        at: PathBuf,
    },
}

/// Parts of `/proc` that bubblewrap makes read-only.
const READ_ONLY: [&str; 4] = ["sys", "sysrq-trigger", "irq", "bus"];

/// The file system.
pub(crate) fn file_system(sandbox: Sandbox, options: &Options) -> Result<Sandbox> {
    let setup = with_sources(&options.setup)?;
    // What is put below something that the whole root is then covered by is not seen.
    let root = setup
        .iter()
        .rposition(|setup| setup.root().is_some())
        .map(|at| (at, setup[at].root()));
    let (rootfs, entries) = match root {
        Some((at, Some(rootfs))) => (rootfs?, &setup[at + 1..]),
        _ => (Rootfs::from(Tmpfs::new().mode(0o755)), &setup[..]),
    };
    let is_read_only = entries.iter().any(Setup::makes_root_read_only);
    let rootfs = if is_read_only {
        rootfs.read_only()
    } else {
        rootfs
    };
    let hardening = READ_ONLY
        .iter()
        .map(|name| Path::new("/proc").join(name))
        .fold(Hardening::new(), Hardening::read_only);
    let mut sandbox = sandbox.rootfs(rootfs).harden(hardening);
    for entry in entries.iter().filter(|entry| !entry.makes_root_read_only()) {
        entry.check(options.new)?;
        sandbox = match entry {
            Setup::Proc(at) if !options.has_own_pids() => callers_proc(sandbox, at),
            entry => entry.put_into(sandbox)?,
        };
    }
    Ok(sandbox)
}

/// The same with sources as they are found now; what may be missing and is has gone.
fn with_sources(setup: &[Setup]) -> Result<Vec<Setup>> {
    let mut found = Vec::with_capacity(setup.len());
    for one in setup {
        let mut one = one.clone();
        if let Setup::Bind {
            source, optional, ..
        } = &mut one
        {
            match source.canonicalize() {
                Ok(path) => *source = path,
                Err(error) if *optional && error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let what = format!("Can't find source path {}", source.display());
                    return fail(with_cause(what, &error));
                }
            }
        }
        found.push(one);
    }
    Ok(found)
}

impl Setup {
    pub(crate) fn at(&self) -> &Path {
        match self {
            Self::RemountReadOnly(at) | Self::Proc(at) | Self::Dev(at) | Self::Mqueue(at) => at,
            Self::Bind { at, .. }
            | Self::BindFd { at, .. }
            | Self::Overlay { at, .. }
            | Self::Tmpfs { at, .. }
            | Self::Dir { at, .. }
            | Self::File { at, .. }
            | Self::BindData { at, .. }
            | Self::Symlink { at, .. }
            | Self::Chmod { at, .. } => at,
        }
    }

    /// The root that it makes, if it covers that.
    fn root(&self) -> Option<Result<Rootfs>> {
        let top = Path::new("/");
        Some(match self {
            Self::Bind {
                source,
                at,
                options,
                ..
            } if at == top => Ok(Rootfs::bind(source, *options)),
            Self::BindFd { fd, at, options } if at == top => {
                let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
                match std::fs::read_link(link) {
                    Ok(path) => Ok(Rootfs::bind(path, *options)),
                    Err(error) => fail(with_cause("Can't bind mount on /newroot/", &error)),
                }
            }
            Self::Tmpfs { at, mode, size } if at == top => Ok(tmpfs(*mode, *size).into()),
            Self::Overlay {
                lowers,
                upper,
                throwaway,
                at,
            } if at == top => overlay(lowers, upper.as_ref(), *throwaway).map(Rootfs::overlay),
            _ => return None,
        })
    }

    fn makes_root_read_only(&self) -> bool {
        matches!(self, Self::RemountReadOnly(at) if at == Path::new("/"))
    }

    /// What the kernel does not permit, and the library does not even try.
    fn check(&self, new: Namespaces) -> Result<()> {
        match self {
            Self::Mqueue(at)
                if new.contains(Namespaces::USER) && !new.contains(Namespaces::IPC) =>
            {
                let at = at.display();
                fail(format!(
                    "Can't mount mqueue on /newroot{at}: Operation not permitted"
                ))
            }
            _ => Ok(()),
        }
    }

    fn put_into(&self, sandbox: Sandbox) -> Result<Sandbox> {
        Ok(match self.clone() {
            Self::Bind {
                source,
                at,
                options,
                ..
            } => sandbox.bind_with(source, at, options),
            Self::BindFd { fd, at, options } => sandbox.bind_fd(fd, at, options),
            Self::RemountReadOnly(at) => sandbox.read_only(at),
            Self::Overlay {
                lowers,
                upper,
                throwaway,
                at,
            } => sandbox.overlay(at, overlay(&lowers, upper.as_ref(), throwaway)?),
            Self::Proc(at) => sandbox.proc(at),
            Self::Dev(at) => dev(sandbox, &at),
            Self::Mqueue(at) => sandbox.mqueue(at),
            Self::Tmpfs { at, mode, size } => sandbox.tmpfs_with(at, tmpfs(mode, size)),
            Self::Dir { at, mode } => sandbox.dir_with_mode(at, mode),
            Self::File { bytes, at, mode } => sandbox.file_with_mode(at, bytes, mode),
            Self::BindData {
                bytes,
                at,
                mode,
                read_only,
            } => {
                let options = if read_only {
                    Bind::new().read_only()
                } else {
                    Bind::new()
                };
                sandbox.bind_data(bytes, at, mode, options)
            }
            Self::Symlink { target, at } => sandbox.symlink(target, at),
            Self::Chmod { mode, at } => sandbox.chmod(at, mode),
        })
    }
}

fn tmpfs(mode: u32, size: Option<u64>) -> Tmpfs {
    let tmpfs = Tmpfs::new().mode(mode);
    match size {
        Some(size) => tmpfs.size(size),
        None => tmpfs,
    }
}

fn overlay(
    lowers: &[PathBuf],
    upper: Option<&(PathBuf, PathBuf)>,
    throwaway: bool,
) -> Result<Overlay> {
    let Some((top, below)) = lowers.split_last() else {
        return fail("an overlay needs a layer");
    };
    let overlay = below.iter().rev().fold(Overlay::new(top), Overlay::lower);
    Ok(match upper {
        Some((upper, work)) => overlay.upper(upper, work),
        None if throwaway => overlay.throwaway(),
        None => overlay,
    })
}

/// The caller's, which shows the same processes.
fn callers_proc(sandbox: Sandbox, at: &Path) -> Sandbox {
    let there = READ_ONLY
        .iter()
        .filter(|name| Path::new("/proc").join(name).exists());
    let sandbox = sandbox.bind_with("/proc", at, Bind::new());
    there.fold(sandbox, |sandbox, name| sandbox.read_only(at.join(name)))
}

/// With two things more than the library's: a link to the kernel's memory, and the terminal of standard output.
fn dev(sandbox: Sandbox, at: &Path) -> Sandbox {
    let sandbox = sandbox.dev(at).symlink("/proc/kcore", at.join("core"));
    match ttyname(std::io::stdout(), Vec::new()) {
        Ok(terminal) => {
            let terminal = PathBuf::from(OsString::from_vec(terminal.into_bytes()));
            sandbox.dev_bind(terminal, at.join("console"))
        }
        Err(_) => sandbox,
    }
}
