//! The example `lsns` prints what lsns(8) prints.
//!
//! Both run in a pid namespace in which nothing else happens, so that their outputs can be compared line by line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

#[path = "inspect/animal.rs"]
mod animal;
mod common;
#[allow(dead_code, reason = "the program's main function is not run")]
#[path = "../examples/lsns/main.rs"]
mod lsns;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use lexopt::Parser;
use ringfence::ns::{Ipc, Namespace, Net, Uts};
use rustix::mount::{MountFlags, mount};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use animal::Animal;
use common::isolated::wait_for;
use common::{isolated_as_both, require, sys};
use support::in_quiet_place;

/// What came out, and whether it was no error; without the line of the program itself, whose id differs. Blanks count as
/// one, since the widths of columns follow guesses about the screen.
#[derive(Debug, PartialEq)]
struct Printed {
    text: String,
    success: bool,
}

impl Printed {
    fn new(text: &str, pid: u32, success: bool) -> Self {
        let pid = pid.to_string();
        let lines = text.lines();
        let others = lines.filter(|line| line.split_whitespace().next() != Some(&pid));
        Self {
            text: others
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
                .collect(),
            success,
        }
    }
}

impl Printed {
    /// The lines in an order of their own, without the commas between objects.
    fn sort(&mut self) {
        let lines = self
            .text
            .lines()
            .map(|line| line.trim_matches([',', '}', '{']));
        let mut lines: Vec<_> = lines.collect();
        lines.sort_unstable();
        self.text = lines.join("\n");
    }
}

/// By a process of its own, as the other is one.
fn ours(arguments: &[&str]) -> Printed {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let Some(child) = sys::fork().unwrap() else {
        drop(reader);
        let result = lsns::run(Parser::from_args(arguments));
        writer
            .write_all(result.as_deref().unwrap_or_default().as_bytes())
            .unwrap();
        sys::exit_now(i32::from(result.is_err()));
    };
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let success = wait_for(child).success();
    Printed::new(&text, child.cast_unsigned(), success)
}

fn theirs(arguments: &[&str]) -> Printed {
    let mut command = Command::new("lsns");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Printed::new(&text, pid, output.status.success())
}

fn both(arguments: &[&str]) -> (Printed, Printed) {
    let (mut ours, mut theirs) = (ours(arguments), theirs(arguments));
    // It puts the trees of namespaces without processes first.
    if arguments.iter().any(|argument| argument.contains("parent")) {
        ours.sort();
        theirs.sort();
    }
    (ours, theirs)
}

fn nest() {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER).unwrap();
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
}

/// The processes whose namespaces are listed.
fn animals(dir: &Path) -> Vec<Animal> {
    mount("scratch", dir, "tmpfs", MountFlags::empty(), None).unwrap();
    let net = Namespace::<Net>::create().unwrap();
    for name in ["one", "two"] {
        net.pin(dir.join(name)).unwrap().keep();
    }
    drop(net);
    let others = UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    let mut alone = Animal::new(|_| sys::unshare(others).unwrap());
    alone.told();
    let nested = nested();
    let mut entered = Animal::new(|_| {
        let net = fs::File::open(dir.join("one")).unwrap();
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&net), None).unwrap();
    });
    entered.told();
    vec![alone, nested, entered]
}

/// In the second of two user namespaces, of which the first has no process. Where the inner one has the lower
/// number, which is the kernel's choice, the other lsns puts the outer one at another place.
fn nested() -> Animal {
    loop {
        let mut animal = Animal::new(|tell| {
            for _ in 0..2 {
                nest();
                tell.tell(fs::metadata("/proc/self/ns/user").unwrap().ino());
            }
        });
        if animal.told().is_sorted() {
            return animal;
        }
    }
}

