use super::{Sandbox, Stdio, WindowSize};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::process::Child;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::time::Duration;

/// The program to run in a [`Sandbox`], and how.
///
/// Where a method has the name of one of [`std::process::Command`] it does the same, apart from two
/// things. Every method takes the command by value and hands it back. And the program starts with an
/// empty signal mask, and the default action for every signal that the caller ignored when the command was
/// compiled, and in any case for `SIGHUP`, `SIGINT`, `SIGUSR1`, `SIGPIPE`, `SIGTERM` and `SIGCHLD`;
/// std hands on the mask, and what is ignored but for `SIGPIPE`. The environment and the ids of the caller
/// are read when the command is [compiled](Command::compile).
///
/// # Examples
/// ```
/// # fn main() -> ringfence::Result<()> {
/// let status = ringfence::Sandbox::new()
///     .command("sh")
///     .args(["-c", "exit 7"])
///     .env("LANG", "C")
///     .status()?;
/// assert_eq!(status.code(), Some(7));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Command {
    pub(crate) sandbox: Sandbox,
    pub(crate) program: OsString,
    pub(crate) arg0: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env_clear: bool,
    pub(crate) env: BTreeMap<OsString, Option<OsString>>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) stdin: Option<Stdio>,
    pub(crate) stdout: Option<Stdio>,
    pub(crate) stderr: Option<Stdio>,
    pub(crate) descriptors: Vec<(Arc<OwnedFd>, RawFd)>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) keep_groups: bool,
    pub(crate) keep_ids: bool,
    pub(crate) keep_capabilities: bool,
    pub(crate) umask: Option<u32>,
    pub(crate) new_session: bool,
    pub(crate) foreground: bool,
    pub(crate) kill_on_drop: bool,
    /// The signal that the program gets when the caller ends.
    pub(crate) die_with_parent: Option<i32>,
    pub(crate) inherit_descriptors: bool,
    pub(crate) inherit_ignored: bool,
    pub(crate) setup_timeout: Option<Duration>,
    pub(crate) gate: bool,
    /// The program is never released: nothing need be prepared for it alone.
    pub(crate) never_runs: bool,
    pub(crate) window_size: WindowSize,
}

/// How long the set-up of a child may take before it is given up.
pub(crate) const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

impl Command {
    pub(crate) fn new(sandbox: Sandbox, program: OsString) -> Self {
        Self {
            sandbox,
            program,
            arg0: None,
            args: Vec::new(),
            env_clear: false,
            env: BTreeMap::new(),
            current_dir: None,
            stdin: None,
            stdout: None,
            stderr: None,
            descriptors: Vec::new(),
            uid: None,
            gid: None,
            groups: None,
            keep_groups: false,
            keep_ids: false,
            keep_capabilities: false,
            umask: None,
            new_session: false,
            foreground: false,
            kill_on_drop: false,
            die_with_parent: None,
            inherit_descriptors: false,
            inherit_ignored: false,
            setup_timeout: None,
            gate: false,
            never_runs: false,
            window_size: WindowSize::default(),
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    /// Nothing is split or expanded: there is no shell between.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// What the program sees as its own name, instead of the name it was found by.
    pub fn arg0(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.arg0 = Some(arg.as_ref().to_owned());
        self
    }

    /// Sets an environment variable.
    /// The caller's own are handed on as they are when the command is compiled, with these changes.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .insert(key.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Sets environment variables.
    pub fn envs(
        mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        for (key, value) in vars {
            self = self.env(key, value);
        }
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.as_ref().to_owned(), None);
        self
    }

    /// Starts from an empty environment, and forgets what was set before.
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// The working directory, as a path inside. In a new root it is absolute and never leads out of it,
    /// and is `/` if not set; without a new root it is the caller's if not set.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// Where standard input comes from: inherited, for [`output`](Self::output) null.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdio.into());
        self
    }

