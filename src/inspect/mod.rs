//! Looking into namespaces: which there are, who is in them, what keeps them alive, and how they are
//! related.
//!
//! A [`Scan`] goes once over `/proc` and gives a [`Snapshot`], in which everything else is looked up
//! without another system call.
//!
//! ```
//! use ringfence::Kind;
//! use ringfence::inspect::Scan;
//!
//! # fn main() -> ringfence::Result<()> {
//! let snapshot = Scan::new().run()?;
//! for namespace in snapshot.of_kind(Kind::Net) {
//!     println!("{} has {} processes", namespace.id, namespace.members.len());
//! }
//! if !snapshot.unseen().is_complete() {
//!     println!("not all was visible: {}", snapshot.unseen());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Races
//! Processes come and go meanwhile, which is no error. Everything of a process is read relative to one
//! descriptor of its directory, so that two processes which have had the same id are never mixed. A namespace
//! is held by a descriptor from the moment it is found until the scan is over, so that its number
//! cannot be given to another one. The namespaces of one process are not read at the same instant, though.
//!
//! # JSON
//! With the feature `serde` every type here implements `Serialize`. What is written is stable: fields may be added,
//! none is renamed, removed or given another meaning within a major version. The names are those of the
//! fields, and an enum is tagged by a field `type`, its variants in kebab case. A namespace is written as the kernel
//! does, `"net:[4026531840]"`, wherever it is referred to; a kind by its name in `/proc/PID/ns`; a set of kinds
//! as a list of them. What is not known is `null`. Names and paths which are not UTF-8 are written with
//! replacement characters.

#[cfg(feature = "serde")]
pub(crate) mod json;
mod model;
pub mod parse;
mod query;
mod scan;
mod tree;
mod watch;

pub use model::{
    Denied, Holder, Leader, Maps, NamespaceInfo, ProcessInfo, Snapshot, Thread, Unseen,
};
pub use query::{Comparison, Container, PidEntry, PidTable};
pub use scan::{Scan, Sources};
pub use tree::{Relation, Tree, TreeNode};
pub use watch::{Change, Watch};
