//! Running something in a namespace, on a thread that is not used for anything else.

use super::{AnyNamespace, Enterable, Kind, Namespace, Net};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::nsfs;
use crate::sys::signal;
use crate::sys::unshare::unshare_fs;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;

impl<K: Enterable> Namespace<K> {
    /// Runs a closure on a new thread that is in this namespace, and returns what it returns.
    ///
    /// The calling thread waits and stays where it is; the other one ends with the closure, so that no
    /// thread is ever left in the wrong namespace. What the closure opens or binds belongs to
    /// this namespace and can be used anywhere afterwards. A panic goes on in the calling thread.
    ///
    /// In a mount namespace the thread has a root and a working directory of its own, both at the
    /// namespace's `/`. Signals, but for those of the C library's own, are blocked in the thread: their
    /// handlers run in the threads that they were written for.
    ///
    /// # Errors
    /// `EPERM` without the privilege; `EAGAIN` if no thread can be made.
    ///
    /// # Privileges
    /// `CAP_SYS_ADMIN` in the user namespace that owns this one and in the caller's own; for a mount namespace
    /// `CAP_SYS_CHROOT` in the caller's own as well. None for the namespace that the caller is in, but for a
    /// mount namespace.
    ///
    /// # Examples
    /// ```no_run
    /// use ringfence::ns::{Namespace, Net};
    /// use std::net::TcpListener;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let net = Namespace::<Net>::create()?;
    /// let listener = net.run_in(|| TcpListener::bind("127.0.0.1:80"))??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A thread cannot enter a user, pid or time namespace:
    /// ```compile_fail,E0599
    /// use ringfence::ns::{Namespace, User};
    ///
    /// Namespace::<User>::current().unwrap().run_in(|| ()).unwrap();
    /// ```
    /// ```compile_fail,E0599
    /// use ringfence::ns::{Namespace, Pid};
    ///
    /// Namespace::<Pid>::current().unwrap().run_in(|| ()).unwrap();
    /// ```
    /// ```compile_fail,E0599
    /// use ringfence::ns::{Namespace, Time};
    ///
    /// Namespace::<Time>::current().unwrap().run_in(|| ()).unwrap();
    /// ```
    ///
    /// See [setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html).
    #[doc(alias = "setns")]
    pub fn run_in<T, F>(&self, run: F) -> Result<T>
    where
        T: Send,
        F: FnOnce() -> T + Send,
    {
        self.run_in_beside(run, || ()).0
    }

    /// [`run_in`](Self::run_in), and meanwhile something else on the calling thread.
    pub(crate) fn run_in_beside<T, U>(
        &self,
        run: impl FnOnce() -> T + Send,
        here: impl FnOnce() -> U,
    ) -> (Result<T>, U)
    where
        T: Send,
    {
        let there = || {
            // A handler must not run in there by accident.
            signal::leave_to_others();
            enter(Step::Enter, self)?;
            Ok(run())
        };
        beside(Step::Enter, self, there, here)
    }
}

impl Namespace<Net> {
    /// The network namespace that a socket belongs to, whichever one its owners are in.
    ///
    /// # Errors
    /// `ENOTSOCK` if it is no socket; `EPERM` without the privilege.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    ///
    /// # Examples
    /// ```no_run
    /// use ringfence::ns::{Namespace, Net};
    /// use std::net::UdpSocket;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert!(Namespace::<Net>::of_socket(&socket)?.is_current()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// See [ioctl_ns(2)](https://man7.org/linux/man-pages/man2/ioctl_ns.2.html).
    #[doc(alias = "SIOCGSKNS")]
    pub fn of_socket(socket: impl AsFd) -> Result<Self> {
        let failed = |call| {
            let object = "the net namespace of a socket";
            move |errno| Error::system(Step::Namespace, object, call, errno)
        };
        // On other files the number of the ioctl may mean something else.
        rustix::net::sockopt::socket_domain(&socket).map_err(failed("getsockopt"))?;
        let found = nsfs::of_socket(socket.as_fd());
        Self::try_from(found.map_err(failed("ioctl(SIOCGSKNS)"))?)
    }

