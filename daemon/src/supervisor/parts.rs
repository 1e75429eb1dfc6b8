//! What is different about the keeper and a front: their sockets, and their push.

use super::bind::TcpSocket;
use super::launch::Program;
use super::state::{Sockets, State};
use super::{Programs, say};
use crate::config::Front;
use crate::listen_fds;
use crate::push::{self, Outcome, PushError, Report};
use crate::settings::Settings;
use luassl_sandbox::user::User;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::watch;

/// The descriptor of the keeper's socket in a front of another user: behind the admin socket, which is
/// SD_LISTEN_FDS_START.
const KEEPER_FILE: i32 = 4;

/// Sockets that a child gets when it starts, by their names in LISTEN_FDNAMES.
pub(super) type Held = Vec<(String, OwnedFd)>;

/// A kind of child.
pub(super) trait Part {
    /// For the log.
    fn name(&self) -> String;

    /// Its program and its sockets, for a new life of it.
    fn start(&mut self) -> io::Result<(Program, Held)>;

    /// Hands it what is in force; gives the serial of that state once it has answered.
    async fn push(&mut self, admin: Arc<OwnedFd>) -> Result<u64, PushError>;

    /// Waits until there is something new to push.
    async fn changed(&mut self);
}

/// What the keeper said about a state.
#[derive(Debug)]
pub(super) struct Reported {
    pub(super) serial: u64,
    pub(super) report: Report,
}

/// The keeper.
pub(super) struct KeeperPart {
    pub(super) programs: Arc<Programs>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) states: watch::Receiver<Arc<State>>,
    pub(super) reports: watch::Sender<Option<Arc<Reported>>>,
}

impl Part for KeeperPart {
    fn name(&self) -> String {
        "keeper".to_owned()
    }

    fn start(&mut self) -> io::Result<(Program, Held)> {
        let sockets = self.sockets.keeper.iter().map(|(name, socket)| held(format!("front.{name}"), socket));
        let mut program = self.programs.keeper.clone();
        let format = self.states.borrow().config.log.format;
        program.arguments.extend(["--log-format".to_owned(), format.name().to_owned()]);
        Ok((program, sockets.collect::<io::Result<_>>()?))
    }

    async fn push(&mut self, admin: Arc<OwnedFd>) -> Result<u64, PushError> {
        let state = self.states.borrow_and_update().clone();
        let serial = state.serial;
        let report = blocking(move || push::push_keeper(admin.as_fd(), &state.config)).await?;
        log(&report);
        self.reports.send_replace(Some(Arc::new(Reported { serial, report })));
        Ok(serial)
    }

    async fn changed(&mut self) {
        next(&mut self.states).await;
    }
}

/// A line for each identity that was renewed or is not as it should be, and one for all.
fn log(report: &Report) {
    say(&report.findings);
    for (name, outcome) in &report.outcomes {
        let Outcome::Loaded(loaded) = outcome else { continue };
        if loaded.changed && loaded.generation > 1 {
            tracing::info!(
                "identity `{name}` is renewed: {}, generation {}",
                loaded.key_type,
                loaded.generation
            );
        }
    }
    tracing::info!("{}", summary(report));
}

fn summary(report: &Report) -> String {
    let sum = format!("the keeper serves {} of {} identities", report.serving(), report.declared());
    let former: Vec<String> = report.former().map(|name| format!("`{name}`")).collect();
    match former.len() {
        0 => sum,
        count => format!("{sum}, {count} of them as before: {}", former.join(", ")),
    }
}

/// A front.
pub(super) struct FrontPart {
    name: String,
    user: Option<User>,
    programs: Arc<Programs>,
    sockets: Arc<Sockets>,
    states: watch::Receiver<Arc<State>>,
    reports: watch::Receiver<Option<Arc<Reported>>>,
    /// Listeners that this life of the front has.
    handed: Vec<(String, Arc<TcpSocket>)>,
    /// What it was told last.
    told: Option<Arc<Settings>>,
}

impl FrontPart {
    pub(super) fn new(
        name: &str,
        user: Option<User>,
        programs: Arc<Programs>,
        sockets: Arc<Sockets>,
        states: watch::Receiver<Arc<State>>,
        reports: watch::Receiver<Option<Arc<Reported>>>,
    ) -> Self {
        let name = name.to_owned();
        Self { name, user, programs, sockets, states, reports, handed: Vec::new(), told: None }
    }

