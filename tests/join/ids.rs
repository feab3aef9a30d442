//! Ids and capabilities in a joined user namespace.

use ringfence::lockdown::{Capabilities, CapabilitySets, SeccompFilter};
use ringfence::ns::{Namespace, User};
use ringfence::{
    ErrorKind, Extent, IdMap, JoinCredentials, NamespaceSet, Sandbox, Setgroups, Step,
};
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};

use super::{link, stage, target};
use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, isolated_as_user, probe, require, user};
use crate::support::{Waiting, is_privileged, sh};
use ringfence::Kind;

const CAPS: &str = "CapEff CapPrm CapAmb CapInh";

fn ids(pid: u32) -> [String; 3] {
    ["Uid", "Gid", "Groups"].map(|field| probe::status(pid, field).unwrap())
}

fn caps(pid: u32) -> Vec<String> {
    let fields = CAPS.split(' ');
    fields
        .map(|field| probe::status(pid, field).unwrap())
        .collect()
}

/// What a program sees of its own ids.
fn seen(sandbox: &Sandbox) -> String {
    sh(sandbox, "id -u; id -g").replace('\n', " ")
}

#[test]
fn root_unless_told_otherwise() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let joined = Waiting::start(&Sandbox::new().join_all(target.id()));
        assert_eq!(ids(joined.id())[..2], ids(target.id())[..2]);
        assert_eq!(seen(&Sandbox::new().join_all(target.id())), "0 0");
        let all = "000001ffffffffff";
        assert_eq!(caps(joined.id())[..2], [all, all]);
    });
}

/// Where there is no root, the caller's own ids are taken.
#[test]
fn own_ids_where_there_is_no_root() {
    isolated_as_user(|| {
        require!(userns);
        stage!();
        let uid = rustix::process::geteuid().as_raw();
        let user = Namespace::<User>::create().unwrap();
        let sandbox = Sandbox::new().join(&user);
        assert_eq!(seen(&sandbox), format!("{uid} {uid}"));
        let user = Namespace::<User>::create_with_map(IdMap::single(7)).unwrap();
        assert_eq!(seen(&Sandbox::new().join(&user)), "7 7");
        // As user 7 it has lost what joining gave, unless it is to keep that.
        let plain = Waiting::start(&Sandbox::new().join(&user));
        assert_eq!(caps(plain.id())[0], "0000000000000000");
        let keeps = Waiting::of(
            Sandbox::new()
                .join(&user)
                .command("/bin/cat")
                .keep_capabilities(),
        );
        assert_eq!(caps(keeps.id()), ["000001ffffffffff"; 4]);
    });
}

/// Neither 0 nor the caller's id exists there: nothing runs as an id that is not mapped.
#[test]
fn ids_that_do_not_exist() {
    isolated(|| {
        require!(root);
        stage!();
        let map = Extent {
            inside: 1000,
            outside: 100_000,
            count: 10,
        };
        let user = Sandbox::new()
            .user()
            .user_map(IdMap::from_iter([map]))
            .group_map(IdMap::from_iter([map]))
            .setgroups(Setgroups::Allow);
        let user = NamespaceSet::create(&user).unwrap().user.unwrap();
        let sandbox = Sandbox::new().join(&user);
        let before = Census::take().without(&["maps"]);
        let error = sandbox.clone().command("/bin/true").spawn().unwrap_err();
        assert_eq!(error.step(), Some(Step::Ids), "{error:?}");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(error.hint().unwrap().contains("JoinCredentials"));
        assert_same(&before, &Census::take().without(&["maps"]));

        let command = sandbox.clone().command("/bin/cat").uid(1001).gid(1002);
        let joined = Waiting::of(command.groups([1003, 1004]));
        assert_eq!(
            ids(joined.id()),
            [
                "100001\t100001\t100001\t100001",
                "100002\t100002\t100002\t100002",
                "100003 100004"
            ]
        );
        let keeps = sandbox.clone().command("/bin/cat").keep_capabilities();
        let joined = Waiting::of(keeps.uid(1001).gid(1002));
        assert_eq!(caps(joined.id()), ["000001ffffffffff"; 4]);
        // Asked for, it is the caller's.
        let preserved = sandbox.join_credentials(JoinCredentials::Preserve);
        let joined = Waiting::start(&preserved);
        assert_eq!(ids(joined.id())[0], "0\t0\t0\t0");
    });
}

fn set_groups(groups: &[u32]) {
    let groups: Vec<_> = groups.iter().map(|id| Gid::from_raw(*id)).collect();
    rustix::thread::set_thread_groups(&groups).unwrap();
}

/// The namespace denies setgroups(2), so it is done before.
#[test]
fn groups_are_dropped_where_the_caller_may() {
    isolated(|| {
        require!(root);
        stage!();
        let target = target();
        set_groups(&[7, 9]);
        let sandbox = Sandbox::new().join_all(target.id());
        let groups = |command| ids(Waiting::of(command).id())[2].clone();
        let command = || sandbox.clone().command("/bin/cat");
        assert_eq!(groups(command()), "");
        assert_eq!(groups(command().groups([])), "");
        assert_eq!(groups(command().keep_groups()), "7 9");
        let error = command().groups([0]).spawn().unwrap_err();
        assert_eq!(error.syscall(), Some("setgroups"), "{error:?}");
    });
}

