//! Every system call that needs `unsafe`, one function each.
//!
//! Nothing here imports another module of the crate. What rustix offers safely is called from rustix
//! where it is needed; this module holds the rest. All functions are usable between clone and exec:
//! they allocate nothing, take no lock and leave `errno` alone.
#![allow(
    unsafe_code,
    reason = "the one place of the crate where unsafe code is allowed"
)]

pub(crate) mod arena;
pub(crate) mod clone;
pub(crate) mod exec;
pub(crate) mod fd;
pub(crate) mod lockdown;
pub(crate) mod mount;
pub(crate) mod net;
#[cfg(feature = "net")]
pub(crate) mod netlink;
pub(crate) mod nsfs;
pub(crate) mod process;
mod raw;
pub(crate) mod shared;
pub(crate) mod signal;
pub(crate) mod stage;
pub(crate) mod statmount;
pub(crate) mod unshare;
