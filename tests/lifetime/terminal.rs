//! The caller's terminal, handed to the program and taken back.

use super::{forbid_own_program, signal};
use crate::common::shell::READY_UNTIL_A_LINE;
use crate::common::terminal::{is_cooked, lead_session_on, open_master};
use crate::common::{isolated, isolated_as_both, probe, require, sys};
use ringfence::{Command, ErrorKind, Init, Sandbox};
use rustix::process::{
    Pid, Signal, WaitOptions, getpgrp, kill_process, kill_process_group, setpgid, setsid, waitpid,
};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use rustix::thread::UnshareFlags;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The tool's terminal was not its own again.
const LOST: i32 = 98;

/// A user at a terminal, with a shell that does job control for one tool.
struct User {
    master: File,
    shell: Pid,
    tool: Pid,
    /// What the program says, and what the shell does.
    said: BufReader<PipeReader>,
    told: BufReader<PipeReader>,
    orders: std::io::PipeWriter,
}

/// Whether the shell starts the tool in the foreground.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    Fore,
    Back,
}

impl User {
    /// The shell runs `tool`, which gets where its program has to write to.
    fn run(ground: Ground, tool: impl FnOnce(OwnedFd) -> i32) -> Self {
        let master = open_master();
        let (said, writer) = pipe().unwrap();
        let (told, tell) = pipe().unwrap();
        let (mut ordered, orders) = pipe().unwrap();
        let shell = match sys::fork().unwrap() {
            Some(shell) => Pid::from_raw(shell).unwrap(),
            None => {
                drop(orders);
                lead_session_on(&master);
                let (mut go, gone) = pipe().unwrap();
                let pid = match sys::fork().unwrap() {
                    Some(pid) => Pid::from_raw(pid).unwrap(),
                    None => {
                        drop((gone, tell, ordered));
                        let _ = go.read(&mut [0]);
                        sys::exit_now(tool(writer.into()));
                    }
                };
                drop(writer);
                shell(ground, pid, gone, tell, &mut ordered);
                sys::exit_now(0);
            }
        };
        drop((writer, tell, ordered));
        let mut told = BufReader::new(told);
        let tool = Pid::from_raw(line(&mut told).parse().unwrap()).unwrap();
        Self {
            master,
            shell,
            tool,
            said: BufReader::new(said),
            told,
            orders,
        }
    }

    fn types(&mut self, text: &[u8]) {
        self.master.write_all(text).unwrap();
    }

    /// Who has the terminal.
    fn foreground(&self) -> Pid {
        tcgetpgrp(&self.master).unwrap()
    }

    /// Brings the stopped tool to the foreground.
    fn continues(&mut self) {
        self.orders.write_all(b"f").unwrap();
        assert_eq!(line(&mut self.told), "continued");
    }

    /// Until every process of the program's group runs again: a stop that comes before is undone.
    fn until_it_runs(&self) {
        let runs = || {
            let group = self.foreground();
            let mut members = probe::processes();
            members.retain(|process| process.group == group.as_raw_pid());
            group != self.tool && members.iter().all(|process| process.state != 'T')
        };
        while !runs() {
            std::thread::yield_now();
        }
    }

    fn sees(&mut self, state: &str) {
        assert_eq!(line(&mut self.told), state);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            waitpid(Some(self.shell), WaitOptions::empty()).unwrap();
        }
    }
}

