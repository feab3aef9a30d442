//! What a spawn connects the child with: the standard streams, and the sockets to the second stage.

use super::control::Control;
use super::{pass, terminal};
use crate::error::{Error, Result, Step};
use crate::plan::stage::Form;
use crate::plan::{Compiled, Given};
use crate::process::Pipes;
use crate::sandbox::stdio::Stream;
use crate::sys::shared::Shared;
use crate::terminal::{Controlling, Pty};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// The standard streams of one spawn.
pub(super) struct Streams {
    /// The child's ends of new pipes.
    pub(super) pipes: Vec<OwnedFd>,
    /// The child's end of a terminal that the caller has opened.
    pub(super) slave: Option<OwnedFd>,
    pub(super) ours: Pipes,
    pub(super) control: Option<Control>,
    /// The caller's end of the socket that the child sends the master of its terminal by, and the child's.
    pub(super) terminal: Option<(OwnedFd, OwnedFd)>,
    /// The second stage's end of the socket.
    pub(super) socket: Option<OwnedFd>,
    /// The caller's terminal, where the program's group is to have it.
    pub(super) controlling: Option<Controlling>,
    /// What the second stage is to join, and where the pid of its sibling is stored.
    pub(super) work: Option<Shared>,
    /// The child's end of the socket that it sends the listener of a filter by.
    pub(super) listener: Option<OwnedFd>,
}

impl Streams {
    pub(super) fn open(plan: &Compiled, given: &Given) -> Result<Self> {
        let mut streams = Self {
            pipes: Vec::new(),
            slave: None,
            ours: Pipes::default(),
            control: None,
            terminal: None,
            socket: None,
            controlling: match plan.foreground {
                true => Controlling::open()?,
                false => None,
            },
            work: None,
            listener: None,
        };
        if let Some(work) = &plan.join.by_stage {
            streams.work = Some(work.share()?);
        }
        if let Some(stage) = &plan.stage {
            let (ours, theirs) = Control::pair(stage)?;
            streams.control = Some(ours);
            streams.socket = Some(theirs);
        }
        if plan.bound.listener.is_some() {
            let (ours, theirs) = pass::socket()
                .map_err(|errno| Error::system(Step::Prepare, "a socket", "socketpair", errno))?;
            streams.ours.listener = Some(ours);
            streams.listener = Some(theirs);
        }
        if given
            .stdio
            .iter()
            .any(|stream| matches!(stream, Stream::Pty))
        {
            streams.open_terminal(plan)?;
        }
        for (index, stream) in given.stdio.iter().enumerate() {
            if !matches!(stream, Stream::Piped) {
                continue;
            }
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| Error::system(Step::Prepare, "a pipe", "pipe2", errno))?;
            let theirs = match index {
                0 => {
                    streams.ours.stdin = Some(write.into());
                    read
                }
                1 => {
                    streams.ours.stdout = Some(read.into());
                    write
                }
                _ => {
                    streams.ours.stderr = Some(read.into());
                    write
                }
            };
            streams.pipes.push(theirs);
        }
        Ok(streams)
    }

    /// A terminal of the caller's, or a socket that the child sends the master of its own by.
    fn open_terminal(&mut self, plan: &Compiled) -> Result<()> {
        let failed = |call| move |errno| Error::system(Step::Prepare, "a terminal", call, errno);
        if plan.terminal_socket().is_some() {
            self.terminal = Some(pass::socket().map_err(failed("socketpair"))?);
            return Ok(());
        }
        let (master, slave) = terminal::open_here(plan.window_size).map_err(failed("openpt"))?;
        self.ours.pty = Some(Pty::new(master));
        self.slave = Some(slave);
        Ok(())
    }

    /// The caller's terminal, if it is given away.
    pub(super) fn given(&self) -> Option<BorrowedFd<'_>> {
        self.controlling.as_ref().and_then(Controlling::to_give)
    }

    /// The caller's descriptors that the child gets, and their numbers there.
    pub(super) fn sources<'a>(
        &'a self,
        plan: &'a Compiled,
        given: &'a Given,
    ) -> Vec<(BorrowedFd<'a>, RawFd)> {
        let mut pipes = self.pipes.iter();
        let further = given.descriptors.iter().map(|(fd, at)| (fd.as_fd(), *at));
        let terminal = self
            .terminal
            .as_ref()
            .map(|(_, theirs)| theirs.as_fd())
            .zip(plan.terminal_socket());
        let bound = plan.bound.descriptors.iter();
        let bound = bound.map(|(fd, number)| (fd.as_fd(), *number));
        let listener = self.listener.as_ref().map(AsFd::as_fd);
        let listener = listener.zip(plan.bound.listener);
        let stage = plan.stage.iter().flat_map(|stage| {
            let numbers = stage.numbers;
            let socket = self
                .socket
                .iter()
                .map(move |fd| (fd.as_fd(), numbers.control));
            // Without a terminal to give, something that is none.
            let terminal = self.given().or(self.socket.as_ref().map(AsFd::as_fd));
            let terminal = terminal.filter(|_| plan.foreground);
            let terminal = terminal.map(|fd| (fd, numbers.terminal));
            let image = match &stage.form {
                Form::Program { image, number } => Some((image.as_fd(), *number)),
                Form::Forked => None,
            };
            let lists = stage.lists.file();
            socket.chain(image).chain(lists).chain(terminal)
        });
        let work = plan.join.by_stage.as_ref().zip(self.work.as_ref());
        let work = work
            .into_iter()
            .flat_map(|(work, shared)| work.sources(shared));
        (0..)
            .zip(&given.stdio)
            .filter_map(|(at, stream)| {
                let fd = match stream {
                    Stream::Inherit => return None,
                    Stream::Null => plan.null.as_ref()?.as_fd(),
                    Stream::Fd(fd) => fd.as_fd(),
                    Stream::Piped => pipes.next()?.as_fd(),
                    Stream::Pty => self.slave.as_ref()?.as_fd(),
                };
                Some((fd, at))
            })
            .chain(further)
            .chain(stage)
            .chain(work)
            .chain(bound)
            .chain(listener)
            .chain(terminal)
            .collect()
    }
}
