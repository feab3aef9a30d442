//! Contradictions between what is joined and everything else.

use crate::error::{Error, Result};
use crate::ns::Namespaces;
use crate::sandbox::{Command, MountLock};

/// `joined` are the kinds that are joined, `by_stage` is whether the second stage does it.
pub(super) fn check(command: &Command, joined: Namespaces, by_stage: bool) -> Result<()> {
    let sandbox = &command.sandbox;
    let join = &sandbox.join;
    let only_joining = [
        ("join_root", join.root.is_some()),
        ("join_dir", join.dir.is_some()),
    ];
    if let Some((setter, _)) = only_joining.iter().find(|(_, used)| *used)
        && join.namespaces.is_empty()
    {
        return Err(Error::invalid(setter, "no namespace is joined"));
    }
    if join.last.is_some() {
        let nested = sandbox.mount_lock == Some(MountLock::Nested);
        let new = sandbox.namespaces.contains(Namespaces::USER);
        if let Some((other, _)) = [("user()", new), ("MountLock::Nested", nested)]
            .into_iter()
            .find(|(_, used)| *used)
        {
            let what = format!(
                "not together with {other}: a namespace that exists is not below a new one"
            );
            return Err(Error::invalid("join_user_last", what));
        }
    }
    let both = sandbox.namespaces & joined;
    // Of these the new one is a copy of the one that was joined.
    let senseless = both - Namespaces::MOUNT - Namespaces::UTS;
    if let Some(kind) = senseless.kinds().next() {
        return Err(Error::invalid(
            "join",
            format!("a {kind} namespace is joined, and a new one is asked for"),
        ));
    }
    if join.cgroup.is_some() && sandbox.cgroup.is_some() {
        return Err(Error::invalid(
            "join_cgroup",
            "into_cgroup names a cgroup as well",
        ));
    }
    if by_stage || only_joining.iter().any(|(_, used)| *used) {
        not_in_the_stage(command)?;
    }
    Ok(())
}

/// What the second stage cannot do once it has joined.
fn not_in_the_stage(command: &Command) -> Result<()> {
    let sandbox = &command.sandbox;
    let refused = [
        ("user", sandbox.namespaces.contains(Namespaces::USER)),
        ("time", sandbox.namespaces.contains(Namespaces::TIME)),
        ("rootfs", sandbox.rootfs.is_some()),
        ("propagation", sandbox.propagation.is_some()),
        ("lock_mounts", sandbox.mount_lock.is_some()),
        ("template", sandbox.template),
        (
            "mount",
            sandbox.join.root.is_some() && sandbox.namespaces.contains(Namespaces::MOUNT),
        ),
    ];
    let entries = sandbox
        .entries
        .iter()
        .map(|entry| (entry.what.setter(), true));
    for (setter, used) in refused.into_iter().chain(entries) {
        if used {
            return Err(Error::invalid(
                setter,
                "not together with a joined user, pid, mount or time namespace, join_root or join_dir",
            ));
        }
    }
    Ok(())
}
