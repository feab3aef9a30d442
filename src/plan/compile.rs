//! From the description to the plan: everything is checked here, before anything is created.

mod attributes;
mod binding;
mod owner;

use super::features::Features;
use super::join::{self, Join};
use super::maps::{Caller, Maps, Writer};
use super::op::{Action, Ids, Op, Terminal};
use super::place::c_string;
use super::program::Program;
use super::stage::{Form, Numbers, Stage};
use super::{Compiled, Given, Method, Template, lockdown, root};
use crate::cgroup::Directory;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Kind, Namespaces};
#[cfg(feature = "net")]
use crate::sandbox::attach::Attachments;
use crate::sandbox::command::SETUP_TIMEOUT;
use crate::sandbox::rootfs::What;
use crate::sandbox::stdio::{Stdio, Stream};
use crate::sandbox::{Command, Engine, Sandbox};
use crate::spawn::Reserve;
use crate::sys::clone::{CLONE_CLEAR_SIGHAND, CLONE_NEWTIME};
use crate::sys::fd::CloseRange;
use crate::sys::signal::{self, SigSet};
use crate::sys::stage::message::setting;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::ffi::OsStr;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest host or domain name (`__NEW_UTS_LEN`).
const MAX_NAME: usize = 64;
/// The most groups of a process.
pub(super) const NGROUPS_MAX: usize = 65_536;
/// The largest time in seconds that the kernel can count in nanoseconds.
const KTIME_SEC_MAX: u64 = i64::MAX.unsigned_abs() / 1_000_000_000;

pub(super) fn compile(
    command: &Command,
    input: &Stdio,
    output: &Stdio,
) -> Result<(Compiled, Given)> {
    if crate::sys::process::is_secure() {
        return Err(Error::other(
            ErrorKind::PermissionDenied,
            Step::Compile,
            "this program runs with more privilege than its caller (AT_SECURE)",
        )
        .with_hint(Some(
            "do not install a program that makes sandboxes set-user-id or with file capabilities"
                .into(),
        )));
    }
    let sandbox = &command.sandbox;
    check_namespaces(sandbox)?;
    let compiler = Compiler {
        command,
        sandbox,
        caller: Caller::current(),
        features: Features::probe(),
        ops: Vec::new(),
        join: Join::compile(command)?,
        late: false,
        later: Vec::new(),
    };
    compiler.run(input, output)
}

/// Values that mean nothing without a namespace that was not asked for.
fn check_namespaces(sandbox: &Sandbox) -> Result<()> {
    let needs = [
        ("owner", sandbox.owner.is_some(), Kind::User),
        ("user_map", sandbox.user_map.is_some(), Kind::User),
        ("group_map", sandbox.group_map.is_some(), Kind::User),
        ("setgroups", sandbox.setgroups.is_some(), Kind::User),
        ("hostname", sandbox.hostname.is_some(), Kind::Uts),
        ("domainname", sandbox.domainname.is_some(), Kind::Uts),
        ("monotonic_offset", sandbox.monotonic.is_some(), Kind::Time),
        ("boottime_offset", sandbox.boottime.is_some(), Kind::Time),
        ("loopback_down", sandbox.loopback_down, Kind::Net),
        ("network", sandbox.is_attached(), Kind::Net),
        ("rootfs", sandbox.rootfs.is_some(), Kind::Mount),
        ("propagation", sandbox.propagation.is_some(), Kind::Mount),
        (
            "inherit_propagation",
            sandbox.inherit_propagation,
            Kind::Mount,
        ),
        ("lock_mounts", sandbox.mount_lock.is_some(), Kind::Mount),
        ("template", sandbox.template, Kind::Mount),
        (
            "disable_userns",
            sandbox.lockdown.disable_userns,
            Kind::User,
        ),
    ];
    if sandbox.pid_for_children && sandbox.namespaces.contains(Namespaces::PID) {
        return Err(Error::invalid(
            "pid_for_children",
            "the program is in the new pid namespace already, by pid()",
        ));
    }
    let entries = sandbox
        .entries
        .iter()
        .map(|entry| (entry.what.setter(), true, Kind::Mount));
    for (setter, used, kind) in needs.into_iter().chain(entries) {
        if used && !sandbox.namespaces.contains(kind.into()) {
            let method = match kind {
                Kind::Mount => "mount",
                other => other.proc_name(),
            };
            return Err(Error::invalid(
                setter,
                format!("needs a new {kind} namespace, asked for by {method}()"),
            ));
        }
    }
    Ok(())
}

