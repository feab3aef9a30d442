//! What was measured, and on what.

use crate::floor;
use std::process::Command;

/// Keeps what the page says of the machine and of the versions.
pub(crate) fn keep() {
    let cpu = line_of("/proc/cpuinfo", "model name");
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let memory = line_of("/proc/meminfo", "MemTotal");
    let memory = memory
        .split(' ')
        .next()
        .and_then(|kib| kib.parse::<u64>().ok());
    let gib = memory.unwrap_or(0).div_ceil(1 << 20);
    let facts = [
        ("date", first_line("date", &["-u", "+%F"])),
        ("processor", format!("{cpu}, {cores} cores")),
        ("memory", format!("{gib} GiB")),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("Rust, std::process", first_line("rustc", &["--version"])),
        ("unshare(1), lsns(8)", first_line("unshare", &["--version"])),
        ("bwrap", first_line("bwrap", &["--version"])),
        ("ip(8)", first_line("ip", &["-V"])),
        ("crun", first_line("crun", &["--version"])),
        ("runc", first_line("runc", &["--version"])),
    ];
    for (fact, value) in facts {
        println!("{fact}: {value}");
        floor::keep(&serde_json::json!({ "fact": fact, "value": value }));
    }
}

fn read(path: &str) -> String {
    let text = std::fs::read_to_string(path);
    text.map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

/// What comes behind this name and a colon.
fn line_of(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value)
    });
    value.unwrap_or("unknown").trim().to_owned()
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "not installed, not measured".into();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}
