//! Runs a test in a mount namespace of its own, and what such tests need beyond safe code.
#![allow(
    unsafe_code,
    reason = "unshare, seccomp and mount_setattr are called raw, apart from the code under test"
)]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

const INSIDE: &str = "RINGFENCE_TEST_INSIDE";
const REQUIRE: &str = "RINGFENCE_TEST_REQUIRE";

/// Runs this very test again in a child process, once in a new mount namespace and once in a new user
/// and mount namespace. What the caller may not create is skipped.
pub(crate) fn isolated(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        rustix::mount::mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .expect("a new mount namespace is its owner's to make private");
        return body();
    }
    for (privilege, flags) in [
        ("root", libc::CLONE_NEWNS),
        ("userns", libc::CLONE_NEWUSER | libc::CLONE_NEWNS),
    ] {
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(INSIDE, privilege);
        unshare_before_exec(&mut command, flags);
        match command.output() {
            Ok(output) => {
                let stdout = String::from_utf8_lossy(&output.stdout);
                let stderr = String::from_utf8_lossy(&output.stderr);
                // No test at all is a success to the harness, not to us.
                let passed = output.status.success() && stdout.contains("1 passed");
                assert!(
                    passed,
                    "as {privilege}: {}\n{stdout}{stderr}",
                    output.status
                );
                stdout
                    .lines()
                    .filter_map(|line| line.find("SKIPPED").map(|start| &line[start..]))
                    .for_each(|line| println!("{line} (as {privilege})"));
            }
            Err(error) => skip(name, privilege, &error),
        }
    }
}

/// Prints that a test did not run, which is a failure if what it needs is required.
pub(crate) fn skip(name: &str, needs: &str, reason: &dyn std::fmt::Display) {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(
        !required.split(',').any(|one| one == needs),
        "{name} needs {needs}: {reason}"
    );
    println!("SKIPPED {name}: {needs}: {reason}");
}

/// Whether the test runs with the privileges of the initial user namespace.
pub(crate) fn is_root() -> bool {
    std::env::var(INSIDE).is_ok_and(|privilege| privilege == "root")
}

/// An empty tmpfs that nothing but this namespace sees.
pub(crate) fn scratch() -> PathBuf {
    let path = Path::new("/tmp");
    rustix::mount::mount("scratch", path, "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
    path.to_owned()
}

pub(crate) fn make_dir(path: impl AsRef<Path>) -> PathBuf {
    fs::create_dir_all(&path).expect("a directory");
    path.as_ref().to_owned()
}

/// A new directory with a tmpfs on it.
pub(crate) fn tmpfs(path: impl AsRef<Path>) -> PathBuf {
    let path = make_dir(path);
    rustix::mount::mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
    path
}

/// A new directory with a bind mount on it.
pub(crate) fn bind(from: &Path, to: impl AsRef<Path>) -> PathBuf {
    let to = make_dir(to);
    rustix::mount::mount_bind(from, &to).expect("a bind mount");
    to
}

/// The kernel's own words about the calling thread's mounts.
pub(crate) fn mountinfo() -> Vec<u8> {
    fs::read("/proc/thread-self/mountinfo").expect("mountinfo")
}

type Task = Box<dyn FnOnce() + Send>;

/// A thread with a mount namespace of its own, copied from the one of the thread that starts it.
pub(crate) struct Side {
    tasks: Sender<Task>,
}

impl Side {
    pub(crate) fn new() -> Self {
        let (tasks, queue): (Sender<Task>, Receiver<Task>) = channel();
        let side = Self { tasks };
        std::thread::spawn(move || queue.into_iter().for_each(|task| task()));
        side.run(|| unshare(libc::CLONE_NEWNS).expect("a mount namespace"));
        side
    }

    /// Runs this over there and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let task = Box::new(move || answer.send(task()).expect("the other side waits"));
        self.tasks.send(task).expect("the thread lives");
        answered.recv().expect("no panic over there")
    }
}

/// Detaches the calling thread: `CLONE_NEWNS`, or `CLONE_FS` for a root directory of its own.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the flags that are passed here are CLONE_NEWNS and CLONE_FS, which leave memory and
    // descriptors as they are.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A process that waits in new namespaces until it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(flags: libc::c_int) -> io::Result<Self> {
        Self::start_in(Path::new("/"), flags)
    }

    /// With this directory for its root.
    pub(crate) fn start_in(root: &Path, flags: libc::c_int) -> io::Result<Self> {
        let mut command = Command::new("cat");
        unshare_before_exec(command.stdin(Stdio::piped()).stdout(Stdio::null()), flags);
        let root = CString::new(root.as_os_str().as_bytes())?;
        let change_root = move || rustix::process::chroot(&*root).map_err(io::Error::from);
        // SAFETY: one system call, on memory that exists already.
        unsafe { command.pre_exec(change_root) };
        command.spawn().map(Self)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("cat ends with its input");
    }
}

/// Lets the command start in new namespaces, as root of a new user namespace if there is one.
fn unshare_before_exec(command: &mut Command, flags: libc::c_int) {
    let uid_map = format!("0 {} 1", rustix::process::geteuid().as_raw());
    let gid_map = format!("0 {} 1", rustix::process::getegid().as_raw());
    let prepare = move || {
        unshare(flags)?;
        if flags & libc::CLONE_NEWUSER != 0 {
            write(c"/proc/self/setgroups", "deny")?;
            write(c"/proc/self/uid_map", &uid_map)?;
            write(c"/proc/self/gid_map", &gid_map)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, on memory that exists already.
    unsafe { command.pre_exec(prepare) };
}

fn write(path: &std::ffi::CStr, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

/// Makes these system calls fail with `ENOSYS` in the calling thread, as on a kernel without them.
pub(crate) fn without(calls: &[libc::c_long]) {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("a BPF code"),
        jt: 0,
        jf: 0,
        k,
    };
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for call in calls {
        let number = u32::try_from(*call).expect("a system call number");
        filter.push(libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number)
        });
        let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
        filter.push(statement(libc::BPF_RET | libc::BPF_K, refuse));
    }
    filter.push(statement(
        libc::BPF_RET | libc::BPF_K,
        libc::SECCOMP_RET_ALLOW,
    ));
    rustix::thread::set_no_new_privs(true).expect("no_new_privs");
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("a short filter"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program points to `filter`, which lives through the call; the kernel copies it.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            std::ptr::from_ref(&program),
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    for call in calls {
        // SAFETY: the filter answers for the kernel, which does not look at the arguments.
        let result = unsafe { libc::syscall(*call, 0, 0, 0, 0, 0) };
        assert_eq!(
            (result, io::Error::last_os_error().raw_os_error()),
            (-1, Some(libc::ENOSYS))
        );
    }
}

pub(crate) const SYS_STATMOUNT: libc::c_long = 457;
pub(crate) const SYS_LISTMOUNT: libc::c_long = 458;

/// Whether `statmount(2)` tells all that mountinfo does. The kernel's word for it is its version.
pub(crate) fn has_full_statmount() -> bool {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(13))
}

/// Maps the ids of a detached mount by those of a user namespace.
pub(crate) fn idmap(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let user_namespace = u64::from(user_namespace.as_raw_fd().cast_unsigned());
    let attr: [u64; 4] = [MOUNT_ATTR_IDMAP, 0, 0, user_namespace];
    // SAFETY: the path is NUL-terminated, and `attr` has the layout and the size of `mount_attr`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
