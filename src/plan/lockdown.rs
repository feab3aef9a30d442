//! The operations that bind the program, in the order in which each leaves the later ones possible.

use super::maps::Caller;
use super::op::{Action, Op};
use super::{Bound, join};
use crate::error::{Error, Result, Step};
use crate::lockdown::{Capabilities, CapabilitySets, Instruction, Rlimit, Securebits};
use crate::ns::Namespaces;
use crate::sandbox::lockdown::Lockdown;
use crate::sandbox::{Command, Sandbox};
use crate::spawn::Call;
use crate::sys::lockdown::{Inheritable, List, Sets};
use rustix::thread::CapabilitySet;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The most processors that a mask may have, as glibc has it doubled a few times.
const MAX_PROCESSORS: usize = 8192;

/// What lock-down adds to a plan.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// Directly before the program is executed, in its own process.
    pub(super) ops: Vec<Op>,
    /// What process 1 does when the program runs.
    pub(super) process_1: Vec<List>,
    pub(super) needs: Bound,
    /// In the child before it becomes the second stage.
    pub(super) before: Vec<Op>,
    /// The number of the file by which the second stage gets the operations.
    pub(super) lists_number: Option<RawFd>,
}

/// How the program's process comes to the operations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) userns: bool,
    /// Capabilities are kept over the exec of the second stage.
    pub(super) over_exec: bool,
    /// That, or they are kept over a change of ids.
    pub(super) keeps: bool,
    /// What the program's process gets when its parent ends, where other credentials take that away.
    pub(super) death_signal: Option<i32>,
}

pub(super) fn compile(
    command: &Command,
    caller: &Caller,
    way: Way,
    free: &mut impl Iterator<Item = RawFd>,
) -> Result<Compiled> {
    let sandbox = &command.sandbox;
    let lockdown = &sandbox.lockdown;
    let mut compiled = Compiled::default();
    if is_idle(command) {
        return Ok(compiled);
    }
    if way.over_exec {
        let object = "ambient until the program is bound";
        compiled
            .before
            .push(op(Step::Capabilities, object, ambient()));
    }
    if way.keeps {
        compiled.push(Step::Capabilities, "effective for the set-up", raise());
    }
    // To raise a limit takes privilege over the machine.
    resources(lockdown, sandbox, caller, &mut compiled)?;
    if let (Some(namespace), Some(number)) = (&sandbox.join.last, free.next()) {
        let (object, list, fd) = join::enter_last(namespace, number, way.death_signal)?;
        compiled.needs.descriptors.push((fd, number));
        compiled.push(Step::Join, object, list);
    }
    capabilities(command, caller, way, &mut compiled)?;
    if lockdown.no_new_privs() {
        let list = List::default().no_new_privs();
        compiled.push(Step::NoNewPrivs, "for good", list);
    }
    for ruleset in &lockdown.landlock {
        let Some(number) = free.next() else { break };
        compiled
            .needs
            .descriptors
            .push((Arc::clone(ruleset), number));
        let list = List::default().landlock(number);
        compiled.push(Step::Landlock, "a ruleset of the caller", list);
    }
    filters(lockdown, free, &mut compiled)?;
    Ok(compiled)
}

/// Nothing is to be done in the program's own process.
pub(super) fn is_idle(command: &Command) -> bool {
    let lockdown = &command.sandbox.lockdown;
    !command.keep_capabilities
        && lockdown.capabilities.is_empty()
        && lockdown.securebits.is_none()
        && !lockdown.no_new_privs()
        && lockdown.seccomp.is_empty()
        && lockdown.landlock.is_empty()
        && lockdown.rlimits.is_empty()
        && lockdown.nice.is_none()
        && lockdown.io_priority.is_none()
        && lockdown.affinity.is_none()
        && command.sandbox.join.last.is_none()
}

/// All that is permitted survives exec.
fn ambient() -> List {
    let all = Sets {
        permitted: !0,
        effective: !0,
        inheritable: Inheritable::All,
        exact: false,
    };
    List::default().capabilities(all).ambient_raise_all()
}

/// All that is permitted takes effect.
fn raise() -> List {
    List::default().capabilities(Sets {
        permitted: !0,
        effective: !0,
        ..Sets::default()
    })
}

impl Compiled {
    fn push(&mut self, step: Step, object: impl std::fmt::Display, list: List) {
        self.ops.push(op(step, object, list));
    }
}

