//! Processes that come and go during scans.

use ringfence::Kind;
use ringfence::inspect::Scan;
use rustix::thread::{UnshareFlags, set_name};

use super::inode;
use crate::common::isolated::wait_for;
use crate::common::{isolated_as_both, require, sys};
use crate::support::in_quiet_place;

const BREEDERS: usize = 2;
const EACH: usize = 1000;

/// Makes processes one after the other, each in a UTS namespace that its name tells.
fn breed() -> i32 {
    for _ in 0..EACH {
        let Some(child) = sys::fork().unwrap() else {
            sys::unshare(UnshareFlags::NEWUTS).unwrap();
            let name = std::ffi::CString::new(format!("u{}", inode("self", "uts"))).unwrap();
            set_name(&name).unwrap();
            std::thread::yield_now();
            sys::exit_now(0);
        };
        wait_for(child);
    }
    0
}

/// Scans until the breeders have ended; the number of processes whose name was told.
fn scan_until_the_end() -> usize {
    let breeders: Vec<i32> = (0..BREEDERS)
        .map(|_| match sys::fork().unwrap() {
            Some(child) => child,
            None => sys::exit_now(breed()),
        })
        .collect();
    let ended = |pid: &i32| {
        let process = crate::common::probe::Process::read(pid);
        process.is_none_or(|process| process.is_zombie())
    };
    let mut seen = 0;
    while !breeders.iter().all(ended) {
        let snapshot = Scan::new().run().unwrap();
        for process in snapshot.processes() {
            let name = process
                .comm
                .to_str()
                .and_then(|comm| comm.strip_prefix('u'));
            let Some(number) = name.and_then(|name| name.parse::<u64>().ok()) else {
                continue;
            };
            // A process that has ended since is not in it any more.
            if let Some(uts) = process.namespaces.get(Kind::Uts) {
                assert_eq!(uts.inode(), number, "{process:?}");
                let info = snapshot.get(uts).unwrap();
                assert_eq!(info.members, [process.pid], "{info:?}");
                seen += 1;
            }
        }
    }
    for breeder in breeders {
        assert!(wait_for(breeder).success());
    }
    seen
}

#[test]
fn two_thousand_processes_and_no_wrong_pair() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        in_quiet_place(|| {
            // Ids are used again soon. Since Linux 6.14 this is of the pid namespace alone.
            if require::kernel(6, 14).is_ok() {
                let _ = std::fs::write("/proc/sys/kernel/pid_max", "400");
            }
            assert!(scan_until_the_end() > 0, "no process was met alive");
        });
    });
}
