//! Network namespaces by names, as ip-netns(8) has them: pins in `/run/netns`, which it finds, and whose own are
//! found here.
//!
//! # Privileges
//! `CAP_SYS_ADMIN` in the user namespace that owns the caller's mount namespace, but for what only looks.
//!
//! # Examples
//! ```no_run
//! use ringfence::net::named;
//!
//! # fn main() -> ringfence::Result<()> {
//! named::add("blue")?;
//! named::command("blue", "ip")?.arg("addr").status()?;
//! named::delete("blue")?;
//! # Ok(())
//! # }
//! ```

use super::told::Teller;
use crate::error::{Error, Result, Step};
use crate::ns::{Kind, Namespace, NamespaceIds, Net, netns_names, unpin_netns};
use crate::sandbox::{Command, Sandbox};
use rustix::fs::StatVfsMountFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

const DIRECTORY: &str = "/run/netns";
/// Where each name may have files for those of `/etc`.
const ETC: &str = "/etc/netns";
const SYS: &str = "/sys";
/// `USER_NS_INIT_INO` of <linux/nsfs.h>.
const INITIAL_USER: u64 = 0xEFFF_FFFD;

/// Makes a namespace of this name, with its loopback interface up (ip-netns(8) leaves it down).
///
/// # Errors
/// Those of [`Namespace::create`] and [`Namespace::pin_netns`].
pub fn add(name: &str) -> Result<Namespace<Net>> {
    let namespace = Namespace::<Net>::create()?;
    let _ = namespace.pin_netns(name)?.keep();
    Ok(namespace)
}

/// Gives the namespace of a process this name.
///
/// # Errors
/// Those of [`Namespace::of_pid`] and [`Namespace::pin_netns`].
pub fn attach(name: &str, pid: u32) -> Result<Namespace<Net>> {
    let namespace = Namespace::<Net>::of_pid(pid)?;
    let _ = namespace.pin_netns(name)?.keep();
    Ok(namespace)
}

/// The names, in order. Those that are not UTF-8 are left out.
///
/// # Errors
/// Those of [`netns_names`].
pub fn list() -> Result<Vec<String>> {
    let names = netns_names()?.into_iter();
    Ok(names.filter_map(|name| name.into_string().ok()).collect())
}

/// Opens the one of this name.
///
/// # Errors
/// Those of [`Namespace::open_netns`].
pub fn open(name: &str) -> Result<Namespace<Net>> {
    Namespace::open_netns(name)
}

/// Takes the name away. The namespace lives on as long as something else holds it.
///
/// # Errors
/// Those of [`unpin_netns`].
pub fn delete(name: &str) -> Result<()> {
    unpin_netns(name)
}

/// The names of the namespace that a process is in; there may be several, or none.
///
/// # Errors
/// Those of [`Namespace::of_pid`].
pub fn identify(pid: u32) -> Result<Vec<String>> {
    let namespace = Namespace::<Net>::of_pid(pid)?;
    // A name may go meanwhile.
    let is_it = |name: &String| open(name).is_ok_and(|named| named == namespace);
    Ok(list()?.into_iter().filter(is_it).collect())
}

/// The processes in the namespace of this name, as far as the caller may look.
///
/// # Errors
/// Those of [`open`].
pub fn pids(name: &str) -> Result<Vec<u32>> {
    let id = open(name)?.id();
    let failed = |error| Error::io(Step::Namespace, "/proc", error);
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        let Some(pid) = file.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended, or be another user's.
        let found = NamespaceIds::of_pid(pid)
            .ok()
            .and_then(|ids| ids.get(Kind::Net));
        pids.extend((found == Some(id)).then_some(pid));
    }
    pids.sort_unstable();
    Ok(pids)
}

/// A program to run in the namespace of this name, as `ip netns exec` does: in a mount namespace of its own, in which `/sys`
/// shows this network namespace and each file or directory in `/etc/netns/NAME` lies over that of the same name in
/// `/etc`, where there is one.
///
/// `/sys` is as ip-netns(8) makes it, but for nosuid, nodev and noexec: it can be written, below `/sys/class/net` and,
/// for root, everywhere else as well. In a user namespace it is read-only if that of the caller is, since the kernel lets
/// none be hidden behind a writable one. For less there is [`Sandbox::join`] with [`Sandbox::sysfs`].
///
/// # Errors
/// Those of [`open`], and what reading that directory gives; it is no error if it is missing.
pub fn command(name: &str, program: impl AsRef<OsStr>) -> Result<Command> {
    let namespace = open(name)?;
    let sandbox = Sandbox::new().join(&namespace).mount();
    let mut sandbox = match can_write_sys() {
        true => sandbox.sysfs_writable(SYS),
        false => sandbox.sysfs(SYS),
    };
    let directory = Path::new(ETC).join(name);
    let failed = |error| Error::io(Step::Bind, directory.display(), error);
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.map_err(failed)?),
    };
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(failed)?;
        let over = Path::new("/etc").join(entry.file_name());
        if over.exists() {
            sandbox = sandbox.bind(entry.path(), over);
        }
    }
    Ok(sandbox.command(program))
}

