//! The caller's terminal and the program's, connected.

use crate::common::leaks::{Census, assert_same};
use crate::common::shell::READY_UNTIL_A_LINE;
use crate::common::terminal::{is_cooked, lead_session_on, open_master};
use crate::common::{isolated, isolated_as_both, require, sys};
use crate::{on_terminal, sandboxes, shell};
use ringfence::{Command, ErrorKind, Sandbox, WindowSize};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Seek, Write, pipe};

/// The modes of the caller's terminal were not what they had been.
const CHANGED: i32 = 97;

/// A user at the caller's terminal.
struct User {
    master: File,
    caller: Pid,
    seen: String,
}

impl User {
    /// The caller connects its standard streams with the program's terminal.
    fn run(command: &Command, size: Winsize) -> Self {
        let master = open_master();
        tcsetwinsize(&master, size).unwrap();
        let caller = match sys::fork().unwrap() {
            Some(pid) => Pid::from_raw(pid).unwrap(),
            None => {
                lead_session_on(&master);
                drop(master);
                let before = modes();
                let size = WindowSize::of(std::io::stdout()).unwrap();
                let mut child = command.clone().window_size(size).spawn().unwrap();
                let status = child.relay(std::io::stdin(), std::io::stdout()).unwrap();
                let same = modes() == before;
                sys::exit_now(status.code().filter(|_| same).unwrap_or(CHANGED));
            }
        };
        Self {
            master,
            caller,
            seen: String::new(),
        }
    }

    fn types(&mut self, text: &[u8]) {
        self.master.write_all(text).unwrap();
    }

    #[track_caller]
    fn sees(&mut self, end: &str) {
        while !self.seen.ends_with(end) {
            let mut byte = [0];
            let read = self.master.read(&mut byte);
            assert_eq!(read.ok(), Some(1), "{:?}", self.seen);
            self.seen.push(char::from(byte[0]));
        }
    }

    fn next_state(&self) -> WaitStatus {
        waitpid(Some(self.caller), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap()
            .1
    }

    #[track_caller]
    fn ends_with(self, code: i32) {
        assert_eq!(self.next_state().exit_status(), Some(code));
    }
}

fn modes() -> String {
    let Termios {
        input_modes,
        output_modes,
        control_modes,
        local_modes,
        special_codes,
        ..
    } = tcgetattr(std::io::stdin()).unwrap();
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?} {special_codes:?}")
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn for_each(script: &str, body: impl Fn(User)) {
    for sandbox in sandboxes() {
        body(User::run(&shell(sandbox, script), size(33, 101)));
    }
}

#[test]
fn what_is_typed_reaches_the_program_as_it_is() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let script = "stty size; read x; echo \"<$x>\"; test -t 0 && exit 4";
        for_each(script, |mut user| {
            user.sees("33 101\r\n");
            assert!(!is_cooked(&user.master));
            user.types(b"hello\r");
            // The program's terminal has shown what was typed, and the caller's has not.
            user.sees("\r\nhello\r\n<hello>\r\n");
            user.ends_with(4);
        });
    });
}

#[test]
fn keys_that_send_signals_are_for_the_program() {
    isolated(|| {
        require!(userns, new_proc);
        let script = format!("trap 'echo INT' INT; {READY_UNTIL_A_LINE}; exit 4");
        for_each(&script, |mut user| {
            user.sees("ready\r\n");
            for _ in 0..3 {
                user.types(b"\x03");
                user.sees("INT\r\n");
            }
            user.types(b"x\r");
            user.ends_with(4);
        });
    });
}

#[test]
fn the_size_follows() {
    isolated(|| {
        require!(userns, new_proc);
        let script = format!("trap 'stty size' WINCH; {READY_UNTIL_A_LINE}; exit 4");
        for_each(&script, |mut user| {
            user.sees("ready\r\n");
            for rows in [50, 24] {
                tcsetwinsize(&user.master, size(rows, 132)).unwrap();
                user.sees(&format!("{rows} 132\r\n"));
            }
            user.types(b"x\r");
            user.ends_with(4);
        });
    });
}

#[test]
fn signals_of_processes_are_passed_on() {
    isolated(|| {
        require!(userns, new_proc);
        let script = format!("trap 'exit 6' TERM; {READY_UNTIL_A_LINE}");
        for_each(&script, |mut user| {
            user.sees("ready\r\n");
            kill_process(user.caller, Signal::TERM).unwrap();
            user.ends_with(6);
        });
    });
}

