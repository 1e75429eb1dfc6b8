//! The differences between the keeper and the fronts: their sockets and their pushes.

use crate::config::{Config, FEW, Front, few_names};
use crate::push::{self, ANSWER_DEADLINE, Outcome, PushError, Report};
use crate::run::bind::TcpSocket;
use crate::run::child::launch::Program;
use crate::run::child::programs::Programs;
use crate::run::say::say;
use crate::run::slow::Slow;
use crate::run::state::{Sockets, State};
use luassl_sandbox::user::User;
use luassl_settings::PushReply;
use luassl_settings::Settings;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::watch;

/// The descriptor of the keeper's socket in a front that runs as another user. It follows the admin socket,
/// which is SD_LISTEN_FDS_START.
const KEEPER_FILE: i32 = 4;

/// Sockets that a child inherits at its start, by their names in LISTEN_FDNAMES.
pub(crate) type InheritedSockets = Vec<(String, OwnedFd)>;

/// Defines how one kind of child is started and configured.
pub(crate) trait ChildSpec {
    /// Returns the name for the log.
    fn name(&self) -> String;

    /// Returns the program and the sockets for a new start.
    fn start(&mut self) -> io::Result<(Program, InheritedSockets)>;

    /// Pushes the current state. Returns the serial of the state when the child has answered.
    async fn push(&mut self, admin: Arc<OwnedFd>) -> Result<u64, PushError>;

    /// Waits until there is a new state to push.
    async fn changed(&mut self);
}

/// The keeper's report on a state.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) state: Arc<State>,
    pub(crate) report: Report,
}

/// The keeper.
pub(crate) struct KeeperSpec {
    pub(crate) programs: Arc<Programs>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) states: watch::Receiver<Arc<State>>,
    pub(crate) reports: watch::Sender<Option<Arc<Reported>>>,
    pub(crate) slow: Slow,
}

impl ChildSpec for KeeperSpec {
    fn name(&self) -> String {
        "keeper".to_owned()
    }

    fn start(&mut self) -> io::Result<(Program, InheritedSockets)> {
        self.slow.begin();
        let sockets = self.sockets.keeper.iter().map(|(name, socket)| held(format!("front.{name}"), socket));
        let mut program = self.programs.keeper.clone();
        let format = self.states.borrow().config.log.format;
        program.arguments.extend(["--log-format".to_owned(), format.name().to_owned()]);
        Ok((program, sockets.collect::<io::Result<_>>()?))
    }

    async fn push(&mut self, admin: Arc<OwnedFd>) -> Result<u64, PushError> {
        let state = self.states.borrow_and_update().clone();
        let serial = state.serial;
        let (pushed, mut caution) = (Arc::clone(&state), self.slow.caution(serial));
        let (outcome, learned) = blocking(move || {
            let outcome =
                push::push_keeper_within(admin.as_fd(), &pushed.config, &mut caution, ANSWER_DEADLINE);
            Ok((outcome, caution))
        })
        .await?;
        if let Some((name, _)) = &learned.stuck {
            tracing::error!("the keeper hangs on the files of identity `{name}`");
        }
        self.slow.learn(learned, outcome.is_ok());
        let report = outcome?;
        log(&report, &state.config);
        self.reports.send_replace(Some(Arc::new(Reported { state, report })));
        Ok(serial)
    }

    async fn changed(&mut self) {
        // The other identities are served, so the postponed identities are pushed now.
        if !self.slow.take_due() {
            next(&mut self.states).await;
        }
    }
}

/// Logs a line for each identity that was renewed or has an error, and one line for all. At most a few
/// discovered identities have a line of their own.
fn log(report: &Report, config: &Config) {
    say(&report.findings);
    let mut of_directories = 0;
    for (name, outcome) in &report.outcomes {
        let Outcome::Loaded(loaded) = outcome else { continue };
        if !loaded.changed || loaded.generation <= 1 {
            continue;
        }
        let is_discovered = config.identities.get(name).is_some_and(|identity| identity.discovered);
        of_directories += usize::from(is_discovered);
        if !is_discovered || of_directories <= FEW {
            tracing::info!(
                "identity `{name}` is renewed: {}, generation {}",
                loaded.key_type,
                loaded.generation
            );
        }
    }
    if let Some(more) = of_directories.checked_sub(FEW).filter(|more| *more > 0) {
        tracing::info!("and {more} more identities from directories are renewed");
    }
    tracing::info!("{}", summary(report));
}

