//! A program that is bound to its parent's life stays so with the ids and capabilities that it is given.

use super::{Stage, on_each};
use crate::common::{in_forked_child, isolated_as_both, require};
use ringfence::Stdio;
use ringfence::lockdown::Capabilities;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

#[test]
fn what_is_bound_dies_with_its_parent() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let status = in_forked_child(|| {
                let sandbox = way.sandbox().capabilities(Capabilities::CHOWN);
                let command = way.command(sandbox, "/bin/sleep").arg("1000");
                let command = command.stdin(Stdio::null()).die_with_parent();
                let mut child = command.stdout(theirs.try_clone().unwrap()).spawn().unwrap();
                if way.stage == Stage::Gate {
                    child.release().unwrap();
                }
                assert!(child.try_wait().unwrap().is_none());
                0
            });
            assert!(status.success(), "{way:?}");
            drop(theirs);
            // Nobody holds the other end any more.
            let limit = Timespec {
                tv_sec: 20,
                tv_nsec: 0,
            };
            let mut ended = [PollFd::new(&ours, PollFlags::IN)];
            assert_eq!(poll(&mut ended, Some(&limit)), Ok(1), "{way:?}");
        });
    });
}