#[test]
fn prints_what_lsns_prints() {
    isolated_as_both(|| {
        require!(userns, new_proc, netns, program("lsns"));
        // Trees came with 2.38, and --persistent, which changes what else is listed, with 2.41.
        let help = Command::new("lsns").arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        if !help.contains("--tree") {
            return common::require::missing(common::test_name!(), "lsns", "it knows no trees");
        }
        let dir = tempfile::tempdir().unwrap();
        in_quiet_place(|| {
            let animals = animals(dir.path());
            let link = fs::read_link(format!("/proc/{}/ns/uts", animals[0].pid)).unwrap();
            let number = link.to_str().unwrap().replace("uts:[", "").replace(']', "");
            let own = fs::read_link("/proc/self/ns/uts").unwrap();
            let own = own.to_str().unwrap().replace("uts:[", "").replace(']', "");
            let pid = animals[2].pid.to_string();
            for arguments in [
                &[] as &[&str],
                &["-l"],
                &["-n"],
                &["-u"],
                &["-r"],
                &["-J"],
                &["-W"],
                &["-t", "uts"],
                &["--type", "net", "--type=mnt"],
                &["-t", "net"],
                &["-t", "net", "-W"],
                &["-t", "net", "-r"],
                &["-t", "net", "-J"],
                &["-nrt", "time"],
                &[
                    "-o",
                    "NS,TYPE,PATH,NPROCS,PID,PPID,COMMAND,UID,USER,PNS,ONS",
                ],
                &["-o", "ns,ns,type"],
                &["-o", "+PATH"],
                &["-lo+PNS,ONS", "-t", "user"],
                &["--output-all"],
                &["--output-all", "-W"],
                &["--output-all", "-r"],
                &["--output-all", "-J"],
                &["-p", "1"],
                &["--task", &pid],
                &["--task", "4000000"],
                &["-T"],
                &["-Towner"],
                &["--tree=owner", "-J"],
                &["-Towner", "-n", "-o", "TYPE,NS,USER,UID"],
                &["-Tparent"],
                &["--tree=parent", "-J"],
                &[&number],
                &[&number, "-J"],
                &["-l", &own],
                &["-l", "-o", "PID,PPID,COMMAND,USER,UID", &own],
                &["7"],
                &["x"],
                &["-o", "NO"],
                &["-t", "no"],
                &["-p", "no"],
                &["-Tno"],
                &["-J", "-r"],
                &["-p", "1", &number],
                &["--no"],
            ] {
                // One that meets a process at its end prints less.
                let alike = (0..3).any(|_| {
                    let (ours, theirs) = both(arguments);
                    ours.success == theirs.success && ours.text == theirs.text
                });
                let (ours, theirs) = both(arguments);
                let (ours, theirs) = (ours.text, theirs.text);
                assert!(alike, "{arguments:?}\n{ours}\n{theirs}");
            }
        });
    });
}

#[test]
fn finds_what_has_no_process() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        in_quiet_place(|| {
            let mut animal = Animal::new(|tell| {
                let (uts, ipc) = (Namespace::<Uts>::create(), Namespace::<Ipc>::create());
                let (uts, ipc) = (uts.unwrap(), ipc.unwrap());
                tell.tell(uts.id().inode());
                tell.tell(ipc.id().inode());
                (uts, ipc)
            });
            let numbers: Vec<_> = animal.told().iter().map(u64::to_string).collect();
            let printed = ours(&["-P", "-n", "-r", "-o", "NS,NPROCS,PATH"]).text;
            for number in &numbers {
                let line = printed
                    .lines()
                    .find(|line| line.starts_with(number))
                    .unwrap();
                assert!(
                    line.starts_with(&format!("{number} 0 /proc/{}/fd/", animal.pid)),
                    "{line}"
                );
            }
            let all = ours(&["-n", "-o", "NS"]).text;
            assert!(numbers.iter().all(|number| !all.contains(number)));
        });
    });
}

#[test]
fn filters_are_expressions_on_the_columns() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        in_quiet_place(|| {
            let mut animal = Animal::new(|_| sys::unshare(UnshareFlags::NEWUTS).unwrap());
            animal.told();
            let kinds = |expression: &str| {
                let printed = ours(&["-n", "-r", "-o", "TYPE,PID", "-Q", expression]);
                assert!(printed.success, "{expression}");
                printed.text
            };
            let own = format!("uts {}\n", animal.pid);
            for (expression, expected) in [
                ("TYPE == \"uts\" and NPROCS == 1", own.as_str()),
                ("TYPE=='uts'&&PID>1", &own),
                ("type eq 'uts' AND not (PID eq 1)", &own),
                ("TYPE =~ '^u' && PID != 1 && TYPE !~ 'r$'", &own),
                ("PID >= 2", &own),
                ("PID == 1 && TYPE == 'net'", "net 1\n"),
                ("TYPE == 'net' || TYPE == 'ipc' || false", "net 1\nipc 1\n"),
                ("TYPE == 'ipc' && NPROCS < 1K && NPROCS > 0.5", "ipc 1\n"),
                ("NETNSID && TYPE == 'net'", "net 1\n"),
                ("!true", ""),
            ] {
                let mut found: Vec<_> = kinds(expression).lines().map(str::to_owned).collect();
                let mut expected: Vec<_> = expected.lines().map(str::to_owned).collect();
                found.sort();
                expected.sort();
                assert_eq!(found, expected, "{expression}");
            }
            for wrong in [
                "TYPE ==",
                "(TYPE",
                "TYPE == 'x",
                "NO == 1",
                "TYPE =~ 1",
                "1 2",
                "TYPE =~ '('",
                "#",
            ] {
                assert!(!ours(&["-Q", wrong]).success, "{wrong}");
            }
        });
    });
}
