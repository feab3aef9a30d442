//! An interactive shell, or any other program, in a sandbox of its own, on a terminal of its own.
//!
//! ```text
//! cargo run --example terminal
//! cargo run --example terminal -- tty
//! ```
//!
//! What is typed goes to the program's terminal: `Ctrl-C` and `Ctrl-Z` work inside, the window may change its
//! size, and nothing inside can push input into the terminal outside.

use ringfence::{Child, Result, Sandbox, Stdio, WindowSize};
use std::env::args_os;
use std::io::{stdin, stdout};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

fn run() -> Result<ExitStatus> {
    let mut words = args_os().skip(1);
    let program = words.next().unwrap_or_else(|| "/bin/sh".into());
    let sandbox = Sandbox::new().user().pid().ipc().init();
    let mut child: Child = sandbox
        .command(program)
        .args(words)
        .stdin(Stdio::pty())
        .stdout(Stdio::pty())
        .stderr(Stdio::pty())
        .window_size(WindowSize::of(stdout()).unwrap_or_default())
        .kill_on_drop()
        .spawn()?;
    child.relay(stdin(), stdout())
}

fn main() -> ExitCode {
    match run() {
        Ok(status) => {
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("terminal: {error:?}");
            ExitCode::FAILURE
        }
    }
}
