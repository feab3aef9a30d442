//! A tool that stands for its program.

use super::forbid_own_program;
use crate::common::{isolated, probe, require, sys};
use ringfence::{Init, Sandbox};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::os::fd::OwnedFd;

fn sandboxes() -> [Sandbox; 3] {
    [
        Sandbox::new(),
        Sandbox::new().user().pid().init(),
        Sandbox::new()
            .user()
            .pid()
            .init_with(Init::new().signal_group()),
    ]
}

/// A process that does nothing but run the program in the foreground, and what the program says.
fn tool(sandbox: Sandbox, script: &str) -> (Pid, BufReader<PipeReader>) {
    let (reader, writer) = pipe().unwrap();
    let command = sandbox
        .command("/bin/sh")
        .args(["-c", script])
        .stdout(OwnedFd::from(writer));
    match sys::fork().unwrap() {
        None => {
            let status = command.spawn().unwrap().wait_in_foreground().unwrap();
            sys::exit_now(status.code().unwrap_or(99));
        }
        Some(pid) => (Pid::from_raw(pid).unwrap(), BufReader::new(reader)),
    }
}

fn line(reader: &mut BufReader<PipeReader>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Until the tool is where it passes signals on: `SIGINT` is blocked, `SIGALRM` no longer is.
fn until_it_waits(tool: Pid) {
    loop {
        let mask = probe::status(tool.as_raw_pid(), "SigBlk").unwrap();
        let mask = u64::from_str_radix(&mask, 16).unwrap();
        let blocked = |signal: i32| mask & 1 << (signal - 1) != 0;
        if blocked(libc::SIGINT) && !blocked(libc::SIGALRM) {
            return;
        }
        std::thread::yield_now();
    }
}

fn next_state(tool: Pid) -> WaitStatus {
    waitpid(Some(tool), WaitOptions::UNTRACED)
        .unwrap()
        .unwrap()
        .1
}

fn for_each(body: impl Fn(Sandbox)) {
    sandboxes().into_iter().for_each(&body);
    forbid_own_program();
    sandboxes().into_iter().for_each(&body);
}

#[test]
fn signals_are_passed_on() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let script = "for s in INT HUP QUIT USR1 USR2 WINCH; do trap \"echo $s\" $s; done; \
                          trap 'exit 7' TERM; sleep 1000 >&- & echo ready; while :; do wait; done";
            let (tool, mut said) = tool(sandbox, script);
            assert_eq!(line(&mut said), "ready");
            until_it_waits(tool);
            for (signal, name) in [
                (Signal::INT, "INT"),
                (Signal::HUP, "HUP"),
                (Signal::QUIT, "QUIT"),
                (Signal::USR1, "USR1"),
                (Signal::USR2, "USR2"),
                (Signal::WINCH, "WINCH"),
            ] {
                kill_process(tool, signal).unwrap();
                assert_eq!(line(&mut said), name);
            }
            kill_process(tool, Signal::TERM).unwrap();
            assert_eq!(next_state(tool).exit_status(), Some(7));
        });
    });
}

#[test]
fn a_program_that_stops_stops_the_tool() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let script = "for i in 1 2 3; do kill -STOP $$; echo $i; done; exit 3";
            let (tool, mut said) = tool(sandbox, script);
            for round in ["1", "2", "3"] {
                let state = next_state(tool);
                assert!(state.stopped(), "{state:?}");
                kill_process(tool, Signal::CONT).unwrap();
                assert_eq!(line(&mut said), round);
            }
            assert_eq!(next_state(tool).exit_status(), Some(3));
        });
    });
}
