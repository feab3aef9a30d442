//! Programs in a [tokio](https://docs.rs/tokio) runtime (feature `tokio`).
//!
//! Only waiting and the standard streams are asynchronous. [`Plan::spawn`](crate::Plan::spawn) stays
//! synchronous: it is done in less than a millisecond, as its cost does not depend on the caller's memory.
//! Where the set-up can be slow, because a source of a bind is on a slow file system, newuidmap(1)
//! is needed, or the machine is overloaded, spawn in `tokio::task::spawn_blocking`.
//!
//! # Examples
//! ```
//! use ringfence::{Sandbox, Stdio};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ringfence::Result<()> {
//! let child = Sandbox::new()
//!     .command("sh")
//!     .args(["-c", "echo hello; exit 7"])
//!     .stdout(Stdio::piped())
//!     .kill_on_drop()
//!     .spawn()?
//!     .into_tokio()?;
//! let output = child.wait_with_output().await?;
//! assert_eq!(output.stdout, b"hello\n");
//! assert_eq!(output.status.code(), Some(7));
//! # Ok(())
//! # }
//! ```

use crate::error::{Error, Result, Step};
use crate::ns::NamespaceIds;
use crate::process::ResourceUsage;
use ::tokio::io::unix::AsyncFd;
use ::tokio::io::{AsyncRead, Interest, ReadBuf};
use ::tokio::net::unix::pipe::{Receiver, Sender};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::process::{ExitStatus, Output};
use std::task::{Context, Poll, ready};

/// A program whose end and output are awaited.
///
/// Made of a [`crate::Child`] by [`into_tokio`](crate::Child::into_tokio). The runtime watches the pidfd:
/// there is no thread per program, no handler of `SIGCHLD`, and nothing else of the process is waited for.
///
/// A child that is dropped goes on running and is not reaped, also not in the background, unless
/// [`Command::kill_on_drop`](crate::Command::kill_on_drop) was asked for: then it is killed and reaped,
/// which takes as long as the kernel needs for its end.
#[derive(Debug)]
pub struct Child {
    /// The program's standard input, if it was [piped](crate::Stdio::piped).
    pub stdin: Option<Sender>,
    /// The program's standard output, if it was [piped](crate::Stdio::piped).
    pub stdout: Option<Receiver>,
    /// The program's standard error, if it was [piped](crate::Stdio::piped).
    pub stderr: Option<Receiver>,
    watched: AsyncFd<crate::Child>,
}

impl crate::Child {
    /// Hands the program to the tokio runtime of the caller.
    ///
    /// The pipes that are still here come along, and are made nonblocking; the program's ends of them
    /// stay as they are. What this child cannot do is done before: [`release`](crate::Child::release) of a program that is
    /// held at the gate, [`pty`](crate::Child::pty) taken out of a child that has a terminal.
    ///
    /// # Errors
    /// When the runtime cannot watch one more descriptor, as at the limit on epoll watches. Nobody
    /// could wait for the program then, so it is killed and reaped.
    ///
    /// # Panics
    /// Outside of a tokio runtime that has I/O enabled, as everything of tokio does that watches a
    /// descriptor.
    pub fn into_tokio(mut self) -> Result<Child> {
        match Pipes::take(&mut self) {
            Ok(pipes) => watch(self, pipes),
            Err(error) => Err(give_up(self, "a pipe of the program", error)),
        }
    }
}

impl TryFrom<crate::Child> for Child {
    type Error = Error;

    /// [`into_tokio`](crate::Child::into_tokio).
    fn try_from(child: crate::Child) -> Result<Self> {
        child.into_tokio()
    }
}

struct Pipes {
    stdin: Option<Sender>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
}

impl Pipes {
    fn take(child: &mut crate::Child) -> io::Result<Self> {
        let sender = |fd: OwnedFd| Sender::from_owned_fd(fd);
        let receiver = |fd: OwnedFd| Receiver::from_owned_fd(fd);
        Ok(Self {
            stdin: child
                .stdin
                .take()
                .map(|pipe| sender(pipe.into()))
                .transpose()?,
            stdout: child
                .stdout
                .take()
                .map(|pipe| receiver(pipe.into()))
                .transpose()?,
            stderr: child
                .stderr
                .take()
                .map(|pipe| receiver(pipe.into()))
                .transpose()?,
        })
    }
}

fn watch(child: crate::Child, pipes: Pipes) -> Result<Child> {
    #[allow(
        deprecated,
        reason = "its successor is unsafe: the descriptor must stay open, as the pidfd of a Child does"
    )]
    let watched = AsyncFd::try_with_interest(child, Interest::READABLE);
    match watched {
        Ok(watched) => Ok(Child {
            stdin: pipes.stdin,
            stdout: pipes.stdout,
            stderr: pipes.stderr,
            watched,
        }),
        Err(error) => {
            let (child, error) = error.into_parts();
            Err(give_up(child, "the pidfd of the program", error))
        }
    }
}

