//! Something run by a thread inside.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ringfence::ns::{Cgroup, Enterable, Ipc, Mount, Namespace, Net, Uts};
use ringfence::{ErrorKind, NamespaceSet, Sandbox, Step};
use rustix::mount::{MountFlags, mount};
use rustix::net::{SocketAddrV4, bind, listen};

use super::{census, link, with_capabilities};
use crate::common::leaks::assert_same;
use crate::common::{isolated_as_user, require, threads};

fn enters<K: Enterable>() {
    let namespace = Namespace::<K>::create().unwrap();
    let own = link("thread-self", K::KIND);
    let borrowed = String::from("kept");
    let (inside, length) = namespace
        .run_in(|| (link("thread-self", K::KIND), borrowed.len()))
        .unwrap();
    assert_eq!((inside, length), (namespace.to_string(), borrowed.len()));
    assert_eq!(link("thread-self", K::KIND), own);
    // From a path, and into a namespace that the thread is in already.
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&namespace)
    );
    let again = Namespace::<K>::open(path).unwrap();
    assert!(again.run_in(|| again.is_current().unwrap()).unwrap());
    let current = Namespace::<K>::current().unwrap();
    assert!(current.run_in(|| current.is_current().unwrap()).unwrap());
}

#[test]
fn the_caller_can_change_its_ids_meanwhile() {
    with_capabilities!({
        let uts = Namespace::<Uts>::create().unwrap();
        assert!(uts.run_in(threads::ids_can_change).unwrap());
    });
}

#[test]
fn every_kind_that_a_thread_can_enter() {
    with_capabilities!({
        let all = || {
            enters::<Net>();
            enters::<Uts>();
            enters::<Ipc>();
            enters::<Cgroup>();
            enters::<Mount>();
        };
        all();
        let before = census();
        all();
        assert_same(&before, &census());
    });
}

#[test]
fn a_panic_goes_on_in_the_caller() {
    with_capabilities!({
        let namespace = Namespace::<Uts>::create().unwrap();
        let before = census();
        let panicking =
            || namespace.run_in(|| -> () { std::panic::panic_any(String::from("inside")) });
        let payload = catch_unwind(AssertUnwindSafe(panicking)).unwrap_err();
        assert_eq!(*payload.downcast::<String>().unwrap(), "inside");
        assert_same(&before, &census());
        assert_eq!(namespace.run_in(|| 1).unwrap(), 1);
    });
}

#[test]
fn the_name_of_the_host_is_changed_inside_only() {
    with_capabilities!({
        let name = || rustix::system::uname().nodename().to_owned();
        let outside = name();
        let namespace = Namespace::<Uts>::create().unwrap();
        let set = namespace.run_in(|| rustix::system::sethostname(b"inside"));
        set.unwrap().unwrap();
        assert_eq!(namespace.run_in(name).unwrap().as_c_str(), c"inside");
        assert_eq!(name(), outside);
    });
}

#[test]
fn mounts_stay_inside() {
    with_capabilities!({
        let dir = tempfile::tempdir().unwrap();
        std::env::set_current_dir(dir.path()).unwrap();
        let namespace = Namespace::<Mount>::create().unwrap();
        let file = dir.path().join("file");
        namespace
            .run_in(|| {
                assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
                mount("inside", dir.path(), "tmpfs", MountFlags::empty(), None).unwrap();
                std::fs::write(&file, "").unwrap();
            })
            .unwrap();
        assert!(!file.exists());
        assert_eq!(std::env::current_dir().unwrap(), dir.path());
        assert!(namespace.run_in(|| file.exists()).unwrap());
    });
}

#[test]
fn a_socket_belongs_to_where_it_was_made() {
    with_capabilities!({
        require!(netns);
        let net = Namespace::<Net>::create().unwrap();
        let socket = net.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let flags = rustix::io::fcntl_getfd(&socket).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        bind(socket.as_fd(), &SocketAddrV4::new([127, 0, 0, 1].into(), 0)).unwrap();
        listen(&socket, 1).unwrap();
        assert_eq!(Namespace::<Net>::of_socket(&socket).unwrap(), net);
        let error = Namespace::<Net>::of_socket(&net).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();

        // The same address and port are free out here.
        let other = net.run_in(|| TcpListener::bind(address)).unwrap();
        assert_eq!(other.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        let mut inside = net.run_in(|| TcpStream::connect(address)).unwrap().unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"!").unwrap();
        inside.read_exact(&mut [0]).unwrap();

        let error = net.socket(-1, libc::SOCK_STREAM, 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
    });
}

#[test]
fn without_privilege_it_is_refused_with_a_hint() {
    isolated_as_user(|| {
        require!(userns);
        let own = Namespace::<Net>::current().unwrap();
        assert!(own.run_in(|| own.is_current().unwrap()).unwrap());
        let set = NamespaceSet::create(&Sandbox::new().user().net()).unwrap();
        let error = set.net.unwrap().run_in(|| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(
            (error.step(), error.syscall()),
            (Some(Step::Enter), Some("setns"))
        );
        assert!(error.hint().unwrap().contains("CAP_SYS_ADMIN"));
    });
}
