//! What comes directly before the program.

use super::Compiler;
use crate::error::{Error, Result, Step};
use crate::plan::op::{Action, Terminal};
use crate::plan::place::c_string;
use crate::plan::stage::Stage;
use crate::plan::{Method, lockdown};
use crate::sandbox::rootfs::What;
use crate::sys::fd::CloseRange;
use crate::sys::signal::{self, SigSet};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

impl Compiler<'_> {
    /// A terminal in the devpts of the sandbox, if it has one.
    pub(super) fn terminal(&self, streams: [bool; 3], free: &[RawFd]) -> Result<Option<Terminal>> {
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

    pub(super) fn finish(
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
        // Before a descriptor of the program's takes the number of the caller's terminal.
        if foreground && stage.is_none() {
            self.push(
                Step::Session,
                "a process group of its own, in the foreground of the caller's terminal",
                Action::Foreground,
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
        // A copy of the caller keeps what no exec closes.
        let forks = stage.is_some_and(Stage::forks);
        let close = match self.features.close_range_cloexec && !forks {
            true => CloseRange::Cloexec,
            false => CloseRange::Close,
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
