//! Where the lock-down goes in a plan: directly before the program, in the process that becomes it.

use super::Compiler;
use crate::error::{Error, Result, Step};
use crate::ns::Namespaces;
use crate::plan::lockdown::{self, Compiled, Way};
use crate::plan::maps::Maps;
use crate::plan::op::Action;
use crate::plan::program::Program;
use crate::plan::root;
use crate::plan::stage::{Lists, Stage};
use crate::sandbox::MountLock;
use crate::sys::lockdown::{List, Ready};
use core::ffi::CStr;
use std::os::fd::RawFd;

impl Compiler<'_> {
    /// What binds the program, with numbers for the descriptors that this takes.
    pub(super) fn bind(
        &self,
        maps: Option<&Maps>,
        free: &mut impl Iterator<Item = RawFd>,
    ) -> Result<Compiled> {
        let userns = self.sandbox.namespaces.contains(Namespaces::USER);
        let (inside, _) = self.inside_ids(maps);
        let command = self.command;
        let joins = self.join.by_stage.is_some();
        let enters = self.sandbox.join.last.is_some() && !joins;
        // Who writes the maps in a way of its own may write others than it says.
        let is_root = inside == 0 && self.sandbox.map_writer.is_none();
        let over_exec = self.late && (userns || enters) && !is_root;
        let over_ids = command.uid.is_some() || joins;
        let way = Way {
            userns: userns || enters,
            over_exec,
            keeps: over_exec || over_ids,
            death_signal: self.death_signal(),
        };
        let mut bound = lockdown::compile(command, &self.caller, way, free)?;
        if self.late {
            bound.lists_number = free.next();
        }
        if self.sandbox.init.is_some() {
            // Where it joins, it has the ids already.
            let list = match joins {
                true => List::default(),
                false => ids(command.groups.as_deref(), command.gid, command.uid),
            };
            // A subreaper sees to that itself.
            let dies = command.die_with_parent.filter(|_| !self.is_subreaped());
            bound.process_1.push(lockdown::process_1(list, dies));
        }
        Ok(bound)
    }

    /// Before ids change, after which the file would be root's.
    pub(super) fn oom_score(&mut self) -> Result<()> {
        if let Some(value) = self.sandbox.lockdown.oom_score_adj {
            if !(-1000..=1000).contains(&value) {
                let what = format!("{value} is not in -1000..=1000");
                return Err(Error::invalid("oom_score_adj", what));
            }
            self.write_proc(Step::OomScore, c"oom_score_adj", &value.to_string());
        }
        Ok(())
    }

    /// What takes the caller's procfs, before there is another root.
    pub(super) fn limit_userns(&mut self) {
        if self.sandbox.lockdown.disable_userns {
            // Next to /proc/self, where the child has it open.
            let file = c"../sys/user/max_user_namespaces";
            let text = b"1".as_slice().into();
            let object = "\"1\" to /proc/sys/user/max_user_namespaces";
            self.push(
                Step::DisableUserns,
                object,
                Action::WriteProc { file, text },
            );
        }
    }

    /// The namespace that the limit leaves room for.
    pub(super) fn disable_userns(&mut self, maps: Option<&Maps>) {
        if !self.sandbox.lockdown.disable_userns {
            return;
        }
        if self.sandbox.mount_lock != Some(MountLock::Nested) {
            let ids = self.inside_ids(maps);
            let ops = root::nested(Step::DisableUserns, Namespaces::USER, ids);
            self.ops.extend(ops);
        }
        let object = "no further user namespace can be made";
        self.push(Step::DisableUserns, object, Action::AssertNoUserns);
    }

    /// Without this a change of ids takes away what the lock-down needs.
    pub(super) fn keep_capabilities(&mut self) {
        let list = List::default().keep_capabilities();
        let action = Action::lockdown(list);
        self.push(Step::Capabilities, "kept while ids change", action);
    }

    /// The second stage takes on the ids.
    pub(super) fn late_ids(&mut self, object: String, groups: Option<&[u32]>) {
        let list = ids(groups, self.command.gid, self.command.uid);
        self.later.push(lockdown::op(Step::Ids, object, list));
        if let Some(signal) = self.death_signal() {
            let list = List::default().parent_death_signal(signal);
            let object = "the signal when the parent process ends, also with other ids";
            self.later
                .push(lockdown::op(Step::DieWithParent, object, list));
        }
    }

    /// What the program itself gets when its parent ends; process 1 ends it otherwise.
    fn death_signal(&self) -> Option<i32> {
        match self.is_subreaped() {
            true => Some(libc::SIGKILL),
            false => self
                .command
                .die_with_parent
                .filter(|_| self.sandbox.init.is_none()),
        }
    }

    /// And enters the working directory, with those ids.
    pub(super) fn late_dir(&mut self, object: String, path: &CStr, confined: bool) {
        let list = List::default();
        let list = match confined {
            true => list.change_dir_confined(path),
            false => list.change_dir(path),
        };
        self.later
            .push(lockdown::op(Step::CurrentDir, object, list));
    }

    /// Gives the second stage what comes after it in the plan.
    pub(super) fn hand_over(
        &self,
        stage: Option<&mut Stage>,
        bound: &Compiled,
        program: &Program,
    ) -> Result<()> {
        let (Some(stage), Some(number)) = (stage, bound.lists_number) else {
            return Ok(());
        };
        let of_program: Vec<_> = self
            .ops
            .iter()
            .enumerate()
            .skip_while(|(_, op)| !matches!(op.action, Action::SecondStage))
            .filter_map(|(index, op)| match &op.action {
                Action::Lockdown { list, .. } => Some((index, list.words())),
                _ => None,
            })
            .collect();
        let init = self.ops.iter().position(|op| op.step == Step::Init);
        let of_process_1: Vec<_> = bound.process_1.iter().map(List::words).collect();
        let of_process_1: Vec<_> = of_process_1
            .iter()
            .map(|list| (init.unwrap_or(0), &**list))
            .collect();
        stage.bind(Lists::new(&of_program, &of_process_1), number, program)
    }
}

fn ids(groups: Option<&[u32]>, gid: Option<u32>, uid: Option<u32>) -> List {
    let mut list = List::default().keep_capabilities();
    if let Some(groups) = groups {
        list = list.groups(groups);
    }
    if let Some(gid) = gid {
        list = list.gid(gid);
    }
    if let Some(uid) = uid {
        list = list.uid(uid);
    }
    list
}

impl Action {
    pub(in crate::plan) fn lockdown(list: List) -> Self {
        let calls = lockdown::calls(&list);
        let list = Ready::from(list);
        Self::Lockdown { list, calls }
    }
}
