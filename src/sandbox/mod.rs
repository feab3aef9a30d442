//! What the caller wants: the description of a sandbox and of the program in it.

#[cfg(feature = "net")]
pub(crate) mod attach;
pub(crate) mod command;
mod entries;
pub(crate) mod idmap;
mod inherit;
mod init;
pub(crate) mod join;
pub(crate) mod lockdown;
pub(crate) mod map_writer;
pub(crate) mod overlay;
pub(crate) mod owner;
pub(crate) mod rootfs;
pub(crate) mod stdio;
pub(crate) mod subid;
mod time;

pub use command::Command;
pub use entries::{Bind, HidePid, MountLock, Proc};
pub use idmap::{Extent, IdMap, Setgroups};
pub use init::Init;
pub use join::{JoinCredentials, JoinDir, JoinProcess};
pub use map_writer::Unmapped;
pub use overlay::Overlay;
pub use rootfs::{Rootfs, Tmpfs};
pub use stdio::{Stdio, WindowSize};
pub use time::TimeOffset;

use crate::mount::Propagation;
use crate::ns::Namespaces;
use rootfs::{BindSource, Entry, What};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What to isolate a program from, and the file system it sees.
///
/// A `Sandbox` is a value: methods add to it and never fail, [`command`](Sandbox::command) names the
/// program, and only then is it compiled into a [`Plan`](crate::Plan), where contradictions are found. A clone of it
/// serves for another program. Nothing
/// is isolated that was not asked for, with two exceptions that are always on: no descriptor of the
/// caller leaks into the program, and a new mount namespace is made private before anything is
/// mounted in it, so that nothing shows up outside.
///
/// # Privileges
/// With [`user`](Sandbox::user) everything here works for any user, where the system allows user
/// namespaces. Without it, new namespaces need `CAP_SYS_ADMIN`.
///
/// # Examples
/// ```
/// use ringfence::{IdMap, Rootfs, Sandbox};
///
/// # fn main() -> ringfence::Result<()> {
/// let sandbox = Sandbox::new()
///     .all()
///     .user_map(IdMap::root())
///     .hostname("box")
///     .rootfs(Rootfs::tmpfs())
///     .bind_ro("/usr", "/usr")
///     .symlink("usr/bin", "/bin")
///     .symlink("usr/lib", "/lib")
///     .symlink("usr/lib64", "/lib64")
///     .proc("/proc")
///     .dev("/dev")
///     .tmpfs("/tmp");
/// let output = match sandbox.command("/bin/sh").args(["-c", "hostname; echo $$"]).output() {
///     Ok(output) => output,
///     # Err(error) if error.hint().is_some() => return Ok(()), // user namespaces are switched off here
///     Err(error) => return Err(error),
/// };
/// assert_eq!(output.stdout, b"box\n1\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Sandbox {
    pub(crate) namespaces: Namespaces,
    pub(crate) pid_for_children: bool,
    pub(crate) owner: Option<owner::Owner>,
    pub(crate) user_map: Option<IdMap>,
    pub(crate) group_map: Option<IdMap>,
    pub(crate) setgroups: Option<Setgroups>,
    pub(crate) map_writer: Option<map_writer::MapWriter>,
    pub(crate) hostname: Option<OsString>,
    pub(crate) domainname: Option<OsString>,
    pub(crate) monotonic: Option<TimeOffset>,
    pub(crate) boottime: Option<TimeOffset>,
    pub(crate) loopback_down: bool,
    pub(crate) rootfs: Option<Rootfs>,
    pub(crate) chroot: Option<PathBuf>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) inherit_propagation: bool,
    pub(crate) mount_lock: Option<MountLock>,
    pub(crate) template: bool,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) engine: Engine,
    #[cfg(feature = "net")]
    pub(crate) attach: Vec<std::sync::Arc<dyn attach::Attach>>,
    pub(crate) init: Option<Init>,
    pub(crate) join: join::Join,
    pub(crate) lockdown: lockdown::Lockdown,
}

/// How the child is made. The result is the same; only the cost differs.
///
/// The default takes the fastest way that the kernel offers. The others are for kernels or filters
/// that cannot be recognised, for tools such as valgrind that do not support shared memory between
/// processes, and for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// [`Engine::Clone3`] where the kernel has it, [`Engine::Clone`] otherwise.
    #[default]
    Auto,
    /// `clone3` with shared memory: the cost does not depend on the caller's memory.
    Clone3,
    /// `clone` with shared memory, and what it lacks by later calls.
    Clone,
    /// A child with a copy of the caller's memory, as fork makes it.
    Fork,
}

