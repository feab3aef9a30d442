//! Whether there is a second stage, and what it is told.

use super::Compiler;
use crate::error::{Error, Result};
use crate::ns::Namespaces;
use crate::plan::join;
use crate::plan::program::Program;
use crate::plan::stage::{Form, Numbers, Stage};
use crate::sandbox::stdio::Stream;
use crate::sys::stage::message::setting;
use std::os::fd::RawFd;

impl Compiler<'_> {
    /// What starts the program, where the child itself does not.
    pub(super) fn stage(
        &self,
        program: &Program,
        free: &[RawFd],
        controlling: Option<RawFd>,
        foreground: bool,
    ) -> Result<Option<Stage>> {
        if self.passes() {
            return Ok(None);
        }
        let init = self.sandbox.init;
        let gate = self.command.gate || self.sandbox.is_attached();
        let work = self.join.by_stage.as_ref();
        let wants_program = self.join.wants_program();
        if init.is_none() && !gate && !wants_program {
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
        if wants_program && matches!(form, Form::Forked) {
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
    pub(super) fn is_subreaped(&self) -> bool {
        self.sandbox.init.is_some() && !self.sandbox.namespaces.contains(Namespaces::PID)
    }

    /// Whether the program gets the caller's terminal: on request, and with a group of its own that reads
    /// what the caller would read, which in the background it might not.
    pub(super) fn foreground(&self, stdio: &[Stream; 3], own_terminal: bool) -> Result<bool> {
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
}
