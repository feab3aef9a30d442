//! Cgroups (v2): what a group of processes may use, and has used.

mod controllers;
mod directory;
mod kill;
mod limits;
mod stats;

pub use controllers::Controllers;
pub(crate) use directory::Directory;
pub(crate) use kill::{kill, spare_caller};
pub use limits::{BlockDevice, IoLimit, Limit, Limits};
pub use stats::{CpuStats, Events, IoStats, Pressure, PressureOf, Stall, Stats};

use crate::error::{Error, ErrorKind, Result, Step};
use crate::mount::mountinfo::MountTable;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// A cgroup of the v2 hierarchy.
///
/// One that was [made](Self::create) is removed when this is dropped, if nothing runs in it any more, unless it
/// is [kept](Self::keep). [`Sandbox::into_cgroup`](crate::Sandbox::into_cgroup) starts a program in it: born
/// there, so that nothing of it was ever elsewhere; with [`Sandbox::cgroup`](crate::Sandbox::cgroup) it sees
/// itself in the root of the hierarchy.
///
/// # Privileges
/// Write access to the parent: root's, or delegated, as systemd does it for services with `Delegate=yes`.
///
/// # Examples
/// ```no_run
/// use ringfence::{Sandbox, cgroup::{Cgroup, Controllers, Limits}};
///
/// # fn main() -> ringfence::Result<()> {
/// let parent = Cgroup::open("/sys/fs/cgroup/my.service")?;
/// parent.enable(Controllers::MEMORY | Controllers::PIDS)?;
/// let cgroup = parent.create("job")?;
/// cgroup.set(&Limits::new().memory_max(512 << 20).pids_max(100))?;
/// let status = Sandbox::new().cgroup().into_cgroup(&cgroup).command("make").status()?;
/// println!("{status}, {:?}", cgroup.stats()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cgroup {
    directory: Directory,
    /// It goes with this value.
    temporary: bool,
}

