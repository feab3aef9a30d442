//! Handles of what is there: of this thread, of processes, at paths, in descriptors.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use ringfence::ns::{Namespace, Net, User, Uts, same_namespace};
use ringfence::{AnyNamespace, ErrorKind, Kind, NamespaceId, NamespaceSet, Sandbox};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::UnshareFlags;

use super::{kinds, link};
use crate::common::{isolated, isolated::wait_for, isolated_as_both, require, sys};
use crate::support::Waiting;

#[test]
fn ones_own_are_those_of_the_thread() {
    isolated_as_both(|| {
        let set = NamespaceSet::current().unwrap();
        for kind in kinds() {
            let namespace = set.get(kind).unwrap();
            assert_eq!(namespace.to_string(), link("thread-self", kind));
            let stat = fs::metadata(format!("/proc/thread-self/ns/{kind}")).unwrap();
            let id = namespace.id();
            assert_eq!((id.device(), id.inode()), (stat.dev(), stat.ino()));
            assert_eq!(link("self", kind).parse::<NamespaceId>(), Ok(id));
            assert!(namespace.is_current().unwrap());
            assert_eq!(*namespace, AnyNamespace::current(kind).unwrap());
        }
        assert_eq!(set.iter().count(), kinds().count());
    });
}

#[test]
fn a_thread_can_be_elsewhere_than_its_process() {
    isolated(|| {
        require!(root);
        let ours = Namespace::<Uts>::current().unwrap();
        std::thread::scope(|scope| {
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let (tell, told) = std::sync::mpsc::channel();
            scope.spawn(move || {
                sys::unshare(UnshareFlags::NEWUTS).unwrap();
                let tid = rustix::thread::gettid().as_raw_pid().cast_unsigned();
                tell.send((tid, link("thread-self", Kind::Uts))).unwrap();
                assert!(
                    !Namespace::<Uts>::of_pid(std::process::id())
                        .unwrap()
                        .is_current()
                        .unwrap()
                );
                wait.recv().unwrap_err();
            });
            let (tid, name) = told.recv().unwrap();
            assert_eq!(Namespace::<Uts>::of_thread(tid).unwrap().to_string(), name);
            let set = NamespaceSet::of_thread(tid).unwrap();
            assert_eq!(set.uts.unwrap().to_string(), name);
            assert_eq!(set.net.unwrap(), Namespace::current().unwrap());
            assert_eq!(Namespace::<Uts>::of_pid(std::process::id()).unwrap(), ours);
            drop(done);
        });
    });
}

#[test]
fn those_of_a_process_are_found_by_pid_pidfd_thread_and_path() {
    isolated_as_both(|| {
        require!(userns);
        let child = Waiting::start(&Sandbox::new().all());
        let pid = child.id();
        let set = child.namespaces().unwrap();
        let again = NamespaceSet::of_pid(pid).unwrap();
        for kind in kinds() {
            let namespace = set.get(kind).unwrap();
            let name = link(pid, kind);
            assert_eq!(namespace.to_string(), name);
            assert_eq!(again.get(kind), Some(namespace));
            let path = format!("/proc/{pid}/ns/{kind}");
            for other in [
                AnyNamespace::of_pid(kind, pid).unwrap(),
                AnyNamespace::of_pidfd(kind, &*child).unwrap(),
                AnyNamespace::of_thread(kind, pid).unwrap(),
                AnyNamespace::open(&path).unwrap(),
                AnyNamespace::try_from(OwnedFd::from(File::open(&path).unwrap())).unwrap(),
                namespace.try_clone().unwrap(),
            ] {
                assert_eq!(other, *namespace);
                assert_eq!(other.unique_id(), namespace.unique_id());
            }
            assert!(!namespace.is_current().unwrap());
            let own = AnyNamespace::current(kind).unwrap();
            assert_ne!(own, *namespace);
            if require::kernel(6, 18).is_ok() {
                assert_ne!(own.unique_id().unwrap(), namespace.unique_id().unwrap());
            }
            assert!(!same_namespace(kind, pid, std::process::id()).unwrap());
            assert!(same_namespace(kind, pid, pid).unwrap());
        }
    });
}

#[test]
fn another_kind_and_other_files_are_refused() {
    isolated(|| {
        let error = Namespace::<Net>::open("/proc/self/ns/uts").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotThatNamespace);
        let text = error.to_string();
        assert!(
            text.ends_with("is of kind uts, where net is asked for"),
            "{text}"
        );
        let any = AnyNamespace::current(Kind::Uts).unwrap();
        assert!(any.try_clone().unwrap().downcast::<User>().is_err());
        assert!(any.downcast::<Uts>().is_ok());

        let (pipe, _other) = std::io::pipe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        for error in [
            Namespace::<Net>::open("/dev/null").unwrap_err(),
            Namespace::<Net>::open("/").unwrap_err(),
            Namespace::<Net>::open("/proc/self/ns").unwrap_err(),
            // Would wait for a writer, if it were opened like a file.
            Namespace::<Net>::open(&fifo).unwrap_err(),
            Namespace::<Net>::try_from(OwnedFd::from(pipe)).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotThatNamespace, "{error:?}");
        }
        let error = Namespace::<Net>::open("/nonexistent").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let no_pidfd = File::open("/dev/null").unwrap();
        let error = Namespace::<Net>::of_pidfd(&no_pidfd).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{error:?}");
    });
}

#[test]
fn a_process_that_has_ended_has_none() {
    isolated(|| {
        let child = sys::fork().unwrap();
        let Some(child) = child else {
            loop {
                std::thread::park();
            }
        };
        let pid = Pid::from_raw(child).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(Namespace::<Net>::of_pidfd(&pidfd).is_ok());
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
        wait_for(child);
        let gone = Some(libc::ESRCH);
        let id = child.cast_unsigned();
        for error in [
            NamespaceSet::of_pidfd(&pidfd).unwrap_err(),
            NamespaceSet::of_pid(id).unwrap_err(),
            NamespaceSet::of_thread(id).unwrap_err(),
            same_namespace(Kind::Net, id, std::process::id()).unwrap_err(),
        ] {
            assert_eq!(error.raw_os_error(), gone, "{error:?}");
        }
    });
}

#[test]
fn a_number_that_no_process_has_is_refused_with_a_hint() {
    isolated_as_both(|| {
        for number in [0, 1 << 31, u32::MAX] {
            for error in [
                Namespace::<Net>::of_pid(number).unwrap_err(),
                NamespaceSet::of_pid(number).unwrap_err(),
                NamespaceSet::of_thread(number).unwrap_err(),
            ] {
                let hint = error.hint().unwrap_or_default();
                assert!(hint.contains("no process has this number"), "{error:?}");
            }
        }
    });
}

#[test]
fn those_of_a_stranger_are_refused_with_a_hint() {
    isolated_as_both(|| {
        if rustix::process::geteuid().is_root() {
            return;
        }
        let error = Namespace::<Net>::of_pid(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.hint().unwrap().contains("CAP_SYS_PTRACE"));
    });
}
