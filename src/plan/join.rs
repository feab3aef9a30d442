//! What is joined, by whom, and in which order.

use super::op::{Action, Op};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{AnyNamespace, Kind, Namespaces};
use crate::process::pid_in_procfs;
use crate::sandbox::join::{JoinCredentials, JoinDir, JoinProcess, Opened};
use crate::sandbox::{Command, Sandbox};
use crate::sys::shared::Shared;
use crate::sys::stage::message::{Instruction, WORK_HEADER, WORK_SIZE, what};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

mod cgroup;
mod ids;
mod last;
mod refuse;

pub(super) use cgroup::directory_of;
pub(super) use last::enter_last;

/// Kinds that let others look into who enters, or that a thread cannot enter.
const BY_STAGE: Namespaces = Namespaces::USER
    .union(Namespaces::PID)
    .union(Namespaces::MOUNT)
    .union(Namespaces::TIME);

/// The order in which namespaces are entered before the user namespace is, and after it.
const ORDER: [Kind; 7] = [
    Kind::Net,
    Kind::Uts,
    Kind::Ipc,
    Kind::Cgroup,
    Kind::Time,
    Kind::Pid,
    Kind::Mount,
];

/// A namespace to join.
pub(crate) type Joined = Opened<AnyNamespace>;

/// What a thread of the caller's enters before it makes the child, or the second stage after its exec.
#[derive(Debug, Default)]
pub(crate) struct Join {
    pub(super) kinds: Namespaces,
    pub(crate) by_thread: Vec<Joined>,
    pub(crate) by_stage: Option<Work>,
    /// What the program's process enters last.
    last: Option<Joined>,
}

/// What the second stage does in the `join` role.
#[derive(Debug, Default)]
pub(crate) struct Work {
    steps: Vec<(Op, Instruction)>,
    texts: Vec<u8>,
    /// As the stage gets it.
    bytes: Box<[u8]>,
    /// The number of the plan's operation that is the first step.
    first: usize,
    held: Vec<Held>,
    /// The numbers of the work and of `held` in the stage.
    numbers: Vec<RawFd>,
}

/// A descriptor that the stage needs.
#[derive(Debug)]
pub(crate) enum Held {
    Namespace(Joined),
    Dir(Arc<OwnedFd>),
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Namespace(namespace) => match namespace.as_ref() {
                Ok(namespace) => namespace.as_fd(),
                // Not put here.
                Err(_) => rustix::fs::CWD,
            },
            Self::Dir(dir) => dir.as_fd(),
        }
    }
}

impl Join {
    /// Everything but the numbers that the descriptors will have.
    pub(super) fn compile(command: &Command) -> Result<Self> {
        let sandbox = &command.sandbox;
        if let Some(error) = &sandbox.join.failed {
            return Err(error.again());
        }
        let joined = joined(sandbox)?;
        let kinds = joined
            .iter()
            .fold(Namespaces::empty(), |all, (namespace, _)| {
                all | namespace.kind().into()
            });
        refuse::check(command, kinds, kinds.intersects(BY_STAGE))?;
        let last = sandbox.join.last.clone();
        if !needs_stage(sandbox, kinds) {
            return Ok(Self {
                kinds,
                by_thread: joined.into_iter().map(|(_, held)| held).collect(),
                by_stage: None,
                last,
            });
        }
        let mut work = Work::default();
        if kinds.contains(Namespaces::USER) {
            work.drop_groups_before(command);
        }
        work.join(&joined)?;
        work.settle(sandbox)?;
        work.renew(sandbox, kinds)?;
        work.take_on_ids(command, kinds)?;
        if let Some(dir) = &command.current_dir {
            let path = super::place::c_path(dir.as_os_str())
                .map_err(|what| Error::invalid("current_dir", what))?;
            work.text_step(
                (Step::CurrentDir, dir.display().to_string(), "chdir"),
                what::CHDIR,
                path.as_bytes(),
            );
        }
        Ok(Self {
            kinds,
            by_thread: Vec::new(),
            by_stage: Some(work),
            last,
        })
    }

