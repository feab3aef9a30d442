//! The guide: what each kind of namespace is for, the usual recipes with unshare(1), nsenter(1) and ip(8), and
//! the same with this crate. All programs are compiled and run as tests.
//!
//! This module is in the documentation only.

#[doc = include_str!("../docs/guide/cgroup.md")]
pub mod cgroup {}
#[doc = include_str!("../docs/guide/ipc.md")]
pub mod ipc {}
#[doc = include_str!("../docs/guide/pid.md")]
pub mod pid {}
#[doc = include_str!("../docs/guide/time.md")]
pub mod time {}
#[doc = include_str!("../docs/guide/user.md")]
pub mod user {}
#[doc = include_str!("../docs/guide/uts.md")]
pub mod uts {}