fn give_up(mut child: crate::Child, object: &str, error: io::Error) -> Error {
    let _ = child.kill();
    let _ = child.wait();
    Error::io(Step::Prepare, format!("watching {object}"), error)
}

impl Child {
    /// The process id, in the pid namespace of the caller.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.watched.get_ref().id()
    }

    /// The identities of the namespaces that the program is in.
    ///
    /// # Errors
    /// As [`crate::Child::namespace_ids`].
    pub fn namespace_ids(&self) -> Result<NamespaceIds> {
        self.watched.get_ref().namespace_ids()
    }

    /// Waits for the end of the program. Standard input is closed first, as std and tokio do it.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped before it is done, save that standard input is
    /// closed; `wait` may be called again, also when it was done.
    ///
    /// # Errors
    /// As [`crate::Child::wait`], or when the runtime is shutting down.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            match self.watched.readable().await {
                // Readable before it can be reaped: a debugger is reaped to first, and the kernel
                // tells once more afterwards. Otherwise the next round reaps it.
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => {
                    let object = format!("process {}", self.id());
                    return Err(Error::io(Step::Wait, object, error));
                }
            }
        }
    }

    /// The status, if the program has ended.
    ///
    /// # Errors
    /// As [`crate::Child::wait`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.watched.get_mut().try_wait()
    }

    /// Waits for the end of the program, and collects what it writes to pipes meanwhile.
    ///
    /// # Cancel safety
    /// The child belongs to the future: dropping that drops the child, and what was read is lost.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), or when a pipe cannot be read.
    pub async fn wait_with_output(mut self) -> Result<Output> {
        drop(self.stdin.take());
        let mut stdout = Collected::new(self.stdout.take());
        let mut stderr = Collected::new(self.stderr.take());
        // Both at once: a program that fills one pipe while the other is read would never end.
        let read = poll_fn(|context| {
            let first = stdout.poll(context)?;
            let second = stderr.poll(context)?;
            match (first, second) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        });
        read.await.map_err(|error: io::Error| {
            Error::io(
                Step::Wait,
                format!("output of process {}", self.id()),
                error,
            )
        })?;
        let status = self.wait().await?;
        Ok(Output {
            status,
            stdout: stdout.text,
            stderr: stderr.text,
        })
    }

    /// What the program has used, once its end has been waited for.
    #[must_use]
    pub fn resource_usage(&self) -> Option<ResourceUsage> {
        self.watched.get_ref().resource_usage()
    }

    /// Kills the program (`SIGKILL`), and does not wait for its end. It is not an error if it has ended.
    ///
    /// # Errors
    /// As [`crate::Child::kill`].
    pub fn kill(&mut self) -> Result<()> {
        self.watched.get_mut().kill()
    }

    /// Kills the program and everything that it has started, as [`crate::Child::kill_all`] does; [`wait`](Self::wait)
    /// then tells of its end. With a new [pid namespace](crate::Sandbox::pid) this takes no time. With a cgroup instead
    /// it blocks the thread until all in it has ended.
    ///
    /// # Errors
    /// As [`crate::Child::kill_all`].
    ///
    /// # Examples
    /// A program that has to be done in time, with all that it has started:
    /// ```
    /// use std::os::unix::process::ExitStatusExt;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ringfence::Result<()> {
    /// # if ringfence::support::Report::new().user_namespaces.is_some() { return Ok(()) }
    /// let command = ringfence::Sandbox::new().user().pid().command("sleep").arg("1000");
    /// let mut child = command.spawn()?.into_tokio()?;
    /// let status = match tokio::time::timeout(Duration::from_millis(10), child.wait()).await {
    ///     Ok(status) => status?,
    ///     Err(_) => {
    ///         child.kill_all()?;
    ///         child.wait().await?
    ///     }
    /// };
    /// assert_eq!(status.signal(), Some(9));
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill_all(&mut self) -> Result<()> {
        self.watched.get_mut().kill_all()
    }

    /// Sends a signal, by number, to the program. It is not an error if it has ended.
    ///
    /// # Errors
    /// As [`crate::Child::signal`].
    pub fn signal(&self, number: i32) -> Result<()> {
        self.watched.get_ref().signal(number)
    }
}

impl AsFd for Child {
    /// The pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.get_ref().as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.watched.as_raw_fd()
    }
}

/// One pipe, read to its end.
struct Collected {
    pipe: Option<Receiver>,
    text: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Collected {
    fn new(pipe: Option<Receiver>) -> Self {
        // The size of a pipe.
        let size = if pipe.is_some() { 65_536 } else { 0 };
        Self {
            pipe,
            text: Vec::new(),
            buffer: vec![0; size].into(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(pipe) = &mut self.pipe {
            let mut read = ReadBuf::new(&mut self.buffer);
            ready!(Pin::new(pipe).poll_read(context, &mut read))?;
            match read.filled() {
                [] => self.pipe = None,
                bytes => self.text.extend_from_slice(bytes),
            }
        }
        Poll::Ready(Ok(()))
    }
}
