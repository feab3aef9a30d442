//! What a tool needs that stands for its program: what the program keeps of the caller, and how the tool ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use common::{isolated, isolated_as_both, probe, require, sys};
use ringfence::ns::{Namespace, User, Uts};
use ringfence::{Extent, Foreground, IdMap, Sandbox, Setgroups, Step, exit_as};
use rustix::process::{Pid, Signal, WaitOptions, geteuid, getpid, kill_process, waitpid};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use support::{sh, stdout};
use tempfile::TempDir;

fn status(command: ringfence::Command, field: &str) -> String {
    let script = format!(
        "while read -r name value; do [ $name = {field}: ] && echo $value; done < /proc/self/status; :"
    );
    stdout(&command.args(["-c", &script]))
}

#[test]
fn descriptors_are_handed_on_only_when_asked_for() {
    isolated_as_both(|| {
        let file = File::open("/dev/null").unwrap();
        sys::dup_over(file.as_fd(), 40).unwrap();
        let command = || {
            let script =
                "[ -e /proc/self/fd/40 ] && echo open; [ -e /proc/self/fd/41 ] && echo copy; :";
            Sandbox::new().command("/bin/sh").args(["-c", script])
        };
        assert_eq!(stdout(&command()), "");
        assert_eq!(stdout(&command().inherit_descriptors()), "open");
        // One that is given under that number takes its place; the rest stay close-on-exec.
        let given = OwnedFd::from(File::open("/etc").unwrap());
        let seen = command().inherit_descriptors().descriptor(given, 40);
        assert_eq!(stdout(&seen), "open");
        // At the gate, too, the numbers of the second stage are not those of the caller's.
        let mut child = command().inherit_descriptors().gate().spawn().unwrap();
        child.release().unwrap();
        assert!(child.wait().unwrap().success());
    });
}

/// Those below the ones that the C library keeps for itself.
const STANDARD: u64 = 0xfff_ffff;

#[test]
fn ignored_signals_stay_ignored_when_asked_for() {
    isolated(|| {
        // As nohup does it; a process of its own, so nobody else is concerned.
        let script = "trap '' HUP USR2; exec \"$0\" signals_as_inherited --exact --nocapture --include-ignored";
        let seen = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("RINGFENCE_SHOW_IGNORED", "1")
            .output()
            .unwrap();
        let text = String::from_utf8(seen.stdout).unwrap();
        // In the background of a shell this has been started with some of its own.
        let bits = 1_u64 << (libc::SIGHUP - 1) | 1 << (libc::SIGUSR2 - 1) | ignored_here();
        let expected = format!("kept {bits:016x} reset {:016x}", 0);
        assert!(text.contains(&expected), "{expected}: {text}");
    });
}

/// The standard signals but for `SIGPIPE`, which std ignores, and gives back to what it starts.
fn ignored_here() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap() & STANDARD & !(1 << (libc::SIGPIPE - 1))
}

/// The half of the test above that the shell starts.
#[test]
fn signals_as_inherited() {
    if std::env::var_os("RINGFENCE_SHOW_IGNORED").is_none() {
        return;
    }
    let shell = || Sandbox::new().command("/bin/sh");
    let mask = |text: String| u64::from_str_radix(&text, 16).unwrap() & STANDARD;
    let kept = mask(status(shell().inherit_ignored_signals(), "SigIgn"));
    let reset = mask(status(shell(), "SigIgn"));
    println!("kept {kept:016x} reset {reset:016x}");
}

#[test]
fn groups_stay_when_asked_for() {
    isolated(|| {
        require!(root);
        let groups = [
            rustix::process::Gid::from_raw(7),
            rustix::process::Gid::from_raw(9),
        ];
        rustix::thread::set_thread_groups(&groups).unwrap();
        let shell = || Sandbox::new().command("/bin/sh").uid(1);
        assert_eq!(status(shell(), "Groups"), "");
        assert_eq!(status(shell().keep_groups(), "Groups"), "7 9");
    });
}

#[test]
fn ids_that_do_not_exist_inside_stay_when_asked_for() {
    isolated(|| {
        require!(root);
        let sandbox = Sandbox::new().user().user_map(IdMap::range(3, 100_000, 10));
        let shell = || sandbox.clone().command("/bin/sh");
        assert_eq!(status(shell(), "Uid"), "3 3 3 3");
        assert_eq!(status(shell().keep_ids(), "Uid"), "65534 65534 65534 65534");
    });
}

#[test]
fn capabilities_stay_when_asked_for() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = Sandbox::new().user().user_map(IdMap::single(5));
        let shell = || sandbox.clone().command("/bin/sh");
        assert_eq!(status(shell(), "CapEff"), "0000000000000000");
        let bounding = status(shell(), "CapBnd");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(status(shell().keep_capabilities(), set), bounding, "{set}");
        }
    });
}

