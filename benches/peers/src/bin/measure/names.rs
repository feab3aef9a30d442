//! Named network namespaces, beside `ip netns`. In network and mount namespaces of this process's own.

use crate::{race, sandbox, standard, succeed, tools};
use ringfence::net::named;
use rustix::mount::{MountFlags, mount};
use rustix::thread::UnshareFlags;
use std::path::Path;
use std::process::Command;

const ROUNDS: usize = 60;

pub(crate) fn compare(program: &Path) {
    let Some(ip) = tools::find("ip") else { return };
    let isolated = standard::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS)
        .and_then(|()| standard::make_private())
        .and_then(|()| {
            Ok(mount(
                "scratch",
                "/run",
                "tmpfs",
                MountFlags::empty(),
                None,
            )?)
        });
    isolated.expect("root");
    let netns = |arguments: &[&str]| {
        let mut command = Command::new(&ip);
        command.arg("netns").args(arguments);
        command
    };

    let ours = || {
        named::add("ours").expect("root");
        named::delete("ours").expect("root");
    };
    let theirs = || {
        succeed(&mut netns(&["add", "theirs"]));
        succeed(&mut netns(&["delete", "theirs"]));
    };
    race(
        "ip netns",
        "add and delete",
        ROUNDS,
        vec![("ringfence", Box::new(ours)), ("ip", Box::new(theirs))],
    );

    named::add("both").expect("root");
    let plan = named::command("both", program).and_then(|command| command.compile());
    let plan = plan.expect("root");
    let mut exec = netns(&["exec", "both"]);
    exec.arg(program);
    let theirs = || succeed(&mut exec);
    race(
        "ip netns",
        "exec",
        ROUNDS,
        vec![
            ("ringfence", Box::new(|| sandbox::run(&plan))),
            ("ip", Box::new(theirs)),
        ],
    );
    named::delete("both").expect("root");
}