#[test]
fn groups_that_may_not_be_dropped() {
    isolated(|| {
        require!(root);
        stage!();
        set_groups(&[7]);
        let (uid, gid) = (user::UID, Gid::from_raw(user::UID));
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        let uid = Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
        let target = target();
        let command = || Sandbox::new().join_all(target.id()).command("/bin/cat");
        let joined = Waiting::of(command());
        assert_eq!(ids(joined.id())[2], "7");
        let error = command().groups([]).spawn().unwrap_err();
        assert_eq!(error.step(), Some(Step::Ids), "{error:?}");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    });
}

/// Not to be permitted to drop groups matters only to who has some.
#[test]
fn no_groups_where_there_are_none() {
    isolated_as_user(|| {
        require!(userns);
        stage!();
        if !rustix::process::getgroups().unwrap().is_empty() {
            return;
        }
        let target = target();
        let sandbox = Sandbox::new().join_all(target.id());
        let joined = Waiting::of(sandbox.command("/bin/cat").groups([]));
        assert_eq!(ids(joined.id())[2], "");
    });
}

#[test]
fn those_of_another_process() {
    isolated(|| {
        require!(root);
        stage!();
        let map = Extent {
            inside: 0,
            outside: 200_000,
            count: 1000,
        };
        let sandbox = Sandbox::new()
            .user()
            .user_map(IdMap::from_iter([map]))
            .group_map(IdMap::from_iter([map]))
            .setgroups(Setgroups::Allow);
        let target = Waiting::of(sandbox.command("/bin/cat").uid(33).gid(44));
        let follow = Sandbox::new()
            .join_all(target.id())
            .join_credentials(JoinCredentials::Of(target.id().into()));
        let joined = Waiting::start(&follow);
        assert_eq!(ids(joined.id()), ids(target.id()));
        assert_eq!(ids(joined.id())[0], "200033\t200033\t200033\t200033");
        // Without a user namespace to join they are the caller's numbers.
        let alone = Waiting::of(Sandbox::new().command("/bin/cat").uid(55).gid(66));
        let follow = Sandbox::new()
            .join(Namespace::<ringfence::ns::Mount>::create().unwrap())
            .join_credentials(JoinCredentials::Of(alone.id().into()));
        assert_eq!(seen(&follow), "55 66");
    });
}

/// The lock-down comes after the joins, whichever user the program becomes.
#[test]
fn bound_where_it_has_joined() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let own = rustix::process::geteuid().as_raw();
        let (first, uids) = match is_privileged() {
            true => (300_000, vec![0, 33]),
            false => (own, vec![0]),
        };
        let map = Extent {
            inside: 0,
            outside: first,
            count: if is_privileged() { 1000 } else { 1 },
        };
        let sandbox = Sandbox::new()
            .all()
            .user_map(IdMap::from_iter([map]))
            .group_map(IdMap::from_iter([map]));
        let target = Waiting::start(&match is_privileged() {
            true => sandbox.setgroups(Setgroups::Allow),
            false => sandbox,
        });
        let kill = Capabilities::KILL;
        for uid in uids {
            let sandbox = Sandbox::new()
                .join_all(target.id())
                .capabilities(CapabilitySets::keep(kill).ambient(kill))
                .seccomp(SeccompFilter::new([libc::sock_filter {
                    code: 6,
                    jt: 0,
                    jf: 0,
                    k: 0x7fff_0000,
                }]));
            let joined = Waiting::of(sandbox.command("/bin/cat").uid(uid).gid(uid));
            let field = |name| probe::status(joined.id(), name).unwrap();
            assert_eq!(field("NoNewPrivs"), "1");
            assert_eq!(field("Seccomp"), "2");
            for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
                assert_eq!(field(set), "0000000000000020", "{set} of user {uid}");
            }
            let outside = first + uid;
            assert!(field("Uid").starts_with(&outside.to_string()));
            assert_eq!(link(joined.id(), Kind::Pid), link(target.id(), Kind::Pid));
        }
    });
}

#[test]
fn groups_that_may_not_be_set() {
    isolated_as_user(|| {
        require!(userns);
        stage!();
        let target = target();
        let command = Sandbox::new()
            .join_all(target.id())
            .command("/bin/true")
            .groups([0]);
        let error = command.spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.syscall(), Some("setgroups"));
        assert!(error.hint().unwrap().contains("setgroups(2)"), "{error:?}");
    });
}

/// The kernel keeps a user namespace as long as a descriptor does.
#[test]
fn a_user_namespace_whose_creator_is_gone() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        // Its creator has ended when this returns.
        let user = Namespace::<User>::create_with_map(IdMap::root()).unwrap();
        let error = user.uid_map().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "somebody is in it");
        let joined = Waiting::start(&Sandbox::new().join(&user));
        assert_eq!(link(joined.id(), Kind::User), user.to_string());
        assert_eq!(user.uid_map().unwrap()[0].inside, 0);
        assert_eq!(seen(&Sandbox::new().join(&user)), "0 0");
    });
}
