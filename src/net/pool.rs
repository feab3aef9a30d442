//! Network namespaces that are made ahead.

use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use crate::sys::signal;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Setup = Box<dyn Fn(&Namespace<Net>) -> Result<()> + Send + Sync>;

/// Network namespaces made ahead, and set up, by a thread in the background: to make one takes the kernel half a
/// millisecond or more, to take one that is ready less than a microsecond.
///
/// A namespace that was taken does not come back: what has been used is not clean any more. Those that nobody has
/// taken go with the pool.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{LinkChange, NetPool, Netlink};
/// use ringfence::Sandbox;
///
/// # fn main() -> ringfence::Result<()> {
/// let pool = NetPool::new(8)?;
/// let net = pool.take()?;
/// Sandbox::new().join(&net).command("ip").arg("link").status()?;
/// # Ok(())
/// # }
/// ```
pub struct NetPool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    size: usize,
    setup: Setup,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Namespace<Net>>,
    /// Why the last one could not be made: nobody tries again until somebody takes one, or is told.
    failed: Option<Error>,
    closed: bool,
}

impl NetPool {
    /// A pool that keeps this many ready, with their loopback interfaces up.
    ///
    /// # Errors
    /// `EAGAIN` if no thread can be made.
    pub fn new(size: usize) -> Result<Self> {
        Self::with_setup(size, |_| Ok(()))
    }

    /// A pool whose namespaces are set up by this before anybody can take them. One for which it fails is
    /// dropped. A panic in it is an error as well, and what it had begun is its own affair: it is called again.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_setup<F>(size: usize, setup: F) -> Result<Self>
    where
        F: Fn(&Namespace<Net>) -> Result<()> + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared {
            size,
            setup: Box::new(setup),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let builder = std::thread::Builder::new().name("ringfence-pool".into());
        let filler = Arc::clone(&shared);
        let thread = builder
            .spawn(move || filler.fill())
            .map_err(|error| Error::io(Step::Network, "a thread for the pool", error))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// A namespace that nobody else has had. If none is ready, it is made now.
    ///
    /// # Errors
    /// Those of [`Namespace::create`] and of the set-up, with the words of its panic.
    pub fn take(&self) -> Result<Namespace<Net>> {
        let ready = {
            let mut state = self.shared.state();
            state.failed = None;
            state.ready.pop_front()
        };
        self.shared.changed.notify_all();
        match ready {
            Some(namespace) => Ok(namespace),
            None => self.shared.make(),
        }
    }

    /// How many are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.shared.state().ready.len()
    }

    /// Waits until it is full. Returns how many are ready.
    ///
    /// # Errors
    /// Why one could not be made since this was told last: those of [`take`](Self::take). What is [`ready`](Self::ready)
    /// can be taken nevertheless, and the next is tried again.
    pub fn fill(&self) -> Result<usize> {
        let mut state = self.shared.state();
        while state.ready.len() < self.shared.size {
            if let Some(error) = state.failed.take() {
                self.shared.changed.notify_all();
                return Err(error);
            }
            state = self.shared.wait(state);
        }
        Ok(state.ready.len())
    }
}

impl Drop for NetPool {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> Result<Namespace<Net>> {
        let namespace = Namespace::create()?;
        // The thread has to live on, for somebody may be waiting for it.
        let set_up = catch_unwind(AssertUnwindSafe(|| (self.setup)(&namespace)));
        set_up.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
        Ok(namespace)
    }

    /// The thread: makes what is lacking, until the pool is closed.
    fn fill(&self) {
        signal::leave_to_others();
        let mut state = self.state();
        while !state.closed {
            if state.failed.is_some() || state.ready.len() >= self.size {
                state = self.wait(state);
                continue;
            }
            drop(state);
            let made = self.make();
            state = self.state();
            match made {
                Ok(namespace) => state.ready.push_back(namespace),
                Err(error) => state.failed = Some(error),
            }
            self.changed.notify_all();
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let what = format!("the set-up panicked: {}", text.unwrap_or("without words"));
    Error::other(ErrorKind::System, Step::Network, what)
}

impl fmt::Debug for NetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetPool of {}, {} ready", self.shared.size, self.ready())
    }
}
