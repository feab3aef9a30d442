//! Linux namespaces as a library.

pub mod mount;
mod sys;
