//! Mounts: how they propagate, and a view of all that a process or a namespace has.
//!
//! [`set_propagation`] and [`propagation_of`] set and read back what happens to a mount made below a
//! mount point in one namespace: whether it appears in the others. [`mountinfo::MountTable`] is the
//! whole of a mount namespace, as a list, as a tree, and by path.

pub mod mountinfo;
mod propagation;

pub use propagation::{Propagation, PropagationState, Recursion, propagation_of, set_propagation};
