//! Signals reach the program, once and in order.

use super::{both_forms, sandbox, shell};
use crate::common::shell::READY_UNTIL_A_LINE;
use crate::common::{isolated_as_user, probe, require};
use ringfence::{Child, Init, Sandbox, Stdio};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Lines};
use std::process::ChildStdout;

/// A trap interrupts `wait`, which then is called again.
const REPORT: &str = r#"
for s in HUP INT QUIT USR1 USR2 TERM WINCH; do trap "echo $s" $s; done
trap 'exit 0' ALRM
sleep 1000 >&- &
echo ready
while :; do wait; done
"#;

fn reporter(script: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    start(shell(script))
}

fn start(command: ringfence::Command) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    (child, lines)
}

both_forms! {
    fn each_arrives_once() {
        let (mut child, mut lines) = reporter(REPORT);
        let signals = [
            (libc::SIGHUP, "HUP"),
            (libc::SIGINT, "INT"),
            (libc::SIGQUIT, "QUIT"),
            (libc::SIGUSR1, "USR1"),
            (libc::SIGUSR2, "USR2"),
            (libc::SIGTERM, "TERM"),
            (libc::SIGWINCH, "WINCH"),
        ];
        for round in 0..20 {
            for (number, name) in signals {
                if round % 2 == 0 {
                    child.signal(number).unwrap();
                } else {
                    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
                    kill_process(pid, Signal::from_named_raw(number).unwrap()).unwrap();
                }
                assert_eq!(lines.next().unwrap().unwrap(), name);
            }
        }
        child.signal(libc::SIGALRM).unwrap();
        assert!(lines.next().is_none(), "nothing arrived twice");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    fn default_actions_work() {
        let (mut child, _lines) = reporter("echo ready; exec sleep 1000");
        child.signal(libc::SIGTERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
    }

    fn stop_and_continue() {
        let (mut child, _lines) = reporter("echo ready; exec sleep 1000");
        let [program] = probe::children(child.id().cast_signed()).try_into().unwrap();
        let until = |state: char| {
            while probe::Process::read(program.pid).unwrap().state != state {
                std::thread::yield_now();
            }
        };
        until('S');
        for _ in 0..3 {
            child.signal(libc::SIGSTOP).unwrap();
            until('T');
            assert_eq!(child.try_wait().unwrap(), None);
            child.signal(libc::SIGCONT).unwrap();
            until('S');
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn the_whole_group_on_request() {
        let sandbox = Sandbox::new().user().pid().init_with(Init::new().signal_group());
        let script = "trap 'wait; exit 4' TERM; sh -c 'trap \"echo inner; exit\" TERM; echo ready; while :; do sleep 0.01; done' & wait";
        let (mut child, mut lines) = start(sandbox.command("/bin/sh").args(["-c", script]));
        child.signal(libc::SIGTERM).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "inner");
        assert_eq!(child.wait().unwrap().code(), Some(4));
    }

    fn new_session_is_of_the_program() {
        let (mut child, _lines) = start(
            sandbox().command("/bin/sh").args(["-c", "echo ready; read x"]).new_session(),
        );
        let [program] = probe::children(child.id().cast_signed()).try_into().unwrap();
        assert_eq!((program.session, program.group), (program.pid, program.pid));
        child.wait().unwrap();
    }

    fn numbers_that_are_no_signals_are_refused() {
        let (mut child, _lines) = reporter("echo ready; read x");
        for number in [-1, 65, i32::MAX] {
            assert_eq!(child.signal(number).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
        child.wait().unwrap();
        child.signal(libc::SIGTERM).unwrap();
    }
}

#[test]
fn as_an_unprivileged_user() {
    isolated_as_user(|| {
        require!(userns);
        let script = format!("trap 'echo TERM; exit 6' TERM; {READY_UNTIL_A_LINE}");
        let (mut child, mut lines) = reporter(&script);
        child.signal(libc::SIGTERM).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(6));
    });
}
