//! One child: started, given its push, watched, started again when it ends.

use super::launch;
use super::parts::Part;
use super::restarts::Restarts;
use crate::push::PushError;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long a child may take to end after SIGTERM: a front drains its connections meanwhile.
const GRACE: Duration = Duration::from_secs(10);
/// How long a child may take to end by itself after its admin socket was closed.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// A child that ends this often before it ever answered a push will not do so: the start has failed.
const ATTEMPTS: u32 = 5;

/// What a child tells the supervisor.
#[derive(Debug)]
pub(super) enum Event {
    /// It answered the push of the state with this serial.
    Serves(String, u64),
    /// It was started often enough in vain, before it had ever served.
    GaveUp(String),
}

/// How a run of a child came to its end.
enum End {
    Died(io::Result<ExitStatus>),
    Push(PushError),
    Stop,
}

/// Keeps one child running until `stop` says so.
pub(super) struct Keep<P> {
    pub(super) part: P,
    pub(super) launcher: Arc<Path>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) stop: watch::Receiver<bool>,
}

impl<P: Part> Keep<P> {
    /// Runs until it is stopped, or gives up.
    pub(super) async fn run(mut self) {
        let mut restarts = Restarts::default();
        let mut served = false;
        loop {
            let started = Instant::now();
            match self.once(&mut served).await {
                Ok(End::Stop) => return,
                Ok(End::Died(status)) => tracing::error!("{} ended: {}", self.part.name(), describe(&status)),
                Ok(End::Push(error)) => tracing::error!("{}: the push failed: {error}", self.part.name()),
                Err(error) => tracing::error!("{} cannot be started: {error}", self.part.name()),
            }
            let delay = restarts.after(started.elapsed());
            if !served && restarts.failures() >= ATTEMPTS {
                let _ = self.events.send(Event::GaveUp(self.part.name()));
                return;
            }
            tracing::info!("{} starts again in {} ms", self.part.name(), delay.as_millis());
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped(&mut self.stop) => return,
            }
        }
    }

    /// One life of the child. It has ended, and was waited for, when this comes back.
    async fn once(&mut self, served: &mut bool) -> io::Result<End> {
        let (ours, childs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut child = self.spawn(childs.as_fd())?;
        drop(childs);
        tracing::debug!("{} runs as process {}", self.part.name(), child.id().unwrap_or_default());
        let end = tokio::select! {
            status = child.wait() => End::Died(status),
            () = stopped(&mut self.stop) => End::Stop,
            error = push_each_change(&mut self.part, Arc::new(ours), &self.events, served) => End::Push(error),
        };
        if let End::Push(PushError::Closed) = end
            && let Ok(status) = timeout(LAST_BREATH, child.wait()).await
        {
            return Ok(End::Died(status));
        }
        finish(&mut child).await;
        Ok(end)
    }

    fn spawn(&mut self, admin: BorrowedFd<'_>) -> io::Result<Child> {
        let (program, held) = self.part.start()?;
        let mut sockets = vec![("admin".to_owned(), admin)];
        sockets.extend(held.iter().map(|(name, socket)| (name.clone(), socket.as_fd())));
        let command = launch::command(&self.launcher, &program, &sockets)?;
        Command::from(command).kill_on_drop(true).spawn()
    }
}

/// Pushes now and whenever there is something new, until that fails.
async fn push_each_change<P: Part>(
    part: &mut P,
    admin: Arc<OwnedFd>,
    events: &mpsc::UnboundedSender<Event>,
    served: &mut bool,
) -> PushError {
    loop {
        match part.push(Arc::clone(&admin)).await {
            Ok(serial) => {
                *served = true;
                let _ = events.send(Event::Serves(part.name(), serial));
            }
            Err(error) => return error,
        }
        part.changed().await;
    }
}

/// Ends the child: asks it, and kills it when it has not gone in time.
async fn finish(child: &mut Child) {
    let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(id) = id {
        let _ = kill_process(id, Signal::TERM);
    }
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.start_kill();
        if timeout(LAST_BREATH, child.wait()).await.is_err() {
            tracing::error!(
                "process {id:?} is killed and does not end: it waits for a file or device that it was passed"
            );
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the supervisor itself is gone, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn describe(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