impl Cgroup {
    /// An existing cgroup, by its directory.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for what is no directory of a cgroup v2 file system.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Directory::open(directory.as_ref(), "cgroup").map(|directory| Self {
            directory,
            temporary: false,
        })
    }

    /// The caller's own cgroup.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where no cgroup v2 file system is mounted that shows it.
    pub fn current() -> Result<Self> {
        let failed = |error| Error::io(Step::Cgroup, "the caller's own", error);
        let own = std::fs::read_to_string("/proc/self/cgroup").map_err(failed)?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        let table = MountTable::current()?;
        let shown = table.iter().filter(|mount| mount.fs_type() == "cgroup2");
        let path = own.and_then(|own| {
            shown
                .filter_map(|mount| {
                    let below = Path::new(own).strip_prefix(mount.root()).ok()?;
                    Some(mount.target().join(below))
                })
                .next()
        });
        match path {
            Some(path) => Self::open(path),
            None => Err(Error::other(
                ErrorKind::Unsupported,
                Step::Cgroup,
                "no cgroup v2 file system shows the caller's own",
            )),
        }
    }

    /// Makes a cgroup below this one, which must not exist yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a name that is no single component, or that the kernel takes for no cgroup; otherwise those of mkdir(2).
    pub fn create(&self, name: impl AsRef<Path>) -> Result<Self> {
        let name = name.as_ref();
        let mut parts = name.components();
        let single = matches!(
            (parts.next(), parts.next()),
            (Some(std::path::Component::Normal(part)), None) if part == name.as_os_str()
        );
        // The kernel refuses a newline, which would break the lines of /proc/PID/cgroup.
        let bytes = name.as_os_str().as_encoded_bytes();
        if !single || bytes.iter().any(|byte| matches!(byte, 0 | b'\n')) {
            let what = format!("{name:?} is not one name");
            return Err(Error::invalid("cgroup", what));
        }
        let path = self.directory.path.join(name);
        let failed = |call| {
            let path = path.clone();
            move |errno| {
                let error = Error::system(Step::Cgroup, path.display(), call, errno);
                error.with_hint(matches!(errno, Errno::ACCESS | Errno::PERM | Errno::ROFS).then(|| {
                    "this cgroup is not delegated to the caller: with systemd, run it in a scope or service with Delegate=yes".into()
                }))
            }
        };
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(&self.directory.fd, name, mode).map_err(failed("mkdirat"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.directory.fd, name, flags, Mode::empty());
        let fd = fd.map_err(failed("openat"))?;
        Ok(Self {
            directory: Directory { path, fd },
            temporary: true,
        })
    }

    /// Leaves the cgroup when this is dropped.
    #[must_use]
    pub fn keep(mut self) -> Self {
        self.temporary = false;
        self
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// The controllers that limit something here: those that the parent hands on.
    ///
    /// # Errors
    /// When the file cannot be read.
    #[doc(alias = "cgroup.controllers")]
    pub fn controllers(&self) -> Result<Controllers> {
        let text = self.directory.read("cgroup.controllers")?;
        Ok(Controllers::parse(&text.unwrap_or_default()))
    }

    /// Hands controllers on to the cgroups below.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] names a controller that is not here; `EBUSY` where processes are in the cgroup
    /// itself, which the kernel does not allow beside cgroups below it.
    #[doc(alias = "cgroup.subtree_control")]
    pub fn enable(&self, controllers: Controllers) -> Result<()> {
        self.need(controllers)?;
        let text: Vec<_> = controllers.names().map(|name| format!("+{name}")).collect();
        let written = self
            .directory
            .write("cgroup.subtree_control", &text.join(" "));
        written.map_err(|error| {
            let busy = error.raw_os_error() == Some(libc::EBUSY);
            error.with_hint(busy.then(|| {
                "there are processes in this cgroup itself: move them to one below it first".into()
            }))
        })
    }

    /// Sets limits.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] names a controller that is missing, and says where it is: on many hosts it
    /// belongs to a hierarchy of cgroup v1. Otherwise what the kernel says to a value.
    pub fn set(&self, limits: &Limits) -> Result<()> {
        let needed = limits.writes.iter().map(|write| write.controller);
        self.need(needed.collect())?;
        for write in &limits.writes {
            self.directory.write(write.file, &write.text)?;
        }
        Ok(())
    }

    /// Writes to one of its files, for what has no method here.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        self.directory.write(plain(file)?, text)
    }

    /// Reads one of its files.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be read.
    pub fn read(&self, file: &str) -> Result<String> {
        let text = self.directory.read(plain(file)?)?;
        text.ok_or_else(|| self.directory.error(file, "openat", Errno::NOENT))
    }

    /// What is used and was used.
    ///
    /// # Errors
    /// When a file cannot be read; what does not exist is no error.
    pub fn stats(&self) -> Result<Stats> {
        let read = |file| self.directory.read(file);
        let number = |file| Ok::<_, Error>(read(file)?.as_deref().and_then(stats::number));
        Ok(Stats {
            memory: number("memory.current")?,
            memory_peak: number("memory.peak")?,
            swap: number("memory.swap.current")?,
            pids: number("pids.current")?,
            cpu: read("cpu.stat")?.as_deref().map(stats::cpu),
            io: read("io.stat")?
                .as_deref()
                .map(stats::io)
                .unwrap_or_default(),
        })
    }

    /// What happened.
    ///
    /// # Errors
    /// When a file cannot be read; what does not exist is no error.
    pub fn events(&self) -> Result<Events> {
        let read = |file| self.directory.read(file);
        let own = read("cgroup.events")?.unwrap_or_default();
        let memory = read("memory.events")?.unwrap_or_default();
        let pids = read("pids.events")?.unwrap_or_default();
        Ok(Events {
            populated: stats::flag(&own, "populated"),
            frozen: stats::flag(&own, "frozen"),
            memory_max: stats::value(&memory, "max"),
            oom: stats::value(&memory, "oom"),
            oom_kill: stats::value(&memory, "oom_kill"),
            pids_max: stats::value(&pids, "max"),
        })
    }

    /// How much time is lost waiting for a resource.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the kernel does not measure it (`CONFIG_PSI`, `psi=1`).
    pub fn pressure(&self, of: PressureOf) -> Result<Pressure> {
        let missing = || {
            let what = format!(
                "{} is missing",
                self.directory.path.join(of.file()).display()
            );
            Error::other(ErrorKind::Unsupported, Step::Cgroup, what).with_hint(Some(
                "the kernel measures it with CONFIG_PSI, and the parameter psi=1 where it is off by default".into(),
            ))
        };
        match self.directory.read(of.file()) {
            Ok(Some(text)) => Ok(stats::pressure(&text)),
            Ok(None) => Err(missing()),
            // The file is there but PSI is switched off.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// The processes in it, not those below it; 0 for one of another pid namespace is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let found = kill::processes(self.directory.fd.as_fd());
        let found = found.map_err(|errno| self.directory.error("cgroup.procs", "read", errno))?;
        let number = |pid: rustix::process::Pid| pid.as_raw_nonzero().get().unsigned_abs();
        Ok(found.into_iter().map(number).collect())
    }

    /// Moves a process here; 0 is the caller's own.
    ///
    /// # Errors
    /// What the kernel says: `EBUSY` where controllers are handed on to cgroups below.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.directory.write("cgroup.procs", &pid.to_string())
    }

    /// Stops everything in it and below, and returns when nothing runs any more.
    ///
    /// # Errors
    /// `ETIMEDOUT` when something has not stopped after ten seconds; `EDEADLK` when the caller is in it itself, or
    /// below it.
    pub fn freeze(&self) -> Result<()> {
        spare_caller(&self.directory)?;
        self.directory.write("cgroup.freeze", "1")?;
        let events = directory::open(self.directory.fd.as_fd(), c"cgroup.events", OFlags::RDONLY)
            .map_err(|errno| self.directory.error("cgroup.events", "openat", errno))?;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !self.directory.is_frozen()? {
            if std::time::Instant::now() >= deadline {
                return Err(self
                    .directory
                    .error("cgroup.events", "poll", Errno::TIMEDOUT));
            }
            let mut changed = [rustix::event::PollFd::new(
                &events,
                rustix::event::PollFlags::PRI,
            )];
            let moment = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000,
            };
            // It is looked at again in any case.
            let _ = rustix::event::poll(&mut changed, Some(&moment));
        }
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn thaw(&self) -> Result<()> {
        self.directory.write("cgroup.freeze", "0")
    }

    /// Kills everything in it and below, and returns when it has ended.
    ///
    /// # Errors
    /// When something may not be killed, or has not ended ten seconds later; `EDEADLK`, and nothing is done, when the
    /// caller is in it itself, or below it.
    ///
    /// # Kernel
    /// Not by `cgroup.kill`: what is born in the cgroup afterwards would be killed as well.
    #[doc(alias = "cgroup.kill")]
    pub fn kill(&self) -> Result<()> {
        kill(&self.directory)
    }

    /// [Kills](Self::kill) everything, and removes the cgroup with all that are below it.
    ///
    /// # Errors
    /// As [`kill`](Self::kill), or when a cgroup cannot be removed.
    pub fn remove(mut self) -> Result<()> {
        self.temporary = false;
        self.kill()?;
        self.remove_empty()
            .map_err(|errno| self.directory.error("", "rmdir", errno))
    }

    fn remove_empty(&self) -> Result<(), Errno> {
        remove_below(self.directory.fd.as_fd())?;
        rustix::fs::unlinkat(rustix::fs::CWD, &self.directory.path, AtFlags::REMOVEDIR)
    }

    /// All of these have to be here.
    fn need(&self, controllers: Controllers) -> Result<()> {
        let missing = controllers - self.controllers()?;
        let Some(name) = missing.names().next() else {
            return Ok(());
        };
        let path = self.directory.path.display();
        let what = format!("{path}: the controller {name} is missing");
        let error = Error::other(ErrorKind::Unsupported, Step::Cgroup, what);
        Err(error.with_hint(Some(controllers::why_missing(&self.directory.path, &name))))
    }
}

