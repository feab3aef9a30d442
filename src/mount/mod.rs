//! Mounts: trees of them as descriptors, how they propagate, and a view of all that a process or a
//! namespace has.
//!
//! [`Tree`] and [`Filesystem`] make mounts that nobody sees until they are attached.
//! [`set_propagation`] and [`propagation_of`] set and read back what happens to a mount made below a
//! mount point in one namespace: whether it appears in the others. [`mountinfo::MountTable`] is the
//! whole of a mount namespace, as a list, as a tree, and by path.

mod attributes;
mod filesystem;
pub mod mountinfo;
mod propagation;
mod tree;

pub use attributes::Attributes;
pub use filesystem::Filesystem;
pub use propagation::{Propagation, PropagationState, Recursion, propagation_of, set_propagation};
pub use tree::Tree;