/// Whether a new `/sys` may be written, where ip-netns(8) finds out by unmounting the old one.
fn can_write_sys() -> bool {
    let ids = NamespaceIds::current().ok();
    let user = ids.and_then(|ids| ids.get(Kind::User));
    let is_initial = user.is_some_and(|user| user.inode() == INITIAL_USER);
    let is_read_only = || {
        let found = rustix::fs::statvfs(SYS);
        found.is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
    };
    is_initial || !is_read_only()
}

/// What became of a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// It is there.
    Added(String),
    /// It is gone.
    Deleted(String),
    /// There was more than the kernel keeps, and some of it is lost: [`list`] tells which names there are.
    Lost,
}

/// Tells when names come and go. Those that are not UTF-8 are left out.
///
/// It ends when it is dropped. To wait for something else as well, poll its descriptor, which is readable when there is
/// something to tell, and take that by [`try_next`](Self::try_next).
///
/// # Examples
/// ```no_run
/// use ringfence::net::named::{self, Event, Monitor};
/// use std::time::Duration;
///
/// # fn main() -> ringfence::Result<()> {
/// // First, so that none is missed between the two.
/// let mut monitor = Monitor::new()?;
/// println!("{:?}", named::list()?);
/// while let Some(event) = monitor.wait_timeout(Duration::from_secs(10))? {
///     match event {
///         Event::Added(name) => println!("{name} is there"),
///         Event::Deleted(name) => println!("{name} is gone"),
///         Event::Lost => println!("{:?}", named::list()?),
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// See [inotify(7)](https://man7.org/linux/man-pages/man7/inotify.7.html).
#[derive(Debug)]
#[doc(alias = "inotify")]
pub struct Monitor {
    inotify: OwnedFd,
    /// What was read and not yet told.
    events: VecDeque<Event>,
    /// The directory is gone, and nothing more comes.
    is_over: bool,
}

impl Monitor {
    /// From now on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there has never been a name, and so no directory for them.
    pub fn new() -> Result<Self> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).map_err(failed("inotify_init1"))?;
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, DIRECTORY, flags).map_err(failed("inotify_add_watch"))?;
        Ok(Self {
            inotify: fd,
            events: VecDeque::new(),
            is_over: false,
        })
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the directory of the names is gone or has been unmounted, and
    /// what read(2) gives.
    pub fn wait(&mut self) -> Result<Event> {
        self.take()
    }

    /// Waits for the next change, but no longer than this; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<Event>> {
        self.take_until(Instant::now().checked_add(limit))
    }

    /// The next change if there is one.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        if self.events.is_empty() && !self.is_over {
            self.read()?;
        }
        match self.events.pop_front() {
            None if self.is_over => Err(failed("read")(Errno::NOENT)),
            event => Ok(event),
        }
    }

    /// What there is; it does not wait.
    fn read(&mut self) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                other => other.map_err(failed("read"))?,
            };
            let has = |flag| event.events().contains(flag);
            let name = event.file_name().and_then(|name| name.to_str().ok());
            self.is_over |= has(ReadFlags::IGNORED);
            if has(ReadFlags::QUEUE_OVERFLOW) {
                self.events.push_back(Event::Lost);
            }
            let told = name
                .map(str::to_owned)
                .map(|name| match has(ReadFlags::CREATE) {
                    true => Event::Added(name),
                    false => Event::Deleted(name),
                });
            self.events.extend(told);
            if reader.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}

impl Teller for Monitor {
    type Event = Event;

    fn try_take(&mut self) -> Result<Option<Event>> {
        self.try_next()
    }

    fn failed(call: &'static str, errno: Errno) -> Error {
        failed(call)(errno)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(Step::Namespace, DIRECTORY, call, errno)
}
