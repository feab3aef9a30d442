//! The five sets, securebits and no_new_privs, as the kernel shows them.

use super::{Stage, Way, fields, finish, on_each, read_inside};
use crate::common::{isolated_as_both, probe, require};
use ringfence::Sandbox;
use ringfence::lockdown::{Capabilities, CapabilitySets, Securebits};

const STATUS: &str = "/proc/self/status";
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

#[track_caller]
fn sets(way: Way, sandbox: Sandbox) -> ([u64; 5], String) {
    sets_of(&read_inside(way, sandbox, STATUS).unwrap())
}

fn sets_of(status: &str) -> ([u64; 5], String) {
    let fields = fields(status);
    let sets = SETS.map(|name| u64::from_str_radix(&fields[name], 16).unwrap());
    (sets, fields["NoNewPrivs"].clone())
}

/// What the caller may have at all: in a container that is not everything.
fn own(name: &str) -> u64 {
    u64::from_str_radix(&probe::status("self", name).unwrap(), 16).unwrap()
}

#[test]
fn those_that_are_kept_are_the_only_ones() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let keep = Capabilities::KILL | Capabilities::NET_BIND_SERVICE;
            for set in [Capabilities::empty(), keep] {
                let bits = set.bits();
                let (found, nnp) = sets(way, way.sandbox().capabilities(set));
                // Other users have at exec what is ambient, which is nothing here.
                let has = if way.inside() == 0 { bits } else { 0 };
                assert_eq!(found, [0, has, has, bits, 0], "{way:?} {set}");
                assert_eq!(nnp, "1", "{way:?}");
            }
        });
    });
}

#[test]
fn ambient_ones_survive_exec_for_any_user() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let keep = Capabilities::KILL | Capabilities::CHOWN;
            let ambient = Capabilities::KILL;
            let wanted = CapabilitySets::keep(keep).ambient(ambient);
            let (found, _) = sets(way, way.sandbox().capabilities(wanted));
            let (keep, ambient) = (keep.bits(), ambient.bits());
            let has = if way.inside() == 0 { keep } else { ambient };
            assert_eq!(found, [ambient, has, has, keep, ambient], "{way:?}");
        });
    });
}

#[test]
fn sets_can_be_given_one_by_one() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let (kill, chown) = (Capabilities::KILL, Capabilities::CHOWN);
            let wanted = CapabilitySets::new()
                .bounding(kill | chown)
                .inheritable(chown);
            let sandbox = way.sandbox().capabilities(wanted).allow_new_privs();
            let (found, nnp) = sets(way, sandbox);
            let bounding = (kill | chown).bits();
            let has = if way.inside() == 0 { bounding } else { 0 };
            assert_eq!(found, [chown.bits(), has, has, bounding, 0], "{way:?}");
            // The filters of the test may have needed it.
            assert_eq!(Some(nnp), probe::status("self", "NoNewPrivs"), "{way:?}");
        });
    });
}

/// What is bound otherwise leaves the capabilities as they would be without.
#[test]
fn other_lock_down_leaves_them_alone() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let (without, before) = sets(way, way.sandbox());
            let (with, after) = sets(way, way.sandbox().no_new_privs());
            assert_eq!(with, without, "{way:?}");
            assert_eq!(Some(before), probe::status("self", "NoNewPrivs"), "{way:?}");
            assert_eq!(after, "1", "{way:?}");
            let (nothing, _) = sets(way, way.sandbox().nice(19));
            assert_eq!(nothing, without, "{way:?}");
        });
    });
}

/// Whatever is done to the ids and by whom the program is started.
#[test]
fn all_stay_when_asked_for() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let command = |sandbox| way.command(sandbox, "/bin/cat").keep_capabilities();
            let all = match way.userns {
                Some(_) => Capabilities::of_kernel().bits(),
                None => own("CapPrm"),
            };
            for sandbox in [way.sandbox(), way.sandbox().no_new_privs()] {
                let (found, _) = sets_of(&finish(way, command(sandbox).arg(STATUS)).unwrap());
                assert_eq!(found, [all; 5], "{way:?}");
            }
            let both = command(way.sandbox().capabilities(Capabilities::KILL));
            let error = both.compile().unwrap_err();
            assert_eq!(error.setter(), Some("keep_capabilities"), "{way:?}");
        });
    });
}

#[test]
fn securebits_take_power_from_user_0() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let bits = Securebits::NOROOT | Securebits::NOROOT_LOCKED;
            let (found, nnp) = sets(way, way.sandbox().securebits(bits));
            let [_, permitted, effective, bounding, ambient] = found;
            assert_eq!((permitted, effective, ambient), (0, 0, 0), "{way:?}");
            let all = if way.userns.is_some() {
                Capabilities::of_kernel().bits()
            } else {
                own("CapBnd")
            };
            assert_eq!((bounding, nnp.as_str()), (all, "1"), "{way:?}");
        });
    });
}

/// Process 1 can do no more than signal the program.
#[test]
fn process_1_keeps_the_power_to_signal() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            if way.stage != Stage::Init {
                return;
            }
            let sandbox = way.sandbox().capabilities(Capabilities::CHOWN);
            let command = way.command(sandbox, "/bin/cat");
            let child = command
                .stdin(ringfence::Stdio::piped())
                .stdout(ringfence::Stdio::null())
                .kill_on_drop()
                .spawn()
                .unwrap();
            let status = |field| probe::status(child.id(), field).unwrap();
            for set in ["CapInh", "CapAmb"] {
                assert_eq!(u64::from_str_radix(&status(set), 16), Ok(0), "{way:?}");
            }
            for set in ["CapPrm", "CapEff"] {
                let kill = Capabilities::KILL.bits();
                assert_eq!(u64::from_str_radix(&status(set), 16), Ok(kill), "{way:?}");
            }
            assert_eq!(status("NoNewPrivs"), "1", "{way:?}");
            let program = probe::children(child.id().cast_signed()).remove(0);
            let uids = |pid: i32| probe::status(pid, "Uid").unwrap();
            assert_eq!(uids(child.id().cast_signed()), uids(program.pid), "{way:?}");
        });
    });
}

#[test]
fn contradictions_are_refused() {
    let compile = |sandbox: Sandbox| sandbox.command("true").compile().unwrap_err();
    let ambient = CapabilitySets::keep(Capabilities::empty()).ambient(Capabilities::KILL);
    let error = compile(Sandbox::new().user().capabilities(ambient));
    assert_eq!(error.setter(), Some("capabilities"));
    let ambient = CapabilitySets::keep(Capabilities::KILL).ambient(Capabilities::KILL);
    let bits = Securebits::NO_CAP_AMBIENT_RAISE;
    let error = compile(Sandbox::new().user().capabilities(ambient).securebits(bits));
    assert_eq!(error.setter(), Some("securebits"));
    let unknown = Capabilities::from_bits_retain(1 << 63);
    let error = compile(Sandbox::new().user().capabilities(unknown));
    assert!(error.to_string().contains("does not know 63"), "{error}");
}