    /// A socket of this network namespace, whichever namespace it is then used in. The arguments are those
    /// of [socket(2)](https://man7.org/linux/man-pages/man2/socket.2.html), such as `libc::AF_INET`; the
    /// descriptor is close-on-exec.
    ///
    /// # Errors
    /// Those of [`run_in`](Self::run_in), and what socket(2) gives.
    ///
    /// # Privileges
    /// Those of [`run_in`](Self::run_in).
    pub fn socket(&self, domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
        let open = || {
            let domain = u16::try_from(domain).map_err(|_| Errno::AFNOSUPPORT)?;
            let family = AddressFamily::from_raw(domain);
            let kind = SocketType::from_raw(kind.cast_unsigned());
            let protocol = u32::try_from(protocol).map_err(|_| Errno::INVAL)?;
            let protocol = protocol.try_into().ok().map(Protocol::from_raw);
            socket_with(family, kind, SocketFlags::CLOEXEC, protocol)
        };
        self.run_in(open)?.map_err(|errno| {
            let object = format!("a socket in {self}");
            Error::system(Step::Enter, object, "socket", errno)
        })
    }
}

/// Moves the calling thread.
pub(crate) fn enter(step: Step, namespace: &AnyNamespace) -> Result<()> {
    let kind = match namespace.kind() {
        Kind::Mount => LinkNameSpaceType::Mount,
        Kind::Net => LinkNameSpaceType::Network,
        Kind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        Kind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        Kind::Cgroup => LinkNameSpaceType::ControlGroup,
        Kind::User => LinkNameSpaceType::User,
        Kind::Pid => LinkNameSpaceType::ProcessID,
        Kind::Time => LinkNameSpaceType::Time,
    };
    if namespace.kind() == Kind::Mount {
        unshare_fs().map_err(|errno| Error::system(step, namespace, "unshare(CLONE_FS)", errno))?;
    }
    match move_into_link_name_space(namespace.as_fd(), Some(kind)) {
        Ok(()) => Ok(()),
        // Where one is already one needs no privilege, but for the root of a mount namespace.
        Err(Errno::PERM)
            if namespace.kind() != Kind::Mount && namespace.is_current().is_ok_and(|is| is) =>
        {
            Ok(())
        }
        Err(errno) => {
            let error = Error::system(step, namespace, "setns", errno);
            let hint = (errno == Errno::PERM).then(|| forbidden(namespace));
            Err(error.with_hint(hint))
        }
    }
}

/// What is needed to enter it.
pub(crate) fn forbidden(namespace: &AnyNamespace) -> String {
    if namespace.kind() == Kind::User {
        return "a user namespace is open to who made it, from where it was made, and to who has CAP_SYS_ADMIN in one above it".into();
    }
    let owner = match namespace.user_namespace() {
        Ok(owner) => format!("{owner}, which owns it,"),
        // The kernel does not show it.
        Err(_) => "the user namespace that owns it, which is outside the caller's,".to_owned(),
    };
    let chroot = match namespace.kind() {
        Kind::Mount => ", and CAP_SYS_CHROOT in the latter",
        _ => "",
    };
    format!("needs CAP_SYS_ADMIN in {owner} and in the one that it is entered from{chroot}")
}

/// Runs this on a thread of its own and waits for it; a panic there goes on here.
pub(crate) fn on_thread<T: Send>(
    step: Step,
    object: &dyn std::fmt::Display,
    run: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    beside(step, object, run, || ()).0
}

/// As [`on_thread`], and meanwhile something else on the calling thread.
fn beside<T: Send, U>(
    step: Step,
    object: &dyn std::fmt::Display,
    there: impl FnOnce() -> Result<T> + Send,
    here: impl FnOnce() -> U,
) -> (Result<T>, U) {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("ringfence-ns".into());
        let thread = builder.spawn_scoped(scope, there).map_err(|error| {
            let what = format!("{object}: a thread");
            if error.raw_os_error().is_none() {
                return Error::other(ErrorKind::System, step, what);
            }
            Error::io(step, what, error)
        });
        let here = here();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        (thread.and_then(join), here)
    })
}
