//! One child process: starts it, pushes its configuration, monitors it, and restarts it when it exits.

pub(crate) mod child_spec;
#[allow(unsafe_code)]
pub(crate) mod inherited;
pub mod launch;
pub(crate) mod programs;
pub(crate) mod restarts;

use crate::push::PushError;
use crate::run::child::child_spec::ChildSpec;
use crate::run::child::restarts::Restarts;
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

/// The time that a child has to exit after SIGTERM. A front drains its connections in that time.
const GRACE: Duration = Duration::from_secs(10);
/// The time that a child has to exit by itself after its admin socket was closed.
const EXIT_GRACE: Duration = Duration::from_secs(1);
/// The number of exits before the first answer to a push after which a child has failed to start.
const ATTEMPTS: u32 = 5;
/// The number of consecutive unanswered pushes after which a child that serves is considered to hang, and is
/// replaced. Each push waits up to [`ANSWER_DEADLINE`](crate::push::ANSWER_DEADLINE), so a child has at least
/// five minutes.
const UNANSWERED: u32 = 10;

/// The interval of the check for a child that was killed and has not exited. There is no event for this
/// condition.
const LOOK: Duration = Duration::from_secs(1);

/// A report of the task of a child to the supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// The child answered the push of the state with this serial.
    Serves(String, u64),
    /// The child failed to start too often, and never served.
    GaveUp(String),
}

/// The end of one run of a child.
enum End {
    Died(io::Result<ExitStatus>),
    /// The child was killed, but the kernel does not let it exit.
    Pinned,
    Push(PushError),
    Stop,
}

/// Keeps one child running until `stop` is set.
pub(crate) struct ChildTask<P> {
    pub(crate) spec: P,
    pub(crate) launcher: Arc<Path>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl<P: ChildSpec> ChildTask<P> {
    /// Runs the child until it is stopped, or until it fails to start too often.
    pub(crate) async fn run(mut self) {
        let mut restarts = Restarts::default();
        let mut served = false;
        loop {
            let started = Instant::now();
            match self.once(&mut served).await {
                Ok(End::Stop) => return,
                Ok(End::Died(status)) => tracing::error!("{} ended: {}", self.spec.name(), describe(&status)),
                Ok(End::Pinned) => tracing::error!("{} is replaced", self.spec.name()),
                Ok(End::Push(error)) => tracing::error!("{}: the push failed: {error}", self.spec.name()),
                Err(error) => tracing::error!("{} cannot be started: {error}", self.spec.name()),
            }
            let delay = restarts.after(started.elapsed());
            if !served && restarts.failures() >= ATTEMPTS {
                let _ = self.events.send(Event::GaveUp(self.spec.name()));
                return;
            }
            tracing::info!("{} restarts in {} ms", self.spec.name(), delay.as_millis());
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped(&mut self.stop) => return,
            }
        }
    }

    /// Runs the child once. The child has exited and was waited for when this function returns.
    async fn once(&mut self, served: &mut bool) -> io::Result<End> {
        let (ours, childs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut child = self.spawn(childs.as_fd())?;
        drop(childs);
        let id = child.id().unwrap_or_default();
        tracing::debug!("{} runs as process {id}", self.spec.name());
        let end = tokio::select! {
            status = child.wait() => End::Died(status),
            () = pinned(id) => End::Pinned,
            () = stopped(&mut self.stop) => End::Stop,
            error = push_each_change(&mut self.spec, Arc::new(ours), &self.events, served) => End::Push(error),
        };
        if let End::Push(PushError::Closed) = end
            && let Ok(status) = timeout(EXIT_GRACE, child.wait()).await
        {
            return Ok(End::Died(status));
        }
        if let End::Pinned = end {
            tracing::error!("process {id} {PINNED}");
        } else {
            finish(&mut child).await;
        }
        Ok(end)
    }

    fn spawn(&mut self, admin: BorrowedFd<'_>) -> io::Result<Child> {
        let (program, inherited) = self.spec.start()?;
        let mut sockets = vec![("admin".to_owned(), admin)];
        sockets.extend(inherited.iter().map(|(name, socket)| (name.clone(), socket.as_fd())));
        let command = launch::command(&self.launcher, &program, &sockets)?;
        Command::from(command).kill_on_drop(true).spawn()
    }
}

/// The answers of one run of a child to pushes.
#[derive(Default)]
struct Answering {
    /// Whether the child has answered a push.
    serves: bool,
    /// The number of unanswered pushes since the last answer.
    silences: Restarts,
}

impl Answering {
    fn answered(&mut self) {
        *self = Self { serves: true, silences: Restarts::default() };
    }

    /// Returns the delay before the next push after a failed one; `None` if the child is to be stopped. A
    /// busy child that serves, for example one that reads a slow disk, continues with its present state.
    fn again(&mut self, error: &PushError) -> Option<Duration> {
        let delay = self.silences.after(Duration::ZERO);
        (self.serves && error.is_silence() && self.silences.failures() < UNANSWERED).then_some(delay)
    }
}

/// Pushes now and at each change, until a push fails permanently.
async fn push_each_change<P: ChildSpec>(
    spec: &mut P,
    admin: Arc<OwnedFd>,
    events: &mpsc::UnboundedSender<Event>,
    served: &mut bool,
) -> PushError {
    let mut answering = Answering::default();
    loop {
        match spec.push(Arc::clone(&admin)).await {
            Ok(serial) => {
                *served = true;
                answering.answered();
                let _ = events.send(Event::Serves(spec.name(), serial));
            }
            Err(error) => {
                let Some(delay) = answering.again(&error) else { return error };
                tracing::error!(
                    "{} keeps its current configuration: {error}; the push will be retried",
                    spec.name()
                );
                // The next push includes all changes until then.
                sleep(delay).await;
                continue;
            }
        }
        spec.changed().await;
    }
}

/// Stops the child: sends SIGTERM, and SIGKILL if it has not exited in time.
async fn finish(child: &mut Child) {
    let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(id) = id {
        let _ = kill_process(id, Signal::TERM);
    }
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.start_kill();
        if timeout(EXIT_GRACE, child.wait()).await.is_err() {
            tracing::error!("process {} {PINNED}", id.map_or(0, |id| id.as_raw_nonzero().get()));
        }
    }
}

