mod create;
mod fallbacks;
mod faults;
mod open;
mod pin;
mod relations;
mod run_in;

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ringfence::ns::{Cgroup, Ipc, Mount, Namespace, Net, Pid, Time, User, Uts};
use ringfence::{AnyNamespace, Kind, Result};
use rustix::mount::{MountFlags, mount};

use crate::common::leaks::Census;
use crate::support::with_capabilities;

/// The kernel's name of a namespace of a process, such as `net:[4026531840]`.
fn link(pid: impl Display, kind: Kind) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.into_os_string().into_string().unwrap()
}

/// Makes one of each kind, by the typed way.
fn create(kind: Kind) -> Result<AnyNamespace> {
    Ok(match kind {
        Kind::User => Namespace::<User>::create()?.into(),
        Kind::Pid => Namespace::<Pid>::create()?.into(),
        Kind::Mount => Namespace::<Mount>::create()?.into(),
        Kind::Net => Namespace::<Net>::create()?.into(),
        Kind::Uts => Namespace::<Uts>::create()?.into(),
        Kind::Ipc => Namespace::<Ipc>::create()?.into(),
        Kind::Cgroup => Namespace::<Cgroup>::create()?.into(),
        Kind::Time => Namespace::<Time>::create()?.into(),
    })
}

/// The kinds that this kernel has.
fn kinds() -> impl Iterator<Item = Kind> {
    let exists = |kind: &Kind| Path::new(&format!("/proc/self/ns/{kind}")).exists();
    Kind::ALL.into_iter().filter(exists)
}

/// An empty file system at a path that exists.
fn tmpfs(path: &str) {
    mount("scratch", path, "tmpfs", MountFlags::empty(), None).unwrap();
}

/// A census once the threads of the crate, which end after they have given their answer, are gone.
/// Without the maps: an allocator keeps what a thread has used.
fn census() -> Census {
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_dir("/proc/self/task").unwrap().count() > 1 {
        assert!(Instant::now() < deadline, "a thread does not end");
        std::thread::yield_now();
    }
    Census::take().without(&["maps"])
}