    /// Whether the second stage is needed, as a program of its own.
    pub(super) fn wants_program(&self) -> bool {
        self.by_stage.is_some() || self.last.is_some()
    }

    /// Of those that the second stage enters, the one that this operation is about.
    pub(crate) fn namespace(&self, op: &Op) -> Option<&AnyNamespace> {
        let last = self
            .last
            .as_ref()
            .and_then(|one| one.as_ref().as_ref().ok());
        let last = last.filter(|one| last::object(one) == op.object);
        last.or_else(|| self.by_stage.as_ref()?.namespace(&op.object))
    }
}

fn needs_stage(sandbox: &Sandbox, kinds: Namespaces) -> bool {
    let join = &sandbox.join;
    kinds.intersects(BY_STAGE) || join.root.is_some() || join.dir.is_some()
}

/// The namespaces with their handles, without the user namespace that the caller is in: it cannot be entered
/// again.
fn joined(sandbox: &Sandbox) -> Result<Vec<(&AnyNamespace, Joined)>> {
    let mut found = Vec::new();
    let mut seen = Namespaces::empty();
    for held in &sandbox.join.namespaces {
        let namespace = held.as_ref().as_ref().map_err(Error::again)?;
        let kind = namespace.kind();
        if seen.contains(kind.into()) {
            return Err(Error::invalid(
                "join",
                format!("a {kind} namespace is joined twice"),
            ));
        }
        seen |= Namespaces::from(kind);
        if kind != Kind::User || !namespace.is_current()? {
            found.push((namespace, Arc::clone(held)));
        }
    }
    Ok(found)
}

impl Work {
    /// Those owned by a user namespace that is joined come after it, for then there is the privilege; others come
    /// before, for then there still is.
    fn join(&mut self, joined: &[(&AnyNamespace, Joined)]) -> Result<()> {
        let find = |kind| joined.iter().find(|(one, _)| one.kind() == kind);
        let user = find(Kind::User);
        let mut after = Vec::new();
        for (namespace, held) in ORDER.into_iter().filter_map(find) {
            if user.is_some_and(|(user, _)| is_within(namespace, user)) {
                after.push((namespace, held));
            } else {
                self.join_one(namespace, held);
            }
        }
        if let Some((namespace, held)) = user {
            self.join_one(namespace, held);
        }
        for (namespace, held) in after {
            self.join_one(namespace, held);
        }
        Ok(())
    }

    fn join_one(&mut self, namespace: &AnyNamespace, held: &Joined) {
        let kind = namespace.kind();
        // To enter one's own mount namespace would be to leave one's root and working directory.
        let what = match kind {
            Kind::Mount => what::JOIN_OTHER,
            _ => what::JOIN,
        };
        let instruction = Instruction {
            what,
            value: Namespaces::from(kind).bits(),
            ..self.text(kind.proc_name().as_bytes())
        };
        let held = Held::Namespace(Arc::clone(held));
        self.held_step(
            (Step::Join, namespace.to_string(), "setns"),
            instruction,
            held,
        );
    }

    /// Root and working directory.
    fn settle(&mut self, sandbox: &Sandbox) -> Result<()> {
        let join = &sandbox.join;
        if let Some(dir) = &join.root {
            let (dir, object) = open_dir(dir, "root", "join_root")?;
            let instruction = Instruction {
                what: what::ROOT,
                ..Instruction::default()
            };
            self.held_step((Step::Root, object, "fchdir, chroot"), instruction, dir);
        }
        if let Some(dir) = &join.dir {
            let (dir, object) = open_dir(dir, "cwd", "join_dir")?;
            let instruction = Instruction {
                what: what::DIR,
                ..Instruction::default()
            };
            self.held_step((Step::CurrentDir, object, "fchdir"), instruction, dir);
        }
        Ok(())
    }

