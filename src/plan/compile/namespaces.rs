//! Namespaces without a program.

use super::Compiler;
use crate::error::Step;
use crate::ns::{Kind, Namespaces};
use crate::plan::op::Action;

impl Compiler<'_> {
    /// Whether nothing is wanted but the namespaces, and the child can end once it has passed them on. A pid
    /// namespace ends with it; others are there when the second stage has joined some.
    pub(super) fn passes(&self) -> bool {
        let sandbox = self.sandbox;
        self.command.never_runs
            && !sandbox.namespaces.contains(Namespaces::PID)
            && !sandbox.pid_for_children
            && sandbox.init.is_none()
            && !sandbox.is_attached()
            && self.join.kinds.is_empty()
            && self.join.by_stage.is_none()
    }

    pub(super) fn pass_namespaces(&mut self) {
        let kinds = self.sandbox.namespaces;
        let links = kinds.kinds().map(|kind| match kind {
            Kind::User => c"ns/user",
            Kind::Pid => c"ns/pid",
            Kind::Mount => c"ns/mnt",
            Kind::Net => c"ns/net",
            Kind::Uts => c"ns/uts",
            Kind::Ipc => c"ns/ipc",
            Kind::Cgroup => c"ns/cgroup",
            // It executes nothing, which would let it in.
            Kind::Time => c"ns/time_for_children",
        });
        let links = links.collect();
        let object = format!("{kinds}, passed to the caller");
        self.push(Step::Namespace, object, Action::PassNamespaces { links });
    }
}
