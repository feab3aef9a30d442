//! The switches and limits that can stand in the way.

use crate::diagnose::{APPARMOR, System};
use crate::mount::mountinfo::MountTable;
use crate::ns::Kind;
use rustix::process::{Resource, getrlimit};
use std::path::Path;

/// Something of the system that can forbid or limit namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Setting {
    /// Its name: a sysctl, a security module, a limit.
    pub name: String,
    /// What it is set to. `None` where this system does not have it.
    pub value: Option<String>,
    /// What that means for the caller.
    pub effect: Effect,
    /// What to do about it, unless it is fine.
    pub advice: Option<String>,
}

/// What a [`Setting`] means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Effect {
    /// Nothing.
    Fine,
    /// Something does not work, or works in another way.
    Limits,
    /// Namespaces of some or all kinds cannot be made.
    Forbids,
}

pub(super) fn read(system: &System) -> Vec<Setting> {
    let mut settings = sysctls(system);
    settings.extend(limits_of_kinds(system));
    settings.extend(process(system));
    settings.push(modules(system));
    settings.extend(mounts());
    settings.extend(rlimits());
    settings
}

/// A setting with an effect when its value is a certain one.
fn setting(
    name: impl Into<String>,
    value: Option<String>,
    effect: Effect,
    advice: &str,
    applies: impl Fn(&str) -> bool,
) -> Setting {
    let applies = value.as_deref().is_some_and(applies);
    Setting {
        name: name.into(),
        value,
        effect: if applies { effect } else { Effect::Fine },
        advice: applies.then(|| advice.to_owned()),
    }
}

fn sysctls(system: &System) -> Vec<Setting> {
    let privileged = system.is_privileged();
    let sysctl = |name: &str| system.read(&format!("proc/sys/{}", name.replace('.', "/")));
    let switch = |name: &str, effect, advice: &str, bad: &dyn Fn(&str) -> bool| {
        setting(name, sysctl(name), effect, advice, |value| bad(value))
    };
    vec![
        switch(
            "kernel.unprivileged_userns_clone",
            Effect::Forbids,
            "as root: sysctl kernel.unprivileged_userns_clone=1",
            &|value| value == "0" && !privileged,
        ),
        switch(
            "kernel.apparmor_restrict_unprivileged_userns",
            Effect::Forbids,
            APPARMOR,
            &|value| value == "1" && !privileged,
        ),
        switch(
            "vm.memfd_noexec",
            Effect::Limits,
            "process 1 is forked, with a copy of the caller's memory; as root: sysctl vm.memfd_noexec=0",
            &|value| value == "2",
        ),
        switch(
            "kernel.yama.ptrace_scope",
            Effect::Limits,
            "the sockets of other processes cannot be looked at, and with 3 nor by root",
            &|value| value == "3" || !matches!(value, "0" | "1") && !privileged,
        ),
        switch(
            "fs.mount-max",
            Effect::Limits,
            "a mount namespace may hold few mounts only: as root, sysctl fs.mount-max=100000",
            &|value| value.parse().is_ok_and(|most: u64| most < 1000),
        ),
    ]
}

fn limits_of_kinds(system: &System) -> impl Iterator<Item = Setting> {
    Kind::ALL.into_iter().map(|kind| {
        let name = format!("max_{kind}_namespaces");
        let value = system.read(&format!("proc/sys/user/{name}"));
        let advice = format!("as root: sysctl user.{name}=10000");
        setting(
            format!("user.{name}"),
            value,
            Effect::Forbids,
            &advice,
            |value| value == "0",
        )
    })
}

/// What the calling process has been given by who started it.
fn process(system: &System) -> [Setting; 3] {
    let own_map = system.read("proc/self/uid_map");
    let has_ids = own_map.map(|map| if map.is_empty() { "none" } else { "mapped" }.to_owned());
    [
        setting(
            "seccomp filter",
            system.status("Seccomp"),
            Effect::Limits,
            "a filter may forbid clone3 and unshare with CLONE_NEWUSER, or mounts: a container needs a profile that allows them",
            |value| value == "2",
        ),
        setting(
            "no_new_privs",
            system.status("NoNewPrivs"),
            Effect::Limits,
            "newuidmap and newgidmap, which are set-user-id, have no effect: only the caller's own id can be mapped",
            |value| value == "1",
        ),
        setting(
            "ids in the own user namespace",
            has_ids,
            Effect::Forbids,
            "no id is mapped in the caller's user namespace: write its maps first",
            |value| value == "none",
        ),
    ]
}

