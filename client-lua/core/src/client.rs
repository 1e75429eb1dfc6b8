//! The control connection of a process. It is opened on first use, and opened again after a fork or a loss.

use crate::control::{Answer, CallError, Link};
use crate::deadline::{Deadline, Timeout};
use crate::error::Error;
use crate::path::socket_path;
use luassl_protocol::{ConnectionRef, ErrorCode, Failure, FreeContext, LuaCode, Request, Status, Token};
use rustix::fd::BorrowedFd;
use rustix::process::{Pid, getpid};
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// The deadline of a `status` request, regardless of the program's timeout.
const VERDICT: Duration = Duration::from_secs(1);

/// The time that the daemon has to free a context.
const RELEASE: Duration = Duration::from_secs(1);

/// The number of contexts that are freed at a time. The front stops reading while its answers are unread.
const BATCH: usize = 64;

/// Access to the daemon. All objects of a Lua state share one client.
pub struct Client {
    name: String,
    path: Option<PathBuf>,
    link: RefCell<Option<Current>>,
    generation: Cell<Generation>,
    losses: Cell<u64>,
    unused: RefCell<Vec<(Generation, u64)>>,
}

struct Current {
    link: Link,
    process: Pid,
}

impl Current {
    fn is_ours(&self) -> bool {
        self.process == getpid()
    }
}

/// Identifies a control connection. Context numbers are valid only on the connection that created them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Generation(u64);

/// The number of lost fronts. A connection of an earlier epoch is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DaemonEpoch(u64);

impl Client {
    /// Creates a client with the name `name`. It connects on first use, to `path`, or to the result of
    /// [`socket_path`] at that time.
    #[must_use]
    pub fn new(name: impl Into<String>, path: Option<PathBuf>) -> Rc<Self> {
        Rc::new(Self {
            name: name.into(),
            path,
            link: RefCell::new(None),
            generation: Cell::default(),
            losses: Cell::default(),
            unused: RefCell::default(),
        })
    }

    pub(crate) fn daemon_epoch(&self) -> DaemonEpoch {
        DaemonEpoch(self.losses.get())
    }

    /// Marks a context as unused. The daemon receives this information with the next request or with
    /// [`Client::give_back`], because finalisers do no I/O.
    pub(crate) fn forget(&self, generation: Generation, context: u64) {
        if generation == self.generation.get() {
            self.unused.borrow_mut().push((generation, context));
        }
    }

    /// Frees unused contexts now and waits up to 1 s for the daemon. If that fails, they are freed when the control
    /// connection closes.
    pub fn give_back(&self) {
        let mut current = self.link.borrow_mut();
        if self.unused.borrow().is_empty() || current.as_ref().is_none_or(|current| !current.is_ours()) {
            return;
        }
        let Some(Current { link, .. }) = current.as_mut() else { return };
        let deadline = Timeout::After(RELEASE).deadline();
        let outcome = self.sweep(link, deadline).and_then(|last| match last {
            Some(last) => link.settle(last, deadline),
            None => Ok(()),
        });
        self.drop_if_broken(&outcome, &mut current);
    }

