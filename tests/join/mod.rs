mod kinds;

use std::fmt::Display;
use std::fs;
use std::path::Path;

use ringfence::{IdMap, Kind, Sandbox};

use crate::support::Waiting;

/// The kernel's name of a namespace of a process, such as `net:[4026531840]`.
fn link(pid: impl Display, kind: Kind) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.into_os_string().into_string().unwrap()
}

/// The kinds that this kernel has.
fn kinds() -> impl Iterator<Item = Kind> {
    let exists = |kind: &Kind| Path::new(&format!("/proc/self/ns/{kind}")).exists();
    Kind::ALL.into_iter().filter(exists)
}

/// A process with all namespaces new, root in a user namespace of its own.
fn target() -> Waiting {
    Waiting::start(&Sandbox::new().all().user_map(IdMap::root()))
}
