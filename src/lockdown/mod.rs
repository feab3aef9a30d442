//! What binds a program for good: capabilities, filters of system calls, Landlock, limits.
//!
//! Everything here is done by the kernel in the program's own process, directly before it is executed, and
//! holds for all that it starts. With [`Sandbox::init`](crate::Sandbox::init) the program is bound in the same way;
//! process 1 keeps `CAP_KILL` and nothing else, takes on the program's ids, and can gain no
//! privilege either.
//!
//! A step that fails is an error of the start, and the program never runs.

mod bpf;
mod capabilities;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod container;
mod hardening;
#[cfg(feature = "landlock")]
mod landlock;
mod resources;
mod seccomp;

pub use capabilities::{Capabilities, CapabilitySets, Securebits};
pub use hardening::Hardening;
#[cfg(feature = "landlock")]
pub use landlock::LandlockPaths;
pub use resources::{IoPriority, Resource, Rlimit};
pub use seccomp::{Instruction, SeccompFilter};
