//! Filters of system calls: how many there are, what they do, and who hears of it.

use super::{Stage, Way, fields, on_each, read_inside};
use crate::common::seccomp::ALLOW;
use crate::common::sys::{self, Answer};
use crate::common::{isolated_as_both, isolated_as_user, probe, require};
use ringfence::lockdown::{Instruction, SeccompFilter};
use ringfence::{ErrorKind, Sandbox, Step};
use std::io::Write;
use std::time::{Duration, Instant};

const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

fn allow() -> SeccompFilter {
    SeccompFilter::new([ALLOW])
}

/// What one system call is answered by; all others are allowed.
fn answer(number: libc::c_long, action: u32) -> SeccompFilter {
    let number = u32::try_from(number).unwrap();
    SeccompFilter::new([
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number),
        instruction(libc::BPF_RET | libc::BPF_K, 0, action),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ])
}

fn instruction(code: u32, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf,
        k,
    }
}

fn errno(number: libc::c_long, errno: i32) -> SeccompFilter {
    answer(number, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
}

#[test]
fn each_is_in_force_beside_the_others() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            // Those of the test and its caller's stay.
            let own: u32 = probe::status("self", "Seccomp_filters")
                .unwrap()
                .parse()
                .unwrap();
            for count in [1, 3] {
                let filtered =
                    (0..count).fold(way.sandbox(), |sandbox, _| sandbox.seccomp(allow()));
                let text = read_inside(way, filtered, "/proc/self/status").unwrap();
                let found = fields(&text);
                assert_eq!(found["Seccomp"], "2", "{way:?}");
                assert_eq!(
                    found["Seccomp_filters"],
                    (own + count).to_string(),
                    "{way:?}"
                );
                assert_eq!(found["NoNewPrivs"], "1", "{way:?}");
            }
        });
    });
}

#[test]
fn what_is_refused_is_refused_to_the_program() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let denied = way.sandbox().seccomp(errno(libc::SYS_uname, libc::EXDEV));
            let command = way
                .command(denied, "/bin/uname")
                .stderr(ringfence::Stdio::piped());
            let mut child = command.spawn().unwrap();
            if way.stage == Stage::Gate {
                child.release().unwrap();
            }
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{way:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("cross-device"), "{way:?}: {said}");
        });
    });
}

/// As [`errno`], but in a way that nobody knows who does not run it: every call comes from somewhere.
fn errno_from_anywhere(number: libc::c_long, errno: i32) -> SeccompFilter {
    const INSTRUCTION_POINTER: u32 = 8;
    let number = u32::try_from(number).unwrap();
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let answer = libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
    SeccompFilter::new([
        instruction(load, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 3, number),
        instruction(load, 0, INSTRUCTION_POINTER),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, answer),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ])
}

#[test]
fn a_filter_that_forbids_exec_is_an_error() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            if way.stage == Stage::Gate {
                return;
            }
            let filter = errno_from_anywhere(libc::SYS_execve, libc::EPERM);
            let sandbox = way.sandbox().seccomp(filter);
            let error = way.command(sandbox, "/bin/true").status().unwrap_err();
            assert_eq!(error.step(), Some(Step::Exec), "{way:?} {error:?}");
            assert!(error.hint().unwrap().contains("permit execve"), "{error:?}");
        });
    });
}

/// The child that has nothing to execute does not wait for its time to be over.
#[test]
fn a_filter_that_forbids_exit_holds_nobody_up() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let filter = errno(libc::SYS_exit_group, libc::EPERM);
            let command = way.command(way.sandbox().seccomp(filter), "/nonexistent");
            let command = command.setup_timeout(Duration::from_secs(600));
            let begun = Instant::now();
            let started = command.spawn().and_then(|mut child| child.release());
            let error = started.unwrap_err();
            assert_eq!(error.step(), Some(Step::Exec), "{way:?} {error:?}");
            assert_eq!(
                error.raw_os_error(),
                Some(libc::ENOENT),
                "{way:?} {error:?}"
            );
            assert!(begun.elapsed() < Duration::from_secs(300), "{way:?}");
        });
    });
}

