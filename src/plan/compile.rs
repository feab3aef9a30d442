//! From the description to the plan: everything is checked here, before anything is created.

mod attributes;
mod binding;
mod check;
mod engine;
mod last;
mod namespaces;
mod owner;
mod stage;

pub(super) use check::check_name;
use check::{check_namespaces, check_procfs};

use super::features::Features;
use super::join::{self, Join};
use super::maps::{Caller, Maps, Writer};
use super::op::{Action, Ids, Op};
use super::program::Program;
use super::stage::Stage;
use super::{Compiled, Given, Method, Template, lockdown, root};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::Namespaces;
#[cfg(feature = "net")]
use crate::sandbox::attach::Attachments;
use crate::sandbox::stdio::{Stdio, Stream};
use crate::sandbox::{Command, Sandbox};
use crate::spawn::Reserve;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

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
    sandbox.check_hardening()?;
    #[cfg(feature = "net")]
    crate::sandbox::attach::check(&sandbox.attach)?;
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
        let forks = stage.as_ref().is_some_and(Stage::forks);
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
        if self.passes() {
            let object = "the caller's /proc/self, for its namespaces";
            self.push(Step::Namespace, object, Action::KeepProc);
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
        if self.passes() {
            self.pass_namespaces();
        } else {
            let terminal = self.terminal(pty, free)?;
            self.finish(
                method,
                stage.as_ref(),
                terminal,
                (controlling, foreground),
                &descriptors,
                &mut bound,
            )?;
        }
        self.hand_over(stage.as_mut(), &bound, &program)?;

        let watched = namespaces.contains(Namespaces::PID)
            && (self.command.setup_timeout.is_some() || cgroup.is_some());
        let compiled = Compiled {
            namespaces: self.sandbox.namespaces,
            flags,
            method,
            cgroup,
            born_in_cgroup,
            joins_cgroup: self.sandbox.join.cgroup.is_some(),
            needs_dumpable: needs_dumpable
                || (self.sandbox.lockdown.oom_score_adj.is_some() && self.caller.uid != 0),
            changes_ids,
            setup_timeout: self.setup_timeout(),
            watched,
            kill_on_drop: self.command.kill_on_drop,
            die_with_parent: self.command.die_with_parent.is_some(),
            never_runs: self.command.never_runs,
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

    fn push(&mut self, step: Step, object: impl Into<String>, action: Action) {
        self.ops.push(Op {
            step,
            object: object.into(),
            action,
        });
    }

    fn open_null(&self, stdio: &[Stream; 3]) -> Result<Option<OwnedFd>> {
        if self.passes() || !stdio.iter().any(|stream| matches!(stream, Stream::Null)) {
            return Ok(None);
        }
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map(Some)
            .map_err(|errno| Error::system(Step::Compile, "/dev/null", "openat", errno))
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
                .filter(|map| map.writer.is_waited_for())
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
}
