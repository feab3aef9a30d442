//! Process 1 holds nothing of the caller's.

use super::{both_forms, require_stage, sandbox, shell};
use crate::common::{isolated, probe, require};
use std::fs;
use std::io::{Read, Write};

/// Runs until its standard input ends.
fn waiting() -> ringfence::Command {
    sandbox()
        .command("/bin/cat")
        .stdin(ringfence::Stdio::piped())
}

both_forms! {
    fn no_descriptor_but_a_socket() {
        // It is not dumpable: only root looks into it.
        require!(root);
        let secret = tempfile::tempfile().unwrap();
        let kept: std::os::fd::OwnedFd = secret.into();
        let child = waiting().descriptor(kept, 7).spawn().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap() {
            let target = fs::read_link(entry.unwrap().path()).unwrap();
            let target = target.to_string_lossy().into_owned();
            found.push(target.split(':').next().unwrap_or_default().to_owned());
        }
        found.sort();
        assert_eq!(found, ["anon_inode", "socket"]);
    }

    fn the_program_gets_only_what_it_was_given() {
        let output = shell("ls /proc/self/fd 2>/dev/null | wc -l; echo /proc/self/fd/*").output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(!text.is_empty());
        let kept: std::os::fd::OwnedFd = tempfile::tempfile().unwrap().into();
        let command = waiting().stdout(ringfence::Stdio::piped());
        let mut child = command.descriptor(kept, 7).spawn().unwrap();
        // The dynamic linker is done with its files once something has come back.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let program = probe::children(i32::try_from(child.id()).unwrap());
        let [program] = program.as_slice() else { panic!("{program:?}") };
        let mut numbers: Vec<_> = fs::read_dir(format!("/proc/{}/fd", program.pid))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        numbers.sort();
        assert_eq!(numbers, ["0", "1", "2", "7"]);
        assert!(child.wait().unwrap().success());
    }

    fn nobody_looks_into_it() {
        crate::common::require!(new_proc);
        // Not as root inside, which may trace every process of its own user namespace.
        let script = "for file in environ maps mem fd/0; do cat /proc/1/$file; done";
        let output = sandbox()
            .user_map(ringfence::IdMap::single(1000))
            .mount()
            .proc("/proc")
            .command("/bin/sh")
            .args(["-c", script])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"");
        let refused = String::from_utf8_lossy(&output.stderr);
        assert_eq!(refused.matches("Permission denied").count(), 4, "{refused}");
    }
}

#[test]
fn small_and_without_memory_of_the_caller() {
    isolated(|| {
        require!(userns);
        require_stage!();
        let mark = vec![0x5a_u8; 8 << 20];
        let child = waiting().spawn().unwrap();
        let pid = child.id();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        for line in maps.lines() {
            let name = line.split_whitespace().nth(5).unwrap_or_default();
            let own = [
                "/memfd:ringfence-init",
                "[stack]",
                "[vvar",
                "[vdso]",
                "[vsyscall]",
            ];
            assert!(own.iter().any(|own| name.starts_with(own)), "{line}");
        }
        let resident = probe::status(pid, "VmRSS").unwrap();
        let kilobytes: u64 = resident.trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes <= 100, "{resident}");
        println!("resident: {resident}");
        drop(mark);
    });
}
