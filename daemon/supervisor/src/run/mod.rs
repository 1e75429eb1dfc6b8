//! `luassld run`: binds the sockets of the configuration, starts the keeper and the fronts, passes them their
//! files and settings, and restarts them when they exit.
//!
//! Only the supervisor opens files. It does not read keys and does not read from the network.

mod bind;
mod child;
mod isolation;
mod lock;
mod numbers;
mod say;
mod slow;
mod state;
mod users;

use crate::config::{self, Finding, Loaded, Request};
use child::child_spec::{FrontSpec, KeeperSpec, Reported};
use child::{ChildTask, Event};
pub use child::{launch, programs::Programs};
pub use isolation::Isolations;
use luassl_keeper_ipc::sd_notify::SdNotify;
use say::say;
use slow::Slow;
pub use state::STATUS_SUFFIX;
use state::{Sockets, State};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
pub use users::Users;

/// The time to wait for the answer to a push that is pending after all children have exited.
const LAST_PUSH: Duration = Duration::from_secs(1);

/// Runs the supervisor until it receives a signal to end. Prints `ready` when all children serve.
///
/// # Errors
/// Returns the findings that prevented its start, or that made it give up.
pub fn run(
    request: &Request,
    programs: Programs,
    start_log: fn(luassl_settings::Log),
) -> Result<(), Vec<Finding>> {
    let Loaded { config, findings, .. } = config::load(request);
    let Some(config) = config else { return Err(findings) };
    start_log(config.log);
    say(&findings);
    let (users, findings) = Users::choose(&config).map_err(|finding| vec![finding])?;
    say(&findings);
    let (isolations, finding) = Isolations::choose(&config);
    say(finding.as_slice());
    let sockets = Sockets::bind(&config, &users).map_err(|finding| vec![finding])?;
    let (state, findings) = State::build(config, None).map_err(|finding| vec![finding])?;
    say(&findings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| vec![failed("the event loop cannot be started", &error)])?;
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        let programs = programs.for_users(&users).isolated(isolations);
        let supervisor = Supervisor::start(request.clone(), programs, (sockets, users, isolations), state)?;
        supervisor.serve().await
    });
    runtime.shutdown_timeout(LAST_PUSH);
    outcome.map_err(|finding| vec![finding])
}

fn failed(what: &str, error: &io::Error) -> Finding {
    Finding::error(None, format!("{what}: {error}"))
}

struct Supervisor {
    request: Request,
    states: watch::Sender<Arc<State>>,
    events: mpsc::UnboundedReceiver<Event>,
    stop_fronts: watch::Sender<bool>,
    stop_keeper: watch::Sender<bool>,
    fronts: JoinSet<()>,
    keeper: JoinSet<()>,
    /// The serial of the state that each child serves, by its name.
    serves: BTreeMap<String, u64>,
    /// The last configuration that all children served; `None` before the first.
    served: Option<u64>,
    isolations: Isolations,
    /// Reserves the user IDs of the children until it is dropped.
    _users: Users,
    signals: Signals,
}

struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Supervisor {
    fn start(
        request: Request,
        programs: Programs,
        (sockets, users, isolations): (Sockets, Users, Isolations),
        state: State,
    ) -> Result<Self, Finding> {
        let signals =
            Signals::listen().map_err(|error| failed("signal handlers cannot be installed", &error))?;
        let launcher: Arc<Path> = Arc::from(programs.launcher.clone());
        let (programs, sockets) = (Arc::new(programs), Arc::new(sockets));
        let names: Vec<String> = state.config.fronts.keys().cloned().collect();
        let (states, watched) = watch::channel(Arc::new(state));
        let (reports, reported) = watch::channel::<Option<Arc<Reported>>>(None);
        let (send, events) = mpsc::unbounded_channel();
        let (stop_fronts, fronts_stop) = watch::channel(false);
        let (stop_keeper, keeper_stop) = watch::channel(false);
        let (mut fronts, mut keeper) = (JoinSet::new(), JoinSet::new());
        for name in &names {
            let spec = FrontSpec::new(
                name,
                users.fronts.get(name).copied(),
                Arc::clone(&programs),
                Arc::clone(&sockets),
                watched.clone(),
                reported.clone(),
            );
            let (launcher, events, stop) = (Arc::clone(&launcher), send.clone(), fronts_stop.clone());
            fronts.spawn_local(ChildTask { spec, launcher, events, stop }.run());
        }
        let spec = KeeperSpec { programs, sockets, states: watched, reports, slow: Slow::default() };
        keeper.spawn_local(ChildTask { spec, launcher, events: send, stop: keeper_stop }.run());
        let (serves, served) = (BTreeMap::new(), None);
        Ok(Self {
            request,
            states,
            events,
            stop_fronts,
            stop_keeper,
            fronts,
            keeper,
            serves,
            served,
            isolations,
            _users: users,
            signals,
        })
    }
}

