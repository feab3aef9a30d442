//! A sandbox in a sandbox, as deep as the kernel allows.

use crate::common::{isolated, require};
use ringfence::{IdMap, Sandbox};
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