fn line(reader: &mut BufReader<PipeReader>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// What a shell does: the job in a group of its own, the terminal back whenever it stops.
fn shell(
    ground: Ground,
    tool: Pid,
    go: std::io::PipeWriter,
    mut tell: std::io::PipeWriter,
    orders: &mut PipeReader,
) {
    let terminal = std::io::stdin();
    setpgid(Some(tool), Some(tool)).unwrap();
    if ground == Ground::Fore {
        tcsetpgrp(&terminal, tool).unwrap();
    }
    signal::ignore(libc::SIGTTOU);
    writeln!(tell, "{}", tool.as_raw_pid()).unwrap();
    drop(go);
    loop {
        let (_, status) = waitpid(Some(tool), WaitOptions::UNTRACED).unwrap().unwrap();
        if let Some(code) = status.exit_status() {
            writeln!(tell, "exited {code}").unwrap();
            return;
        }
        tcsetpgrp(&terminal, getpgrp()).unwrap();
        writeln!(tell, "stopped").unwrap();
        orders.read_exact(&mut [0]).unwrap();
        tcsetpgrp(&terminal, tool).unwrap();
        kill_process_group(tool, Signal::CONT).unwrap();
        writeln!(tell, "continued").unwrap();
    }
}

/// Runs the program in the foreground, and looks whether the terminal is the tool's again.
fn wait(command: &Command) -> i32 {
    let status = command.spawn().unwrap().wait_in_foreground().unwrap();
    match tcgetpgrp(std::io::stdin()) == Ok(getpgrp()) {
        true => status.code().unwrap_or(0),
        false => LOST,
    }
}

fn commands(script: &str) -> [Command; 4] {
    let init = Sandbox::new().user().pid().init();
    let group = Sandbox::new()
        .user()
        .pid()
        .init_with(Init::new().signal_group());
    let shell = |sandbox: Sandbox| sandbox.command("/bin/sh").args(["-c", script]);
    [
        shell(Sandbox::new()).foreground(),
        shell(Sandbox::new().user().pid()).foreground(),
        shell(init).foreground(),
        shell(group),
    ]
}

/// For each way to run the program, and both forms of the second stage.
fn for_each(script: &str, ground: Ground, body: impl Fn(User)) {
    for_each_of(&commands(script), ground, body);
}

/// Not as process 1, which a terminal cannot stop.
fn for_each_stopped(script: &str, ground: Ground, body: impl Fn(User)) {
    let [plain, _, init, group] = commands(script);
    for_each_of(&[plain, init, group], ground, body);
}

fn for_each_of(commands: &[Command], ground: Ground, body: impl Fn(User)) {
    let run = || {
        for command in commands {
            let command = command.clone();
            body(User::run(ground, |said| wait(&command.stdout(said))));
        }
    };
    run();
    forbid_own_program();
    run();
}

/// The group of the shell, and that of the terminal's foreground.
const GROUPS: &str = "read -r _ _ _ _ g _ _ t _ < /proc/self/stat; echo $g $t";

#[test]
fn the_program_has_it_and_the_caller_gets_it_back() {
    isolated_as_both(|| {
        require!(userns);
        let script = format!("{GROUPS}; read x; echo \"<$x>\"; exit 3");
        for_each(&script, Ground::Fore, |mut user| {
            let groups = line(&mut user.said);
            let (own, foreground) = groups.split_once(' ').unwrap();
            assert_eq!(own, foreground);
            assert_eq!(user.foreground().as_raw_pid().to_string(), own);
            assert_ne!(user.foreground(), user.tool);
            user.types(b"hello\n");
            assert_eq!(line(&mut user.said), "<hello>");
            user.sees("exited 3");
        });
    });
}

/// The caller's terminal has a number that the program gets another descriptor by.
#[test]
fn a_descriptor_of_the_program_does_not_stand_for_it() {
    isolated(|| {
        require!(userns);
        let script = format!("{GROUPS}; exit 3");
        let null = Arc::new(OwnedFd::from(File::open("/dev/null").unwrap()));
        let commands = commands(&script).map(|command| {
            let numbers = 3..30;
            numbers.fold(command, |command, number| {
                command.descriptor(Arc::clone(&null), number)
            })
        });
        for_each_of(&commands, Ground::Fore, |mut user| {
            let groups = line(&mut user.said);
            let (own, foreground) = groups.split_once(' ').unwrap();
            assert_eq!(own, foreground);
            user.sees("exited 3");
        });
    });
}

#[test]
fn what_the_terminal_sends_reaches_the_program_once() {
    isolated(|| {
        require!(userns);
        let script = format!("trap 'echo INT' INT; {READY_UNTIL_A_LINE}; echo end; exit 3");
        for_each(&script, Ground::Fore, |mut user| {
            assert_eq!(line(&mut user.said), "ready");
            for _ in 0..3 {
                user.types(b"\x03");
                assert_eq!(line(&mut user.said), "INT");
            }
            user.types(b"x\n");
            assert_eq!(line(&mut user.said), "end");
            user.sees("exited 3");
        });
    });
}

#[test]
fn stopped_by_the_terminal_and_continued() {
    isolated(|| {
        require!(userns);
        // The terminal stops both shells, and so both have to be continued.
        let script = "sh -c 'echo ready; read x; echo \"<$x>\"'; exit 3";
        for_each_stopped(script, Ground::Fore, |mut user| {
            assert_eq!(line(&mut user.said), "ready");
            for _ in 0..2 {
                user.types(b"\x1a");
                user.sees("stopped");
                assert_eq!(user.foreground(), user.shell);
                user.continues();
                user.until_it_runs();
            }
            user.types(b"hello\n");
            assert_eq!(line(&mut user.said), "<hello>");
            user.sees("exited 3");
        });
    });
}

#[test]
fn from_the_background_it_is_not_taken() {
    isolated(|| {
        require!(userns);
        let script = format!("{GROUPS}; read x; echo \"<$x>\"; exit 3");
        for_each_stopped(&script, Ground::Back, |mut user| {
            let groups = line(&mut user.said);
            let (own, foreground) = groups.split_once(' ').unwrap();
            assert_ne!(own, user.tool.as_raw_pid().to_string());
            assert_eq!(foreground, user.shell.as_raw_pid().to_string());
            // It may not read, and so it stops.
            user.sees("stopped");
            assert_eq!(user.foreground(), user.shell);
            user.continues();
            user.types(b"hello\n");
            assert_eq!(line(&mut user.said), "<hello>");
            user.sees("exited 3");
        });
    });
}

#[test]
fn modes_of_a_killed_program_do_not_stay() {
    isolated(|| {
        require!(userns);
        let script = "stty raw -echo; echo ready; read x";
        for_each(script, Ground::Fore, |mut user| {
            assert_eq!(line(&mut user.said), "ready");
            assert!(!is_cooked(&user.master));
            kill_process(user.foreground(), Signal::KILL).unwrap();
            user.sees("exited 0");
            assert!(is_cooked(&user.master));
        });
    });
}

#[test]
fn modes_of_a_program_that_ends_by_itself_stay() {
    isolated(|| {
        require!(userns);
        for_each("stty -echo; exit 3", Ground::Fore, |mut user| {
            user.sees("exited 3");
            assert!(!is_cooked(&user.master));
        });
    });
}

#[test]
fn modes_are_kept_for_a_stopped_program() {
    isolated(|| {
        require!(userns);
        let script = "stty -echo; kill -STOP $$; stty -a | grep -o -- '-echo '; exit 3";
        for_each_stopped(script, Ground::Fore, |mut user| {
            user.sees("stopped");
            assert!(is_cooked(&user.master));
            user.continues();
            assert_eq!(line(&mut user.said), "-echo");
            user.sees("exited 3");
        });
    });
}

#[test]
fn a_program_that_cannot_be_executed_does_not_keep_it() {
    isolated(|| {
        require!(userns);
        for sandbox in [Sandbox::new(), Sandbox::new().user().pid().init()] {
            let command = sandbox.command("/nonexistent").foreground();
            let mut user = User::run(Ground::Fore, |_| {
                let gated = command.clone().gate().spawn().unwrap().release();
                let kinds = [gated.err(), command.spawn().err()]
                    .map(|error| error.map(|error| error.kind()));
                let own = tcgetpgrp(std::io::stdin()) == Ok(getpgrp());
                i32::from(!own || kinds != [Some(ErrorKind::NotFound); 2])
            });
            user.sees("exited 0");
        }
    });
}

#[test]
fn a_program_at_the_gate_has_it_when_it_is_released() {
    isolated(|| {
        require!(userns);
        let run = |sandbox: Sandbox| {
            let script = "read x; echo \"<$x>\"; exit 3";
            let command = sandbox.command("/bin/sh").args(["-c", script]);
            let mut user = User::run(Ground::Fore, |said| {
                let mut child = command.stdout(said).foreground().gate().spawn().unwrap();
                if tcgetpgrp(std::io::stdin()) != Ok(getpgrp()) {
                    return LOST;
                }
                child.release().unwrap();
                let status = child.wait().unwrap();
                let own = tcgetpgrp(std::io::stdin()) == Ok(getpgrp());
                status.code().filter(|_| own).unwrap_or(LOST)
            });
            user.types(b"hello\n");
            assert_eq!(line(&mut user.said), "<hello>");
            user.sees("exited 3");
        };
        run(Sandbox::new());
        run(Sandbox::new().user().pid().init());
        forbid_own_program();
        run(Sandbox::new());
        run(Sandbox::new().user().pid().init());
    });
}

#[test]
fn without_a_shell_a_stopped_program_goes_on() {
    isolated(|| {
        require!(userns);
        for sandbox in [Sandbox::new(), Sandbox::new().user().pid().init()] {
            let script = "echo ready; read x; echo \"<$x>\"; exit 3";
            let command = sandbox.command("/bin/sh").args(["-c", script]);
            let mut master = open_master();
            let (said, writer) = pipe().unwrap();
            let tool = match sys::fork().unwrap() {
                Some(pid) => Pid::from_raw(pid).unwrap(),
                None => {
                    lead_session_on(&master);
                    sys::exit_now(wait(&command.stdout(OwnedFd::from(writer)).foreground()));
                }
            };
            drop((writer, command));
            let mut said = BufReader::new(said);
            assert_eq!(line(&mut said), "ready");
            master.write_all(b"\x1ahello\n").unwrap();
            assert_eq!(line(&mut said), "<hello>");
            let (_, status) = waitpid(Some(tool), WaitOptions::UNTRACED).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(3));
        }
    });
}