fn summary(report: &Report) -> String {
    let sum = format!("the keeper serves {} of {} identities", report.serving(), report.declared());
    match report.former().count() {
        0 => sum,
        count => format!("{sum}, {count} of them as before: {}", few_names(report.former())),
    }
}

/// A front.
pub(crate) struct FrontSpec {
    name: String,
    user: Option<User>,
    programs: Arc<Programs>,
    sockets: Arc<Sockets>,
    states: watch::Receiver<Arc<State>>,
    reports: watch::Receiver<Option<Arc<Reported>>>,
    /// The listeners that this run of the front has received.
    handed: Vec<(String, Arc<TcpSocket>)>,
    /// The settings that the front has received last.
    told: Option<Arc<Settings>>,
    /// The settings that were sent and not answered in time. Nothing else is sent before that answer arrives.
    owed: Option<Sent>,
}

/// Settings that were sent to a front.
struct Sent {
    settings: Arc<Settings>,
    fresh: Vec<(String, Arc<TcpSocket>)>,
}

impl FrontSpec {
    pub(crate) fn new(
        name: &str,
        user: Option<User>,
        programs: Arc<Programs>,
        sockets: Arc<Sockets>,
        states: watch::Receiver<Arc<State>>,
        reports: watch::Receiver<Option<Arc<Reported>>>,
    ) -> Self {
        let name = name.to_owned();
        Self { name, user, programs, sockets, states, reports, handed: Vec::new(), told: None, owed: None }
    }

    /// Returns the front's part of a configuration. A reload neither adds nor removes fronts.
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

    /// Returns the state in force after the keeper has reported on it. A front that has not received settings
    /// yet does not wait for a busy keeper: it begins with the previous state.
    async fn current(&mut self) -> Arc<Reported> {
        loop {
            let serial = self.states.borrow_and_update().serial;
            let reported = self.reports.borrow_and_update().clone();
            match reported {
                Some(reported) if reported.state.serial == serial || self.told.is_none() => return reported,
                _ => self.changed().await,
            }
        }
    }

    /// Sends settings to the front. If the new settings are too large for a front that already has settings,
    /// the front receives a part of them. The withdrawal of a grant is always included.
    async fn tell(
        &mut self,
        admin: Arc<OwnedFd>,
        settings: Arc<Settings>,
        fresh: Vec<(String, Arc<TcpSocket>)>,
    ) -> Result<(), PushError> {
        let Some(former) = self.told.clone() else { return self.send(admin, settings, fresh).await };
        let mut outcome = self.send(Arc::clone(&admin), Arc::clone(&settings), fresh.clone()).await;
        if let Err(error @ PushError::TooLarge { .. }) = &outcome {
            tracing::error!("front `{}` keeps its previous trusts: {error}", self.name);
            let less = with_former_trusts(&settings, &former);
            outcome = self.send(Arc::clone(&admin), Arc::new(less), fresh).await;
        }
        if let Err(error @ PushError::TooLarge { .. }) = &outcome {
            tracing::error!(
                "front `{}` keeps its previous settings, without the grants that were removed: {error}",
                self.name
            );
            // New sockets are left out too.
            outcome = self.send(admin, Arc::new(with_common_grants(&settings, &former)), Vec::new()).await;
        }
        outcome
    }

    async fn send(
        &mut self,
        admin: Arc<OwnedFd>,
        settings: Arc<Settings>,
        fresh: Vec<(String, Arc<TcpSocket>)>,
    ) -> Result<(), PushError> {
        let sent = Sent { settings: Arc::clone(&settings), fresh: fresh.clone() };
        let reply = blocking(move || {
            let listeners: Vec<(String, BorrowedFd<'_>)> =
                fresh.iter().map(|(name, socket)| (name.clone(), socket.as_fd())).collect();
            push::send_settings(admin.as_fd(), &settings, &listeners)
        })
        .await;
        match reply {
            Err(error @ PushError::Unanswered) => {
                self.owed = Some(sent);
                Err(error)
            }
            Err(error) => Err(error),
            Ok(reply) => {
                self.has_taken(sent, &reply);
                Ok(())
            }
        }
    }

    /// Waits for an overdue answer. It refers to the settings that were sent then, not to later ones.
    async fn settle(&mut self, admin: Arc<OwnedFd>) -> Result<(), PushError> {
        let Some(sent) = self.owed.take() else { return Ok(()) };
        match blocking(move || push::late_reply(admin.as_fd())).await {
            Ok(reply) => {
                self.has_taken(sent, &reply);
                Ok(())
            }
            Err(error) => {
                self.owed = Some(sent);
                Err(error)
            }
        }
    }

    /// Records the front's answer.
    fn has_taken(&mut self, Sent { settings, fresh }: Sent, reply: &PushReply) {
        for fault in &reply.faults {
            tracing::error!("front `{}`: {fault}", self.name);
        }
        let is_fresh = |name: &String| fresh.iter().any(|(new, _)| new == name);
        self.handed.retain(|(name, _)| settings.listeners.contains(name) && !is_fresh(name));
        self.handed.extend(fresh);
        self.told = Some(settings);
    }
}

/// Returns the new settings with the former trusts. Only trusts have no limit that leaves space for
/// everything else.
fn with_former_trusts(new: &Settings, former: &Settings) -> Settings {
    Settings { trusts: former.trusts.clone(), ..new.clone() }
}

/// Returns the previous settings, which fitted, with only those of their grants that the new ones also
/// contain.
fn with_common_grants(new: &Settings, former: &Settings) -> Settings {
    let mut common = former.clone();
    common.grants.retain(|grant| new.grants.contains(grant));
    common
}

impl ChildSpec for FrontSpec {
    fn name(&self) -> String {
        format!("front `{}`", self.name)
    }

