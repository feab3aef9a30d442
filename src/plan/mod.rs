//! What will be done: validated, in order, everything allocated.

mod compile;
mod entry;
pub(crate) mod features;
pub(crate) mod join;
mod lockdown;
pub(crate) mod maps;
pub(crate) mod op;
pub(crate) mod place;
mod program;
mod root;
pub(crate) mod stage;

use crate::cgroup::Directory;
use crate::error::{Result, Step};
use crate::mount::Tree;
use crate::ns::Namespaces;
use crate::process::Child;
use crate::sandbox::Command;
use crate::sandbox::WindowSize;
use crate::sandbox::stdio::{Stdio, Stream};
use crate::spawn::Reserve;
use join::Join;
use maps::Maps;
use op::Op;
pub(crate) use program::Program;
use stage::Stage;
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A compiled [`Command`]: checked, in order, with all memory that the child needs.
///
/// A plan starts its program any number of times, from any thread, also from several at once. It keeps
/// what it was compiled with: the environment, the ids of the caller, the descriptors given to it.
/// Printed, it shows every step with its system calls.
///
/// # Examples
/// ```
/// # fn main() -> ringfence::Result<()> {
/// let plan = ringfence::Sandbox::new().command("true").compile()?;
/// println!("{plan}");
/// for _ in 0..3 {
///     assert!(plan.spawn()?.wait()?.success());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) given: Arc<Given>,
}

/// The caller's descriptors that the program gets. Not part of what a [`Child`] holds on to: somebody may
/// wait for the end of a pipe that was given away.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) stdio: [Stream; 3],
    pub(crate) descriptors: Vec<(Arc<OwnedFd>, RawFd)>,
}

#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) namespaces: Namespaces,
    pub(crate) flags: u64,
    pub(crate) method: Method,
    pub(crate) ops: Box<[Op]>,
    pub(crate) program: Program,
    pub(crate) maps: Option<Maps>,
    pub(crate) trees: Vec<Arc<Tree>>,
    pub(crate) template: Option<Template>,
    /// The cgroup to start in.
    pub(crate) cgroup: Option<Directory>,
    pub(crate) born_in_cgroup: bool,
    pub(crate) null: Option<OwnedFd>,
    /// Low numbers for the child's ends of pipes.
    pub(crate) reserve: Option<Reserve>,
    /// The child, without privilege, writes to its files in /proc: the shared memory must be dumpable.
    pub(crate) needs_dumpable: bool,
    /// The child takes on other ids: the shared memory stops being dumpable.
    pub(crate) changes_ids: bool,
    pub(crate) setup_timeout: Duration,
    /// Whether a thread of the caller ends a process 1 whose time is over, which its timer may not.
    pub(crate) watched: bool,
    pub(crate) kill_on_drop: bool,
    pub(crate) die_with_parent: bool,
    /// The program is never released.
    pub(crate) never_runs: bool,
    /// What starts the program, unless the child does it.
    pub(crate) stage: Option<Stage>,
    pub(crate) join: Join,
    #[cfg(feature = "net")]
    pub(crate) attachments: crate::sandbox::attach::Attachments,
    /// Descriptors for the lock-down.
    pub(crate) bound: Bound,
    pub(crate) window_size: WindowSize,
    /// The program is in another process group than the caller.
    pub(crate) apart: bool,
    /// The program's group is to have the caller's controlling terminal.
    pub(crate) foreground: bool,
}

impl Compiled {
    /// The socket number of a terminal that the child opens.
    pub(crate) fn terminal_socket(&self) -> Option<RawFd> {
        self.ops.iter().find_map(|op| match &op.action {
            op::Action::Terminal(terminal) => Some(terminal.socket),
            _ => None,
        })
    }

    /// Whether all that the program starts ends with process 1, or with what stands for it.
    pub(crate) fn ends_together(&self) -> bool {
        self.namespaces.contains(Namespaces::PID) || self.is_subreaped()
    }

    /// Whether the second stage kills what the program has started, as no pid namespace does.
    pub(crate) fn is_subreaped(&self) -> bool {
        self.stage.as_ref().is_some_and(Stage::is_subreaper)
    }

    /// Whether system calls of the program are filtered.
    pub(crate) fn filters(&self) -> bool {
        self.ops
            .iter()
            .any(|op| op.step == crate::error::Step::Seccomp)
    }

    /// Whether the second stage, a program of its own that joins nothing, waits at the gate for good.
    pub(crate) fn stays_held(&self) -> bool {
        self.never_runs && self.join.by_stage.is_none() && self.stage.is_some() && !self.forks()
    }

    /// Whether the child passes its namespaces to the caller and ends, rather than become a program.
    pub(crate) fn passes(&self) -> bool {
        let last = self.ops.last().map(|op| &op.action);
        matches!(last, Some(op::Action::PassNamespaces { .. }))
    }

    /// The child lives on with a copy of the caller's memory, and nobody waits for its exec.
    pub(crate) fn forks(&self) -> bool {
        self.stage.as_ref().is_some_and(Stage::forks)
    }
}

/// What the lock-down needs of the caller's.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    /// Rulesets, and the numbers that they have in the child.
    pub(crate) descriptors: Vec<(Arc<OwnedFd>, RawFd)>,
    /// The number of the socket that the listener of a filter is sent by.
    pub(crate) listener: Option<RawFd>,
}

/// A root that is prepared once; its copy is the first tree of every spawn.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) ops: Box<[Op]>,
    pub(crate) tree: Mutex<Option<Arc<OwnedFd>>>,
}

