//! `cargo +nightly fuzz run procfs`: no bytes make the parsers of `/proc/PID` panic or hang.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfence::inspect::parse::{FdInfo, Stat, Status, cgroups, cmdline, id_map};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(stat) = Stat::parse(bytes) {
        assert!(stat.comm.len() < bytes.len());
    }
    // As the kernel prints it, but with any name.
    let text = [b"1 (", bytes, b") S 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22"].concat();
    let stat = Stat::parse(&text).expect("the name ends at the last parenthesis");
    assert_eq!((stat.comm, stat.ppid, stat.threads, stat.start_time), (bytes, 2, 18, 20));
    let _ = Status::parse(bytes);
    let _ = FdInfo::parse(bytes);
    for entry in cgroups(bytes).into_iter().flatten() {
        assert!(entry.path.as_os_str().len() < bytes.len());
    }
    assert_eq!(cmdline(bytes).is_empty(), bytes.is_empty());
    let _ = id_map(bytes);
});
