//! Starting a helper.

use super::api::Api;
use super::ready::{Outcome, Ready, read_rest};
use super::{Uplink, UplinkBuilder, pasta, slirp4netns};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::process::Child;
use crate::sandbox::{Command, Sandbox};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitStatus;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Helper {
    Slirp4netns,
    Pasta,
}

/// What the helper is to enter: a user namespace only if it is not in that already.
pub(super) struct Namespaces {
    pub(super) net: OwnedFd,
    pub(super) user: Option<OwnedFd>,
}

/// A helper with its arguments.
pub(super) struct Launch {
    pub(super) command: Command,
    pub(super) ready: Ready,
    pub(super) exit: Option<OwnedFd>,
    /// By which ports are published once it is ready, if they have not been by its arguments.
    pub(super) api: Option<Api>,
}

impl Helper {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Slirp4netns => "slirp4netns",
            Self::Pasta => "pasta",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Slirp4netns => "slirp4netns",
            Self::Pasta => "passt",
        }
    }

    pub(super) fn is_installed(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| {
            let file = directory.join(self.name()).metadata();
            file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
    }

    pub(super) fn start(self, builder: &UplinkBuilder, namespaces: Namespaces) -> Result<Uplink> {
        let launch = match self {
            Self::Slirp4netns => slirp4netns::launch(builder, namespaces)?,
            Self::Pasta => pasta::launch(builder, namespaces),
        };
        let (stderr, theirs) = pipe()?;
        // Once it is ready nobody reads that, and it shall not wait for somebody.
        fcntl_setfl(&theirs, OFlags::NONBLOCK).map_err(failed("fcntl"))?;
        let command = launch.command.stderr(theirs);
        let started = command.spawn();
        // It has our copies of the helper's descriptors, whose end could not be seen then.
        drop(command);
        let mut helper = started.map_err(|error| self.explain(error))?;
        let limit = builder.setup_timeout;
        let stderr = File::from(stderr);
        self.wait(&mut helper, &stderr, launch.ready, limit)?;
        if let (Some(api), Some(to)) = (launch.api, builder.address()) {
            let mut ports = builder.published.iter();
            ports.try_for_each(|port| api.publish(port, to, limit))?;
        }
        Ok(Uplink {
            helper,
            _stderr: stderr,
            _exit: launch.exit,
            builder: builder.clone(),
        })
    }

    fn explain(self, error: Error) -> Error {
        let is_missing = error.kind() == ErrorKind::NotFound && error.step() == Some(Step::Exec);
        let hint = || format!("it is in the Debian package {}", self.package());
        error.with_hint(is_missing.then(hint))
    }

    /// Returns when it is ready. If it does not become ready, nothing is left of it.
    fn wait(self, helper: &mut Child, stderr: &File, ready: Ready, limit: Duration) -> Result<()> {
        let mut said = Vec::new();
        let outcome = ready.wait(stderr, &mut said, limit);
        let outcome = outcome.map_err(failed("read"))?;
        if let Outcome::Ready = outcome {
            return Ok(());
        }
        helper.kill()?;
        let status = helper.wait()?;
        read_rest(stderr, &mut said);
        Err(self.failed(outcome, status, limit, &said))
    }

    fn failed(self, outcome: Outcome, status: ExitStatus, limit: Duration, said: &[u8]) -> Error {
        let (kind, what) = match outcome {
            Outcome::TooLate => (ErrorKind::TimedOut, format!("not ready after {limit:?}")),
            _ => (ErrorKind::System, format!("ended with {status}")),
        };
        let said = String::from_utf8_lossy(said);
        let lines: Vec<_> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let mut text = format!("{}: {what}", self.name());
        if !lines.is_empty() {
            text += &format!(": {}", lines.join("; "));
        }
        let needs_tun = said.contains("/dev/net/tun");
        Error::other(kind, Step::Uplink, text).with_hint(needs_tun.then(|| {
            "the device /dev/net/tun belongs to the kernel module tun, and each user has to be allowed to open it"
                .into()
        }))
    }
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2"))
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(Step::Uplink, "a pipe to the helper", syscall, errno)
}

/// A command that goes, with all that it has started, when the caller does, and not by what is typed at the
/// caller's terminal.
pub(super) fn command(builder: &UplinkBuilder) -> Command {
    Sandbox::new()
        .init()
        .command(builder.program_or_default())
        .new_session()
        .die_with_parent()
        .kill_on_drop()
}