impl Supervisor {
    async fn serve(mut self) -> Result<(), Finding> {
        let outcome = loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(Event::Serves(name, serial)) => self.note(name, serial),
                    Some(Event::GaveUp(name)) => break Err(gave_up(&name)),
                    None => break Ok(()),
                },
                _ = self.signals.reload.recv() => self.reload(),
                _ = self.signals.terminate.recv() => break Ok(()),
                _ = self.signals.interrupt.recv() => break Ok(()),
            }
        };
        tracing::info!("ending");
        self.end().await;
        outcome
    }

    /// Records the answer of a child. When all children have answered, the configuration is served.
    fn note(&mut self, name: String, serial: u64) {
        self.serves.insert(name.clone(), serial);
        let current = self.states.borrow().serial;
        let children = self.fronts.len() + self.keeper.len();
        if self.serves.len() < children || self.serves.values().any(|serial| *serial != current) {
            return;
        }
        match self.served.replace(current) {
            None => announce(),
            Some(former) if former != current => {
                tracing::info!("keeper and fronts serve configuration {current}");
            }
            Some(_) => tracing::info!("{name} serves configuration {current} again"),
        }
    }

    /// Reads everything again. A configuration with an error is not applied; the previous one stays in force.
    fn reload(&mut self) {
        if let Err(finding) = self.try_reload() {
            say(&finding);
            tracing::error!("the configuration was not loaded: the previous one stays in force");
        }
    }

    fn try_reload(&mut self) -> Result<(), Vec<Finding>> {
        let Loaded { config, findings, .. } = config::load(&self.request);
        let Some(config) = config else { return Err(findings) };
        say(&findings);
        let former = self.states.borrow().clone();
        say(&state::reloadable(&former.config, &config, self.isolations).map_err(|finding| vec![finding])?);
        let (state, findings) = State::build(config, Some(&former)).map_err(|finding| vec![finding])?;
        say(&findings);
        tracing::info!("configuration {} is read", state.serial);
        self.states.send_replace(Arc::new(state));
        Ok(())
    }

    /// Stops the fronts, then the keeper, because fronts need its signatures until they exit. A second signal
    /// kills them at once.
    async fn end(mut self) {
        let orderly = async {
            self.stop_fronts.send_replace(true);
            while self.fronts.join_next().await.is_some() {}
            self.stop_keeper.send_replace(true);
            while self.keeper.join_next().await.is_some() {}
        };
        tokio::select! {
            () = orderly => {}
            _ = self.signals.terminate.recv() => {}
            _ = self.signals.interrupt.recv() => {}
        }
        self.fronts.shutdown().await;
        self.keeper.shutdown().await;
    }
}

fn gave_up(name: &str) -> Finding {
    Finding::error(None, format!("{name} did not start")).hint("see the messages above")
}

/// Reports readiness on standard output, and to systemd if systemd started this process.
fn announce() {
    let mut out = io::stdout().lock();
    // A missing reader is not an error.
    let _ = writeln!(out, "ready").and_then(|()| out.flush());
    let _ = SdNotify::from_environment().map(|sd_notify| sd_notify.map(|sd_notify| sd_notify.ready()));
    tracing::info!("ready");
}
