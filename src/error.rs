//! The error type: which step failed, on what, why, and what usually helps.

use rustix::io::Errno;
use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a sandbox could not be described, compiled or started.
///
/// `Display` says which step failed on which object; [`source`](std::error::Error::source) carries the
/// system's own error. `{:#}` prints both and the [hint](Error::hint) on one line, and so does `Debug`,
/// so that `unwrap` and `fn main() -> Result<..>` show everything there is to know.
///
/// # Examples
/// ```
/// use ringfence::{ErrorKind, Sandbox};
///
/// let error = Sandbox::new().hostname("box").command("/bin/true").compile().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// assert_eq!(error.setter(), Some("hostname"));
/// ```
#[derive(thiserror::Error)]
pub struct Error(#[source] Box<Inner>);

/// What an [`Error`] owns; it is the source of the error as well, so that the public type stays one word.
#[derive(Debug)]
pub(crate) struct Inner {
    kind: ErrorKind,
    step: Option<Step>,
    setter: Option<&'static str>,
    syscall: Option<&'static str>,
    what: String,
    hint: Option<String>,
    cause: Option<std::io::Error>,
}

impl Inner {
    /// On one line.
    fn whole(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.cause.is_some() {
            write!(f, ": {self}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cause, self.syscall) {
            (Some(cause), Some(syscall)) => write!(f, "{syscall}: {cause}"),
            (Some(cause), None) => write!(f, "{cause}"),
            (None, _) => f.write_str(match self.kind {
                ErrorKind::InvalidInput => "the description contradicts itself",
                ErrorKind::NotThatNamespace => "it is not what was asked for",
                ErrorKind::DiedBeforeExec => "the child ended before the program was started",
                _ => "no system call failed",
            }),
        }
    }
}

impl std::error::Error for Inner {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// The general class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The description contradicts itself or cannot be expressed to the kernel. Nothing was created.
    InvalidInput,
    /// The caller may not do this.
    PermissionDenied,
    /// A file, a program or a source of a mount does not exist.
    NotFound,
    /// This kernel, or a filter in front of it, does not know a system call or an option.
    Unsupported,
    /// A limit on namespaces, processes, descriptors or memory is reached.
    LimitReached,
    /// A descriptor or a path is no namespace, or is one of another kind than was asked for.
    NotThatNamespace,
    /// The set-up took longer than it may.
    TimedOut,
    /// The child was killed or crashed before the program was started.
    DiedBeforeExec,
    /// Any other failure of a system call, see [`Error::raw_os_error`]; or something in the system stands in
    /// the way, such as a frozen cgroup.
    System,
}

impl ErrorKind {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::PermissionDenied,
            Errno::NOENT | Errno::NOTDIR => Self::NotFound,
            Errno::NOSYS | Errno::OPNOTSUPP | Errno::NODEV => Self::Unsupported,
            Errno::NOSPC
            | Errno::MFILE
            | Errno::NFILE
            | Errno::AGAIN
            | Errno::NOMEM
            | Errno::USERS
            | Errno::DQUOT => Self::LimitReached,
            Errno::TIMEDOUT => Self::TimedOut,
            _ => Self::System,
        }
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// A step of starting a sandbox, as errors and printed plans name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Step {
            $($(#[$doc])* $name,)*
        }

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

steps! {
    /// Checking the description and turning it into a plan.
    Compile => "compile",
    /// Making pipes, memory and helper threads in the caller, before the child exists.
    Prepare => "prepare",
    /// Making the child with its new namespaces.
    Clone => "clone",
    /// Giving the child a descriptor table of its own.
    Descriptors => "descriptors",
    /// Entering a cgroup.
    Cgroup => "cgroup",
    /// Writing the id maps of a new user namespace.
    IdMap => "id map",
    /// Writing the clock offsets of a new time namespace.
    TimeOffsets => "time offsets",
    /// Setting the host name.
    Hostname => "hostname",
    /// Setting the NIS domain name.
    Domainname => "domainname",
    /// Bringing the loopback interface up.
    Loopback => "loopback",
    /// Setting the propagation of the mount tree.
    Propagation => "propagation",
    /// Making the new root.
    Root => "root",
    /// Bind-mounting.
    Bind => "bind",
    /// Mounting a tmpfs.
    Tmpfs => "tmpfs",
    /// Mounting a procfs.
    Proc => "proc",
    /// Mounting a sysfs.
    Sysfs => "sysfs",
    /// Mounting a POSIX message queue file system.
    Mqueue => "mqueue",
    /// Mounting pseudo-terminals.
    Devpts => "devpts",
    /// Mounting the interpreters of programs, or registering one.
    BinfmtMisc => "binfmt_misc",
    /// Mounting the cgroup hierarchy.
    Cgroup2 => "cgroup2",
    /// Mounting an overlay.
    Overlay => "overlay",
    /// Hiding a file or a directory.
    Mask => "mask",
    /// Changing the attributes of a mount.
    Remount => "remount",
    /// A mount made without a sandbox, or the list of all mounts.
    Mount => "mount",
    /// Keeping root inside from changing the mounts.
    MountLock => "lock_mounts",
    /// Populating /dev.
    Dev => "dev",
    /// Making a symbolic link.
    Symlink => "symlink",
    /// Making a directory.
    Dir => "dir",
    /// Changing permission bits.
    Chmod => "chmod",
    /// Making a file.
    File => "file",
    /// Entering the new root and leaving the old one.
    PivotRoot => "pivot_root",
    /// Starting a new session.
    Session => "session",
    /// Setting user id, group id or supplementary groups.
    Ids => "ids",
    /// Entering the working directory.
    CurrentDir => "current_dir",
    /// Connecting stdin, stdout, stderr and further descriptors.
    Stdio => "stdio",
    /// Binding the program's life to that of its parent.
    DieWithParent => "die_with_parent",
    /// Restoring signal actions, the signal mask and limits for the program.
    Signals => "signals",
    /// Limiting a resource.
    Rlimit => "rlimit",
    /// Setting the nice value.
    Nice => "nice",
    /// Setting the I/O priority.
    IoPriority => "io_priority",
    /// Choosing processors.
    Affinity => "affinity",
    /// Setting how likely the program is to be killed when memory runs out.
    OomScore => "oom_score_adj",
    /// Setting capabilities, or taking them away.
    Capabilities => "capabilities",
    /// Setting securebits.
    Securebits => "securebits",
    /// Keeping the program from gaining privilege.
    NoNewPrivs => "no_new_privs",
    /// Enforcing a Landlock ruleset.
    Landlock => "landlock",
    /// Installing a filter of system calls.
    Seccomp => "seccomp",
    /// Keeping the program from making user namespaces.
    DisableUserns => "disable_userns",
    /// Starting the process that reaps, or that waits at the gate.
    Init => "init",
    /// Executing the program.
    Exec => "exec",
    /// Waiting for or signalling the program.
    Wait => "wait",
    /// Opening, making or asking a namespace.
    Namespace => "namespace",
    /// Running something in a namespace.
    Enter => "enter",
    /// Joining a namespace with the program.
    Join => "join",
    /// Giving a namespace a path, or taking it away.
    Pin => "pin",
    /// Opening a netlink socket.
    Netlink => "netlink",
    /// Making, changing or listing network interfaces.
    Link => "link",
    /// Adding, removing or listing addresses of network interfaces.
    Address => "address",
    /// Adding, removing or listing routes.
    Route => "route",
    /// Adding, removing or listing neighbours.
    Neighbour => "neighbour",
    /// Adding, removing or listing routing rules.
    RoutingRule => "rule",
    /// Changing the packet filter or the address translation.
    Nftables => "nftables",
    /// Reading or writing a network parameter.
    Sysctl => "sysctl",
    /// Connecting something to a network.
    Network => "network",
    /// Connecting a namespace to the outside.
    Uplink => "uplink",
    /// Looking at the namespaces of all processes.
    Scan => "scan",
}

impl Error {
    /// An error of the description, blamed on a setter.
    pub(crate) fn invalid(setter: &'static str, what: impl Into<String>) -> Self {
        let mut text = format!("{setter}: ");
        text.push_str(&what.into());
        Self(Box::new(Inner {
            kind: ErrorKind::InvalidInput,
            step: Some(Step::Compile),
            setter: Some(setter),
            syscall: None,
            what: text,
            hint: None,
            cause: None,
        }))
    }

    /// A failed system call at a step, on an object.
    pub(crate) fn system(
        step: Step,
        object: impl fmt::Display,
        syscall: &'static str,
        errno: Errno,
    ) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::of(errno),
            step: Some(step),
            setter: None,
            syscall: Some(syscall),
            what: describe(step, &object),
            hint: limit(errno).map(str::to_owned),
            cause: Some(errno.into()),
        }))
    }

    /// A failure of the system that std reports, at a step.
    pub(crate) fn io(step: Step, object: impl fmt::Display, cause: std::io::Error) -> Self {
        let kind = match (Errno::from_io_error(&cause), cause.kind()) {
            (Some(errno), _) => ErrorKind::of(errno),
            (None, std::io::ErrorKind::Unsupported) => ErrorKind::Unsupported,
            (None, _) => ErrorKind::System,
        };
        Self(Box::new(Inner {
            kind,
            step: Some(step),
            setter: None,
            syscall: None,
            what: describe(step, &object),
            hint: None,
            cause: Some(cause),
        }))
    }

    /// A failure that no single system call stands for.
    pub(crate) fn other(kind: ErrorKind, step: Step, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            step: Some(step),
            setter: None,
            syscall: None,
            what: describe(step, &what.into()),
            hint: None,
            cause: None,
        }))
    }

    /// Where the errno alone does not tell.
    #[cfg(feature = "net")]
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same error once more.
    pub(crate) fn again(&self) -> Self {
        let inner = &*self.0;
        let again = |cause: &std::io::Error| match cause.raw_os_error() {
            Some(errno) => std::io::Error::from_raw_os_error(errno),
            None => std::io::Error::new(cause.kind(), cause.to_string()),
        };
        Self(Box::new(Inner {
            what: inner.what.clone(),
            hint: inner.hint.clone(),
            cause: inner.cause.as_ref().map(again),
            ..*inner
        }))
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        if hint.is_some() {
            self.0.hint = hint;
        }
        self
    }

    /// The general class of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The step that failed.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.0.step
    }

    /// The method of the builder whose value was refused, for [`ErrorKind::InvalidInput`].
    #[must_use]
    pub fn setter(&self) -> Option<&'static str> {
        self.0.setter
    }

    /// The name of the system call that failed.
    #[must_use]
    pub fn syscall(&self) -> Option<&'static str> {
        self.0.syscall
    }

    /// The errno of the system call that failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.cause.as_ref()?.raw_os_error()
    }

    /// The usual cause of such a failure on this machine, and the cure.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

