//! A program on a terminal of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;
#[path = "pty/relay.rs"]
mod relay;
#[path = "pty/swapped.rs"]
mod swapped;

use common::faults::{Faults, syscalls, window};
use common::{isolated, isolated_as_both, probe, require};
use ringfence::{Child, Command, IdMap, Rootfs, Sandbox, Stdio, WindowSize};
use std::io::{Read, Write};
use std::path::Path;

/// The caller's programs in a root with a devpts of its own.
fn with_dev() -> Sandbox {
    let mut sandbox = Sandbox::new()
        .user()
        .user_map(IdMap::root())
        .pid()
        .mount()
        .rootfs(Rootfs::tmpfs())
        .bind_ro("/usr", "/usr");
    for dir in ["bin", "sbin", "lib", "lib64"] {
        let path = Path::new("/").join(dir);
        sandbox = match path.read_link() {
            Ok(target) => sandbox.symlink(target, path),
            Err(_) if path.is_dir() => sandbox.bind_ro(&path, &path),
            Err(_) => sandbox,
        };
    }
    sandbox.proc("/proc").dev("/dev")
}

fn sandboxes() -> Vec<Sandbox> {
    vec![
        Sandbox::new(),
        Sandbox::new().user().pid().init(),
        with_dev(),
        with_dev().init(),
    ]
}

fn on_terminal(command: Command) -> Command {
    command
        .stdin(Stdio::pty())
        .stdout(Stdio::pty())
        .stderr(Stdio::pty())
}

fn shell(sandbox: Sandbox, script: &str) -> Command {
    on_terminal(sandbox.command("/bin/sh").args(["-c", script]))
}

/// What the program writes until nobody has the terminal open.
fn output(child: &mut Child) -> String {
    let mut text = String::new();
    child
        .pty
        .as_mut()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn all_streams_are_the_terminal_and_it_controls_the_session() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        for sandbox in sandboxes() {
            let script = "test -t 0 && test -t 1 && test -t 2 && stty size && echo x > /dev/tty";
            let mut child = shell(sandbox, script)
                .window_size(WindowSize {
                    rows: 33,
                    columns: 101,
                })
                .spawn()
                .unwrap();
            assert_eq!(output(&mut child), "33 101\r\nx\r\n");
            assert!(child.wait().unwrap().success());
        }
    });
}

#[test]
fn it_belongs_to_the_devpts_of_the_sandbox() {
    isolated(|| {
        require!(userns, new_proc);
        for sandbox in [with_dev(), with_dev().init()] {
            let mut child = shell(sandbox, "tty; ls /dev/pts; stat -f -c %T $(tty)")
                .spawn()
                .unwrap();
            let text = output(&mut child);
            assert_eq!(text.lines().next(), Some("/dev/pts/0"), "{text}");
            assert!(text.contains("ptmx"), "{text}");
            assert!(child.wait().unwrap().success());
        }
    });
}

#[test]
fn what_is_typed_is_read_and_signals_are_sent() {
    isolated(|| {
        require!(userns, new_proc);
        for sandbox in sandboxes() {
            // The kernel drops what is said after the key and before the end of the last program, if that comes at once.
            let script = "trap 'echo interrupted' INT; echo ready; read x; echo \"<$x>\"; \
                          sleep 1000; read x; exit 4";
            let mut child = shell(sandbox, script).spawn().unwrap();
            let mut pty = child.pty.take().unwrap();
            let mut text = String::new();
            let mut until = |child: &mut Child, pty: &mut ringfence::Pty, end: &str| {
                while !text.ends_with(end) {
                    let mut byte = [0];
                    if pty.read(&mut byte).unwrap() == 0 {
                        panic!("{text:?}, then {:?}", child.wait());
                    }
                    text.push(char::from(byte[0]));
                }
            };
            until(&mut child, &mut pty, "ready\r\n");
            pty.write_all(b"hello\n").unwrap();
            until(&mut child, &mut pty, "<hello>\r\n");
            // The shell waits for sleep, whose end by SIGINT it takes notice of.
            let sleep = || {
                probe::descendants(child.id().cast_signed())
                    .iter()
                    .any(|process| process.comm == "sleep")
            };
            while !sleep() {
                std::thread::yield_now();
            }
            pty.write_all(b"\x03").unwrap();
            until(&mut child, &mut pty, "interrupted\r\n");
            pty.write_all(b"\n").unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(4));
        }
    });
}

#[test]
fn an_end_that_is_told_too_soon_is_none() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let body = || {
            let mut child = shell(Sandbox::new(), "echo hello").spawn().unwrap();
            child.wait().unwrap();
            let text = window(|| output(&mut child));
            assert_eq!(text, "hello\r\n");
        };
        // As the kernel does if the program writes and ends between its looks for bytes and for the end.
        let faults = Faults::new(syscalls![SYS_read]);
        let calls = faults.sweep(libc::EIO, body, |call, run| {
            assert!(run.succeeded(), "call {call}: {run}");
        });
        assert_eq!(calls, 3);
    });
}

#[test]
fn resizing_is_noticed() {
    isolated(|| {
        require!(userns, new_proc);
        for sandbox in sandboxes() {
            let script = "trap 'stty size; exit 5' WINCH; stty size; while :; do read x; done";
            let mut child = shell(sandbox, script).spawn().unwrap();
            let mut pty = child.pty.take().unwrap();
            let mut first = [0; 7];
            pty.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"24 80\r\n");
            pty.resize(WindowSize {
                rows: 50,
                columns: 132,
            })
            .unwrap();
            let mut text = String::new();
            // A shell that waits in read notices with the next line.
            pty.write_all(b"\n").unwrap();
            pty.read_to_string(&mut text).unwrap();
            // The line may come back before that or after it.
            assert_eq!(text.trim(), "50 132");
            assert_eq!(child.wait().unwrap().code(), Some(5));
        }
    });
}

#[test]
fn single_streams() {
    isolated(|| {
        require!(userns, new_proc);
        for sandbox in sandboxes() {
            let mut child = sandbox
                .command("/bin/sh")
                .args(["-c", "test -t 0 || test -t 2 || test -t 1 && echo yes"])
                .stdin(Stdio::null())
                .stdout(Stdio::pty())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            assert_eq!(output(&mut child), "yes\r\n");
            assert!(child.wait().unwrap().success());
        }
    });
}

#[test]
fn the_end_of_the_master_hangs_up() {
    isolated(|| {
        require!(userns, new_proc);
        for sandbox in sandboxes() {
            let mut child = shell(sandbox, "trap 'exit 6' HUP; echo; while :; do read x; done")
                .spawn()
                .unwrap();
            let mut line = [0; 2];
            child.pty.as_mut().unwrap().read_exact(&mut line).unwrap();
            drop(child.pty.take());
            assert_eq!(child.wait().unwrap().code(), Some(6));
        }
    });
}

#[test]
fn no_descriptor_is_left_behind() {
    isolated(|| {
        require!(userns, new_proc);
        for sandbox in sandboxes() {
            let mut child = shell(sandbox, "ls /proc/self/fd").spawn().unwrap();
            let text = output(&mut child);
            // ls has the directory open as 3.
            assert_eq!(
                text.split_whitespace().collect::<Vec<_>>(),
                ["0", "1", "2", "3"]
            );
            child.wait().unwrap();
        }
    });
}
