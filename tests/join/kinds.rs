//! Every kind, alone and with the others.

use std::fs;

use ringfence::{AnyNamespace, Kind, NamespaceSet, Sandbox};

use super::{kinds, link, target};
use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, require};
use crate::support::Waiting;

/// A process in all namespaces of another one is where that one is, and nowhere else.
#[test]
fn all_together() {
    isolated_as_both(|| {
        require!(userns);
        let target = target();
        for sandbox in [
            Sandbox::new().join_all(target.id()),
            Sandbox::new().join_all(&*target),
            Sandbox::new().join_set(&NamespaceSet::of_pid(target.id()).unwrap()),
        ] {
            let joined = Waiting::start(&sandbox);
            for kind in kinds() {
                assert_eq!(link(joined.id(), kind), link(target.id(), kind), "{kind}");
            }
        }
    });
}

#[test]
fn each_alone_as_root() {
    isolated(|| {
        require!(root);
        let target = target();
        for kind in kinds() {
            let namespace = AnyNamespace::of_pid(kind, target.id()).unwrap();
            let sandbox = Sandbox::new().join(&namespace);
            drop(Waiting::start(&sandbox));
            let before = Census::take().without(&["maps"]);
            let joined = Waiting::start(&sandbox);
            for other in kinds() {
                let of = if other == kind {
                    target.id()
                } else {
                    std::process::id()
                };
                assert_eq!(link(joined.id(), other), link(of, other), "{kind}");
            }
            drop(joined);
            assert_same(&before, &Census::take().without(&["maps"]));
        }
    });
}

/// Without privilege the user namespace comes along.
#[test]
fn each_with_the_user_namespace_that_owns_it() {
    isolated_as_both(|| {
        require!(userns);
        let target = target();
        let user = AnyNamespace::of_pid(Kind::User, target.id()).unwrap();
        for kind in kinds().filter(|kind| *kind != Kind::User) {
            let namespace = AnyNamespace::of_pid(kind, target.id()).unwrap();
            let joined = Waiting::start(&Sandbox::new().join(&namespace).join(&user));
            for other in kinds() {
                let both = [kind, Kind::User].contains(&other);
                let of = if both {
                    target.id()
                } else {
                    std::process::id()
                };
                assert_eq!(link(joined.id(), other), link(of, other), "{kind}");
            }
        }
    });
}

/// Only what the program starts is in the pid namespace then.
#[test]
fn a_pid_namespace_for_children() {
    isolated_as_both(|| {
        require!(userns);
        let target = target();
        let sandbox = Sandbox::new().join_all(target.id()).pid_for_children();
        let joined = Waiting::start(&sandbox);
        for kind in kinds() {
            let of = match kind {
                Kind::Pid => std::process::id(),
                _ => target.id(),
            };
            assert_eq!(link(joined.id(), kind), link(of, kind), "{kind}");
        }
        let children = fs::read_link(format!("/proc/{}/ns/pid_for_children", joined.id()));
        assert_eq!(
            children.unwrap().as_os_str(),
            link(target.id(), Kind::Pid).as_str()
        );
    });
}
