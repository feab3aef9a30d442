//! A program that joins the namespaces of another is bound there, with the privilege that it has there.

use super::fields;
use crate::common::seccomp::ALLOW;
use crate::common::{isolated, isolated_as_both, probe, require};
use ringfence::lockdown::{Capabilities, CapabilitySets, SeccompFilter};
use ringfence::{Child, IdMap, Sandbox, Stdio};

/// A process with namespaces to join.
fn target(sandbox: Sandbox) -> Child {
    let command = sandbox.command("/bin/cat").kill_on_drop();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::null());
    piped.spawn().unwrap_or_else(|error| panic!("{error:?}"))
}

fn assert_bound(target: &Child, uid: Option<u32>, gate: bool) {
    let (keep, ambient) = (Capabilities::KILL | Capabilities::CHOWN, Capabilities::KILL);
    let sets = CapabilitySets::keep(keep).ambient(ambient);
    let sandbox = Sandbox::new().join_all(target.id()).capabilities(sets);
    let command = sandbox
        .seccomp(SeccompFilter::new([ALLOW]))
        .nice(19)
        .command("/bin/cat");
    let mut command = command
        .arg("/proc/thread-self/status")
        .stdout(Stdio::piped());
    if let Some(uid) = uid {
        command = command.uid(uid).gid(uid);
    }
    if gate {
        command = command.gate();
    }
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error:?}"));
    if gate {
        child.release().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let status = fields(&String::from_utf8(output.stdout).unwrap());
    let set = |name: &str| u64::from_str_radix(&status[name], 16).unwrap();
    let root = uid.is_none();
    let has = if root { keep } else { ambient };
    assert_eq!(set("CapInh"), ambient.bits());
    assert_eq!(set("CapPrm"), has.bits());
    assert_eq!(set("CapEff"), has.bits());
    assert_eq!(set("CapBnd"), keep.bits());
    assert_eq!(set("CapAmb"), ambient.bits());
    assert_eq!(
        (status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()),
        ("1", "2")
    );
    let inside = status["NSpid"].split_whitespace().count();
    assert_eq!(
        inside,
        probe::status(target.id(), "NSpid")
            .unwrap()
            .split_whitespace()
            .count()
    );
}

#[test]
fn in_namespaces_of_a_user_namespace() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let target = target(Sandbox::new().user().pid().mount().user_map(IdMap::root()));
        for gate in [false, true] {
            assert_bound(&target, None, gate);
        }
    });
}

#[test]
fn with_other_ids() {
    isolated(|| {
        require!(root);
        let map = || IdMap::range(0, 100_000, 100);
        let sandbox = Sandbox::new().user().pid().user_map(map()).group_map(map());
        let target = target(sandbox.setgroups(ringfence::Setgroups::Allow));
        for gate in [false, true] {
            assert_bound(&target, None, gate);
            assert_bound(&target, Some(7), gate);
        }
    });
}