#[test]
fn without_a_terminal_there_is_only_the_group() {
    isolated(|| {
        require!(userns);
        // Fails for a leader of a group, which cannot have been given a terminal either.
        let _ = setsid();
        let script = "read -r _ _ _ _ g _ < /proc/self/stat; echo $g";
        for command in commands(script) {
            let output = command.output().unwrap();
            let group = String::from_utf8(output.stdout).unwrap();
            assert_ne!(group.trim(), getpgrp().as_raw_pid().to_string());
            assert!(output.status.success());
        }
    });
}

#[test]
fn a_session_of_its_own_is_refused() {
    let command = Sandbox::new().command("true").foreground();
    let pty = command.clone().stdin(ringfence::Stdio::pty());
    for command in [command.new_session(), pty] {
        let error = command.compile().unwrap_err();
        assert_eq!(error.setter(), Some("foreground"));
    }
}

/// Runs it in a child; it returns the exit status.
fn forked(body: impl FnOnce() -> i32) -> i32 {
    let Some(pid) = sys::fork().unwrap() else {
        sys::exit_now(body());
    };
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty())
        .unwrap()
        .unwrap();
    status.exit_status().unwrap_or(-1)
}

/// Runs it as process 1 of a pid namespace that neither its session nor its process group is in.
fn as_process_1(body: impl FnOnce() -> i32) -> i32 {
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWPID).unwrap();
    forked(body)
}