impl Sandbox {
    /// A sandbox that isolates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new user namespace: the program has the ids of [`user_map`](Self::user_map), and all
    /// capabilities over the other new namespaces until it is executed as a user other than 0.
    ///
    /// Whoever makes it is its owner: from outside, the caller has all capabilities in it. The kernel allows 32 levels.
    ///
    /// # Privileges
    /// None, unless the system forbids them; the error's [hint](crate::Error::hint) says which switch it was.
    ///
    /// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
    #[doc(alias = "CLONE_NEWUSER")]
    pub fn user(self) -> Self {
        self.with(Namespaces::USER)
    }

    /// A new pid namespace: the program is process 1.
    ///
    /// The kernel gives process 1 no signal that it has not asked for, leaves it the orphans of the others to reap, and kills
    /// them all when it ends; [`init`](Self::init) does that for programs that are not made for it. `/proc` goes on showing the
    /// caller's processes until [`proc`](Self::proc) covers it.
    ///
    /// # Privileges
    /// None with [`user`](Self::user), otherwise `CAP_SYS_ADMIN`.
    ///
    /// See [pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html).
    #[doc(alias = "CLONE_NEWPID")]
    pub fn pid(self) -> Self {
        self.with(Namespaces::PID)
    }

    /// A new pid namespace for what the program starts: the program itself stays in the caller's, and its first
    /// child is process 1 of the new one, with whose end no more can be started. For a program
    /// that is an init itself, or makes one.
    ///
    /// Where a pid namespace is [joined](Self::join), it is that which the program's children are in.
    ///
    /// # Errors
    /// [`compile`](Command::compile) refuses it together with [`pid`](Self::pid).
    ///
    /// See [pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html).
    #[doc(alias = "unshare")]
    pub fn pid_for_children(mut self) -> Self {
        self.pid_for_children = true;
        self
    }

    /// A new mount namespace, private: mounts made inside and outside do not show on the other side.
    ///
    /// It begins as a copy of the caller's. [`propagation`](Self::propagation) and
    /// [`inherit_propagation`](Self::inherit_propagation) change that it is private.
    ///
    /// # Privileges
    /// None with [`user`](Self::user), otherwise `CAP_SYS_ADMIN`.
    ///
    /// See [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
    #[doc(alias = "CLONE_NEWNS")]
    pub fn mount(self) -> Self {
        self.with(Namespaces::MOUNT)
    }

    /// A new network namespace, with nothing but a loopback interface, which is
    /// [up](Self::loopback_down) unless declined.
    ///
    /// Ports and abstract Unix sockets are its own as well. Of all kinds it takes longest to make: about as long as the
    /// others together, see `net::NetPool`.
    ///
    /// # Privileges
    /// None with [`user`](Self::user), otherwise `CAP_SYS_ADMIN`.
    ///
    /// See [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html).
    #[doc(alias = "CLONE_NEWNET")]
    pub fn net(self) -> Self {
        self.with(Namespaces::NET)
    }

    /// A new UTS namespace: host and domain name of its own.
    ///
    /// They begin as the caller's; [`hostname`](Self::hostname) and [`domainname`](Self::domainname) set them.
    ///
    /// # Privileges
    /// None with [`user`](Self::user), otherwise `CAP_SYS_ADMIN`.
    ///
    /// See [uts_namespaces(7)](https://man7.org/linux/man-pages/man7/uts_namespaces.7.html).
    #[doc(alias = "CLONE_NEWUTS")]
    pub fn uts(self) -> Self {
        self.with(Namespaces::UTS)
    }

    /// A new IPC namespace: System V IPC and POSIX message queues of its own.
    ///
    /// It begins empty, and what is left in it goes with it. `/dev/mqueue` shows the caller's queues until
    /// [`mqueue`](Self::mqueue) covers it.
    ///
    /// # Privileges
    /// None with [`user`](Self::user), otherwise `CAP_SYS_ADMIN`.
    ///
    /// See [ipc_namespaces(7)](https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html).
    #[doc(alias = "CLONE_NEWIPC")]
    pub fn ipc(self) -> Self {
        self.with(Namespaces::IPC)
    }