/// What is usual for an errno, whatever the step.
fn limit(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::MFILE => Some("this process has too many open descriptors: see RLIMIT_NOFILE"),
        Errno::NFILE => Some("the system has too many open files: see fs.file-max"),
        Errno::NOMEM => Some(
            "out of memory, or the init of the pid namespace has ended, or a memory cgroup is at its limit",
        ),
        _ => None,
    }
}

fn describe(step: Step, object: &dyn fmt::Display) -> String {
    let object = object.to_string();
    if object.is_empty() {
        step.to_string()
    } else {
        format!("{step}: {object}")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.alternate() {
            true => self.0.whole(f),
            false => f.write_str(&self.0.what),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.whole(f)
    }
}

impl From<Error> for std::io::Error {
    /// Keeps the kind that std would give to the errno, and the whole error as its payload.
    fn from(error: Error) -> Self {
        let kind = match (error.raw_os_error(), error.kind()) {
            (Some(errno), _) => Self::from_raw_os_error(errno).kind(),
            (None, ErrorKind::InvalidInput | ErrorKind::NotThatNamespace) => {
                std::io::ErrorKind::InvalidInput
            }
            (None, ErrorKind::NotFound) => std::io::ErrorKind::NotFound,
            (None, ErrorKind::PermissionDenied) => std::io::ErrorKind::PermissionDenied,
            (None, ErrorKind::Unsupported) => std::io::ErrorKind::Unsupported,
            (None, ErrorKind::TimedOut) => std::io::ErrorKind::TimedOut,
            (None, _) => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn is_one_word_and_can_cross_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn says_step_object_call_errno_and_hint() {
        let error = Error::system(Step::Bind, "/data at /mnt", "open_tree", Errno::NOENT)
            .with_hint(Some("the source does not exist".into()));
        assert_eq!(error.to_string(), "bind: /data at /mnt");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.syscall(), Some("open_tree"));
        assert_eq!(error.raw_os_error(), Some(2));
        let whole = "bind: /data at /mnt: open_tree: No such file or directory (os error 2) (hint: the source does not exist)";
        assert_eq!(format!("{error:?}"), whole);
        assert_eq!(format!("{error:#}"), whole);
        let source = error.source().expect("has a source").to_string();
        assert!(source.starts_with("open_tree: "), "{source}");
        assert!(
            !source.contains("/data"),
            "does not repeat the object: {source}"
        );
    }

    #[test]
    fn becomes_an_io_error() {
        let io: std::io::Error = Error::system(Step::Exec, "x", "execve", Errno::NOENT).into();
        assert_eq!(io.kind(), std::io::ErrorKind::NotFound);
        assert!(io.get_ref().is_some_and(|inner| inner.is::<Error>()));
        let io: std::io::Error = Error::invalid("hostname", "needs uts()").into();
        assert_eq!(io.kind(), std::io::ErrorKind::InvalidInput);
    }
}
