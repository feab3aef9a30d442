//! A step that the kernel refuses is an error that names it, and the program never runs.

use super::{Stage, Way, on_each};
use crate::common::leaks::{Census, assert_same};
use crate::common::seccomp::{ALLOW, Arg, Filter};
use crate::common::{in_forked_child, isolated_as_both, require};
use ringfence::lockdown::{Capabilities, CapabilitySets, IoPriority, Resource, Rlimit};
use ringfence::lockdown::{SeccompFilter, Securebits};
use ringfence::{Plan, Sandbox, Step};
use std::path::Path;

/// An error that none of these calls gives of itself.
const INJECTED: i32 = libc::EXDEV;

fn everything(way: Way) -> Sandbox {
    let kill = Capabilities::KILL;
    way.sandbox()
        .rlimit(Resource::Core, Rlimit::fixed(0))
        .nice(19)
        .io_priority(IoPriority::Idle)
        .affinity(0..64)
        .securebits(Securebits::NO_SETUID_FIXUP)
        .capabilities(CapabilitySets::keep(kill).ambient(kill))
        .seccomp(SeccompFilter::new([ALLOW]))
}

/// What refuses a call, and the step that it is of.
fn refusals() -> Vec<(Filter, &'static str, Step)> {
    let call = |number| Filter::new().deny(number, INJECTED);
    let prctl = |option: i32| {
        let option = Arg::Is(0, option.unsigned_abs());
        Filter::new().deny_if(libc::SYS_prctl, option, INJECTED)
    };
    vec![
        (call(libc::SYS_setpriority), "setpriority", Step::Nice),
        (call(libc::SYS_ioprio_set), "ioprio_set", Step::IoPriority),
        (
            call(libc::SYS_sched_setaffinity),
            "sched_setaffinity",
            Step::Affinity,
        ),
        (prctl(libc::PR_CAPBSET_DROP), "prctl", Step::Capabilities),
        (prctl(libc::PR_SET_SECUREBITS), "prctl", Step::Securebits),
        (prctl(libc::PR_CAP_AMBIENT), "prctl", Step::Capabilities),
        (call(libc::SYS_capget), "capget", Step::Capabilities),
        (call(libc::SYS_capset), "capset", Step::Capabilities),
        (prctl(libc::PR_SET_NO_NEW_PRIVS), "prctl", Step::NoNewPrivs),
        (call(libc::SYS_seccomp), "seccomp", Step::Seccomp),
    ]
}

fn fails(way: Way, plan: &Plan, call: &str, step: Step, ran: &Path) {
    let spawned = plan.spawn().and_then(|mut child| {
        // Where it waits at the gate, it is bound behind it.
        let released = match way.stage {
            Stage::Gate => child.release(),
            _ => Ok(()),
        };
        child.wait()?;
        released
    });
    let error = spawned.unwrap_err();
    assert_eq!(error.step(), Some(step), "{way:?} {call} {error:?}");
    assert_eq!(error.syscall(), Some(call), "{way:?} {error:?}");
    assert_eq!(error.raw_os_error(), Some(INJECTED), "{way:?} {error:?}");
    assert!(!ran.exists(), "{way:?} {call}: the program ran");
}

#[test]
fn each_refused_step_is_an_error() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let dir = tempfile::tempdir().unwrap();
            let ran = dir.path().join("ran");
            {
                use std::os::unix::fs::PermissionsExt;
                let all = std::fs::Permissions::from_mode(0o777);
                std::fs::set_permissions(dir.path(), all).unwrap();
            }
            let command = way.command(everything(way), "/bin/touch").arg(&ran);
            let plan = command.compile().unwrap();
            for (refusal, call, step) in refusals() {
                let status = in_forked_child(|| {
                    refusal.install().unwrap();
                    // What is kept from the first time on.
                    if let Ok(mut child) = plan.spawn() {
                        child.kill().unwrap();
                        child.wait().unwrap();
                    }
                    let before = Census::take();
                    fails(way, &plan, call, step, &ran);
                    assert_same(&before, &Census::take());
                    0
                });
                assert!(status.success(), "{way:?} {call}: {status}");
            }
            // And without a refusal it runs.
            let mut child = plan.spawn().unwrap();
            if way.stage == Stage::Gate {
                child.release().unwrap();
            }
            assert!(child.wait().unwrap().success(), "{way:?}");
            assert!(ran.exists(), "{way:?}");
        });
    });
}