    /// New namespaces, and the process that is born into a pid namespace.
    fn renew(&mut self, sandbox: &Sandbox, joined: Namespaces) -> Result<()> {
        let new = sandbox.namespaces;
        if !new.is_empty() {
            self.step(
                (Step::Clone, format!("new namespaces: {new}"), "unshare"),
                Instruction {
                    what: what::UNSHARE,
                    value: new.bits(),
                    ..Instruction::default()
                },
            );
        }
        if new.contains(Namespaces::MOUNT) {
            self.plain_step(
                (Step::Propagation, "rprivate".into(), "mount"),
                what::PRIVATE,
            );
        }
        for (setter, name, step, calls, what) in [
            (
                "hostname",
                &sandbox.hostname,
                Step::Hostname,
                "sethostname",
                what::HOSTNAME,
            ),
            (
                "domainname",
                &sandbox.domainname,
                Step::Domainname,
                "setdomainname",
                what::DOMAINNAME,
            ),
        ] {
            if let Some(name) = name {
                let bytes = super::compile::check_name(setter, name)?;
                self.text_step((step, name.display().to_string(), calls), what, &bytes);
            }
        }
        if new.contains(Namespaces::NET) && !sandbox.loopback_down {
            self.plain_step(
                (Step::Loopback, "lo up".into(), "socket, ioctl"),
                what::LOOPBACK_UP,
            );
        }
        let is_born_there = !sandbox.pid_for_children;
        if (new | joined).contains(Namespaces::PID) && is_born_there {
            let object = "a process that is born into the pid namespace, a child of the caller";
            self.plain_step((Step::Clone, object.into(), "clone"), what::FORK);
        }
        Ok(())
    }

    fn text(&mut self, bytes: &[u8]) -> Instruction {
        let at = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.extend_from_slice(bytes);
        // And so that numbers begin where they may.
        let padding = 4 - bytes.len() % 4;
        self.texts.extend(std::iter::repeat_n(0, padding));
        Instruction {
            fd: -1,
            at,
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            ..Instruction::default()
        }
    }

    fn step(&mut self, (step, object, calls): Shown, instruction: Instruction) {
        let op = Op {
            step,
            object,
            action: Action::InStage { calls },
        };
        self.steps.push((
            op,
            Instruction {
                fd: -1,
                ..instruction
            },
        ));
    }

    fn plain_step(&mut self, shown: Shown, what: u32) {
        let instruction = Instruction {
            what,
            ..Instruction::default()
        };
        self.step(shown, instruction);
    }

    fn text_step(&mut self, shown: Shown, what: u32, bytes: &[u8]) {
        let instruction = Instruction {
            what,
            ..self.text(bytes)
        };
        self.step(shown, instruction);
    }

    fn held_step(&mut self, shown: Shown, instruction: Instruction, held: Held) {
        self.step(shown, instruction);
        if let Some((_, instruction)) = self.steps.last_mut() {
            // The index, until there is a number.
            instruction.fd = i32::try_from(self.held.len()).unwrap_or(-1);
        }
        self.held.push(held);
    }

    /// How many descriptors the stage needs for this.
    pub(super) fn wants(&self) -> usize {
        self.held.len() + 1
    }

    /// With so many numbers that are free in the stage.
    pub(super) fn place(&mut self, numbers: &[RawFd]) {
        self.numbers = numbers.to_vec();
        for (_, instruction) in &mut self.steps {
            let number = usize::try_from(instruction.fd)
                .ok()
                .and_then(|index| numbers.get(index + 1));
            instruction.fd = number.copied().unwrap_or(-1);
        }
    }

    /// The number of the work itself in the stage.
    pub(super) fn number(&self) -> RawFd {
        self.numbers.first().copied().unwrap_or(-1)
    }

