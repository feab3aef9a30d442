//! The program's status comes through exactly.

use super::{both_forms, sandbox, shell};
use ringfence::{ResourceUsage, Sandbox};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

both_forms! {
    fn exit_codes() {
        let plan = sandbox().command("/bin/sh").args(["-c", "exit $CODE"]);
        for code in 0..=255 {
            let status = plan.clone().env("CODE", code.to_string()).status().unwrap();
            assert_eq!(status.code(), Some(code));
        }
    }

    fn fatal_signals() {
        let ignored = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
        let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
        // glibc keeps 32 and 33 for itself, and the shell refuses them.
        for signal in (1..=31).chain(34..=64) {
            if ignored.contains(&signal) || stops.contains(&signal) {
                continue;
            }
            let status = shell(&format!("ulimit -c 0; kill -{signal} $$; exit 9"))
                .status()
                .unwrap();
            assert_eq!(status.signal(), Some(signal), "{status:?}");
            assert!(!status.core_dumped());
        }
    }

    fn the_core_flag() {
        crate::common::require!(core_file);
        for sandbox in [sandbox(), Sandbox::new(), Sandbox::new().init()] {
            let dir = tempfile::tempdir().unwrap();
            let script = "ulimit -c unlimited; kill -SEGV $$; exit 9";
            let command = sandbox.command("/bin/sh").args(["-c", script]);
            let status = command.current_dir(dir.path()).status().unwrap();
            assert_eq!(status.signal(), Some(libc::SIGSEGV));
            assert!(status.core_dumped());
            let cores = std::fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(cores, 1, "the core file is the kernel's word for it");
        }
    }

    fn resource_usage_is_that_of_the_program() {
        let mut child = shell("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done").spawn().unwrap();
        assert!(child.wait().unwrap().success());
        let ResourceUsage { user_time, system_time, max_resident, .. } =
            child.resource_usage().unwrap();
        assert!(user_time + system_time > Duration::from_millis(5));
        assert!(max_resident > 100 << 10);
    }
}
