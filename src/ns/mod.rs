//! Namespaces as values: handles that are typed by kind, their identity, and how they are related.
//!
//! A [`Namespace<Net>`](Namespace) owns a descriptor, which keeps the namespace alive, and cannot be taken for a
//! namespace of another kind. It comes from a process ([`Namespace::of_pid`]), a path
//! ([`Namespace::open`]), a descriptor (`TryFrom<OwnedFd>`) or is new ([`Namespace::create`]). [`AnyNamespace`] is for
//! kinds that are known at run time only, [`NamespaceSet`] for all those of a process.
//!
//! # Examples
//! ```
//! use ringfence::ns::{Namespace, Net, same_namespace};
//! use ringfence::Kind;
//!
//! # fn main() -> ringfence::Result<()> {
//! let own = Namespace::<Net>::current()?;
//! println!("{own}"); // net:[4026531840]
//! assert!(own.is_current()?);
//! let me = std::process::id();
//! assert!(same_namespace(Kind::Net, me, me)?);
//! # Ok(())
//! # }
//! ```

mod any;
mod create;
mod id;
mod kind;
mod kinds;
mod maps;
mod namespace;
mod of_process;
mod pid;
mod pin;
mod relations;
mod run_in;
mod set;

pub use any::AnyNamespace;
pub(crate) use id::parse as parse_id;
pub use id::{NamespaceId, NamespaceIds, ParseNamespaceIdError};
pub use kind::{Kind, Namespaces};
pub use kinds::{Cgroup, Enterable, Ipc, Mount, NamespaceKind, Nested, Net, Pid, Time, User, Uts};
pub use namespace::Namespace;
pub(crate) use of_process::open_process;
pub use of_process::same_namespace;
pub(crate) use pid::pids_of;
pub(crate) use pin::is_namespace;
pub use pin::{Pin, netns_names, unpin, unpin_netns};
pub(crate) use run_in::{enter, forbidden, on_thread};
pub use set::NamespaceSet;

use std::fmt::Debug;
use std::sync::Arc;

/// What has to live as long as a namespace is used: the first process of a pid namespace.
type Keeper = Arc<dyn Debug + Send + Sync>;
