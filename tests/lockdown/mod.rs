mod capabilities;
mod container;
mod failures;
mod filters;
mod joined;
#[cfg(feature = "landlock")]
mod landlock;
mod orphans;
mod programs;
mod resources;

use crate::common::seccomp;
use ringfence::{Command, IdMap, Sandbox};
use std::collections::BTreeMap;

/// A way to the program: every combination of what changes how it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) userns: Option<Ids>,
    pub(crate) uid: Option<u32>,
    pub(crate) stage: Stage,
    pub(crate) forked: bool,
}

/// The ids of a new user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    Root,
    Other,
    Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    None,
    Gate,
    Init,
}

impl Way {
    /// All that the caller may take.
    pub(crate) fn all() -> Vec<Self> {
        let root = crate::common::require::root().is_ok();
        let mut ways = Vec::new();
        let kinds = [None, Some(Ids::Root), Some(Ids::Other), Some(Ids::Range)];
        for userns in kinds {
            for uid in [None, Some(7)] {
                for (stage, forked) in [
                    (Stage::None, false),
                    (Stage::Gate, false),
                    (Stage::Init, false),
                    (Stage::Gate, true),
                    (Stage::Init, true),
                ] {
                    let way = Self {
                        userns,
                        uid,
                        stage,
                        forked,
                    };
                    let ids = uid.is_none() || matches!(userns, None | Some(Ids::Range));
                    let privileged = root || !matches!(userns, None | Some(Ids::Range));
                    if ids && privileged {
                        ways.push(way);
                    }
                }
            }
        }
        ways
    }

    pub(crate) fn sandbox(self) -> Sandbox {
        let sandbox = match self.userns {
            None => Sandbox::new(),
            Some(Ids::Root) => Sandbox::new().user().user_map(IdMap::root()),
            Some(Ids::Other) => Sandbox::new().user().user_map(IdMap::single(5)),
            Some(Ids::Range) => Sandbox::new()
                .user()
                .user_map(IdMap::range(0, 100_000, 100))
                .group_map(IdMap::range(0, 100_000, 100)),
        };
        match self.stage {
            Stage::Init => sandbox.pid().init(),
            _ => sandbox,
        }
    }

    pub(crate) fn command(self, sandbox: Sandbox, program: &str) -> Command {
        let command = sandbox.command(program);
        let command = match self.stage {
            Stage::Gate => command.gate(),
            _ => command,
        };
        match self.uid {
            Some(uid) => command.uid(uid).gid(uid),
            None => command,
        }
    }

    /// The user that the program is.
    pub(crate) fn inside(self) -> u32 {
        match (self.uid, self.userns) {
            (Some(uid), _) => uid,
            (None, Some(Ids::Other)) => 5,
            (None, None | Some(Ids::Root | Ids::Range)) => 0,
        }
    }

    /// Runs the body with the form of the second stage that this is about.
    pub(crate) fn pretend(self) {
        if self.forked {
            seccomp::deny(&[(libc::SYS_execveat, libc::EPERM)]).unwrap();
        }
    }
}

/// What `/proc/self/FILE` says in the program, which is `cat`.
#[track_caller]
pub(crate) fn read_inside(way: Way, sandbox: Sandbox, file: &str) -> ringfence::Result<String> {
    finish(way, way.command(sandbox, "/bin/cat").arg(file))
}

/// What a command of this way writes.
#[track_caller]
pub(crate) fn finish(way: Way, command: Command) -> ringfence::Result<String> {
    let mut child = command
        .stdin(ringfence::Stdio::null())
        .stdout(ringfence::Stdio::piped())
        .spawn()?;
    if way.stage == Stage::Gate {
        child.release()?;
    }
    let output = child.wait_with_output()?;
    assert!(output.status.success(), "{way:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout).unwrap())
}

/// The fields of a status.
pub(crate) fn fields(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// A body on each way, each in a process of its own.
pub(crate) fn on_each(body: impl Fn(Way)) {
    for way in Way::all() {
        let status = crate::common::in_forked_child(|| {
            way.pretend();
            body(way);
            0
        });
        assert!(status.success(), "{way:?}: {status}");
    }
}
