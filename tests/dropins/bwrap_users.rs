//! bwrap(1) in user namespaces of others, and with id maps of others.

use super::bwrap_life::{adopt, each_tool};
use super::row::wait_for_adopted;
use crate::common::{isolated, isolated_as_both, require, sys};
use crate::support::Waiting;
use ringfence::ns::{Namespace, User};
use ringfence::{IdMap, MountLock, Sandbox};
use rustix::process::{getgid, getuid};
use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the program may do, and where it is.
const LOOK: &str = "readlink /proc/self/ns/user; id -u; id -g; grep -E '^(Cap[IPEA]|NoNew|Groups)' /proc/self/status; hostname other 2>/dev/null; hostname";

/// What a tool says that gets the namespaces as descriptors 40 and 41.
fn run(tool: &Path, options: &str, namespaces: &[&Namespace<User>]) -> String {
    for (number, namespace) in (40..).zip(namespaces) {
        sys::dup_over(namespace, number).unwrap();
    }
    let output = Command::new(tool)
        .args("--ro-bind / / --proc /proc --unshare-pid --unshare-uts --hostname box".split(' '))
        .args(options.split_whitespace())
        .args(["sh", "-c", LOOK])
        .output()
        .unwrap();
    wait_for_adopted();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {said}{errors}",
        tool.display()
    );
    said
}

/// The same from all tools: the program is there, and the host name stays.
fn everywhere(options: &str, namespaces: &[&Namespace<User>]) {
    let mut before: Option<String> = None;
    each_tool(|tool| {
        let said = run(tool, options, namespaces);
        let last = namespaces.last().unwrap().to_string();
        assert!(said.starts_with(&last), "{options}: {said}");
        assert!(said.ends_with("\nbox\n"), "{options}: {said}");
        let before = before.get_or_insert_with(|| said.clone());
        assert_eq!(said, *before, "{options}");
    });
}

#[test]
fn the_program_ends_in_a_lower_user_namespace() {
    isolated_as_both(|| {
        require!(userns, program("bwrap"));
        adopt();
        let nested = Sandbox::new().user().user_map(IdMap::root()).mount();
        let nested = Waiting::start(&nested.lock_mounts(MountLock::Nested));
        let lower = Namespace::<User>::of_pid(nested.id()).unwrap();
        let upper = lower.parent().unwrap().unwrap();
        drop(nested);
        for options in ["", "--cap-drop ALL", "--uid 0 --gid 0"] {
            everywhere(
                &format!("--userns 40 --userns2 41 {options}"),
                &[&upper, &lower],
            );
        }
    });
}

#[test]
fn root_leaves_its_own_user_namespace_at_last() {
    isolated(|| {
        require!(root, userns, program("bwrap"));
        adopt();
        let user = Namespace::<User>::create_with_map(IdMap::range(0, 0, 10)).unwrap();
        for options in ["", "--cap-drop ALL", "--die-with-parent"] {
            everywhere(&format!("--userns2 40 {options}"), &[&user]);
        }
    });
}

/// As a daemon does it: reads of the process, writes the maps, and lets it go on.
#[test]
fn somebody_else_writes_the_maps() {
    isolated_as_both(|| {
        require!(userns, program("bwrap"));
        adopt();
        for options in ["", "--unshare-pid --proc /proc", "--json-status-fd 2"] {
            each_tool(|tool| {
                let said = with_maps(tool, options);
                assert_eq!(said, "5 6\n", "{} {options}", tool.display());
            });
        }
    });
}

fn with_maps(tool: &Path, options: &str) -> String {
    let (block, release) = pipe().unwrap();
    let (mut info, tell) = pipe().unwrap();
    sys::dup_over(&block, 40).unwrap();
    sys::dup_over(&tell, 41).unwrap();
    drop((block, tell));
    let mut tool = Command::new(tool)
        .args("--ro-bind / / --unshare-user --userns-block-fd 40 --info-fd 41".split(' '))
        .args(options.split_whitespace())
        .args(["sh", "-c", "echo $(id -u) $(id -g)"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    for number in [40, 41] {
        sys::dup_over(File::open("/dev/null").unwrap(), number).unwrap();
    }
    let mut text = String::new();
    info.read_to_string(&mut text).unwrap();
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let proc = format!("/proc/{}", told["child-pid"]);
    let namespace = fs::read_link(format!("{proc}/ns/mnt")).unwrap();
    let expected = format!("mnt:[{}]", told["mnt-namespace"]);
    assert_eq!(namespace.to_str(), Some(expected.as_str()));
    let write = |file: &str, text: String| fs::write(format!("{proc}/{file}"), text).unwrap();
    write("setgroups", "deny".to_owned());
    write("uid_map", format!("5 {} 1", getuid().as_raw()));
    write("gid_map", format!("6 {} 1", getgid().as_raw()));
    (&release).write_all(b"x").unwrap();
    let mut said = String::new();
    tool.stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(tool.wait().unwrap().success(), "{said}");
    wait_for_adopted();
    said
}
