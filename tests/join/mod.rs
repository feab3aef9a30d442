mod attack;
mod faults;
mod hostile;
mod ids;
mod kinds;
mod last;
mod life;
mod mixed;
mod place;
mod refused;

use std::fmt::Display;
use std::fs;
use std::path::Path;

use ringfence::{IdMap, Kind, Sandbox};

use crate::support::Waiting;

/// The kernel's name of a namespace of a process, such as `net:[4026531840]`.
fn link(pid: impl Display, kind: Kind) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.into_os_string().into_string().unwrap()
}

/// The kinds that this kernel has.
fn kinds() -> impl Iterator<Item = Kind> {
    let exists = |kind: &Kind| Path::new(&format!("/proc/self/ns/{kind}")).exists();
    Kind::ALL.into_iter().filter(exists)
}

/// A process with all namespaces new, root in a user namespace of its own.
fn target() -> Waiting {
    Waiting::start(&Sandbox::new().all().user_map(IdMap::root()))
}

/// Skips the test where the second stage is not there as a program.
macro_rules! stage {
    () => {
        if let Err(why) = $crate::join::have_stage() {
            let test = $crate::common::test_name!();
            return $crate::common::require::missing(test, "stage", &why);
        }
    };
}
use stage;

fn have_stage() -> Result<(), String> {
    let init = Sandbox::new().user().pid().init().command("true");
    let plan = init.compile().unwrap().to_string();
    let is_there = plan.contains("init: a program of its own");
    is_there
        .then_some(())
        .ok_or("the crate was built without it".into())
}

/// Threads of the crate end after they have given their answer.
fn await_single_thread() {
    crate::seen::await_single_thread();
}