#[test]
fn setgroups_is_denied_without_a_map_when_asked_for() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = Sandbox::new().user().user_map(IdMap::none());
        let said =
            |sandbox: &Sandbox| sh(sandbox, "read -r word < /proc/self/setgroups; echo $word");
        assert_eq!(said(&sandbox), "allow");
        assert_eq!(said(&sandbox.setgroups(Setgroups::Deny)), "deny");
    });
}

#[test]
fn a_user_namespace_can_belong_to_another_user() {
    isolated(|| {
        require!(root);
        let before = support::text_of("/proc/self/status");
        let map = |id| {
            IdMap::from([
                Extent {
                    inside: 0,
                    outside: id,
                    count: 1,
                },
                Extent {
                    inside: 1,
                    outside: 200_000,
                    count: 10,
                },
            ])
        };
        let sandbox = Sandbox::new()
            .user()
            .pid()
            .mount()
            .net()
            .owner(3000, 3001)
            .user_map(map(3000))
            .group_map(map(3001))
            .setgroups(Setgroups::Deny)
            .proc("/proc");
        let child = support::Waiting::start(&sandbox);
        let user = Namespace::<User>::of_pid(child.id()).unwrap();
        assert_eq!(user.owner_uid().unwrap(), 3000);
        let net = child.namespaces().unwrap().net.unwrap();
        assert_eq!(net.user_namespace().unwrap(), user);
        let status = |field| probe::status(child.id(), field).unwrap();
        assert_eq!(status("Uid"), "3000\t3000\t3000\t3000");
        assert_eq!(status("Gid"), "3001\t3001\t3001\t3001");
        assert_eq!(status("Groups"), "");
        assert_eq!(status("NSpid").split_whitespace().last(), Some("1"));
        let setgroups = support::text_of(format!("/proc/{}/setgroups", child.id()));
        assert_eq!(setgroups, "deny\n");
        assert_eq!(sh(&sandbox, "id -u; id -g"), "0\n0");
        drop(child);
        // The caller's memory is dumpable as before, and so its files are its own.
        let of = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("Uid"))
                .map(str::to_owned)
        };
        assert_eq!(of(&before), of(&support::text_of("/proc/self/status")));
        assert_eq!(
            fs::metadata("/proc/self/mem").unwrap().uid(),
            geteuid().as_raw()
        );
    });
}

#[test]
fn a_user_namespace_of_another_user_needs_the_privilege() {
    common::isolated_as_user(|| {
        require!(userns);
        let sandbox = Sandbox::new().user().owner(0, 0);
        let error = sandbox.clone().command("true").spawn().unwrap_err();
        assert_eq!(error.setter(), Some("owner"), "{error:?}");
        let unmapped = sandbox.user_map(IdMap::none());
        let error = unmapped.command("true").spawn().unwrap_err();
        assert_eq!(error.step(), Some(Step::Ids), "{error:?}");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let offset = std::time::Duration::from_secs(1);
        let sandbox = Sandbox::new()
            .user()
            .time()
            .monotonic_offset(offset)
            .owner(0, 0);
        let error = sandbox.command("true").compile().unwrap_err();
        assert_eq!(error.setter(), Some("owner"));
    });
}

#[test]
fn a_pid_namespace_can_be_for_children() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = Sandbox::new()
            .user()
            .user_map(IdMap::root())
            .pid_for_children();
        let script = "[ $$ = 1 ] || echo outside; sh -c 'echo $$'";
        assert_eq!(sh(&sandbox, script), "outside\n1");
        let both = sandbox.pid().command("true").compile().unwrap_err();
        assert_eq!(both.setter(), Some("pid_for_children"));
    });
}

#[test]
fn the_root_directory_can_be_changed_alone() {
    isolated_as_both(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::write(root.join("here"), "").unwrap();
        fs::create_dir(root.join("tmp")).unwrap();
        symlink("tmp", root.join("link")).unwrap();
        let sandbox = Sandbox::new().user().user_map(IdMap::root()).chroot(&root);
        // There is no program in it, so the error says where one was looked for.
        let error = sandbox.clone().command("/bin/sh").spawn().unwrap_err();
        assert_eq!(error.step(), Some(Step::Exec), "{error:?}");
        // With a mount namespace entries go into it.
        let with_programs = ["/bin", "/lib", "/lib64", "/usr"]
            .into_iter()
            .filter(|path| fs::metadata(path).is_ok())
            .fold(sandbox.mount(), |sandbox, path| sandbox.bind_ro(path, path));
        assert_eq!(sh(&with_programs, "pwd; echo /here /e*"), "/\n/here /e*");
        let error = Sandbox::new()
            .chroot("/nosuch")
            .command("true")
            .spawn()
            .unwrap_err();
        assert_eq!(error.step(), Some(Step::PivotRoot), "{error:?}");
    });
}

