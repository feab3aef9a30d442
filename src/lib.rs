//! Linux namespaces as a library: isolated processes started from any thread of any program, at a cost
//! that does not depend on the program's memory, with errors that say what to do.
#![cfg(target_os = "linux")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("ringfence supports 64-bit Linux only");

pub mod cgroup;
mod diagnose;
mod error;
mod foreground;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod inspect;
mod lifetime;
pub mod lockdown;
pub mod mount;
#[cfg(feature = "net")]
pub mod net;
pub mod ns;
mod plan;
mod process;
mod relay;
mod sandbox;
mod signals;
mod spawn;
pub mod support;
mod sys;
mod terminal;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use error::{Error, ErrorKind, Result, Step};
pub use foreground::{Foreground, exit_as};
pub use ns::{AnyNamespace, Kind, Namespace, NamespaceId, NamespaceIds, NamespaceSet, Namespaces};
pub use plan::Plan;
pub use process::{Child, ResourceUsage};
pub use sandbox::{
    Bind, Command, Engine, Extent, HidePid, IdMap, Init, JoinCredentials, JoinDir, JoinProcess,
    MountLock, Overlay, Proc, Rootfs, Sandbox, Setgroups, Stdio, TimeOffset, Tmpfs, WindowSize,
};
pub use terminal::Pty;
