//! Nothing is left behind.

use super::{both_forms, sandbox, shell};
use crate::common::probe;
use ringfence::{Init, Sandbox, Stdio};
use std::io::{BufRead, BufReader};

both_forms! {
    fn ten_thousand_orphans() {
        // Each subshell leaves its child to process 1.
        let script = "i=0; while [ $i -lt 10000 ]; do (: &); i=$((i+1)); done; echo done; read x";
        let mut child = shell(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "done");
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // The last ones end when they come to run.
        loop {
            let left = probe::descendants(pid);
            if left.len() == 1 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{left:?}");
            std::thread::yield_now();
        }
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(probe::descendants(std::process::id().cast_signed()), []);
    }

    fn the_end_of_the_program_ends_all() {
        let mut child = shell("sleep 1000 & echo $!; exec 1>&-; read x; exit 3")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "3");
        let before = probe::descendants(child.id().cast_signed());
        assert_eq!(before.len(), 2, "{before:?}");
        assert_eq!(child.wait().unwrap().code(), Some(3));
        for process in before {
            let now = probe::Process::read(process.pid);
            assert!(now.is_none_or(|now| !now.is_same(&process)));
        }
    }

    fn others_are_waited_for_on_request() {
        let sandbox = Sandbox::new().user().pid().init_with(Init::new().wait_for_all());
        let script = "(read x <&3; echo daemon) & exit 5";
        let (reader, writer) = std::io::pipe().unwrap();
        let mut child = sandbox
            .command("/bin/sh")
            .args(["-c", script])
            .descriptor(std::os::fd::OwnedFd::from(reader), 3)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        drop(writer);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "daemon");
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }

    fn killed_from_outside() {
        let mut child = sandbox().command("/bin/sleep").arg("1000").spawn().unwrap();
        let inside = probe::descendants(child.id().cast_signed());
        assert_eq!(inside.len(), 1);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
        for process in inside {
            assert!(probe::Process::read(process.pid).is_none_or(|now| !now.is_same(&process)));
        }
    }
}