    /// A new cgroup namespace: the program's cgroup is the root of what it sees.
    ///
    /// That is the cgroup of [`into_cgroup`](Self::into_cgroup), if there is one, otherwise the caller's. What is mounted at
    /// `/sys/fs/cgroup` goes on showing all until [`cgroup2`](Self::cgroup2) covers it.
    ///
    /// # Privileges
    /// None with [`user`](Self::user), otherwise `CAP_SYS_ADMIN`.
    ///
    /// See [cgroup_namespaces(7)](https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html).
    #[doc(alias = "CLONE_NEWCGROUP")]
    pub fn cgroup(self) -> Self {
        self.with(Namespaces::CGROUP)
    }

    /// A new time namespace, whose clocks differ by [`monotonic_offset`](Self::monotonic_offset) and
    /// [`boottime_offset`](Self::boottime_offset).
    ///
    /// # Kernel
    /// Linux 5.6. Before 6.2 it takes one more process, made with a copy of the caller's memory.
    ///
    /// # Privileges
    /// None with [`user`](Self::user), otherwise `CAP_SYS_ADMIN`.
    ///
    /// See [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html).
    #[doc(alias = "CLONE_NEWTIME")]
    pub fn time(self) -> Self {
        self.with(Namespaces::TIME)
    }

    /// All eight namespaces.
    pub fn all(self) -> Self {
        self.with(Namespaces::all())
    }

    /// These namespaces as well.
    pub fn namespaces(self, namespaces: Namespaces) -> Self {
        self.with(namespaces)
    }

    fn with(mut self, namespaces: Namespaces) -> Self {
        self.namespaces |= namespaces;
        self
    }

    /// The user ids of the new user namespace; [`IdMap::identity`] if neither map is given. A
    /// symbolic map holds for groups as well, unless [`group_map`](Self::group_map) says otherwise.
    ///
    /// # Errors
    /// [`compile`](Command::compile) refuses extents that overlap or are empty, and a map that nobody would write for this caller.
    ///
    /// # Privileges
    /// None for one own id. Otherwise `CAP_SETUID`, or an allotment in `/etc/subuid` and newuidmap(1); see [`IdMap`].
    ///
    /// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
    #[doc(alias = "uid_map")]
    pub fn user_map(mut self, map: impl Into<IdMap>) -> Self {
        self.user_map = Some(map.into());
        self
    }

    /// The group ids of the new user namespace.
    ///
    /// Those of [`user_map`](Self::user_map) if not set and symbolic, otherwise [`IdMap::identity`]. What it needs is the same,
    /// with `CAP_SETGID`, `/etc/subgid` and newgidmap(1).
    #[doc(alias = "gid_map")]
    pub fn group_map(mut self, map: impl Into<IdMap>) -> Self {
        self.group_map = Some(map.into());
        self
    }

    /// Whether setgroups(2) works in the new user namespace; [`Setgroups::Deny`] if not set.
    ///
    /// See [setgroups(2)](https://man7.org/linux/man-pages/man2/setgroups.2.html).
    pub fn setgroups(mut self, policy: Setgroups) -> Self {
        self.setgroups = Some(policy);
        self
    }

    /// The host name inside, at most 64 bytes. Needs [`uts`](Self::uts).
    ///
    /// See [sethostname(2)](https://man7.org/linux/man-pages/man2/sethostname.2.html).
    #[doc(alias = "sethostname")]
    pub fn hostname(mut self, name: impl AsRef<OsStr>) -> Self {
        self.hostname = Some(name.as_ref().to_owned());
        self
    }

    /// The NIS domain name inside, at most 64 bytes. Needs [`uts`](Self::uts).
    ///
    /// See [setdomainname(2)](https://man7.org/linux/man-pages/man2/setdomainname.2.html).
    #[doc(alias = "setdomainname")]
    pub fn domainname(mut self, name: impl AsRef<OsStr>) -> Self {
        self.domainname = Some(name.as_ref().to_owned());
        self
    }

    /// How far `CLOCK_MONOTONIC` inside differs. Needs [`time`](Self::time).
    ///
    /// See [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html).
    pub fn monotonic_offset(mut self, offset: impl Into<TimeOffset>) -> Self {
        self.monotonic = Some(offset.into());
        self
    }

    /// How far `CLOCK_BOOTTIME` inside differs. Needs [`time`](Self::time).
    pub fn boottime_offset(mut self, offset: impl Into<TimeOffset>) -> Self {
        self.boottime = Some(offset.into());
        self
    }

    /// Leaves the loopback interface of the new network namespace down.
    ///
    /// Not even 127.0.0.1 can be reached then, until somebody with `CAP_NET_ADMIN` inside brings it up.
    pub fn loopback_down(mut self) -> Self {
        self.loopback_down = true;
        self
    }