/// The reason why a killed process does not exit.
const PINNED: &str =
    "was killed but does not exit: the kernel waits for a file or device that the process was passed";

/// Waits until a process was killed and still exists at the next check. There is no notification of this. One
/// of its threads is then in the kernel and closes a file whose server does not respond. The sockets stay
/// with the supervisor, so that another process can have them at once.
async fn pinned(id: u32) {
    let mut before = false;
    loop {
        sleep(LOOK).await;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let now = was_ended(&status);
        if now && before {
            return;
        }
        before = now;
    }
}

/// Returns whether a process was killed, according to /proc/PID/status: its first thread has exited, or has a
/// pending SIGKILL. A process that can exit has this state only briefly.
fn was_ended(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let killed = field("SigPnd:")
        .and_then(|pending| u64::from_str_radix(pending, 16).ok())
        .is_some_and(|pending| pending & (1 << (Signal::KILL.as_raw() - 1)) != 0);
    killed || field("State:").is_some_and(|state| state.starts_with('Z'))
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the supervisor has exited, which is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn describe(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::child::{child_spec::InheritedSockets, launch::Program};
    use std::collections::VecDeque;

    /// A child whose pushes have these results, one after the other.
    struct Scripted(VecDeque<Result<u64, PushError>>);

    impl ChildSpec for Scripted {
        fn name(&self) -> String {
            "scripted".to_owned()
        }

        fn start(&mut self) -> io::Result<(Program, InheritedSockets)> {
            Err(io::ErrorKind::Unsupported.into())
        }

        async fn push(&mut self, _: Arc<OwnedFd>) -> Result<u64, PushError> {
            self.0.pop_front().unwrap_or(Err(PushError::Closed))
        }

        async fn changed(&mut self) {}
    }

    /// Returns the states that the child served, and the error that ended its pushes.
    fn ended_by(script: impl IntoIterator<Item = Result<u64, PushError>>) -> (Vec<u64>, PushError, bool) {
        let (admin, _other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (send, mut events) = mpsc::unbounded_channel();
        let mut spec = Scripted(script.into_iter().collect());
        let mut served = false;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(push_each_change(&mut spec, Arc::new(admin), &send, &mut served));
        let mut serials = Vec::new();
        while let Ok(Event::Serves(_, serial)) = events.try_recv() {
            serials.push(serial);
        }
        (serials, error, served)
    }

    #[test]
    fn a_child_that_serves_is_not_ended_by_a_push_without_an_answer() {
        let silent = || Err(PushError::Unanswered);
        let script = [Ok(1), silent(), Err(PushError::Unread), silent(), Ok(2), silent(), Ok(3)];
        let (serials, error, served) = ended_by(script);
        assert!(served && matches!(error, PushError::Closed), "{error}");
        assert_eq!(serials, [1, 2, 3], "it is told again, and has answered then");
    }

    #[test]
    fn a_child_that_never_answered_or_breaks_the_protocol_is_ended_by_its_first_failure() {
        let (serials, error, served) = ended_by([Err(PushError::Unanswered), Ok(1)]);
        assert!(serials.is_empty() && !served && matches!(error, PushError::Unanswered), "{error}");
        let nonsense = || Err(PushError::Malformed("nonsense".to_owned()));
        let (serials, error, _) = ended_by([Ok(1), nonsense(), Ok(2)]);
        assert!(serials == [1] && matches!(error, PushError::Malformed(_)), "{error}");
        let (serials, error, _) = ended_by([Ok(1), Err(PushError::Closed), Ok(2)]);
        assert!(serials == [1] && matches!(error, PushError::Closed), "{error}");
    }

    #[test]
    fn a_child_that_hangs_for_good_is_replaced_after_so_many_pushes() {
        let mut answering = Answering::default();
        answering.answered();
        for _ in 1..UNANSWERED {
            assert!(answering.again(&PushError::Unanswered).is_some());
        }
        assert_eq!(answering.again(&PushError::Unanswered), None);
        // Positive control: an answer in between resets the count.
        answering.answered();
        assert!(answering.again(&PushError::Unanswered).is_some());
    }

    #[test]
    fn a_process_that_was_ended_is_told_from_one_that_runs() {
        let status =
            |state: &str, pending: &str| format!("Name:\tfront\nState:\t{state}\nSigPnd:\t{pending}\n");
        let (none, kill, term) = ("0000000000000000", "0000000000000100", "0000000000004000");
        assert!(was_ended(&status("Z (zombie)", none)));
        assert!(was_ended(&status("D (disk sleep)", kill)));
        assert!(!was_ended(&status("S (sleeping)", none)));
        assert!(!was_ended(&status("D (disk sleep)", term)));
        assert!(!was_ended(""));
    }
}
