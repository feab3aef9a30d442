//! The second stage: a process that must live on, with nothing of the caller's memory.
//!
//! These files are compiled twice: by the build script, from `main.rs`, as a program of its own; and
//! as a part of the crate, where a forked child does the same if that program cannot be executed. So
//! they use nothing but `core`.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod children;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod enter;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod exec;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod init;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod job;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod join;
pub(crate) mod lockdown;
pub(crate) mod message;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod syscall;

use crate::sys::exec::StringArray;
use std::os::fd::RawFd;

/// Whether the stage is written for this architecture.
pub(crate) const SUPPORTED: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// The program, if the build script could build it.
pub(crate) const IMAGE: Option<&[u8]> = image();

#[cfg(ringfence_stage)]
const fn image() -> Option<&'static [u8]> {
    Some(include_bytes!(env!("RINGFENCE_STAGE")))
}

#[cfg(not(ringfence_stage))]
const fn image() -> Option<&'static [u8]> {
    None
}

/// What precedes the candidates in the arguments of the stage.
const BEFORE: usize = 2;

/// Does what the program would do, in this process, which must have a copy of the memory.
///
/// `arguments` are those of the program, with `count` candidates among them.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn run(
    [control, terminal, children]: [RawFd; 3],
    settings: u32,
    count: usize,
    arguments: &StringArray,
    envp: &StringArray,
    lockdown: &[u64],
) -> ! {
    let pointers = arguments.pointers();
    let (first, argv) = match (pointers.get(BEFORE..), pointers.get(BEFORE + count..)) {
        (Some(first), Some(argv)) => (first.as_ptr(), argv.as_ptr()),
        _ => super::exec::exit_group(127),
    };
    init::run(&job::Job {
        control,
        terminal,
        children,
        settings,
        first: first.cast(),
        count,
        argv: argv.cast(),
        envp: envp.pointers().as_ptr().cast(),
        // A copy of the caller's memory enters no namespaces of others.
        work: -1,
        // SAFETY: this process never returns to whoever owns the words.
        lockdown: unsafe { core::slice::from_raw_parts(lockdown.as_ptr(), lockdown.len()) },
    })
}

/// Never called: [`SUPPORTED`] is false here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn run(
    _: [RawFd; 3],
    _: u32,
    _: usize,
    _: &StringArray,
    _: &StringArray,
    _: &[u64],
) -> ! {
    super::exec::exit_group(127)
}
