//! The kinds of namespaces and how the kernel identifies one.

mod id;
mod kind;

pub use id::{NamespaceId, NamespaceIds};
pub use kind::{Kind, Namespaces};
