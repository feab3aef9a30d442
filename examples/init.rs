//! The zombie problem, and its solution: what ps sees of a pid namespace without and with
//! [`Sandbox::init`].
//!
//! ```text
//! cargo run --example init
//! ```
//!
//! The program leaves three orphans behind. As process 1 it would have to reap them, which it does not
//! know; nor can it be ended by SIGTERM, which the kernel withholds from a process 1 that has not asked
//! for it. Behind a process 1 of ours it need not know.

use ringfence::{Result, Sandbox, Stdio};
use std::fs;
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

/// The orphans hold standard output open as long as they run.
const PROGRAM: &str = "for orphan in 1 2 3; do (sleep 0.1 &); done; exec sleep 1000 >&-";

const MOMENT: Duration = Duration::from_millis(200);

fn show(title: &str, sandbox: Sandbox) -> Result<()> {
    println!("{title}");
    let mut child = sandbox
        .command("/bin/sh")
        .args(["-c", PROGRAM])
        .stdout(Stdio::piped())
        .kill_on_drop()
        .spawn()?;
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_to_end(&mut Vec::new());
    }
    std::thread::sleep(MOMENT);
    println!("  PID  PPID STATE        COMMAND");
    list(child.id(), 0);
    child.signal(15)?;
    match child.wait_timeout(MOMENT)? {
        Some(status) => println!("SIGTERM ends it: {status}\n"),
        None => println!("SIGTERM does not end it\n"),
    }
    Ok(())
}

/// One line for a process and for each of its descendants, with the pids that they have inside.
fn list(pid: u32, parent: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let inside: u32 = field("NSpid:")
        .split_whitespace()
        .last()
        .and_then(|pid| pid.parse().ok())
        .unwrap_or(0);
    println!(
        "{inside:5} {parent:5} {:12} {}",
        field("State:"),
        field("Name:")
    );
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        if let Ok(child) = child.parse() {
            list(child, inside);
        }
    }
}

fn main() -> ExitCode {
    let sandbox = Sandbox::new().user().pid();
    let shown = show("The program is process 1:", sandbox.clone())
        .and_then(|()| show("Process 1 is ringfence's init:", sandbox.init()));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init: {error:?}");
            ExitCode::FAILURE
        }
    }
}