    /// The file system that becomes `/`. Needs [`mount`](Self::mount). The caller's own root is
    /// detached by pivot_root(2) before the program starts.
    ///
    /// See [pivot_root(2)](https://man7.org/linux/man-pages/man2/pivot_root.2.html).
    #[doc(alias = "pivot_root")]
    pub fn rootfs(mut self, rootfs: impl Into<Rootfs>) -> Self {
        self.rootfs = Some(rootfs.into());
        self
    }

    /// Shows a file or directory of the caller, with everything mounted below it, at a path inside.
    ///
    /// Like every path inside, `at` is absolute and has no `..`; missing directories are made
    /// (mode 0755), and symbolic links on the way are followed inside the new root. Set-user-id bits
    /// and device files are without effect there; other restrictions of the source stay.
    ///
    /// It is the source as it is when the program starts. A file can be bound only on a file, a directory on a directory.
    ///
    /// # Errors
    /// [`Plan::spawn`](crate::Plan::spawn) fails with `ENOENT` if there is no such source.
    ///
    /// # Kernel
    /// open_tree(2) and mount_setattr(2) of Linux 5.12; mount(2) where they are missing, with the same result.
    ///
    /// See [mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html).
    #[doc(alias = "MS_BIND")]
    pub fn bind(self, source: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        let source = BindSource::Path(source.into());
        self.bound("bind", source, at, Bind::new())
    }

    /// [`bind`](Self::bind), read-only in its whole depth.
    #[doc(alias = "MS_RDONLY")]
    pub fn bind_ro(self, source: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        let source = BindSource::Path(source.into());
        self.bound("bind_ro", source, at, Bind::new().read_only())
    }

    /// Mounts an empty tmpfs of mode 1777 at a path inside.
    ///
    /// It may use half of the memory: [`tmpfs_with`](Self::tmpfs_with) limits it. Set-user-id bits and device files are without
    /// effect.
    ///
    /// See [tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html).
    pub fn tmpfs(self, at: impl Into<PathBuf>) -> Self {
        self.tmpfs_with(at, Tmpfs::new())
    }

    /// Mounts a tmpfs with its own size, mode or number of inodes.
    pub fn tmpfs_with(self, at: impl Into<PathBuf>, tmpfs: Tmpfs) -> Self {
        self.entry(at, What::Tmpfs(tmpfs))
    }

    /// Mounts a procfs, which shows the pid namespace of the program. Where there is a new user
    /// namespace there must be a new pid namespace too.
    ///
    /// # Errors
    /// `EPERM` where the caller's own `/proc` is partly covered, as in most containers: the kernel does not let it be
    /// uncovered so. `ELOOP` if there is a symbolic link on the way.
    ///
    /// See [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html).
    pub fn proc(self, at: impl Into<PathBuf>) -> Self {
        self.proc_with(at, Proc::new())
    }

