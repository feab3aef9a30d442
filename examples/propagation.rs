//! Where a mount appears: four types of propagation between two mount namespaces.
//!
//! `cargo run --example propagation`, as root or as anybody who may create user namespaces.
#![allow(unsafe_code, reason = "the namespaces are made by unshare(2) itself")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;

use ringfence::mount::mountinfo::{Mount, MountTable};
use ringfence::mount::{Propagation, Recursion, set_propagation};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const NAMES: [&str; 4] = ["shared", "slave", "private", "unbindable"];

fn main() -> Result<()> {
    enter_first_namespace()?;
    set_propagation("/", Propagation::Private, Recursion::Tree)?;

    let base = std::env::temp_dir();
    mount("base", &base, "tmpfs", MountFlags::empty(), None)?;
    for name in NAMES {
        let target = mount_tmpfs(&base, name)?;
        for name in ["first", "second"] {
            fs::create_dir(target.join(name))?;
        }
        let propagation = match name {
            // The copy in the other namespace is to be the slave, so this is its master.
            "shared" | "slave" => Propagation::Shared,
            "private" => Propagation::Private,
            _ => Propagation::Unbindable,
        };
        set_propagation(&target, propagation, Recursion::MountOnly)?;
    }

    // A thread can have a mount namespace of its own. This one gets a copy of what was just mounted.
    let (there, mounted_there) = channel();
    let (here, mounted_here) = channel();
    let second = thread::spawn({
        let base = base.clone();
        move || -> Result<MountTable> {
            unshare(UnshareFlags::NEWNS)?;
            set_propagation(base.join("slave"), Propagation::Slave, Recursion::MountOnly)?;
            mount_in_each(&base, "second")?;
            there.send(())?;
            mounted_here.recv()?;
            Ok(MountTable::current()?)
        }
    });
    // An error if the other side failed before; joining it says why.
    if mounted_there.recv().is_ok() {
        mount_in_each(&base, "first")?;
        here.send(())?;
    }
    let second = second
        .join()
        .map_err(|_| "the second namespace's thread panicked")??;
    let first = MountTable::current()?;

    for (which, table) in [("first", first), ("second", second)] {
        println!("The {which} namespace, which mounted the ones called \"{which}\":\n");
        let base = table
            .mount_over(&base)
            .ok_or("nothing is mounted at the base")?;
        println!("{:<32}PROPAGATION", "TARGET");
        draw(&table, base, "", "");
        println!();
    }

    fs::create_dir(base.join("copy"))?;
    match mount_bind(base.join("unbindable"), base.join("copy")) {
        Err(Errno::INVAL) => println!("A bind mount of the unbindable one is refused: EINVAL"),
        other => println!("A bind mount of the unbindable one should be refused: {other:?}"),
    }
    Ok(())
}

/// One line for a mount and for each below it, with the branches that findmnt draws.
fn draw(table: &MountTable, mount: &Mount, branch: &str, indent: &str) {
    let target = format!("{branch}{}", mount.target().display());
    println!("{target:<32}{}", mount.propagation().propagation());
    let mut children = table.children_of(mount.id()).peekable();
    while let Some(child) = children.next() {
        let (branch, below) = if children.peek().is_some() {
            ("├─", "│ ")
        } else {
            ("└─", "  ")
        };
        draw(
            table,
            child,
            &format!("{indent}{branch}"),
            &format!("{indent}{below}"),
        );
    }
}

fn mount_in_each(base: &Path, name: &str) -> Result<()> {
    for directory in NAMES {
        mount(
            "tmpfs",
            base.join(directory).join(name),
            "tmpfs",
            MountFlags::empty(),
            None,
        )?;
    }
    Ok(())
}

fn mount_tmpfs(base: &Path, name: &str) -> Result<PathBuf> {
    let target = base.join(name);
    fs::create_dir(&target)?;
    mount("tmpfs", &target, "tmpfs", MountFlags::empty(), None)?;
    Ok(target)
}

/// A mount namespace, in a user namespace where the caller may not have one otherwise.
fn enter_first_namespace() -> Result<()> {
    match unshare(UnshareFlags::NEWNS) {
        Err(Errno::PERM) => {}
        result => return Ok(result?),
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(())
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: only CLONE_FILES can take descriptors away from other threads, and it is not passed.
    unsafe { unshare_unsafe(flags) }
}
