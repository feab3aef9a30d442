//! The isolation that all contenders can give: user 0 of a user namespace, and mount, UTS, IPC and cgroup
//! namespaces; the caller's root.

use ringfence::{IdMap, Plan, Sandbox};
use std::path::Path;

pub(crate) const KINDS: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

pub(crate) fn isolated() -> Sandbox {
    Sandbox::new()
        .user()
        .mount()
        .uts()
        .ipc()
        .cgroup()
        .user_map(IdMap::root())
}

pub(crate) fn compile(sandbox: Sandbox, program: &Path) -> Plan {
    let plan = sandbox.command(program).compile();
    plan.expect("this machine allows the sandbox")
}

pub(crate) fn run(plan: &Plan) {
    let status = plan.spawn().and_then(|mut child| child.wait());
    assert!(status.expect("the sandbox starts").success());
}