    /// The descriptors of the caller's that the stage gets, and their numbers there.
    pub(crate) fn sources<'a>(
        &'a self,
        shared: &'a Shared,
    ) -> impl Iterator<Item = (BorrowedFd<'a>, RawFd)> {
        std::iter::once(shared.as_fd())
            .chain(self.held.iter().map(AsFd::as_fd))
            .zip(self.numbers.iter().copied())
    }

    /// Gives the operations to the plan, which has `first` before them.
    pub(super) fn finish(&mut self, first: usize) -> Result<Vec<Op>> {
        self.first = first;
        let header: [u64; WORK_HEADER] = [0, self.steps.len() as u64, first as u64];
        let steps = self.steps.iter().flat_map(|(_, step)| step.to_words());
        let words = header.into_iter().chain(steps);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        bytes.append(&mut self.texts);
        if bytes.len() >= WORK_SIZE {
            return Err(Error::invalid("join", "too many groups"));
        }
        self.bytes = bytes.into();
        Ok(self.steps.drain(..).map(|(op, _)| op).collect())
    }

    /// For one spawn: the stage's sibling stores its pid there.
    pub(crate) fn share(&self) -> Result<Shared> {
        Shared::new(c"ringfence-join", &self.bytes).map_err(|(call, errno)| {
            Error::system(Step::Prepare, "memory for the second stage", call, errno)
        })
    }

    /// The namespace with this name.
    fn namespace(&self, name: &str) -> Option<&AnyNamespace> {
        self.held.iter().find_map(|held| match held {
            Held::Namespace(one) => one
                .as_ref()
                .as_ref()
                .ok()
                .filter(|one| one.to_string() == name),
            Held::Dir(_) => None,
        })
    }
}

/// Step, object and system calls of an operation.
type Shown = (Step, String, &'static str);

/// Whether a namespace belongs to a user namespace or to one below it.
fn is_within(namespace: &AnyNamespace, user: &AnyNamespace) -> bool {
    let Ok(owner) = namespace.user_namespace() else {
        return false;
    };
    let above = || {
        owner
            .ancestors()
            .is_ok_and(|all| all.iter().any(|one| **one == *user))
    };
    *owner == *user || above()
}

fn open_dir(dir: &JoinDir, link: &str, setter: &'static str) -> Result<(Held, String)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &std::path::Path| {
        rustix::fs::open(path, flags, Mode::empty())
            .map(Arc::new)
            .map_err(|errno| Error::system(Step::Compile, path.display(), "open", errno))
    };
    let (fd, object) = match dir {
        JoinDir::Path(path) if path.as_os_str().as_bytes().contains(&0) => {
            return Err(Error::invalid(setter, "the path contains a NUL byte"));
        }
        JoinDir::Path(path) => (open(path)?, path.display().to_string()),
        JoinDir::Fd(fd) => (Arc::clone(fd), format!("descriptor {}", fd.as_raw_fd())),
        JoinDir::Of(process) => {
            let (pid, pidfd) = number(process)?;
            let fd = open(format!("/proc/{pid}/{link}").as_ref())?;
            still_there(pidfd)?;
            (fd, format!("the {link} of process {pid}"))
        }
    };
    Ok((Held::Dir(fd), object))
}

/// The number by which /proc shows a process.
fn number(process: &JoinProcess) -> Result<(u32, BorrowedFd<'_>)> {
    let pidfd = process.pidfd.as_ref().as_ref().map_err(Error::again)?;
    let pid = pid_in_procfs(pidfd.as_raw_fd()).map_err(|(call, errno)| {
        Error::system(Step::Compile, "the process to join", call, errno)
    })?;
    Ok((pid, pidfd.as_fd()))
}

/// Unless it is, its number may have been another's when it was used.
fn still_there(pidfd: BorrowedFd<'_>) -> Result<()> {
    match crate::sys::process::pidfd_signal(pidfd, 0) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(Error::system(
            Step::Compile,
            "the process to join",
            "pidfd_send_signal",
            errno,
        )),
    }
}

/// The credentials that hold where nothing else is said.
fn credentials(sandbox: &Sandbox) -> JoinCredentials {
    sandbox.join.credentials.clone().unwrap_or_default()
}

/// A second stage that would be a copy of the caller.
pub(super) fn forked() -> Error {
    Error::other(
        ErrorKind::Unsupported,
        Step::Compile,
        "join: a user, pid, mount or time namespace is entered by a program in a memfd, and none can be executed",
    )
    .with_hint(Some(
        "vm.memfd_noexec or a filter forbids it, or the crate was built without that program; a copy of the caller in its place would show the caller's memory to root of the joined namespace".into(),
    ))
}