pub(super) fn op(step: Step, object: impl std::fmt::Display, list: List) -> Op {
    let object = object.to_string();
    let action = Action::lockdown(list);
    Op {
        step,
        object,
        action,
    }
}

/// The names of the calls of a list.
pub(super) fn calls(list: &List) -> String {
    let mut names: Vec<&str> = Vec::new();
    for number in list.numbers() {
        let name = Call::numbered(number).map_or("?", Call::name);
        if name == "capset" && !names.contains(&"capget") {
            names.push("capget");
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// What is left to process 1: it sends signals to whoever the program has become. `ids` are those of the
/// program.
pub(super) fn process_1(ids: List, dies_with_parent: Option<i32>) -> List {
    let kill = Capabilities::KILL.bits();
    let list = ids
        .ambient_clear()
        .capabilities(Sets {
            permitted: kill,
            effective: kill,
            inheritable: Inheritable::Only(0),
            exact: false,
        })
        .no_new_privs();
    // Other ids have made the kernel forget it.
    match dies_with_parent {
        Some(signal) => list.parent_death_signal(signal),
        None => list,
    }
}

fn resources(
    lockdown: &Lockdown,
    sandbox: &Sandbox,
    caller: &Caller,
    compiled: &mut Compiled,
) -> Result<()> {
    let may_raise =
        caller.has(CapabilitySet::SYS_RESOURCE) && !sandbox.namespaces.contains(Namespaces::USER);
    for (&resource, limit) in &lockdown.rlimits {
        let Rlimit { soft, hard } = *limit;
        if soft > hard {
            return Err(Error::invalid(
                "rlimit",
                format!("{resource}: the soft limit is above the hard one"),
            ));
        }
        let number = resource.number();
        let (_, own) = crate::sys::process::limits(number)
            .map_err(|errno| Error::system(Step::Compile, resource, "prlimit64", errno))?;
        if hard > own && !may_raise {
            let own = Rlimit::fixed(own);
            return Err(Error::invalid(
                "rlimit",
                format!(
                    "{resource}: the hard limit is above the caller's, {own}, which takes CAP_SYS_RESOURCE outside of any user namespace"
                ),
            ));
        }
        let list = List::default().rlimit(number, soft, hard);
        compiled.push(Step::Rlimit, format!("{resource}: {limit}"), list);
    }
    if let Some(value) = lockdown.nice {
        if !(-20..=19).contains(&value) {
            return Err(Error::invalid(
                "nice",
                format!("{value} is not in -20..=19"),
            ));
        }
        compiled.push(Step::Nice, value, List::default().nice(value));
    }
    if let Some(priority) = lockdown.io_priority {
        let value = priority
            .value()
            .ok_or_else(|| Error::invalid("io_priority", "levels are from 0 to 7"))?;
        compiled.push(Step::IoPriority, priority, List::default().ioprio(value));
    }
    if let Some(processors) = &lockdown.affinity {
        let highest = processors
            .last()
            .ok_or_else(|| Error::invalid("affinity", "no processor"))?;
        if *highest >= MAX_PROCESSORS {
            let what = format!("{highest} is more than {MAX_PROCESSORS}");
            return Err(Error::invalid("affinity", what));
        }
        let mut mask = vec![0_u64; highest / 64 + 1];
        for processor in processors {
            if let Some(word) = mask.get_mut(processor / 64) {
                *word |= 1 << (processor % 64);
            }
        }
        let object = format!("processors {processors:?}");
        compiled.push(Step::Affinity, object, List::default().affinity(&mask));
    }
    Ok(())
}

/// Bounding set and securebits first, as they take a capability that the last step may take away.
fn capabilities(
    command: &Command,
    caller: &Caller,
    way: Way,
    compiled: &mut Compiled,
) -> Result<()> {
    let lockdown = &command.sandbox.lockdown;
    let sets = &lockdown.capabilities;
    if command.keep_capabilities && !sets.is_empty() {
        return Err(Error::invalid(
            "keep_capabilities",
            "capabilities() says which the program has",
        ));
    }
    let kernel = Capabilities::of_kernel();
    if let Some(what) = sets.contradiction(kernel) {
        return Err(Error::invalid("capabilities", what));
    }
    let forbids = lockdown.securebits.unwrap_or_default();
    if forbids.contains(Securebits::NO_CAP_AMBIENT_RAISE)
        && !sets.ambient.unwrap_or_default().is_empty()
    {
        let what = "NO_CAP_AMBIENT_RAISE, and ambient capabilities are asked for";
        return Err(Error::invalid("securebits", what));
    }
    let mut list = List::default();
    if let Some(bounding) = sets.bounding {
        for number in (kernel - bounding).numbers() {
            list = list.drop_from_bounding_set(number);
        }
    }
    let securebits = lockdown
        .securebits
        .map(|bits| List::default().securebits(bits.bits()));
    if sets.is_empty() {
        if let (Some(bits), Some(list)) = (lockdown.securebits, securebits) {
            compiled.push(Step::Securebits, bits, list);
        }
        if command.keep_capabilities {
            let object = "all that are permitted, ambient";
            compiled.push(Step::Capabilities, object, ambient());
        } else if way.over_exec {
            // What is permitted as well is for exec to say, which knows who is user 0.
            let inheritable = if way.userns { 0 } else { caller.inheritable() };
            let as_before = List::default().ambient_clear().capabilities(Sets {
                permitted: !0,
                effective: !0,
                inheritable: Inheritable::Only(inheritable),
                exact: false,
            });
            compiled.push(Step::Capabilities, "no longer ambient", as_before);
        }
        return Ok(());
    }
    if sets.bounding.is_some() {
        let object = format!("bounding {}", sets.bounding.unwrap_or_default());
        compiled.push(Step::Capabilities, object, list);
    }
    if let (Some(bits), Some(list)) = (lockdown.securebits, securebits) {
        compiled.push(Step::Securebits, bits, list);
    }
    let object = CapabilitySets { ..*sets };
    compiled.push(Step::Capabilities, object, final_sets(sets, way));
    Ok(())
}

fn final_sets(sets: &CapabilitySets, way: Way) -> List {
    let bits = |set: Option<Capabilities>, other: u64| set.map_or(other, |set| set.bits());
    let permitted = bits(sets.permitted, !0);
    let inheritable = match sets.inheritable {
        Some(set) => Inheritable::Only(set.bits()),
        // What was inheritable only for the way here.
        None if way.keeps => Inheritable::Only(0),
        None => Inheritable::Same,
    };
    let mut list = List::default();
    if sets.ambient.is_some() || way.keeps {
        list = list.ambient_clear();
    }
    list = list.capabilities(Sets {
        permitted,
        effective: bits(sets.effective, permitted),
        inheritable,
        exact: sets.permitted.is_some(),
    });
    for number in sets.ambient.unwrap_or_default().numbers() {
        list = list.ambient_raise(number);
    }
    list
}

/// What is still to be done when a filter is in force.
fn calls_behind(
    others_follow: bool,
    notifies: bool,
) -> Vec<(libc::c_long, &'static str, &'static str)> {
    let next = (libc::SYS_seccomp, "seccomp", "installs the next filter");
    let listener = (libc::SYS_sendmsg, "sendmsg", "gives the listener away");
    let exec = (libc::SYS_execve, "execve", "starts the program");
    [(others_follow, next), (notifies, listener), (true, exec)]
        .into_iter()
        .filter_map(|(wanted, call)| wanted.then_some(call))
        .collect()
}

/// The one with the listener is the last, since it may stop the calls that install the others.
fn filters(
    lockdown: &Lockdown,
    free: &mut impl Iterator<Item = RawFd>,
    compiled: &mut Compiled,
) -> Result<()> {
    let notifying = lockdown.seccomp.iter().filter(|filter| filter.notify);
    if notifying.count() > 1 {
        return Err(Error::invalid(
            "seccomp",
            "the kernel takes one filter with a listener",
        ));
    }
    let notifies = lockdown.seccomp.iter().any(|filter| filter.notify);
    let socket = notifies.then(|| free.next()).flatten();
    compiled.needs.listener = socket;
    // While no filter can forbid it.
    let mut first_list = socket.map_or_else(List::default, |socket| {
        List::default().close_on_exec(socket)
    });
    let (last, first): (Vec<_>, Vec<_>) = lockdown.seccomp.iter().partition(|filter| filter.notify);
    let count = lockdown.seccomp.len();
    for (number, filter) in (1..).zip(first.into_iter().chain(last)) {
        filter.check(&calls_behind(number < count, notifies))?;
        let program: Vec<_> = filter
            .program
            .iter()
            .copied()
            .map(Instruction::bytes)
            .collect();
        let mut list = std::mem::take(&mut first_list).filter(filter.flags(), &program);
        if let Some(socket) = socket.filter(|_| filter.notify) {
            list = list.send(socket);
        }
        compiled.push(Step::Seccomp, filter, list);
    }
    Ok(())
}