#[test]
fn a_namespace_is_pinned_on_a_file_that_stays() {
    isolated(|| {
        require!(root);
        let dir = TempDir::new().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "text").unwrap();
        symlink("file", &link).unwrap();
        let uts = Namespace::<Uts>::create().unwrap();
        assert!(uts.pin_on(dir.path().join("nosuch")).is_err());
        assert!(uts.pin_on(dir.path()).is_err());
        let pin = uts.pin_on(&link).unwrap();
        assert_eq!(Namespace::<Uts>::open(&file).unwrap(), uts);
        drop(pin);
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        uts.pin_on(&file).unwrap().unpin().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    });
}

/// A process that waits for a program in this way, and ends as it does; and what the program says.
fn tool(foreground: Foreground, script: &str) -> (Pid, BufReader<std::io::PipeReader>) {
    let (reader, writer) = pipe().unwrap();
    let command = Sandbox::new()
        .command("/bin/sh")
        .args(["-c", script])
        .stdout(OwnedFd::from(writer));
    match sys::fork().unwrap() {
        None => {
            let mut child = command.spawn().unwrap();
            exit_as(child.wait_with(&foreground).unwrap())
        }
        Some(pid) => (Pid::from_raw(pid).unwrap(), BufReader::new(reader)),
    }
}

#[test]
fn a_tool_ends_as_its_program() {
    isolated_as_both(|| {
        for signal in [
            libc::SIGTERM,
            libc::SIGKILL,
            libc::SIGPIPE,
            libc::SIGSEGV,
            40,
        ] {
            let (tool, _said) = tool(Foreground::new(), &format!("kill -{signal} $$"));
            let (_, status) = waitpid(Some(tool), WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.terminating_signal(), Some(signal), "{status:?}");
        }
        let (tool, _said) = tool(Foreground::new(), "exit 200");
        let (_, status) = waitpid(Some(tool), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(200));
    });
}

#[test]
fn a_tool_holds_what_it_does_not_pass_on() {
    isolated_as_both(|| {
        let foreground = Foreground::new()
            .hold([libc::SIGTERM, libc::SIGINT])
            .forward([libc::SIGUSR1, 0, -1, 1000]);
        // The program goes on when it has got the one that is passed on.
        let script = "trap 'echo passed; exit 4' USR1; trap 'exit 5' TERM INT; echo ready; while :; do sleep 0.01; done";
        let (tool, mut said) = tool(foreground, script);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let pid = tool.as_raw_pid();
        let blocked = || u64::from_str_radix(&probe::status(pid, "SigBlk").unwrap(), 16).unwrap();
        // Spawning blocks all; waiting these.
        while blocked() & 1 << (libc::SIGALRM - 1) != 0 || blocked() & 1 << (libc::SIGTERM - 1) == 0
        {
            std::thread::yield_now();
        }
        for signal in [Signal::TERM, Signal::INT, Signal::USR1] {
            kill_process(tool, signal).unwrap();
        }
        let (_, status) = waitpid(Some(tool), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(4), "{status:?}");
    });
}

#[test]
fn another_signal_than_sigkill_may_tell_of_the_callers_end() {
    isolated_as_both(|| {
        for gate in [false, true] {
            let (reader, writer) = pipe().unwrap();
            let script = "trap 'echo told; exit' USR2; echo ready; while :; do sleep 0.01; done";
            let command = Sandbox::new()
                .command("/bin/sh")
                .args(["-c", script])
                .stdout(OwnedFd::from(writer))
                .die_with_parent_by(libc::SIGUSR2);
            let command = if gate { command.gate() } else { command };
            let Some(tool) = sys::fork().unwrap() else {
                let mut child = command.spawn().unwrap();
                if gate {
                    child.release().unwrap();
                }
                let _ = kill_process(getpid(), Signal::STOP);
                sys::exit_now(0);
            };
            drop(command);
            let mut said = BufReader::new(reader).lines();
            assert_eq!(said.next().unwrap().unwrap(), "ready");
            kill_process(Pid::from_raw(tool).unwrap(), Signal::KILL).unwrap();
            assert_eq!(said.next().unwrap().unwrap(), "told", "gate {gate}");
            waitpid(Pid::from_raw(tool), WaitOptions::empty()).unwrap();
        }
        let refused = Sandbox::new()
            .command("true")
            .die_with_parent_by(65)
            .compile();
        assert_eq!(refused.unwrap_err().setter(), Some("die_with_parent_by"));
    });
}