/// The system call that makes the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Clone3,
    Clone,
}

impl Compiled {
    /// Whether the program is in another pid namespace than its parent, which it then cannot see.
    pub(crate) fn hides_parent(&self) -> bool {
        self.namespaces.contains(Namespaces::PID) && self.join.by_stage.is_none()
    }
}

impl Plan {
    /// Compiles a command with these defaults for the standard streams.
    pub(crate) fn compile(command: &Command, input: &Stdio, output: &Stdio) -> Result<Self> {
        compile::compile(command, input, output).map(|(compiled, given)| Self {
            compiled: Arc::new(compiled),
            given: Arc::new(given),
        })
    }

    /// Makes the namespaces and nothing else, if it can: descriptors of them, in the order of their kinds.
    pub(crate) fn make_namespaces(&self) -> Option<Result<Vec<OwnedFd>>> {
        let passes = self.compiled.passes();
        passes.then(|| crate::spawn::namespaces(self))
    }

    /// Starts the program: returns when it has been executed, or with the step that failed.
    ///
    /// It returns from within the kernel's exec, when the program can no longer fail to start: for a moment
    /// `/proc/PID/cmdline` may still be empty, and `/proc/PID/comm` the caller's.
    ///
    /// The calling thread is suspended, without interruption by signals, while the child sets itself
    /// up. Whatever fails, nothing stays behind.
    ///
    /// # Errors
    /// [`Error::step`](crate::Error::step) names the step, `Display` its object,
    /// [`hint`](crate::Error::hint) the usual cause. A program that cannot be executed is an error here,
    /// not an exit status.
    ///
    /// # Kernel
    /// Linux 5.10; the child is made by clone3(2) with `CLONE_VM | CLONE_VFORK`, by clone(2) where it is
    /// missing.
    pub fn spawn(&self) -> Result<Child> {
        let child = crate::spawn::spawn(self)?;
        #[cfg(feature = "net")]
        let child = self.compiled.attachments.attach(child)?;
        Ok(child)
    }

    /// The namespaces that are new for the program.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        self.compiled.namespaces
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.compiled.fmt(f)
    }
}

impl fmt::Display for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "new namespaces: {}", self.namespaces)?;
        if let Some(maps) = &self.maps {
            writeln!(f, "id maps: {}; {}", maps.users, maps.groups)?;
        }
        if let Some(template) = &self.template {
            writeln!(f, "once, before the first start:")?;
            for op in &template.ops {
                writeln!(f, " - {}: {} [{}]", op.step, op.object, op.action.calls())?;
            }
        }
        if !self.join.by_thread.is_empty() {
            writeln!(f, "before, on a thread of its own:")?;
            for namespace in self.join.by_thread.iter().flat_map(|one| one.as_ref()) {
                writeln!(f, " - {}: {namespace} [setns]", Step::Join)?;
            }
        }
        let call = match self.method {
            Method::Clone3 => "clone3",
            Method::Clone => "clone",
        };
        write!(f, " 1. clone: {}", flag_names(self.flags).join(" | "))?;
        if let (Some(cgroup), true) = (&self.cgroup, self.born_in_cgroup) {
            write!(f, ", into the cgroup {}", cgroup.path.display())?;
        }
        writeln!(f, " [{call}]")?;
        let classic = self
            .ops
            .iter()
            .any(|op| matches!(op.action, op::Action::Stage { classic: true }));
        for (index, op) in self.ops.iter().enumerate() {
            writeln!(
                f,
                "{:2}. {}: {} [{}]",
                index + 2,
                op.step,
                op.object,
                op.action.calls_of(classic)
            )?;
        }
        #[cfg(feature = "net")]
        for attachment in &self.attachments.all {
            writeln!(f, "at the gate: {}", attachment.label())?;
        }
        let argv: Vec<_> = self
            .program
            .argv
            .strings()
            .iter()
            .map(|arg| format!("{:?}", arg.to_string_lossy()))
            .collect();
        write!(f, "program: {}", argv.join(" "))?;
        if let [first, rest @ ..] = self.program.candidates.as_slice()
            && !rest.is_empty()
        {
            write!(f, "\nlooked for in this order: {}", first.to_string_lossy())?;
            for path in rest {
                write!(f, ", {}", path.to_string_lossy())?;
            }
        }
        Ok(())
    }
}

fn flag_names(flags: u64) -> Vec<&'static str> {
    let names = [
        (libc::CLONE_VM, "CLONE_VM"),
        (libc::CLONE_VFORK, "CLONE_VFORK"),
        (libc::CLONE_FILES, "CLONE_FILES"),
        (libc::CLONE_NEWUSER, "CLONE_NEWUSER"),
        (libc::CLONE_NEWPID, "CLONE_NEWPID"),
        (libc::CLONE_NEWNS, "CLONE_NEWNS"),
        (libc::CLONE_NEWNET, "CLONE_NEWNET"),
        (libc::CLONE_NEWUTS, "CLONE_NEWUTS"),
        (libc::CLONE_NEWIPC, "CLONE_NEWIPC"),
        (libc::CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
    ]
    .map(|(flag, name)| (u64::from(flag.cast_unsigned()), name));
    let wide = [
        (crate::sys::clone::CLONE_NEWTIME, "CLONE_NEWTIME"),
        (
            crate::sys::clone::CLONE_CLEAR_SIGHAND,
            "CLONE_CLEAR_SIGHAND",
        ),
    ];
    names
        .into_iter()
        .chain(wide)
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, name)| name)
        .collect()
}
