//! The system calls that need unsafe code, one function each.

pub(crate) mod mount_attr;
pub(crate) mod statmount;
pub(crate) mod unshare;