    /// Makes several requests that must use the same connection, such as a context and a connection that uses
    /// it. They are repeated once if the old connection was closed before the daemon received anything.
    pub(crate) fn session<T>(
        &self,
        deadline: Deadline,
        mut work: impl FnMut(&mut Session<'_>) -> Result<T, CallError>,
    ) -> Result<T, Error> {
        match self.once(deadline, &mut work) {
            Err(Attempt::Call(CallError::NotSent)) => {}
            outcome => return outcome.map_err(Error::from),
        }
        self.once(deadline, &mut work).map_err(Error::from)
    }

    /// Like [`Client::session`], for requests that may be repeated. They are also repeated once if the daemon
    /// exited before it answered. A front that exits closes its sockets one after the other, so the socket on
    /// which its exit is detected may be closed before the control connection.
    pub(crate) fn repeatable_session<T>(
        &self,
        deadline: Deadline,
        mut work: impl FnMut(&mut Session<'_>) -> Result<T, CallError>,
    ) -> Result<T, Error> {
        match self.once(deadline, &mut work) {
            Err(Attempt::Call(CallError::NotSent | CallError::Lost)) => {}
            outcome => return outcome.map_err(Error::from),
        }
        self.once(deadline, &mut work).map_err(Error::from)
    }

    fn once<T>(
        &self,
        deadline: Deadline,
        work: &mut impl FnMut(&mut Session<'_>) -> Result<T, CallError>,
    ) -> Result<T, Attempt> {
        let mut current = self.link.borrow_mut();
        // After a fork, the connection belongs to the parent. Otherwise either process could receive the
        // answers.
        if current.as_ref().is_none_or(|current| !current.is_ours()) {
            *current = None;
            *current = Some(self.open(deadline)?);
        }
        let Some(Current { link, .. }) = current.as_mut() else { return Err(CallError::Lost.into()) };
        let generation = self.generation.get();
        let outcome =
            self.sweep(link, deadline).and_then(|_| work(&mut Session { link, generation, deadline }));
        self.drop_if_broken(&outcome, &mut current);
        Ok(outcome?)
    }

    /// Drops the connection after a fatal error.
    fn drop_if_broken<T>(&self, outcome: &Result<T, CallError>, current: &mut Option<Current>) {
        let Some(error) = outcome.as_ref().err().filter(|error| error.is_fatal()) else { return };
        *current = None;
        if matches!(error, CallError::NotSent | CallError::Lost) {
            self.losses.set(self.losses.get() + 1);
        }
    }

    fn open(&self, deadline: Deadline) -> Result<Current, Error> {
        let path = self.path.clone().unwrap_or_else(socket_path);
        let link = Link::open(&path, &self.name, deadline)?;
        self.generation.set(Generation(self.generation.get().0 + 1));
        self.unused.borrow_mut().clear();
        Ok(Current { link, process: getpid() })
    }

    /// Frees unused contexts. Returns the id of the last request, which has not been answered yet.
    fn sweep(&self, link: &mut Link, deadline: Deadline) -> Result<Option<u64>, CallError> {
        let unused = std::mem::take(&mut *self.unused.borrow_mut());
        let mut last = None;
        for batch in unused.chunks(BATCH) {
            if let Some(last) = last {
                link.settle(last, deadline)?;
            }
            for (_, context) in batch {
                let request = Request::FreeContext(FreeContext { context: *context });
                last = Some(link.tell(&request, None, deadline)?);
            }
        }
        Ok(last)
    }

    /// Returns how the peer's side of a connection from `daemon_epoch` ended. Takes at most 1 s.
    pub(crate) fn verdict(&self, token: Token, daemon_epoch: DaemonEpoch) -> Error {
        let deadline = Timeout::After(VERDICT).deadline();
        match self
            .ask_about::<Status>(&Request::Status(ConnectionRef { token }), daemon_epoch, deadline)
            .map(|status| status.end)
        {
            Ok(Some(end)) => end.into(),
            Ok(None) => Error::new(LuaCode::Cut, "the connection was cut"),
            Err(_) => Error::daemon_gone(),
        }
    }

    /// Makes a request about a connection from `daemon_epoch`, such as `info` or `close`. It is not sent to a
    /// front that was started later, because that front does not know the token.
    pub(crate) fn ask_about<T: DeserializeOwned>(
        &self,
        request: &Request,
        daemon_epoch: DaemonEpoch,
        deadline: Deadline,
    ) -> Result<T, Error> {
        if daemon_epoch != self.daemon_epoch() {
            return Err(Error::daemon_gone());
        }
        self.session(deadline, |session| {
            if daemon_epoch != self.daemon_epoch() {
                let gone = Failure::new(ErrorCode::Unavailable, Error::daemon_gone().message);
                return Err(CallError::Failed(gone));
            }
            Ok(session.call(request, None)?.fields)
        })
    }
}

/// One control connection during requests that belong together.
pub(crate) struct Session<'a> {
    link: &'a mut Link,
    generation: Generation,
    deadline: Deadline,
}

impl Session<'_> {
    pub(crate) fn call<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Answer<T>, CallError> {
        self.link.call(request, fd, self.deadline)
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }
}

enum Attempt {
    Open(Error),
    Call(CallError),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Open(error)
    }
}

impl From<CallError> for Attempt {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Attempt> for Error {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Open(error) => error,
            Attempt::Call(error) => error.into(),
        }
    }
}