/// A file of the cgroup's own.
fn plain(file: &str) -> Result<&str> {
    match file.contains('/') || file.contains('\0') {
        true => Err(Error::invalid(
            "cgroup",
            format!("{file:?} is no name of a file"),
        )),
        false => Ok(file),
    }
}

fn remove_below(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    for name in directory::below(directory)? {
        let child = directory::open(directory, &name, OFlags::PATH | OFlags::DIRECTORY)?;
        remove_below(child.as_fd())?;
        rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.temporary {
            // What still runs keeps it.
            let _ = self.remove_empty();
        }
    }
}

impl From<&Cgroup> for PathBuf {
    fn from(cgroup: &Cgroup) -> Self {
        cgroup.path().to_owned()
    }
}

impl AsFd for Cgroup {
    /// The directory, opened with `O_PATH`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a cgroup.
    fn fake(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        let directory = Directory::open_any(dir.path()).expect("opens");
        let temporary = false;
        (
            dir,
            Cgroup {
                directory,
                temporary,
            },
        )
    }

    #[test]
    fn limits_are_written_and_values_read() {
        let (dir, cgroup) = fake(&[
            ("cgroup.controllers", "cpu memory pids zoo\n"),
            ("memory.max", ""),
            ("pids.max", ""),
            ("memory.current", "4096\n"),
            ("pids.current", "3\n"),
            ("cpu.stat", "usage_usec 5\n"),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
            ("memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n"),
            (
                "memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
            ),
        ]);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
        let limits = Limits::new().memory_max(8192).pids_max(Limit::Unlimited);
        cgroup.set(&limits).expect("has the controllers");
        assert_eq!(
            (read("memory.max").as_str(), read("pids.max").as_str()),
            ("8192", "max")
        );
        let stats = cgroup.stats().expect("reads");
        assert_eq!(
            (stats.memory, stats.pids, stats.swap),
            (Some(4096), Some(3), None)
        );
        assert_eq!(stats.cpu.map(|cpu| cpu.time.as_micros()), Some(5));
        let events = cgroup.events().expect("reads");
        assert!(events.populated && !events.frozen);
        assert_eq!(
            (events.memory_max, events.oom_kill, events.pids_max),
            (Some(7), Some(1), None)
        );
        let pressure = cgroup.pressure(PressureOf::Memory).expect("reads");
        assert_eq!(pressure.some.total.as_micros(), 9);
        let error = cgroup
            .pressure(PressureOf::Io)
            .expect_err("is not measured");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_missing_controller_is_named() {
        let (_dir, cgroup) = fake(&[("cgroup.controllers", "cpu\n"), ("io.max", "")]);
        let device = BlockDevice { major: 8, minor: 0 };
        let limits = Limits::new()
            .cpu_weight(1)
            .io_max(device, IoLimit::new().read_bytes(1));
        let error = cgroup.set(&limits).expect_err("io is missing");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.to_string().ends_with("the controller io is missing"),
            "{error}"
        );
    }

    #[test]
    fn names_stay_below() {
        let (_dir, cgroup) = fake(&[]);
        for name in ["", ".", "..", "a/b", "/a", "a/"] {
            let error = cgroup.create(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        }
        assert!(cgroup.read("../x").is_err() && cgroup.write("a/b", "").is_err());
    }
}