#[test]
fn a_stopped_program_gives_the_terminal_back_meanwhile() {
    isolated(|| {
        require!(userns);
        for sandbox in [Sandbox::new(), Sandbox::new().user().pid().init()] {
            let script = "kill -STOP $$; read x; echo \"<$x>\"; exit 4";
            let mut user = User::run(&shell(sandbox, script), size(24, 80));
            let state = user.next_state();
            assert!(state.stopped(), "{state:?}");
            assert!(is_cooked(&user.master));
            tcsetwinsize(&user.master, size(50, 132)).unwrap();
            kill_process(user.caller, Signal::CONT).unwrap();
            user.types(b"hello\r");
            user.sees("<hello>\r\n");
            user.ends_with(4);
        }
    });
}

#[test]
fn what_is_no_terminal_is_copied_as_well() {
    isolated(|| {
        require!(userns, new_proc);
        for sandbox in sandboxes() {
            let mut input = tempfile::tempfile().unwrap();
            // The end comes in the middle of a line.
            input.write_all(b"one\ntwo").unwrap();
            input.rewind().unwrap();
            let mut output = tempfile::tempfile().unwrap();
            let script = "read x; echo \"<$x>\"; cat > /dev/null; exit 4";
            let mut child = shell(sandbox, script).spawn().unwrap();
            assert_eq!(child.relay(&input, &output).unwrap().code(), Some(4));
            output.rewind().unwrap();
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            assert!(text.contains("<one>\r\n"), "{text:?}");
        }
    });
}

#[test]
fn neither_direction_waits_for_the_other() {
    const COUNT: usize = 1_000_000;
    isolated(|| {
        require!(userns, new_proc);
        for sandbox in sandboxes() {
            let script = format!("stty raw -echo; echo ready; head -c {COUNT} | cat; exit 4");
            let command = shell(sandbox, &script);
            let (input, mut typed) = pipe().unwrap();
            let (mut seen, output) = pipe().unwrap();
            let caller = match sys::fork().unwrap() {
                Some(pid) => Pid::from_raw(pid).unwrap(),
                None => {
                    drop((typed, seen));
                    let status = command.spawn().unwrap().relay(&input, &output).unwrap();
                    sys::exit_now(status.code().unwrap_or(99));
                }
            };
            drop((input, output));
            let mut first = [0; 6];
            seen.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"ready\n");
            let typist = std::thread::spawn(move || typed.write_all(&vec![b'x'; COUNT]).unwrap());
            let mut bytes = Vec::new();
            seen.read_to_end(&mut bytes).unwrap();
            typist.join().unwrap();
            assert_eq!(bytes.len(), COUNT);
            assert!(bytes.iter().all(|&byte| byte == b'x'));
            let (_, status) = waitpid(Some(caller), WaitOptions::empty())
                .unwrap()
                .unwrap();
            assert_eq!(status.exit_status(), Some(4));
        }
    });
}

#[test]
fn a_process_that_outlives_the_program_is_not_waited_for() {
    isolated(|| {
        require!(userns);
        let script = "trap '' HUP; sleep 1000 & echo $!; exit 4";
        let mut child = shell(Sandbox::new(), script).spawn().unwrap();
        let mut output = tempfile::tempfile().unwrap();
        let null = File::open("/dev/null").unwrap();
        assert_eq!(child.relay(&null, &output).unwrap().code(), Some(4));
        output.rewind().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let pid = text.lines().find_map(|line| line.trim().parse().ok());
        kill_process(Pid::from_raw(pid.unwrap()).unwrap(), Signal::KILL).unwrap();
    });
}

#[test]
fn nothing_is_left_behind() {
    isolated(|| {
        require!(userns);
        let run = |output: &File| {
            let null = File::open("/dev/null").unwrap();
            let command = shell(Sandbox::new().user().pid().init(), "echo x; exit 4");
            let mut child = command.spawn().unwrap();
            child.relay(&null, output)
        };
        let good = tempfile::tempfile().unwrap();
        let (_, broken) = pipe().unwrap();
        let broken = File::from(std::os::fd::OwnedFd::from(broken));
        run(&good).unwrap();
        let before = Census::take();
        assert_eq!(run(&good).unwrap().code(), Some(4));
        assert_same(&before, &Census::take());
        let error = run(&broken).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE), "{error:?}");
    });
}

#[test]
fn without_a_terminal_of_its_own_it_is_refused() {
    let mut child = Sandbox::new().command("true").spawn().unwrap();
    let error = child
        .relay(std::io::stdin(), std::io::stdout())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.hint().is_some_and(|hint| hint.contains("Stdio::pty")));
    child.wait().unwrap();
    let mut child = on_terminal(Sandbox::new().command("true")).spawn().unwrap();
    drop(child.pty.take());
    assert!(child.relay(std::io::stdin(), std::io::stdout()).is_err());
    child.wait().unwrap();
}
