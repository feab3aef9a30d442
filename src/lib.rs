//! Linux namespaces as a library: isolated processes started from any thread of any program, at a cost
//! that does not depend on the program's memory, with errors that say what to do.
//!
//! # A first program
//! Eight namespaces, a root made of the host's `/usr`, and a shell in it. It needs no privilege.
//! ```
//! use ringfence::{IdMap, Rootfs, Sandbox};
//!
//! fn main() -> ringfence::Result<()> {
//!     # if ringfence::support::Report::new().user_namespaces.is_some() { return Ok(()) }
//!     let sandbox = Sandbox::new()
//!         .all() // user pid mount net uts ipc cgroup time
//!         .user_map(IdMap::root()) // 0 inside = the caller outside
//!         .hostname("box")
//!         .rootfs(Rootfs::tmpfs())
//!         .bind_ro("/usr", "/usr")
//!         .symlink("usr/bin", "/bin")
//!         .symlink("usr/lib", "/lib")
//!         .symlink("usr/lib64", "/lib64")
//!         .proc("/proc")
//!         .dev("/dev")
//!         .tmpfs("/tmp");
//!     let output = sandbox.command("/bin/sh").args(["-c", "id -u; hostname; echo $$"]).output();
//!     # if output.as_ref().is_err_and(|error| error.step() == Some(ringfence::Step::Proc)) { return Ok(()) }
//!     assert_eq!(output?.stdout, b"0\nbox\n1\n");
//!     Ok(())
//! }
//! ```
//! If that fails on a machine, the error has a [hint](Error::hint); [`support::Report`] says beforehand what works.
//!
//! # The way of a program
#![doc = include_str!("../docs/layers.svg")]
//!
//! A [`Sandbox`] says what to isolate, a [`Command`] which program to run: setters that never fail. [`Command::compile`] finds every
//! contradiction and gives a [`Plan`]: in order, with all memory allocated, printable, and good for any number of starts from any thread.
//! [`Plan::spawn`] gives a [`Child`], which holds a pidfd, or an [`Error`] that names the step, the object, the system call and the
//! usual cure. Nothing is isolated that was not asked for; what was asked for and fails is an error, and the program never runs.
//!
//! For a program that is not trusted, begin with [`Sandbox::container`].
//!
//! # What is where
//! | module | for |
//! |---|---|
//! | the crate itself | programs in sandboxes: [`Sandbox`], [`Command`], [`Plan`], [`Child`], [`IdMap`], [`Rootfs`] |
//! | [`ns`] | namespaces as typed handles: [`Namespace<Net>`](Namespace) |
//! | [`mount`] | mounts, their propagation, what is mounted where |
//! | `net` (feature `net`) | interfaces, addresses, routes, address translation, networks of sandboxes |
//! | [`lockdown`] | capabilities, filters, Landlock, limits |
//! | [`cgroup`] | cgroups to start programs in |
//! | [`inspect`] | who is in which namespace, and what keeps it alive |
//! | [`support`] | what works on this machine |
//! | [`guide`] | a chapter for each kind of namespace, with the usual recipes; what is guaranteed, and by which kernel |
//!
//! # I used to call ...
//! | before | here |
//! |---|---|
//! | [`std::process::Command`] | [`Sandbox::command`], then the same methods |
//! | `pre_exec` | a setter for what it did, such as [`Command::uid`], [`Command::new_session`], [`Sandbox::rlimit`], [`Sandbox::seccomp`] |
//! | unshare(1), unshare(2), clone(2) | [`Sandbox::user`], [`Sandbox::pid`], ...; without a program [`NamespaceSet::create`] |
//! | newuidmap(1) | [`IdMap::subids`] |
//! | nsenter(1), setns(2) | [`Sandbox::join`], [`Sandbox::join_all`]; for a closure [`Namespace::run_in`] |
//! | `unshare --net=FILE` | [`Namespace::create`], then [`pin`](AnyNamespace::pin) |
//! | lsns(8) | [`inspect::Scan`] |
//! | ip-netns(8), ip-link(8), nft(8) | `net::named`, `net::Netlink`, `net::Nft` |
//! | bwrap(1) | [`Sandbox::rootfs`], [`Sandbox::bind_ro`], [`Sandbox::dev`], ... |
//! | mount(2), pivot_root(2), chroot(2) | [`Sandbox::bind`], [`Sandbox::rootfs`]; without a program [`mount::Tree`] |
//! | findmnt(8) | [`mount::mountinfo::MountTable`] |
//! | waitpid(2), kill(2) | [`Child::wait`], [`Child::wait_timeout`], [`Child::signal`], [`Child::kill_all`] |
//!
//! # Features
//! All are off by default.
//!
//! | feature | for |
//! |---|---|
//! | `net` | the module `net`, `Sandbox::network` |
//! | `tokio` | `Child::into_tokio`: the end and the output are awaited |
//! | `serde` | what [`inspect`] and [`support`] find can be serialized |
//! | `seccomp`, `landlock` | filters and rulesets of the crates seccompiler and landlock |
//!
//! # Kernel
//! Linux 5.10 or later, 64-bit. What is newer has a fallback, or an error that says so.
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
    MountLock, Overlay, Proc, Rootfs, Sandbox, Setgroups, Stdio, TimeOffset, Tmpfs, Unmapped,
    WindowSize,
};
pub use terminal::Pty;