#[test]
fn a_group_outside_of_the_pid_namespace_could_not_take_it_back() {
    isolated(|| {
        require!(userns);
        let (said, mut writer) = pipe().unwrap();
        let master = open_master();
        let code = forked(|| {
            lead_session_on(&master);
            as_process_1(|| {
                let command = Sandbox::new()
                    .command("/bin/sh")
                    .args(["-c", "exit 5"])
                    .foreground();
                let error = command.spawn().unwrap_err();
                write!(writer, "{:?} {error:#}", error.kind()).unwrap();
                signal::ignore(libc::SIGTTOU);
                // Another has it: the caller is in the background, which it need not take back.
                let (mut ready, other) = in_foreground();
                ready.read_exact(&mut [0]).unwrap();
                let in_background = command.spawn().unwrap().wait_in_foreground().unwrap();
                assert_eq!(tcgetpgrp(std::io::stdin()), Ok(other));
                assert_eq!(in_background.code(), Some(5));
                kill_process(other, Signal::KILL).unwrap();
                waitpid(Some(other), WaitOptions::empty()).unwrap();
                // As a shell does.
                setpgid(None, None).unwrap();
                tcsetpgrp(std::io::stdin(), getpgrp()).unwrap();
                wait(&command)
            })
        });
        drop(writer);
        let said = std::io::read_to_string(said).unwrap();
        assert!(
            said.starts_with("System ") && said.contains("setpgid"),
            "{said}"
        );
        assert_eq!(code, 5);
    });
}

/// A process that makes its group the one in the foreground, says so and stays.
fn in_foreground() -> (PipeReader, Pid) {
    let (ready, mut writer) = pipe().unwrap();
    let Some(pid) = sys::fork().unwrap() else {
        setpgid(None, None).unwrap();
        tcsetpgrp(std::io::stdin(), getpgrp()).unwrap();
        writer.write_all(b"1").unwrap();
        loop {
            std::thread::park();
        }
    };
    (ready, Pid::from_raw(pid).unwrap())
}

#[test]
fn a_session_outside_of_the_pid_namespace_does_without_a_terminal() {
    isolated(|| {
        require!(userns);
        let code = forked(|| {
            setsid().unwrap();
            as_process_1(|| {
                let command = Sandbox::new().command("/bin/sh").args(["-c", "exit 5"]);
                let status = command.foreground().spawn().unwrap().wait_in_foreground();
                status.unwrap().code().unwrap_or(-1)
            })
        });
        assert_eq!(code, 5);
    });
}
