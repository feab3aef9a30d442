//! The floor: the calls alone, each on the kind of thread or process that it needs.
#![allow(
    unsafe_code,
    reason = "unshare and clone are called raw, apart from the crate"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "constants of libc are wider than the fields that they are for"
)]

use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::{UnshareFlags, move_into_link_name_space, unshare_unsafe};

pub(crate) fn open(path: &str) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("/proc")
}

fn unshare(flags: UnshareFlags) {
    // SAFETY: only CLONE_FILES is unsafe, and nobody passes that.
    unsafe { unshare_unsafe(flags) }.expect("privilege");
}

fn on_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(run).join()).expect("no panic")
}

/// A new namespace, made by a thread that ends.
pub(crate) fn create(flag: UnshareFlags, link: &str) -> OwnedFd {
    on_thread(|| {
        unshare(flag);
        if flag == UnshareFlags::NEWNS {
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).expect("privilege");
        }
        if flag == UnshareFlags::NEWNET {
            loopback_up();
        }
        open(&format!("/proc/thread-self/ns/{link}"))
    })
}

fn loopback_up() {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
    let socket = socket.expect("a socket");
    // SAFETY: zero is a valid value for this plain C structure.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l', b'o'].map(|byte| byte as libc::c_char));
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is what this ioctl takes.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(done, 0);
}

/// The network namespace of the process that has this number in the namespace of the caller, which is not the one
/// that /proc need be of.
pub(crate) fn net_of(pid: u32) -> OwnedFd {
    const PIDFD_GET_NET_NAMESPACE: libc::Ioctl = 0xff04;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let flags = PidfdFlags::empty();
    let pidfd = rustix::process::pidfd_open(pid.expect("a pid"), flags).expect("a process");
    // SAFETY: this ioctl has no argument.
    let fd = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_NET_NAMESPACE, 0) };
    assert!(fd >= 0, "needs Linux 6.11");
    // SAFETY: the kernel has just opened it for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A thread that enters a namespace and ends.
pub(crate) fn enter(namespace: &OwnedFd, fs: bool) {
    on_thread(|| {
        if fs {
            unshare(UnshareFlags::FS);
        }
        move_into_link_name_space(namespace.as_fd(), None).expect("privilege");
    });
}

/// Something done by a thread that has entered a namespace and ends.
pub(crate) fn on_thread_in(namespace: &OwnedFd, run: impl FnOnce() + Send) {
    on_thread(|| {
        move_into_link_name_space(namespace.as_fd(), None).expect("privilege");
        run();
    });
}

/// A new user namespace, by a forked child that is held until it has been opened.
pub(crate) fn user() -> OwnedFd {
    let (wait, mut release) = std::io::pipe().expect("a pipe");
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has a copy of the memory, and it makes system calls only.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if child == 0 {
        let mut wait = wait;
        let _ = wait.read(&mut [0]);
        // SAFETY: takes a number and does not return.
        unsafe { libc::_exit(0) }
    }
    std::fs::write(format!("/proc/{child}/setgroups"), "deny").expect("own child");
    std::fs::write(format!("/proc/{child}/uid_map"), "0 0 1").expect("own child");
    std::fs::write(format!("/proc/{child}/gid_map"), "0 0 1").expect("own child");
    let namespace = open(&format!("/proc/{child}/ns/user"));
    release.write_all(b"!").expect("the child reads");
    let child = i32::try_from(child).expect("a pid");
    wait_for(child);
    namespace
}

/// A new pid namespace, with a program as its first process that ends with it. A copy of this process would do for
/// the kernel, but would go on with all of its memory.
pub(crate) fn pid(starting: &mut Starting<'_>) {
    let child = start(starting, libc::CLONE_NEWPID);
    drop(open(&format!("/proc/{child}/ns/pid")));
    let pid = Pid::from_raw(child).expect("a child");
    rustix::process::kill_process(pid, Signal::KILL).expect("own child");
    wait_for(child);
}

