//! Starting in a cgroup, and what a cgroup can do to a child that shares its caller's memory.

use super::common::require::cgroup2_dir;
use super::common::{isolated, probe::children, require};
use super::{Checked, ENGINES, SOON, all, cat, check_namespaces, equal, finish, for_each, rootfs};
use super::{shown, start};
use ringfence::{Engine, ErrorKind, IdMap, Namespaces, Sandbox, Step};
use rustix::process::getpid;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

/// A cgroup for one test, removed at its end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Result<Self, String> {
        let name = format!("ringfence-kernels-{}", getpid().as_raw_pid());
        let dir = cgroup2_dir()?.join(name);
        fs::create_dir(&dir).map_err(shown)?;
        Ok(Self(dir))
    }

    fn sandbox(&self, engine: Engine, namespaces: Namespaces) -> Sandbox {
        Sandbox::new()
            .engine(engine)
            .namespaces(namespaces)
            .into_cgroup(&self.0)
    }

    fn read(&self, file: &str) -> Result<String, String> {
        fs::read_to_string(self.0.join(file)).map_err(|error| format!("{file}: {error}"))
    }

    fn write(&self, file: &str, text: &str) -> Checked {
        fs::write(self.0.join(file), text).map_err(|error| format!("{file}: {error}"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn is_born_into_its_cgroup() {
    isolated(|| {
        require!(root, cgroup2);
        let cgroup = Cgroup::new().unwrap();
        let variants = ENGINES.into_iter().flat_map(|engine| {
            [Namespaces::empty(), Namespaces::CGROUP, all()].map(|with| (engine, with))
        });
        for_each(variants, |&(engine, namespaces)| {
            let child = start(&cat(cgroup.sandbox(engine, namespaces)))?;
            let members = cgroup.read("cgroup.procs")?;
            equal("members", members, format!("{}\n", child.id()))?;
            check_namespaces(&child, namespaces)?;
            finish(child)?;
            if !namespaces.contains(Namespaces::CGROUP) {
                return Ok(());
            }
            let seen = cgroup
                .sandbox(engine, namespaces)
                .command("cat")
                .arg("/proc/self/cgroup")
                .output()
                .map_err(shown)?;
            let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
            let own = seen.lines().find_map(|line| line.strip_prefix("0::"));
            equal("own cgroup, seen inside", own, Some("/"))
        });
    });
}

#[test]
fn a_frozen_cgroup_is_refused() {
    isolated(|| {
        require!(root, cgroup2);
        let cgroup = Cgroup::new().unwrap();
        cgroup.write("cgroup.freeze", "1").unwrap();
        for_each(ENGINES, |&engine| {
            let command = cat(cgroup.sandbox(engine, all()));
            let error = match command.spawn() {
                Ok(_) => return Err("it was started".into()),
                Err(error) => error,
            };
            equal("step", error.step(), Some(Step::Cgroup))?;
            equal("kind", error.kind(), ErrorKind::System)
        });
        cgroup.write("cgroup.freeze", "0").unwrap();
        for_each(ENGINES, |&engine| {
            finish(start(&cat(cgroup.sandbox(engine, all())))?)
        });
    });
}

/// Where the kernel has `cgroup.kill` (Linux 5.14), a cgroup that was killed once may kill those that
/// are born into it later. They are then never taken for started.
#[test]
fn a_killed_cgroup_kills_openly() {
    isolated(|| {
        require!(root, cgroup2);
        for_each(ENGINES, |&engine| {
            let cgroup = Cgroup::new()?;
            let mut child = start(&cat(cgroup.sandbox(engine, all())))?;
            if cgroup.write("cgroup.kill", "1").is_err() {
                return finish(child);
            }
            let status = child.wait_timeout(SOON).map_err(shown)?;
            let signal = status.and_then(|status| status.signal());
            equal("signal", signal, Some(libc::SIGKILL))?;
            match cat(cgroup.sandbox(engine, all())).spawn() {
                Ok(child) => finish(child)?,
                Err(error) => {
                    equal("kind", error.kind(), ErrorKind::DiedBeforeExec)?;
                    equal("a hint", error.hint().is_some(), true)?;
                }
            }
            equal("processes left", children(getpid().as_raw_pid()), vec![])
        });
    });
}

#[test]
fn a_limit_is_of_all_together() {
    isolated(|| {
        require!(root, cgroup2, controller("pids"));
        for_each(ENGINES, |&engine| {
            let cgroup = Cgroup::new()?;
            let limited = ringfence::cgroup::Cgroup::open(&cgroup.0)
                .map_err(shown)?
                .keep();
            let limits = ringfence::cgroup::Limits::new().pids_max(2);
            limited.set(&limits).map_err(shown)?;
            let script = "read x < /dev/null | read y < /dev/null; echo it goes on";
            let sandbox = cgroup.sandbox(engine, all());
            let output = sandbox.command("sh").args(["-c", script]).output();
            let output = output.map_err(shown)?;
            equal(
                "output",
                String::from_utf8_lossy(&output.stdout).as_ref(),
                "",
            )?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            equal("refused", said.contains("fork"), true)
        });
    });
}

/// The kernel kills all that share the memory of its victim, but spares a vfork child. So the caller
/// must outlive this test, and the child must either be started or be an error.
#[test]
fn the_caller_survives_when_the_child_is_out_of_memory() {
    isolated(|| {
        require!(root, cgroup2, controller("memory"));
        for_each(ENGINES, |&engine| {
            let cgroup = Cgroup::new()?;
            cgroup.write("memory.max", "65536")?;
            let mut sandbox = rootfs(cgroup.sandbox(engine, all()).user_map(IdMap::root()));
            for number in 0..500 {
                sandbox = sandbox.dir(format!("/tmp/{number}/{number}/{number}"));
            }
            if let Ok(child) = cat(sandbox).spawn() {
                drop(child);
            }
            let events = cgroup.read("memory.events")?;
            let reached = events.lines().any(|line| {
                line.strip_prefix("max ")
                    .is_some_and(|count| count.trim() != "0")
            });
            equal("limit reached", reached, true)?;
            equal("processes left", children(getpid().as_raw_pid()), vec![])
        });
    });
}
