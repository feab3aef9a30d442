//! A container by the preset, beside whole processes that make one.
//!
//! The others do less: bubblewrap has no time namespace, filter or `/sys` here, unshare(1) no `/dev`, and neither drops
//! what root may do to the machine's settings in `/proc` in all the places that the preset does.

use crate::oci::Bundle;
use crate::{Contender, floor, oci, sandbox, succeed, tools};
use ringfence::{Rootfs, Sandbox};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROUNDS: usize = 200;
/// As many as the process of `hundred` starts.
const HUNDRED: u32 = 100;

pub(crate) fn compare() {
    let directory = floor::program_directory();
    let root = directory.path().join("root");
    for name in ["dev", "proc", "sys"] {
        std::fs::create_dir_all(root.join(name)).expect("a directory of our own");
    }
    floor::tiny_program(&root);
    let container = Sandbox::container(Rootfs::dir(&root)).expect("this architecture has a filter");
    let plan = container.command("/tiny").env_clear().compile();
    let plan = plan.expect("this machine allows a container");
    let mut tools = commands(&root);
    let mut contenders: Vec<Contender<'_>> = vec![("ringfence", Box::new(|| sandbox::run(&plan)))];
    for (name, command) in &mut tools {
        contenders.push((name, Box::new(|| succeed(command))));
    }
    crate::race("container", "one at a time", ROUNDS, contenders);

    let mut hundred = Command::new(beside_this("hundred"));
    hundred.arg(&root);
    let [times] = floor::interleave(ROUNDS / 10, [&mut || succeed(&mut hundred)]);
    let each = times.each_of(HUNDRED);
    floor::report(
        "container",
        "100 by one process, each",
        &[("ringfence", &each)],
    );

    for runtime in ["crun", "runc"] {
        if let Some(tool) = tools::find(runtime) {
            let bundle = Bundle::new(&tool, &root);
            let run = || oci::run(&tool, &bundle);
            crate::race(
                "container",
                "one at a time",
                ROUNDS / 4,
                vec![(runtime, Box::new(run))],
            );
        }
    }
}

fn beside_this(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("/proc");
    this.with_file_name(name)
}

fn commands(root: &Path) -> Vec<(&'static str, Command)> {
    let mut commands = Vec::new();
    let drop_in = std::env::var_os("RINGFENCE_BWRAP").map(PathBuf::from);
    match drop_in {
        Some(tool) => commands.push(("the drop-in for bwrap", bwrap(&tool, root))),
        None => println!("SKIPPED the drop-in for bwrap: RINGFENCE_BWRAP does not name it"),
    }
    if let Some(tool) = tools::find("bwrap") {
        commands.push(("bwrap", bwrap(&tool, root)));
    }
    if let Some(tool) = tools::find("unshare") {
        commands.push(("unshare(1)", unshare(&tool, root)));
    }
    commands
}

fn bwrap(tool: &Path, root: &Path) -> Command {
    let mut command = Command::new(tool);
    command
        .args([
            "--unshare-all",
            "--uid",
            "0",
            "--gid",
            "0",
            "--cap-drop",
            "ALL",
        ])
        .arg("--bind")
        .args([root, Path::new("/")])
        .args(["--proc", "/proc", "--dev", "/dev", "/tiny"])
        .env_clear();
    command
}

fn unshare(tool: &Path, root: &Path) -> Command {
    let mut command = Command::new(tool);
    command
        .args(["--user", "--map-root-user", "--mount", "--uts", "--ipc"])
        .args([
            "--net",
            "--cgroup",
            "--time",
            "--pid",
            "--fork",
            "--mount-proc",
        ])
        .arg("--root")
        .arg(root)
        .arg("/tiny")
        .env_clear();
    command
}