/// A program that ends by itself.
pub(crate) fn run(starting: &mut Starting<'_>) {
    let child = start(starting, 0);
    wait_for(child);
}

fn start(starting: &mut Starting<'_>, namespaces: libc::c_int) -> libc::c_int {
    let flags = namespaces | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = starting.stack.as_mut_ptr_range().end;
    let data = core::ptr::from_mut(starting).cast();
    // SAFETY: the stack is the child's, and this process is suspended meanwhile.
    let child = unsafe { libc::clone(started, top.cast(), flags, data) };
    assert!(child > 0);
    child
}

fn wait_for(child: i32) {
    let child = Pid::from_raw(child).expect("a child");
    rustix::process::waitpid(Some(child), WaitOptions::empty()).expect("own child");
}

/// What [`pid`] and [`run`] prepare once.
pub(crate) struct Starting<'a> {
    program: &'a CStr,
    stack: Box<[u8]>,
}

impl<'a> Starting<'a> {
    pub(crate) fn new(program: &'a CStr) -> Self {
        let stack = vec![0; STACK].into();
        Self { program, stack }
    }
}

extern "C" fn started(data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes its own, and is suspended.
    let starting = unsafe { &*data.cast::<Starting<'_>>() };
    execute(starting.program)
}

const STACK: usize = 64 * 1024;

/// What [`join`] prepares once.
pub(crate) struct Joining<'a> {
    namespaces: Vec<OwnedFd>,
    program: &'a CStr,
    stack: Box<[u8]>,
}

impl<'a> Joining<'a> {
    /// The namespaces in the order in which they are entered.
    pub(crate) fn new(namespaces: Vec<OwnedFd>, program: &'a CStr) -> Self {
        Self {
            namespaces,
            program,
            stack: vec![0; STACK].into(),
        }
    }
}

/// On whose memory namespaces are entered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The caller's, which others may then look into, and which keeps out of time namespaces.
    Shared,
    /// A copy, which others may look into as well.
    Copied,
}

/// Enters namespaces, a pid namespace among them, as root there, and runs a program.
pub(crate) fn join(joining: &mut Joining<'_>, memory: Memory) {
    let flags = match memory {
        Memory::Shared => libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
        Memory::Copied => libc::SIGCHLD,
    };
    let top = joining.stack.as_mut_ptr_range().end;
    let data = core::ptr::from_mut(joining).cast();
    // SAFETY: the child has the upper half of the stack; this process is suspended meanwhile, or not on its memory.
    let child = unsafe { libc::clone(enter_and_go_on, top.cast(), flags, data) };
    assert!(child > 0);
    for _ in 0..2 {
        let ended = rustix::process::wait(WaitOptions::empty());
        let (_, status) = ended.expect("own children").expect("one has ended");
        assert_eq!(status.exit_status(), Some(0));
    }
}

extern "C" fn enter_and_go_on(data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `join` passes its own, and is suspended.
    let joining = unsafe { &*data.cast::<Joining<'_>>() };
    for namespace in &joining.namespaces {
        // SAFETY: no pointers.
        if unsafe { libc::setns(namespace.as_raw_fd(), 0) } != 0 {
            return 1;
        }
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT;
    let half = joining.stack.as_ptr().wrapping_add(STACK / 2).cast_mut();
    // SAFETY: the lower half of the stack is unused, and this process is suspended meanwhile.
    let pid = unsafe { libc::clone(become_program, half.cast(), flags, data) };
    libc::c_int::from(pid < 0)
}

extern "C" fn become_program(data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: as above.
    let joining = unsafe { &*data.cast::<Joining<'_>>() };
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_setgroups, 0, 0) };
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 0) };
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) };
    execute(joining.program)
}

/// Returns only when it fails.
fn execute(program: &CStr) -> libc::c_int {
    let argv = [program.as_ptr(), core::ptr::null()];
    let envp = [core::ptr::null()];
    // SAFETY: a null-terminated string and arrays.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    1
}
