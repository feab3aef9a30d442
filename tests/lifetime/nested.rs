//! A sandbox in a sandbox, as deep as the kernel allows.

use crate::common::{isolated, require};
use ringfence::{IdMap, Sandbox, Stdio};
use std::env;

const LEVEL: &str = "RINGFENCE_NESTED_LEVEL";
const TEST: &str = "lifetime::nested::thirty_two_levels";

/// The program of each level is this test again. The innermost reports the pids that it has.
#[test]
fn thirty_two_levels() {
    let level: u32 = match env::var(LEVEL) {
        Ok(level) => level.parse().unwrap(),
        Err(_) => {
            isolated(|| {
                require!(userns);
                let (levels, status) = descend(1);
                assert_eq!(status, Some(0), "{levels}");
                let pids = levels.lines().find_map(|line| line.strip_prefix("NSpid:"));
                let pids: Vec<_> = pids.unwrap_or_default().split_whitespace().collect();
                let depth = levels.lines().find_map(|line| line.strip_prefix("depth "));
                let depth: usize = depth.unwrap().parse().unwrap();
                // The process that reads it is a child of process 2 in each of them.
                println!("{depth} levels, pids of the innermost process {pids:?}");
                assert!(depth >= 30, "{levels}");
                assert!(pids.len() >= depth, "{pids:?}");
            });
            return;
        }
    };
    // Where it is deepest, every sandbox around it has given it one more number.
    assert!(numbers("self").len() > level as usize);
    let (text, status) = descend(level + 1);
    if text.contains("depth") {
        print!("{text}");
        std::process::exit(status.unwrap_or(1));
    }
    // Nothing deeper is possible: this is the innermost.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let pids = status.lines().find(|line| line.starts_with("NSpid:"));
    println!("\ndepth {level}\n{}", pids.unwrap_or_default());
    std::process::exit(0);
}

#[test]
fn the_pids_of_a_child_at_each_level() {
    isolated(|| {
        require!(userns);
        let own = numbers("self");
        for pid in [false, true] {
            let sandbox = Sandbox::new().user().user_map(IdMap::root());
            let sandbox = if pid { sandbox.pid() } else { sandbox };
            let command = sandbox.command("cat").stdin(Stdio::piped());
            let mut child = command.stdout(Stdio::null()).spawn().unwrap();
            let pids = child.pids().unwrap();
            assert_eq!(pids, numbers(&child.id().to_string()));
            assert_eq!(pids.len(), own.len() + usize::from(pid));
            assert_eq!(pids.contains(&1), pid);
            assert!(child.wait().unwrap().success());
            assert_eq!(child.pids().unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
    });
}

fn numbers(process: &str) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = line.unwrap().split_whitespace();
    numbers.map(|number| number.parse().unwrap()).collect()
}

fn descend(level: u32) -> (String, Option<i32>) {
    let command = Sandbox::new()
        .user()
        .user_map(IdMap::root())
        .pid()
        .init()
        .command(env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture"])
        .env(LEVEL, level.to_string());
    match command.output() {
        Ok(output) => (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            output.status.code(),
        ),
        Err(error) => (format!("{error:?}"), None),
    }
}