    fn start(&mut self) -> io::Result<(Program, InheritedSockets)> {
        let state = self.states.borrow().clone();
        let front = self.front(&state)?;
        let mut sockets = InheritedSockets::new();
        // The keeper's file comes directly after the admin socket, because the front finds it by its number.
        if let Some(keeper) = self.sockets.keeper.get(&self.name).filter(|_| self.user.is_some()) {
            sockets.push((luassl_settings::KEEPER_FILE.to_owned(), keeper.file()?));
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
        (self.told, self.owed) = (None, None);
        Ok((self.program(), sockets))
    }

    async fn push(&mut self, admin: Arc<OwnedFd>) -> Result<u64, PushError> {
        self.settle(Arc::clone(&admin)).await?;
        let reported = self.current().await;
        let state = &reported.state;
        let Ok(front) = self.front(state) else { return Ok(state.serial) };
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

/// Waits for the next value. Waits forever if there can be no further value.
async fn next<T>(values: &mut watch::Receiver<T>) {
    if values.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Runs a push on its own thread, where it waits for its answer. The supervisor still receives signals
/// meanwhile.
async fn blocking<T: Send + 'static>(
    push: impl FnOnce() -> Result<T, PushError> + Send + 'static,
) -> Result<T, PushError> {
    match tokio::task::spawn_blocking(push).await {
        Ok(outcome) => outcome,
        Err(_) => Err(PushError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Request, load_text};
    use crate::run::users::Users;
    use luassl_keeper_ipc::transport::{self, RecvError, RecvFlags, SendFlags};
    use luassl_settings::{IdentitySettings, TrustSettings};
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::path::Path;

    /// Returns a front with a state in the supervisor, and the settings of that state.
    fn front(directory: &Path) -> (FrontSpec, Settings) {
        let text = format!("[control]\nsocket = '{}'", directory.join("control").display());
        let config = load_text(Path::new("/x.toml"), &text, &Request::default()).config.expect("good");
        let sockets = Sockets::bind(&config, &Users::default()).expect("bound");
        let state = Arc::new(State::build(config, None).expect("a state").0);
        let (name, front) = state.config.fronts.first_key_value().expect("a front");
        let report = Report::default();
        let settings = push::for_front(name, front, &state.config, &state.trusts, Some(&report));
        let name = name.clone();
        let reported = Reported { state: Arc::clone(&state), report };
        let program = Program { file: "/nonexistent".into(), arguments: Vec::new() };
        let programs = Programs { launcher: "/nonexistent".into(), keeper: program.clone(), front: program };
        let (_, states) = watch::channel(state);
        let (_, reports) = watch::channel(Some(Arc::new(reported)));
        (FrontSpec::new(&name, None, programs.into(), sockets.into(), states, reports), settings)
    }

    /// Pushes to a front that has sent this number of answers. Returns the result, and whether an answer is
    /// left.
    fn pushed(spec: &mut FrontSpec, answers: usize) -> (Result<u64, PushError>, bool) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair");
        for _ in 0..answers {
            let answer = PushReply::default().encode();
            transport::send(&theirs, &answer, &[], SendFlags::empty()).expect("sent");
        }
        let ours = Arc::new(ours);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = runtime.block_on(spec.push(Arc::clone(&ours)));
        let left = transport::recv(&*ours, &mut [0; 64], 0, RecvFlags::DONTWAIT);
        (outcome, !matches!(left, Err(RecvError::System(Errno::AGAIN))))
    }

    #[test]
    fn a_front_that_starts_while_the_keeper_is_busy_begins_with_the_state_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut spec, settings) = front(directory.path());
        let before = spec.states.borrow().clone();
        let (next, _) = State::build(before.config.clone(), Some(&before)).expect("a state");
        assert_eq!((before.serial, next.serial), (1, 2));
        let (_states, states) = watch::channel(Arc::new(next));
        spec.states = states;
        let (outcome, _) = pushed(&mut spec, 1);
        assert!(matches!(outcome, Ok(1)), "{outcome:?}");
        assert_eq!(spec.told.as_deref(), Some(&settings));
        // Positive control: a front that already serves waits for the keeper's report.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = spec.current() => panic!("it did not wait"),
                () = tokio::task::yield_now() => {}
            }
        });
    }

    #[test]
    fn a_front_whose_settings_are_too_large_has_the_grants_withdrawn_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut spec, settings) = front(directory.path());
        let text = |uids: &[u32]| -> String {
            uids.iter().map(|uid| format!("[[grant]]\nuser = {uid}\nidentities = ['*']\n")).collect()
        };
        let grants = |uids: &[u32]| {
            load_text(Path::new("/x.toml"), &text(uids), &Request::default()).config.expect("good").grants
        };
        let former = Arc::new(Settings { grants: grants(&[1, 2]), ..settings.clone() });
        // The value is larger than a datagram can be.
        let large = "x".repeat(65 << 20);
        let trust = TrustSettings { certificates: vec![large.clone().into_bytes().into()], crls: Vec::new() };
        let told = |spec: &mut FrontSpec, new: Settings| {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                    .expect("a pair");
            transport::send(&theirs, &PushReply::default().encode(), &[], SendFlags::empty()).expect("sent");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(spec.tell(Arc::new(ours), Arc::new(new), Vec::new()))
        };
        let new = Settings { grants: grants(&[2, 3]), ..settings.clone() };
        // A trust that became too large is not changed. Everything else has its new value.
        let grown = Settings { trusts: [("big".to_owned(), trust)].into(), ..new.clone() };
        spec.told = Some(Arc::clone(&former));
        told(&mut spec, grown.clone()).expect("told");
        assert_eq!(spec.told.as_deref(), Some(&new));
        // If another part is too large, no new settings are sent, but the grant of user 1 is removed.
        let alias = IdentitySettings { aliases: vec![large], fault: None };
        let long = Settings { identities: [("a".to_owned(), alias)].into(), ..new.clone() };
        spec.told = Some(Arc::clone(&former));
        told(&mut spec, long).expect("told");
        let common = Settings { grants: grants(&[2]), ..settings };
        assert_eq!(spec.told.as_deref(), Some(&common));
        // Positive control: settings within the limit are sent completely. A front without settings does not
        // receive a part.
        spec.told = Some(former);
        told(&mut spec, new.clone()).expect("told");
        assert_eq!(spec.told.as_deref(), Some(&new));
        spec.told = None;
        assert!(matches!(told(&mut spec, grown), Err(PushError::TooLarge { .. })));
    }

    #[test]
    fn a_late_answer_of_a_front_is_about_what_it_was_sent_then() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut spec, settings) = front(directory.path());
        let settings = Arc::new(settings);
        // Other settings were sent to the front, and it answers those first.
        let former = Arc::new(Settings { session_lifetime_s: 1, ..Settings::clone(&settings) });
        spec.owed = Some(Sent { settings: Arc::clone(&former), fresh: Vec::new() });
        let (outcome, has_more) = pushed(&mut spec, 2);
        assert!(outcome.is_ok() && !has_more, "{outcome:?}");
        assert!(spec.owed.is_none() && spec.told.as_ref() == Some(&settings));
        // Positive control: without an overdue answer, the first answer belongs to the push, and a second one
        // is an error.
        spec.told = Some(former);
        let (outcome, has_more) = pushed(&mut spec, 2);
        assert!(outcome.is_ok() && has_more, "{outcome:?}");
        // The settings with the overdue answer are those in force. Nothing else needs to be sent.
        spec.told = None;
        spec.owed = Some(Sent { settings: Arc::clone(&settings), fresh: Vec::new() });
        let (outcome, has_more) = pushed(&mut spec, 1);
        assert!(outcome.is_ok() && !has_more, "{outcome:?}");
        assert!(spec.owed.is_none() && spec.told == Some(settings));
    }
}