/// Where it is plain that the filter stops what follows, nothing is made at all.
#[test]
fn a_filter_that_forbids_what_follows_is_refused_at_once() {
    let compile = |filters: &[SeccompFilter]| {
        let filters = filters.iter().cloned();
        let sandbox = filters.fold(Sandbox::new(), Sandbox::seccomp);
        sandbox.command("true").compile().map(drop)
    };
    let refuses = |number| errno(number, libc::EPERM);
    for (filters, call) in [
        (vec![refuses(libc::SYS_execve)], "execve"),
        (vec![answer(libc::SYS_execve, NOTIFY).notify()], "execve"),
        (vec![refuses(libc::SYS_seccomp), allow()], "seccomp"),
        (
            vec![refuses(libc::SYS_seccomp), allow().notify()],
            "seccomp",
        ),
        (
            vec![allow(), refuses(libc::SYS_sendmsg).notify()],
            "sendmsg",
        ),
        (
            vec![allow().notify(), refuses(libc::SYS_sendmsg)],
            "sendmsg",
        ),
    ] {
        let error = compile(&filters).unwrap_err();
        assert_eq!(error.setter(), Some("seccomp"), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("never permits {call}(2)")), "{text}");
        assert!(error.hint().is_some());
    }
    // The last one may forbid what only the others need to be installed.
    compile(&[allow(), refuses(libc::SYS_seccomp)]).unwrap();
    compile(&[refuses(libc::SYS_sendmsg), allow()]).unwrap();
}

#[test]
fn without_no_new_privs_it_takes_privilege() {
    isolated_as_user(|| {
        assert_eq!(probe::status("self", "CapEff").unwrap(), "0000000000000000");
        let sandbox = Sandbox::new().seccomp(allow()).allow_new_privs();
        let error = sandbox.command("/bin/true").status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error:?}");
        assert!(error.hint().unwrap().contains("no_new_privs"), "{error:?}");
    });
}

#[test]
fn the_bytes_of_a_descriptor_are_a_filter() {
    isolated_as_both(|| {
        let mut file = tempfile::tempfile().unwrap();
        // BPF_RET | BPF_K, SECCOMP_RET_ALLOW
        file.write_all(&[6, 0, 0, 0, 0, 0, 0xff, 0x7f]).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let filter = SeccompFilter::from_fd(&file).unwrap();
        assert_eq!(filter, allow());
        let sandbox = Sandbox::new().seccomp(filter);
        assert!(sandbox.command("/bin/true").status().unwrap().success());
        file.write_all(&[6]).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let error = SeccompFilter::from_fd(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

/// The caller answers the program's uname(2).
#[test]
fn the_caller_hears_of_system_calls() {
    isolated_as_both(|| {
        require!(userns, seccomp_notify);
        on_each(|way: Way| {
            let traps = answer(libc::SYS_uname, NOTIFY).notify();
            let sandbox = way.sandbox().seccomp(traps).seccomp(allow());
            let command = way
                .command(sandbox, "/bin/uname")
                .stderr(ringfence::Stdio::null());
            let mut child = command.spawn().unwrap();
            if way.stage == Stage::Gate {
                assert!(child.seccomp_listener().is_none());
                child.release().unwrap();
            }
            let listener = child.seccomp_listener().unwrap();
            assert!(child.seccomp_listener().is_none());
            let heard = sys::notification(&listener).unwrap();
            assert_eq!(i64::from(heard.data.nr), libc::SYS_uname);
            sys::answer(&listener, heard.id, Answer::Fail(libc::EXDEV)).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(1), "{way:?}");
        });
    });
}

#[test]
fn one_filter_has_a_listener() {
    let two = Sandbox::new()
        .seccomp(allow().notify())
        .seccomp(allow().notify());
    let error = two.command("true").compile().unwrap_err();
    assert_eq!(error.setter(), Some("seccomp"));
    let empty = SeccompFilter::new([] as [Instruction; 0]);
    let error = Sandbox::new().seccomp(empty).command("true").compile();
    assert_eq!(error.unwrap_err().setter(), Some("seccomp"));
}
