//! The kinds of namespaces as types.

use super::Kind;
use std::fmt::Debug;

mod sealed {
    pub trait Sealed {}
}

/// A kind of namespace as a type: the parameter of [`Namespace`](super::Namespace).
pub trait NamespaceKind: sealed::Sealed + Debug + Send + Sync + 'static {
    /// The kind as a value.
    const KIND: Kind;
}

/// A kind that a single thread of a program can enter: [`Mount`], [`Net`], [`Uts`], [`Ipc`] and [`Cgroup`].
///
/// A user or time namespace can only be entered by a process with one thread, and a pid namespace
/// only by new processes.
pub trait Enterable: NamespaceKind {}

/// A kind whose namespaces lie within each other: [`User`] and [`Pid`].
pub trait Nested: NamespaceKind {}

macro_rules! kinds {
    ($($(#[$attr:meta])* $name:ident $(: $($property:ident),+)?;)*) => {
        $(
            $(#[$attr])*
            #[derive(Debug)]
            pub enum $name {}

            impl sealed::Sealed for $name {}

            impl NamespaceKind for $name {
                const KIND: Kind = Kind::$name;
            }

            $($(impl $property for $name {})+)?
        )*
    };
}

kinds! {
    /// User and group ids, capabilities. See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
    User: Nested;
    /// Process ids. See [pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html).
    Pid: Nested;
    /// Mounts. See [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
    Mount: Enterable;
    /// Network devices, addresses, ports, firewalls. See [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html).
    Net: Enterable;
    /// Host name and NIS domain name. See [uts_namespaces(7)](https://man7.org/linux/man-pages/man7/uts_namespaces.7.html).
    Uts: Enterable;
    /// System V IPC and POSIX message queues. See [ipc_namespaces(7)](https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html).
    Ipc: Enterable;
    /// The root of the visible cgroup tree. See [cgroup_namespaces(7)](https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html).
    Cgroup: Enterable;
    /// The monotonic and boottime clocks. See [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html).
    Time;
}