    /// Its part of a configuration; a reload neither adds nor removes fronts.
    fn front<'a>(&self, state: &'a State) -> io::Result<&'a Front> {
        state.config.fronts.get(&self.name).ok_or_else(|| io::Error::other("it is not in the configuration"))
    }

    fn program(&self) -> Program {
        let Program { file, arguments } = &self.programs.front;
        let mut arguments = arguments.clone();
        if let Some(keeper) = self.sockets.keeper.get(&self.name) {
            let path = match self.user {
                None => keeper.path().display().to_string(),
                Some(_) => format!("/proc/self/fd/{KEEPER_FILE}"),
            };
            arguments.extend(["--name".to_owned(), self.name.clone()]);
            arguments.extend(["--keeper".to_owned(), path]);
        }
        if let Some(user) = self.user {
            arguments.extend(["--user".to_owned(), user.to_string()]);
        }
        let log = self.states.borrow().config.log;
        arguments.extend(["--log-level".to_owned(), log.level.to_string().to_lowercase()]);
        arguments.extend(["--log-format".to_owned(), log.format.name().to_owned()]);
        Program { file: file.clone(), arguments }
    }

    /// The state in force, once the keeper has had its word about it.
    async fn current(&mut self) -> (Arc<State>, Arc<Reported>) {
        loop {
            let state = self.states.borrow_and_update().clone();
            let reported = self.reports.borrow_and_update().clone();
            match reported {
                Some(reported) if reported.serial == state.serial => return (state, reported),
                _ => self.changed().await,
            }
        }
    }

    /// Tells the front, and gives back what it found to complain of.
    async fn tell(
        &mut self,
        admin: Arc<OwnedFd>,
        settings: Arc<Settings>,
        fresh: Vec<(String, Arc<TcpSocket>)>,
    ) -> Result<(), PushError> {
        let told = Arc::clone(&settings);
        let handed = fresh.clone();
        let reply = blocking(move || {
            let listeners: Vec<(String, BorrowedFd<'_>)> =
                fresh.iter().map(|(name, socket)| (name.clone(), socket.as_fd())).collect();
            push::send_settings(admin.as_fd(), &settings, &listeners)
        })
        .await;
        match reply {
            Err(error @ PushError::TooLarge { .. }) if self.told.is_some() => {
                tracing::error!("front `{}` goes on with its former settings: {error}", self.name);
                return Ok(());
            }
            other => {
                for fault in other?.faults {
                    tracing::error!("front `{}`: {fault}", self.name);
                }
            }
        }
        self.handed
            .retain(|(name, _)| told.listeners.contains(name) && !handed.iter().any(|(new, _)| new == name));
        self.handed.extend(handed);
        self.told = Some(told);
        Ok(())
    }
}

impl Part for FrontPart {
    fn name(&self) -> String {
        format!("front `{}`", self.name)
    }

    fn start(&mut self) -> io::Result<(Program, Held)> {
        let state = self.states.borrow().clone();
        let front = self.front(&state)?;
        let mut sockets = Held::new();
        // First of them, since it goes by its number.
        if let Some(keeper) = self.sockets.keeper.get(&self.name).filter(|_| self.user.is_some()) {
            sockets.push((listen_fds::KEEPER.to_owned(), keeper.file()?));
        }
        if front.control {
            sockets.push(held("control".to_owned(), &self.sockets.control)?);
        }
        for (name, socket) in self.sockets.named.iter().filter(|(name, _)| front.sockets.contains(*name)) {
            sockets.push(held(format!("socket.{name}"), socket)?);
        }
        if let Some(status) = self.sockets.status.get(&self.name) {
            sockets.push(held("status".to_owned(), status)?);
        }
        let listeners = state.listeners.iter().filter(|(name, _)| front.listeners.contains(*name));
        self.handed = listeners.map(|(name, socket)| (name.clone(), Arc::clone(socket))).collect();
        for (name, socket) in &self.handed {
            sockets.push(held(format!("listener.{name}"), &**socket)?);
        }
        self.told = None;
        Ok((self.program(), sockets))
    }

    async fn push(&mut self, admin: Arc<OwnedFd>) -> Result<u64, PushError> {
        let (state, reported) = self.current().await;
        let Ok(front) = self.front(&state) else { return Ok(state.serial) };
        let settings =
            push::for_front(&self.name, front, &state.config, &state.trusts, Some(&reported.report));
        let had = |name: &String, socket: &Arc<TcpSocket>| {
            self.handed.iter().any(|(known, kept)| known == name && Arc::ptr_eq(kept, socket))
        };
        let fresh: Vec<(String, Arc<TcpSocket>)> = state
            .listeners
            .iter()
            .filter(|(name, socket)| front.listeners.contains(*name) && !had(name, socket))
            .map(|(name, socket)| (name.clone(), Arc::clone(socket)))
            .collect();
        if !fresh.is_empty() || self.told.as_deref() != Some(&settings) {
            self.tell(admin, Arc::new(settings), fresh).await?;
        }
        Ok(state.serial)
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = next(&mut self.states) => {}
            () = next(&mut self.reports) => {}
        }
    }
}

fn held(name: String, socket: &impl AsFd) -> io::Result<(String, OwnedFd)> {
    Ok((name, socket.as_fd().try_clone_to_owned()?))
}

/// The next value; never, once there can be none.
async fn next<T>(values: &mut watch::Receiver<T>) {
    if values.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// A push waits for its answer on a thread of its own, so that the supervisor still hears signals.
async fn blocking<T: Send + 'static>(
    push: impl FnOnce() -> Result<T, PushError> + Send + 'static,
) -> Result<T, PushError> {
    match tokio::task::spawn_blocking(push).await {
        Ok(outcome) => outcome,
        Err(_) => Err(PushError::Closed),
    }
}
