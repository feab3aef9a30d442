//! The guide: what each kind of namespace is for, the usual recipes with unshare(1), nsenter(1) and ip(8), and
//! the same with this crate. All programs are compiled and run as tests.
//!
//! [`security`] says what is guaranteed and what is not, [`kernel_features`] what the kernel must have.
//!
//! This module is in the documentation only.

#[doc = include_str!("../docs/guide/cgroup.md")]
pub mod cgroup {}
#[doc = include_str!("../docs/guide/container.md")]
pub mod container {}
#[doc = include_str!("../docs/guide/enter.md")]
pub mod enter {}
#[doc = include_str!("../docs/guide/ipc.md")]
pub mod ipc {}
#[doc = include_str!("../docs/kernel-features.md")]
pub mod kernel_features {}
#[doc = include_str!("../docs/guide/mount.md")]
pub mod mount {}
#[cfg(feature = "net")]
#[doc = include_str!("../docs/guide/net.md")]
pub mod net {}
#[doc = include_str!("../docs/guide/pid.md")]
pub mod pid {}
#[doc = include_str!("../docs/guide/pod.md")]
pub mod pod {}
#[doc = include_str!("../docs/security.md")]
pub mod security {}
#[doc = include_str!("../docs/guide/time.md")]
pub mod time {}
#[doc = include_str!("../docs/guide/user.md")]
pub mod user {}
#[doc = include_str!("../docs/guide/uts.md")]
pub mod uts {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
