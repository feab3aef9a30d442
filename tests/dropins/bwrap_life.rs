//! bwrap(1) while the program runs, and before: who waits for whom, and who ends with whom.

use super::row::wait_for_adopted;
use super::tools::Pair;
use crate::common::{isolated_as_both, require, sys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::NamedTempFile;

/// A tool whose program waits.
struct Held {
    tool: Child,
    status: BufReader<PipeReader>,
    release: Option<PipeWriter>,
}

/// Runs `echo ran` when it is released.
fn hold(tool: &Path, options: &[&str]) -> Held {
    let (block, release) = pipe().unwrap();
    let (status, tell) = pipe().unwrap();
    sys::dup_over(&block, 40).unwrap();
    sys::dup_over(&tell, 41).unwrap();
    let tool = Command::new(tool)
        .args("--ro-bind / / --block-fd 40 --json-status-fd 41".split(' '))
        .args(options)
        .args(["sh", "-c", "echo ran; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The tool alone has the other ends.
    for number in [40, 41] {
        sys::dup_over(File::open("/dev/null").unwrap(), number).unwrap();
    }
    Held {
        tool,
        status: BufReader::new(status),
        release: Some(release),
    }
}

impl Held {
    /// What the tool says of the program next.
    fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.status.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn process(&mut self) -> OwnedFd {
        let pid = self.line()["child-pid"].as_i64().unwrap();
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    }

    fn release(&mut self) -> String {
        self.release.take().unwrap().write_all(b"x").unwrap();
        let mut said = [0; 4];
        let output = self.tool.stdout.as_mut().unwrap();
        output.read_exact(&mut said).unwrap();
        String::from_utf8(said.to_vec()).unwrap()
    }

    fn end(mut self) -> i32 {
        drop(self.tool.stdin.take());
        let code = self.tool.wait().unwrap().code().unwrap();
        wait_for_adopted();
        code
    }
}

fn is_readable(fd: &OwnedFd, seconds: i64) -> bool {
    let limit = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

pub(super) fn each_tool(mut run: impl FnMut(&Path)) {
    let pair = Pair::find("bwrap");
    let original = pair.original.map(|original| original.path);
    let tools: [Option<PathBuf>; 2] = [Some(pair.ours), original];
    for tool in tools.iter().flatten() {
        run(tool);
    }
}

/// What a tool leaves running becomes a child of the caller.
pub(super) fn adopt() {
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).unwrap();
}

#[test]
fn a_program_is_known_before_it_runs() {
    isolated_as_both(|| {
        require!(userns, program("bwrap"));
        adopt();
        each_tool(|tool| {
            for options in [&[][..], &["--unshare-pid"]] {
                let mut held = hold(tool, options);
                let process = held.process();
                assert!(!is_readable(&process, 0));
                assert_eq!(held.release(), "ran\n");
                assert_eq!(held.end(), 0);
            }
        });
    });
}

#[test]
fn a_file_is_locked_while_the_program_runs() {
    isolated_as_both(|| {
        require!(userns, program("bwrap"));
        adopt();
        let file = NamedTempFile::new().unwrap();
        let locked = || fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
        let path = file.path().to_str().unwrap();
        each_tool(|tool| {
            let mut held = hold(tool, &["--lock-file", path]);
            assert_eq!(held.release(), "ran\n");
            assert!(matches!(locked(), Err(Errno::AGAIN | Errno::ACCESS)));
            held.end();
            assert_eq!(locked(), Ok(()));
            fcntl_lock(&file, FlockOperation::Unlock).unwrap();
        });
    });
}

#[test]
fn the_program_dies_with_the_tool() {
    isolated_as_both(|| {
        require!(userns, program("bwrap"));
        adopt();
        let ours = Pair::find("bwrap").ours;
        each_tool(|tool| {
            for options in [
                &["--die-with-parent"][..],
                &["--die-with-parent", "--unshare-pid"],
            ] {
                // Its process 1 asks for that when the program runs already.
                if tool != ours && options.contains(&"--unshare-pid") {
                    continue;
                }
                let mut held = hold(tool, options);
                let process = held.process();
                assert_eq!(held.release(), "ran\n");
                held.tool.kill().unwrap();
                assert!(is_readable(&process, 10), "{}", tool.display());
                held.tool.wait().unwrap();
                wait_for_adopted();
            }
        });
    });
}

#[test]
fn the_reader_of_what_is_told_first_sees_its_end() {
    isolated_as_both(|| {
        require!(userns, program("bwrap"));
        adopt();
        each_tool(|tool| {
            let (info, tell) = pipe().unwrap();
            sys::dup_over(&tell, 42).unwrap();
            drop(tell);
            let mut held = hold(tool, &["--info-fd", "42"]);
            sys::dup_over(File::open("/dev/null").unwrap(), 42).unwrap();
            let told: serde_json::Value = serde_json::from_reader(info).unwrap();
            assert_eq!(told, held.line());
            assert_eq!(held.release(), "ran\n");
            held.end();
        });
    });
}
