//! How the child is made: the call, what it shares, and what binds it until exec.

use super::{Compiler, KTIME_SEC_MAX};
use crate::cgroup::Directory;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::Namespaces;
use crate::plan::op::Action;
use crate::plan::{Method, join};
use crate::sandbox::Engine;
use crate::sandbox::command::SETUP_TIMEOUT;
use crate::sys::clone::{CLONE_CLEAR_SIGHAND, CLONE_NEWTIME};
use rustix::fs::{Mode, OFlags};
use std::path::Path;
use std::time::Duration;

impl Compiler<'_> {
    pub(super) fn method(&self) -> Result<Method> {
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

    pub(super) fn sharing_flags(&self, method: Method, forks: bool) -> u64 {
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

    pub(super) fn own_descriptors(&mut self) -> Result<()> {
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

    pub(super) fn setup_timeout(&self) -> Duration {
        self.command.setup_timeout.unwrap_or(SETUP_TIMEOUT)
    }

    /// A forked child lives on, so there is no timer, and the caller looks after the time.
    pub(super) fn guard(&mut self, forks: bool) -> Result<()> {
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

    pub(super) fn open_cgroup(&self) -> Result<Option<Directory>> {
        let of_process = self.sandbox.join.cgroup.as_ref();
        let of_process = of_process.map(join::directory_of).transpose()?;
        let Some(path) = self.sandbox.cgroup.as_ref().or(of_process.as_ref()) else {
            return Ok(None);
        };
        Directory::open(path, "into_cgroup").map(Some)
    }

    pub(super) fn move_to_cgroup(&mut self, cgroup: &Directory) -> Result<()> {
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

    pub(super) fn unshare(&mut self, namespaces: Namespaces) {
        self.push(
            Step::Clone,
            format!("new namespaces: {namespaces}"),
            Action::Unshare {
                flags: u64::from(namespaces.bits()),
            },
        );
    }

    /// Adds what a time namespace needs, and returns the namespaces that are not made by clone then.
    pub(super) fn time(
        &mut self,
        method: Method,
        namespaces: Namespaces,
        forks: bool,
    ) -> Result<Namespaces> {
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
}