struct Compiler<'a> {
    command: &'a Command,
    sandbox: &'a Sandbox,
    caller: Caller,
    features: Features,
    ops: Vec<Op>,
    join: Join,
    /// The second stage takes on the ids, as binding the program takes the privilege that it then loses.
    late: bool,
    /// What the second stage does then.
    later: Vec<Op>,
}

impl Compiler<'_> {
    fn run(mut self, input: &Stdio, output: &Stdio) -> Result<(Compiled, Given)> {
        let joins = self.join.by_stage.is_some();
        // The others are made by the second stage.
        let namespaces = match joins {
            true => Namespaces::empty(),
            false => self.sandbox.namespaces,
        };
        if self.is_subreaped() && (joins || self.sandbox.pid_for_children) {
            let what = "needs a new pid namespace, asked for by pid(), where such namespaces are joined or one is made for children";
            return Err(Error::invalid("init", what));
        }
        let method = self.method()?;
        self.check_owner()?;
        let program = Program::compile(self.command)?;
        let stdio = [
            (&self.command.stdin, input),
            (&self.command.stdout, output),
            (&self.command.stderr, output),
        ]
        .map(|(set, default)| set.as_ref().unwrap_or(default).0.clone());
        let null = self.open_null(&stdio)?;
        let pipes = stdio
            .iter()
            .filter(|stream| matches!(stream, Stream::Piped));
        let reserve = Reserve::new(pipes.count());
        let descriptors = self.descriptors()?;
        let pty = stdio.each_ref().map(|stream| matches!(stream, Stream::Pty));
        let controlling = (0..)
            .zip(pty)
            .find_map(|(stream, wanted)| wanted.then_some(stream));
        let free: Vec<_> = (3..)
            .filter(|number| descriptors.iter().all(|(_, used)| used != number))
            .take(5 + self.join.by_stage.as_ref().map_or(0, join::Work::wants))
            .collect();
        let (free, further) = free.split_at(5.min(free.len()));
        if let Some(work) = &mut self.join.by_stage {
            work.place(further);
        }
        let taken = free.len() + further.len();
        let foreground = self.foreground(&stdio, controlling.is_some())?;
        let mut stage = self.stage(&program, free, controlling, foreground)?;
        self.late = stage.is_some() && !lockdown::is_idle(self.command);
        let forks = stage
            .as_ref()
            .is_some_and(|stage| matches!(stage.form, Form::Forked));
        let maps = namespaces
            .contains(Namespaces::USER)
            .then(|| Maps::compile(self.sandbox, &self.caller, self.command.keep_ids))
            .transpose()?;
        let needs_dumpable = maps.is_some() && self.caller.uid != 0;
        let cgroup = self.open_cgroup()?;

        let mut flags = self.sharing_flags(method, forks);
        let mut by_clone = namespaces;
        self.own_descriptors()?;
        self.guard(forks)?;
        self.oom_score()?;
        let born_in_cgroup = match (&cgroup, method) {
            (Some(_), Method::Clone3) | (None, _) => true,
            (Some(cgroup), Method::Clone) => {
                self.move_to_cgroup(cgroup)?;
                by_clone -= Namespaces::CGROUP;
                false
            }
        };
        if let Some(owner) = self.sandbox.owner {
            let mut first = namespaces - Namespaces::TIME - Namespaces::PID;
            if !born_in_cgroup {
                first -= Namespaces::CGROUP;
            }
            self.become_owner(owner, first);
            by_clone = Namespaces::empty();
        }
        if let Some(maps) = &maps {
            self.write_maps(maps);
        }
        if !born_in_cgroup && namespaces.contains(Namespaces::CGROUP) {
            self.unshare(Namespaces::CGROUP);
        }
        if namespaces.contains(Namespaces::TIME) {
            by_clone -= self.time(method, namespaces, forks)?;
        }
        if self.sandbox.owner.is_some() && namespaces.contains(Namespaces::PID) {
            self.split_into_pid(namespaces, forks)?;
        }
        flags |= u64::from(by_clone.bits());

        self.limit_userns();
        if self.sandbox.pid_for_children && !self.join.kinds.contains(Namespaces::PID) {
            self.push(
                Step::Clone,
                "new namespaces: pid, for children",
                Action::Unshare {
                    flags: u64::from(Namespaces::PID.bits()),
                },
            );
        }
        if self.is_subreaped() {
            check_procfs()?;
            self.push(Step::Init, "the list of its children", Action::OpenChildren);
        }
        if !joins {
            self.names()?;
        }
        if namespaces.contains(Namespaces::NET) && !self.sandbox.loopback_down {
            self.push(Step::Loopback, "lo up", Action::LoopbackUp);
        }
        let mut mounts = root::Mounts::default();
        if namespaces.contains(Namespaces::MOUNT) {
            let ids = self.inside_ids(maps.as_ref());
            mounts = root::compile(self.sandbox, &self.features, ids)?;
            self.ops.append(&mut mounts.ops);
        } else {
            let root = root::change_root(self.sandbox)?;
            self.ops
                .extend(root.into_iter().flat_map(|root| [root.open, root.enter]));
        }
        self.disable_userns(maps.as_ref());
        let spare = (3..).filter(|number| descriptors.iter().all(|(_, used)| used != number));
        let mut bound = self.bind(maps.as_ref(), &mut spare.skip(taken))?;
        let changes_ids = self.process_attributes(maps.as_ref(), controlling.is_some())?;
        let terminal = self.terminal(pty, free)?;
        self.finish(
            method,
            stage.as_ref(),
            terminal,
            (controlling, foreground),
            &descriptors,
            &mut bound,
        )?;
        self.hand_over(stage.as_mut(), &bound, &program)?;

        let watched = namespaces.contains(Namespaces::PID)
            && (self.command.setup_timeout.is_some() || cgroup.is_some());
        let compiled = Compiled {
            namespaces: self.sandbox.namespaces,
            flags,
            method,
            cgroup,
            born_in_cgroup,
            needs_dumpable: needs_dumpable
                || (self.sandbox.lockdown.oom_score_adj.is_some() && self.caller.uid != 0),
            changes_ids,
            setup_timeout: self.setup_timeout(),
            watched,
            kill_on_drop: self.command.kill_on_drop,
            die_with_parent: self.command.die_with_parent.is_some(),
            ops: self.ops.into(),
            maps,
            trees: mounts.trees,
            template: mounts.template.map(|ops| Template {
                ops: ops.into(),
                tree: Mutex::default(),
            }),
            program,
            null,
            reserve,
            stage,
            join: self.join,
            #[cfg(feature = "net")]
            attachments: Attachments {
                all: self.sandbox.attach.clone(),
                name: self
                    .sandbox
                    .hostname
                    .as_ref()
                    .and_then(|name| name.clone().into_string().ok()),
                hold: self.command.gate,
            },
            bound: bound.needs,
            window_size: self.command.window_size,
            foreground,
            apart: controlling.is_some()
                || foreground
                || self.command.new_session
                || self.sandbox.init.is_some_and(|init| init.signal_group),
        };
        Ok((compiled, Given { stdio, descriptors }))
    }

    /// What starts the program, where the child itself does not.
    fn stage(
        &self,
        program: &Program,
        free: &[RawFd],
        controlling: Option<RawFd>,
        foreground: bool,
    ) -> Result<Option<Stage>> {
        let init = self.sandbox.init;
        let gate = self.command.gate || self.sandbox.is_attached();
        let work = self.join.by_stage.as_ref();
        if init.is_none() && !gate && work.is_none() {
            return Ok(None);
        }
        let takes_session = init.is_some() || work.is_some();
        let own = |path: &std::ffi::CString| {
            [&b"/proc/self/exe"[..], b"/proc/thread-self/exe"].contains(&path.as_bytes())
        };
        if program.candidates.iter().any(own) {
            return Err(Error::invalid(
                "command",
                "at that moment it is not the caller's program; std::env::current_exe names that",
            ));
        }
        let &[control, number, _, given, children] = free else {
            return Ok(None);
        };
        let terminal = controlling.unwrap_or(given);
        let settings = [
            (work.is_some(), setting::JOIN),
            (init.is_some(), setting::REAPER),
            (self.is_subreaped(), setting::SUBREAPER),
            (gate, setting::GATE),
            (
                init.is_some_and(|init| init.wait_for_all),
                setting::WAIT_FOR_ALL,
            ),
            (
                init.is_some_and(|init| init.signal_group),
                setting::SIGNAL_GROUP,
            ),
            (
                takes_session && (self.command.new_session || controlling.is_some()),
                setting::NEW_SESSION,
            ),
            (
                takes_session && controlling.is_some(),
                setting::CONTROLLING_TERMINAL,
            ),
            (foreground, setting::FOREGROUND),
            (
                self.command.die_with_parent.is_some(),
                setting::DIE_WITH_PARENT,
            ),
        ]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |all, (_, setting)| all | setting);
        let death_signal = self.command.die_with_parent.unwrap_or(0).unsigned_abs();
        let settings = settings | death_signal << setting::DEATH_SIGNAL_SHIFT;
        let form = Form::choose(number)?;
        if work.is_some() && matches!(form, Form::Forked) {
            return Err(join::forked());
        }
        let numbers = Numbers {
            control,
            terminal,
            children,
            work: work.map_or(-1, join::Work::number),
        };
        Ok(Some(Stage::new(form, settings, numbers, program)))
    }

    /// Whether what stands for process 1 has no pid namespace.
    fn is_subreaped(&self) -> bool {
        self.sandbox.init.is_some() && !self.sandbox.namespaces.contains(Namespaces::PID)
    }

    /// Whether the program gets the caller's terminal: on request, and with a group of its own that reads
    /// what the caller would read, which in the background it might not.
    fn foreground(&self, stdio: &[Stream; 3], own_terminal: bool) -> Result<bool> {
        let command = self.command;
        let own_session = command.new_session || own_terminal;
        if command.foreground && own_session {
            return Err(Error::invalid(
                "foreground",
                "a session of its own has nothing to do with the caller's terminal; see new_session and Stdio::pty",
            ));
        }
        let own_group = self.sandbox.init.is_some_and(|init| init.signal_group);
        let reads = matches!(stdio[0], Stream::Inherit);
        Ok(command.foreground || (own_group && reads && !own_session))
    }

    fn push(&mut self, step: Step, object: impl Into<String>, action: Action) {
        self.ops.push(Op {
            step,
            object: object.into(),
            action,
        });
    }

    fn method(&self) -> Result<Method> {
        match (self.sandbox.engine, self.features.clone3) {
            (Engine::Clone, _) | (Engine::Auto | Engine::Fork, false) => Ok(Method::Clone),
            (_, true) => Ok(Method::Clone3),
            (Engine::Clone3, false) => Err(Error::other(
                ErrorKind::Unsupported,
                Step::Compile,
                "engine: clone3 is not available",
            )
            .with_hint(Some(
                "the kernel, the architecture or a seccomp filter lacks it; Engine::Auto does without"
                    .into(),
            ))),
        }
    }

    fn sharing_flags(&self, method: Method, forks: bool) -> u64 {
        let copy = libc::CLONE_VFORK | libc::CLONE_FILES;
        let flags = match self.sandbox.engine {
            // Nobody waits for this child, which needs its descriptors while the caller closes some.
            _ if forks => 0,
            Engine::Fork => copy,
            _ => copy | libc::CLONE_VM,
        };
        let flags = u64::from(flags.unsigned_abs());
        match method {
            Method::Clone3 => flags | CLONE_CLEAR_SIGHAND,
            Method::Clone => flags,
        }
    }

    fn own_descriptors(&mut self) -> Result<()> {
        if !self.features.close_range {
            return Err(Error::other(
                ErrorKind::Unsupported,
                Step::Compile,
                "close_range is not available",
            )
            .with_hint(Some(
                "it came with Linux 5.9; on a newer kernel a seccomp filter hides it".into(),
            )));
        }
        self.push(
            Step::Descriptors,
            "a descriptor table of its own",
            Action::OwnDescriptors,
        );
        Ok(())
    }

    fn setup_timeout(&self) -> Duration {
        self.command.setup_timeout.unwrap_or(SETUP_TIMEOUT)
    }

    /// A forked child lives on, so there is no timer, and the caller looks after the time.
    fn guard(&mut self, forks: bool) -> Result<()> {
        let limit = self.setup_timeout();
        if limit.is_zero() {
            return Err(Error::invalid("setup_timeout", "the limit is zero"));
        }
        let (object, timer) = if forks {
            ("no core file until exec".to_owned(), Duration::ZERO)
        } else {
            (
                format!("killed unless it execs within {limit:?}, and no core file until then"),
                limit,
            )
        };
        self.push(
            Step::Prepare,
            object,
            Action::Guard {
                // The kernel takes at most the seconds that fit into an i64 of nanoseconds.
                seconds: timer.as_secs().min(1 << 32),
                nanoseconds: timer.subsec_nanos(),
                process_1: self.sandbox.namespaces.contains(Namespaces::PID)
                    && self.join.by_stage.is_none(),
            },
        );
        Ok(())
    }

    fn open_null(&self, stdio: &[Stream; 3]) -> Result<Option<OwnedFd>> {
        if !stdio.iter().any(|stream| matches!(stream, Stream::Null)) {
            return Ok(None);
        }
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map(Some)
            .map_err(|errno| Error::system(Step::Compile, "/dev/null", "openat", errno))
    }

    fn open_cgroup(&self) -> Result<Option<Directory>> {
        let of_process = self.sandbox.join.cgroup.as_ref();
        let of_process = of_process.map(join::directory_of).transpose()?;
        let Some(path) = self.sandbox.cgroup.as_ref().or(of_process.as_ref()) else {
            return Ok(None);
        };
        Directory::open(path, "into_cgroup").map(Some)
    }

    fn move_to_cgroup(&mut self, cgroup: &Directory) -> Result<()> {
        let object = format!("{}/cgroup.procs", cgroup.path.display());
        let procs = rustix::fs::openat(
            &cgroup.fd,
            c"cgroup.procs",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| Error::system(Step::Cgroup, &object, "openat", errno))?;
        self.push(Step::Cgroup, object, Action::JoinCgroup { procs });
        Ok(())
    }

    fn write_maps(&mut self, maps: &Maps) {
        if maps.denies_setgroups() && self.sandbox.owner.is_none() {
            self.write_proc(Step::IdMap, c"setgroups", "deny");
        }
        for (map, file) in [(&maps.users, c"uid_map"), (&maps.groups, c"gid_map")] {
            if map.writer == Writer::Child {
                self.write_proc(Step::IdMap, file, &map.text());
            }
        }
        if maps.waits() {
            let object = [&maps.users, &maps.groups]
                .into_iter()
                .filter(|map| matches!(map.writer, Writer::Parent | Writer::Helper(_)))
                .map(|map| map.summary().to_string())
                .collect::<Vec<_>>()
                .join("; ");
            self.push(Step::IdMap, object, Action::AwaitMaps);
        }
        let (uid, gid) = maps.setup_ids(&self.caller);
        if uid.is_some() || gid.is_some() {
            let shown = |id: Option<u32>| id.map_or("unchanged".to_owned(), |id| id.to_string());
            self.push(
                Step::Ids,
                format!("uid {}, gid {} for the set-up", shown(uid), shown(gid)),
                Action::SetIds(Ids {
                    groups: None,
                    gid: gid.map(Gid::from_raw),
                    uid: uid.map(Uid::from_raw),
                }),
            );
        }
    }

    fn write_proc(&mut self, step: Step, file: &'static core::ffi::CStr, text: &str) {
        let object = format!(
            "{:?} to /proc/self/{}",
            text.trim_end(),
            file.to_string_lossy()
        );
        self.push(
            step,
            object,
            Action::WriteProc {
                file,
                text: text.as_bytes().into(),
            },
        );
    }

    fn unshare(&mut self, namespaces: Namespaces) {
        self.push(
            Step::Clone,
            format!("new namespaces: {namespaces}"),
            Action::Unshare {
                flags: u64::from(namespaces.bits()),
            },
        );
    }

    /// Adds what a time namespace needs, and returns the namespaces that are not made by clone then.
    fn time(&mut self, method: Method, namespaces: Namespaces, forks: bool) -> Result<Namespaces> {
        if !Path::new("/proc/self/ns/time").exists() {
            return Err(Error::other(
                ErrorKind::Unsupported,
                Step::Compile,
                "time: this kernel has no time namespaces",
            )
            .with_hint(Some("they came with Linux 5.6 (CONFIG_TIME_NS)".into())));
        }
        let shares_memory = self.sandbox.engine != Engine::Fork && !forks;
        let by_clone = self.features.time_in_vfork
            && method == Method::Clone3
            && shares_memory
            && self.sandbox.owner.is_none();
        let mut later = Namespaces::empty();
        if !by_clone {
            later |= Namespaces::TIME;
            self.push(
                Step::Clone,
                "new namespaces: time",
                Action::Unshare {
                    flags: CLONE_NEWTIME,
                },
            );
        }
        let mut text = String::new();
        for (clock, setter, offset) in [
            ("monotonic", "monotonic_offset", self.sandbox.monotonic),
            ("boottime", "boottime_offset", self.sandbox.boottime),
        ] {
            if let Some(offset) = offset {
                if offset.seconds() > KTIME_SEC_MAX {
                    return Err(Error::invalid(
                        setter,
                        format!("the kernel takes at most {KTIME_SEC_MAX} seconds"),
                    ));
                }
                text.push_str(&format!("{clock} {offset}\n"));
            }
        }
        if !text.is_empty() {
            self.write_proc(Step::TimeOffsets, c"timens_offsets", &text);
        }
        if !self.features.time_in_vfork {
            if namespaces.contains(Namespaces::PID) {
                later |= Namespaces::PID;
                self.unshare(Namespaces::PID);
            }
            self.push(
                Step::Clone,
                "go on as a process that is born into the time namespace",
                Action::Split,
            );
            self.guard(forks)?;
        }
        Ok(later)
    }

    fn names(&mut self) -> Result<()> {
        let sandbox = self.sandbox;
        if let Some(name) = &sandbox.hostname {
            let bytes = check_name("hostname", name)?;
            self.push(
                Step::Hostname,
                format!("{}", name.display()),
                Action::Hostname(bytes),
            );
        }
        if let Some(name) = &sandbox.domainname {
            let bytes = check_name("domainname", name)?;
            self.push(
                Step::Domainname,
                format!("{}", name.display()),
                Action::Domainname(bytes),
            );
        }
        Ok(())
    }

    /// A terminal in the devpts of the sandbox, if it has one.
    fn terminal(&self, streams: [bool; 3], free: &[RawFd]) -> Result<Option<Terminal>> {
        let dev = self
            .sandbox
            .entries
            .iter()
            .rfind(|entry| matches!(entry.what, What::Dev));
        let (Some(dev), true, [_, _, socket, ..]) = (dev, streams.contains(&true), free) else {
            return Ok(None);
        };
        let path = dev.at.join("pts/ptmx");
        Ok(Some(Terminal {
            path: c_string(path.as_os_str().as_bytes())
                .map_err(|what| Error::invalid("dev", what))?,
            size: self.command.window_size,
            streams,
            socket: *socket,
        }))
    }

    fn finish(
        &mut self,
        method: Method,
        stage: Option<&Stage>,
        terminal: Option<Terminal>,
        (controlling, foreground): (Option<RawFd>, bool),
        descriptors: &[(Arc<OwnedFd>, RawFd)],
        bound: &mut lockdown::Compiled,
    ) -> Result<()> {
        if let Some(signal) = self.command.die_with_parent {
            let object = match signal {
                libc::SIGKILL => "killed when the calling process ends".to_owned(),
                _ => format!("signal {signal} when the calling process ends"),
            };
            self.push(
                Step::DieWithParent,
                object,
                Action::DieWithParent { signal },
            );
        }
        let object = descriptors
            .iter()
            .fold("standard streams".to_owned(), |text, (_, number)| {
                format!("{text}, {number}")
            });
        self.push(Step::Stdio, object, Action::Stdio);
        if let Some(terminal) = terminal {
            self.push(
                Step::Stdio,
                format!("a terminal by {}", terminal.path.to_string_lossy()),
                Action::Terminal(terminal),
            );
        }
        if let Some(stage) = stage
            && stage.is_subreaper()
        {
            let number = stage.numbers.children;
            self.push(
                Step::Init,
                "the list of its children",
                Action::PlaceChildren { number },
            );
        }
        if let Some(stream) = controlling
            && self.sandbox.init.is_none()
            && self.join.by_stage.is_none()
        {
            self.push(
                Step::Stdio,
                "the terminal controls the session",
                Action::ControllingTerminal { stream },
            );
        }
        if foreground && stage.is_none() {
            self.push(
                Step::Session,
                "a process group of its own, in the foreground of the caller's terminal",
                Action::Foreground,
            );
        }
        // Without CLONE_CLEAR_SIGHAND a handler of the caller would run in the child.
        let handled = match method {
            Method::Clone3 => 0,
            Method::Clone => SigSet::MAX,
        };
        let reset = match self.command.inherit_ignored {
            _ if self.command.never_runs => handled,
            true => (handled & !signal::ignored()) | 1 << (libc::SIGPIPE - 1),
            false => handled | signal::ignored() | signal::USUALLY_IGNORED,
        };
        self.push(
            Step::Signals,
            "default actions, empty mask, core limit of the caller",
            Action::Signals { reset },
        );
        let close = if self.features.close_range_cloexec {
            CloseRange::Cloexec
        } else {
            CloseRange::Close
        };
        self.push(
            Step::Descriptors,
            "no other descriptor stays open",
            Action::CloseOnExec { close },
        );
        self.ops.append(&mut bound.before);
        if let Some(stage) = stage {
            self.push(Step::Init, stage.to_string(), Action::SecondStage);
        }
        if let Some(work) = &mut self.join.by_stage {
            let ops = work.finish(self.ops.len())?;
            self.ops.extend(ops);
        }
        self.ops.append(&mut self.later);
        self.ops.append(&mut bound.ops);
        let object = self.command.program.display().to_string();
        self.push(Step::Exec, object, Action::Exec);
        Ok(())
    }
}

/// A subreaper finds its children in the caller's `/proc`, by the numbers that they have there.
fn check_procfs() -> Result<()> {
    let shown = rustix::fs::readlink(c"/proc/self", Vec::new()).ok();
    let shown = shown.and_then(|shown| shown.to_str().ok()?.parse().ok());
    if shown == Some(std::process::id()) {
        return Ok(());
    }
    Err(Error::other(
        ErrorKind::Unsupported,
        Step::Init,
        "init: without a pid namespace it needs the caller's pids in /proc",
    )
    .with_hint(Some(
        "mount a proc file system of the caller's pid namespace on /proc, or ask for Sandbox::pid"
            .into(),
    )))
}

pub(super) fn check_name(setter: &'static str, name: &OsStr) -> Result<Box<[u8]>> {
    let bytes = name.as_bytes();
    if bytes.len() > MAX_NAME {
        return Err(Error::invalid(
            setter,
            format!("{} bytes, the kernel takes at most {MAX_NAME}", bytes.len()),
        ));
    }
    c_string(bytes).map_err(|what| Error::invalid(setter, what))?;
    Ok(bytes.into())
}