    /// Mounts a sysfs, read-only, which shows the network namespace of the program. Where there is a new
    /// user namespace there must be a new network namespace too.
    ///
    /// See [sysfs(5)](https://man7.org/linux/man-pages/man5/sysfs.5.html).
    pub fn sysfs(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::Sysfs { writable: false })
    }

    /// Mounts the POSIX message queues of the IPC namespace of the program. Where there is a new user
    /// namespace there must be a new IPC namespace too.
    ///
    /// See [mq_overview(7)](https://man7.org/linux/man-pages/man7/mq_overview.7.html).
    pub fn mqueue(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::Mqueue)
    }

    /// Makes a minimal `/dev`: the caller's null, zero, full, random, urandom and tty; a devpts
    /// instance of its own with ptmx; shm; and the links fd, stdin, stdout and stderr.
    ///
    /// The nodes are bound from the caller's `/dev`, since nobody can make device files in a user namespace; each must be the
    /// device that its name says, or the start fails.
    ///
    /// See [pts(4)](https://man7.org/linux/man-pages/man4/pts.4.html).
    pub fn dev(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::Dev)
    }

    /// Makes a symbolic link at `at` that says `target`.
    pub fn symlink(self, target: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        let target = target.into();
        self.entry(at, What::Symlink { target })
    }

    /// Makes a directory of mode 0755, unless there is one.
    pub fn dir(self, at: impl Into<PathBuf>) -> Self {
        self.dir_with_mode(at, 0o755)
    }

    /// Makes a directory of this mode, unless there is one.
    pub fn dir_with_mode(self, at: impl Into<PathBuf>, mode: u32) -> Self {
        self.entry(at, What::Dir { mode })
    }

    /// Makes a new file of mode 0644 with these contents. It is an error if there is one.
    pub fn file(self, at: impl Into<PathBuf>, contents: impl AsRef<[u8]>) -> Self {
        self.file_with_mode(at, contents, 0o644)
    }

    /// Makes a new file of this mode with these contents. It is an error if there is one.
    pub fn file_with_mode(
        self,
        at: impl Into<PathBuf>,
        contents: impl AsRef<[u8]>,
        mode: u32,
    ) -> Self {
        let bytes = contents.as_ref().into();
        self.entry(at, What::File { bytes, mode })
    }

    fn entry(mut self, at: impl Into<PathBuf>, what: What) -> Self {
        self.entries.push(Entry {
            at: at.into(),
            what,
        });
        self
    }

    /// Starts the program in the cgroup (v2) whose directory this is, or in a
    /// [`Cgroup`](crate::cgroup::Cgroup). With [`cgroup`](Self::cgroup)
    /// it is the root of what the program sees.
    ///
    /// A frozen cgroup is refused, since the program could not be started in it. On Linux 5.7 and
    /// later the child is born there, otherwise it moves there before it does anything else.
    ///
    /// # Privileges
    /// Write access to `cgroup.procs` of that cgroup and of the nearest one above both it and the caller's.
    ///
    /// See [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html).
    #[doc(alias = "CLONE_INTO_CGROUP")]
    pub fn into_cgroup(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cgroup = Some(directory.into());
        self
    }

    /// Puts a process of ours before the program in the new pid namespace, which it needs
    /// ([`pid`](Self::pid)): it is process 1, the program process 2.
    ///
    /// The program then lives as it does outside: signals that it has not asked for have their usual
    /// effect on it, and it need not reap what its descendants leave behind. Signals sent to
    /// [`Child::id`](crate::Child::id), which is that of process 1, and by
    /// [`Child::signal`](crate::Child::signal), are passed on to the program. When it ends, everything else in the
    /// sandbox is killed, and [`Child::wait`](crate::Child::wait) returns its exact status. To others, such as a shell
    /// that is the caller's parent, process 1 ends with the program's exit code, or with 128 and the
    /// number of the signal that ended it, since the kernel lets no process 1 end by a signal of its own.
    ///
    /// Process 1 is a program of a few kilobytes in a sealed memfd: nothing of the caller's memory is
    /// in it, no descriptor but a socket to the caller, and its cost does not depend on the
    /// caller's size. Where a memfd may not be executed (`vm.memfd_noexec`, a filter), or where the crate was
    /// built without that program, a forked child takes its place: it behaves in the same way, costs
    /// a copy of the caller's page tables, and keeps a copy of the caller's memory, which nobody can
    /// look into.
    ///
    /// Without a [new pid namespace](Self::pid) that process is a subreaper. It does the same, but on its own, and that is
    /// weaker: it kills one generation after the other, and each leaves its children to it. So a
    /// program that forks faster than it is killed may keep it busy, one with other privileges is left alone, and
    /// the program can kill it, as it could the caller: then the program itself dies as well,
    /// but what that has started goes on. The caller's `/proc` has to show the caller's pids.
    ///
    /// # Kernel
    /// [pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html),
    /// [PR_SET_CHILD_SUBREAPER(2const)](https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html)
    /// and `CONFIG_PROC_CHILDREN` without one, [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html), execveat(2).
    #[doc(alias = "reaper")]
    #[doc(alias = "PR_SET_CHILD_SUBREAPER")]
    pub fn init(self) -> Self {
        self.init_with(Init::new())
    }

    /// [`init`](Self::init), with other behaviour.
    pub fn init_with(mut self, init: Init) -> Self {
        self.init = Some(init);
        self
    }

    /// Whether something is done from outside before the program starts.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached_by().is_some()
    }

    /// The method that asked for the first such thing.
    pub(crate) fn attached_by(&self) -> Option<&'static str> {
        #[cfg(feature = "net")]
        return self.attach.first().map(|first| first.setter());
        #[cfg(not(feature = "net"))]
        None
    }

    /// Chooses how the child is made.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Names the program to run in the sandbox: a path inside, or a name that is looked up inside
    /// along the `PATH` of the program's environment.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        Command::new(self, program.as_ref().to_owned())
    }
}