    /// Where standard output goes: inherited, for [`output`](Self::output) piped.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdio.into());
        self
    }

    /// Where standard error goes: inherited, for [`output`](Self::output) piped.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stderr = Some(stdio.into());
        self
    }

    /// Hands the program one more descriptor, under the number `target`. All descriptors that were not
    /// handed over, by this or as a standard stream, are closed when the program starts.
    ///
    /// # Examples
    /// A socket that listens already, and nothing else of the caller's:
    /// ```
    /// use std::os::fd::OwnedFd;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let command = ringfence::Sandbox::new().command("sh").args(["-c", "readlink /proc/self/fd/3"]);
    /// let output = command.descriptor(OwnedFd::from(listener), 3).output()?;
    /// assert!(output.stdout.starts_with(b"socket:"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn descriptor(mut self, fd: impl Into<Arc<OwnedFd>>, target: RawFd) -> Self {
        self.descriptors.push((fd.into(), target));
        self
    }

    /// The user id inside. Supplementary groups are dropped unless [`groups`](Self::groups) sets them, but
    /// only where the child may: not in a new user namespace that denies setgroups(2), as it does unless
    /// [`Setgroups::Allow`](super::Setgroups::Allow) is set. There the program keeps the caller's.
    ///
    /// # Errors
    /// `EINVAL` from the start for an id that does not exist in the new user namespace.
    ///
    /// # Privileges
    /// `CAP_SETUID`, which the set-up of a new user namespace has for the ids that exist in it.
    ///
    /// See [setresuid(2)](https://man7.org/linux/man-pages/man2/setresuid.2.html).
    #[doc(alias = "setresuid")]
    pub fn uid(mut self, id: u32) -> Self {
        self.uid = Some(id);
        self
    }

    /// The group id inside.
    ///
    /// # Privileges
    /// `CAP_SETGID`, which the set-up of a new user namespace has for the ids that exist in it.
    ///
    /// See [setresgid(2)](https://man7.org/linux/man-pages/man2/setresgid.2.html).
    #[doc(alias = "setresgid")]
    pub fn gid(mut self, id: u32) -> Self {
        self.gid = Some(id);
        self
    }

    /// The supplementary groups inside. In a new user namespace this needs
    /// [`Setgroups::Allow`](super::Setgroups::Allow).
    ///
    /// See [setgroups(2)](https://man7.org/linux/man-pages/man2/setgroups.2.html).
    pub fn groups(mut self, ids: impl IntoIterator<Item = u32>) -> Self {
        self.groups = Some(ids.into_iter().collect());
        self.keep_groups = false;
        self
    }

    /// The file mode creation mask; the caller's if not set.
    ///
    /// See [umask(2)](https://man7.org/linux/man-pages/man2/umask.2.html).
    pub fn umask(mut self, mask: u32) -> Self {
        self.umask = Some(mask);
        self
    }

    /// Starts the program in a session of its own, without a controlling terminal: it cannot push
    /// input into the caller's terminal.
    ///
    /// See [setsid(2)](https://man7.org/linux/man-pages/man2/setsid.2.html).
    #[doc(alias = "setsid")]
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// Starts the program in a process group of its own, and makes that the foreground group of the
    /// caller's controlling terminal, as a job-control shell does: what is typed, and `SIGINT` and
    /// `SIGTSTP` with it, reaches the program alone.
    ///
    /// The caller takes the terminal back when it learns of the program's end, by
    /// [`wait`](crate::Child::wait) and the like, and with it its terminal modes if the program was killed by
    /// a signal. [`Child::wait_in_foreground`](crate::Child::wait_in_foreground) also takes it back when
    /// the program is stopped, and hands it over again when the caller is continued.
    ///
    /// A program that is process 1 of a pid namespace ignores what it has no handler for, also from a terminal;
    /// see [`Sandbox::init`].
    ///
    /// Where the caller has no controlling terminal, or is in the background of it, only the group
    /// is made. Where neither its own process group nor the one in the foreground is in its pid namespace, as with a
    /// process 1 that is not a session leader, it could not take the terminal back: spawning fails.
    #[doc(alias = "tcsetpgrp")]
    #[doc(alias = "setpgid")]
    pub fn foreground(mut self) -> Self {
        self.foreground = true;
        self
    }

    /// Kills the program, if it still runs, when its [`Child`] is dropped, and reaps it.
    ///
    /// With a new pid namespace everything in it ends with the program.
    pub fn kill_on_drop(mut self) -> Self {
        self.kill_on_drop = true;
        self
    }

    /// The program is killed when the calling process ends or executes another program, however that
    /// happens; the end of the calling *thread* alone does not matter. For this a thread of the
    /// caller lives as long as the program. It ends a moment after it: as beside any other thread, the copy of a process that
    /// forks itself just then may find a lock of the standard library taken for good, and start no threads.
    ///
    /// The kernel forgets about it when the program executes a set-user-id program.
    ///
    /// See [PR_SET_PDEATHSIG(2const)](https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html).
    #[doc(alias = "PR_SET_PDEATHSIG")]
    pub fn die_with_parent(self) -> Self {
        self.die_with_parent_by(libc::SIGKILL)
    }

    /// [`die_with_parent`](Self::die_with_parent), but the program gets this signal, and so may go on. Process 1 of a
    /// new pid namespace gets no signal but `SIGKILL` that it has not asked for.
    pub fn die_with_parent_by(mut self, signal: i32) -> Self {
        self.die_with_parent = Some(signal);
        self
    }

    /// How long the set-up of the sandbox may take, ten seconds if not set. The calling thread waits for
    /// the child without interruption, so a child that somebody stops or freezes, or whose system call
    /// hangs, is ended after this time.
    ///
    /// A caller without privilege cannot set up a new user namespace while another thread starts a program that takes on
    /// other ids: one waits for the other, for as long at most.
    ///
    /// A timer in the child does that. If it is process 1 of a new pid namespace, it ignores signals from
    /// inside, and the timer cannot end a system call that gives way to `SIGKILL` alone, such as one on a
    /// network file system that does not answer. Where this method is used, and where there is a
    /// [cgroup](Sandbox::into_cgroup), a thread of the caller looks after such a child, which costs as much as
    /// starting a thread.
    pub fn setup_timeout(mut self, limit: Duration) -> Self {
        self.setup_timeout = Some(limit);
        self
    }

    /// Holds the program at a gate: [`spawn`](Self::spawn) returns when the sandbox is set up, and the
    /// program is executed only when [`Child::release`](crate::Child::release) says so. Until then there is
    /// a process with all the new namespaces, for which a network or a cgroup can be set up. If
    /// the caller ends meanwhile, or drops the [`Child`](crate::Child), that process ends as well.
    ///
    /// To wait for a program that nobody has released is to wait for ever: [`status`](Self::status) and
    /// [`output`](Self::output), after which nobody could, refuse it.
    pub fn gate(mut self) -> Self {
        self.gate = true;
        self
    }

    /// The size that a terminal from [`Stdio::pty`] has at first: 24 rows of 80 columns, if not set;
    /// [`WindowSize::of`] is that of the caller's.
    pub fn window_size(mut self, size: WindowSize) -> Self {
        self.window_size = size;
        self
    }

    /// Turns the description into a plan: checked, in order, everything allocated.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a contradiction, naming the setter;
    /// other kinds where a descriptor that the plan needs cannot be opened, or where the caller
    /// lacks what the chosen id map needs.
    pub fn compile(&self) -> Result<Plan> {
        Plan::compile(self, &Stdio::inherit(), &Stdio::inherit())
    }

    /// Compiles and starts the program once. To start it often, [compile](Self::compile) it once.
    ///
    /// # Errors
    /// Those of [`compile`](Self::compile) and [`Plan::spawn`].
    pub fn spawn(&self) -> Result<Child> {
        self.compile()?.spawn()
    }

    /// Runs the program and waits for its end.
    ///
    /// # Errors
    /// Those of [`spawn`](Self::spawn); [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a program that
    /// is held at the [gate](Self::gate).
    pub fn status(&self) -> Result<ExitStatus> {
        self.refuse_gate()?;
        let mut child = self.spawn()?;
        child.wait()
    }

    /// Runs the program, waits for its end and collects what it wrote, [however much](Child::wait_with_output) that is.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub fn output(&self) -> Result<Output> {
        self.refuse_gate()?;
        Plan::compile(self, &Stdio::null(), &Stdio::piped())?
            .spawn()?
            .wait_with_output()
    }

    fn refuse_gate(&self) -> Result<()> {
        match self.gate {
            true => Err(Error::invalid(
                "gate",
                "nobody could release the program; see spawn and Child::release",
            )),
            false => Ok(()),
        }
    }
}