fn modules(system: &System) -> Setting {
    let list = system.read("sys/kernel/security/lsm");
    let enforcing = system.read("sys/fs/selinux/enforce").as_deref() == Some("1");
    let value = match (list, enforcing) {
        (Some(list), true) => Some(format!("{list} (SELinux is enforcing)")),
        (None, true) => Some("SELinux is enforcing".to_owned()),
        (list, false) => list,
    };
    setting(
        "security modules",
        value,
        Effect::Limits,
        "the SELinux policy must allow user_namespace { create } for this domain",
        |_| enforcing && !system.is_privileged(),
    )
}

fn mounts() -> [Setting; 3] {
    let table = MountTable::current().ok();
    let root = table.as_ref().map(|table| match table.root() {
        Some(_) => "a mount",
        None => "a directory",
    });
    let is_over = |target: &Path| {
        // Made for it, and no reason for the kernel to refuse another /proc.
        target.starts_with("/proc") && target != "/proc" && target != "/proc/sys/fs/binfmt_misc"
    };
    let masked = table.as_ref().map(|table| {
        let over = table.iter().filter(|mount| is_over(mount.target()));
        over.count().to_string()
    });
    let cgroup2 = table.as_ref().map(|table| {
        let found = table.iter().find(|mount| mount.fs_type() == "cgroup2");
        found.map_or_else(
            || "not mounted".to_owned(),
            |mount| mount.target().display().to_string(),
        )
    });
    [
        setting(
            "cgroup v2",
            cgroup2,
            Effect::Limits,
            "programs cannot be started in cgroups: mount cgroup2",
            |value| value == "not mounted",
        ),
        setting(
            "root directory",
            root.map(str::to_owned),
            Effect::Forbids,
            "in a chroot the kernel makes no user namespace: use pivot_root(2), or be outside",
            |value| value == "a directory",
        ),
        setting(
            "mounts over parts of /proc",
            masked,
            Effect::Limits,
            "the kernel refuses a fresh /proc in a user namespace where this one is partly masked: bind it, or unmask it (docker: --security-opt systempaths=unconfined)",
            |value| value != "0",
        ),
    ]
}

fn rlimits() -> [Setting; 2] {
    let limit = |resource| {
        let current = getrlimit(resource).current;
        Some(current.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string()))
    };
    let is_below = |value: &str, least: u64| value.parse().is_ok_and(|limit: u64| limit < least);
    [
        setting(
            "RLIMIT_NPROC",
            limit(Resource::Nproc),
            Effect::Limits,
            "few processes are allowed to this user: ulimit -u",
            |value| is_below(value, 64),
        ),
        setting(
            "RLIMIT_NOFILE",
            limit(Resource::Nofile),
            Effect::Limits,
            "few descriptors are allowed to this process: ulimit -n",
            |value| is_below(value, 64),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = dir.path().to_owned();
        (dir, System { root })
    }

    fn effect(files: &[(&str, &str)], name: &str) -> (Effect, bool) {
        let (_dir, system) = system(files);
        let settings = read(&system);
        let setting = settings
            .iter()
            .find(|setting| setting.name == name)
            .unwrap();
        (setting.effect, setting.advice.is_some())
    }

    #[test]
    fn every_switch_that_is_off_is_said() {
        const ROOT: (&str, &str) = ("proc/self/status", "CapEff:\t000001ffffffffff\n");
        for (path, bad, name, expected) in [
            (
                "proc/sys/kernel/unprivileged_userns_clone",
                "0\n",
                "kernel.unprivileged_userns_clone",
                Effect::Forbids,
            ),
            (
                "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "kernel.apparmor_restrict_unprivileged_userns",
                Effect::Forbids,
            ),
            (
                "proc/sys/user/max_net_namespaces",
                "0\n",
                "user.max_net_namespaces",
                Effect::Forbids,
            ),
            (
                "proc/sys/vm/memfd_noexec",
                "2",
                "vm.memfd_noexec",
                Effect::Limits,
            ),
            (
                "proc/self/status",
                "Seccomp:\t2\n",
                "seccomp filter",
                Effect::Limits,
            ),
            (
                "proc/self/status",
                "NoNewPrivs:\t1\n",
                "no_new_privs",
                Effect::Limits,
            ),
            (
                "proc/self/uid_map",
                "",
                "ids in the own user namespace",
                Effect::Forbids,
            ),
            (
                "sys/fs/selinux/enforce",
                "1",
                "security modules",
                Effect::Limits,
            ),
        ] {
            assert_eq!(effect(&[(path, bad)], name), (expected, true), "{name}");
            assert_eq!(effect(&[(path, "7")], name).0, Effect::Fine, "{name}");
            assert_eq!(effect(&[], name), (Effect::Fine, false), "{name}");
        }
        // Switches for the unprivileged do not concern root.
        let clone = ("proc/sys/kernel/unprivileged_userns_clone", "0");
        let found = effect(&[clone, ROOT], "kernel.unprivileged_userns_clone");
        assert_eq!(found, (Effect::Fine, false));
    }
}
