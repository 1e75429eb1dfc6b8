//! Serves the supervisor: one push at a time, only from root or from the keeper's own user.

use crate::arena::{self, Kind};
use crate::crypto::{SecretFile, TicketRoot};
use crate::identities::identity::{Files, Identity, LoadFault};
use crate::identities::registry::{Push, Registry};
use crate::identities::tickets::{Plan, Root};
use crate::limits::{ADMIN_IDLE, FRONTS_MAX, IDENTITIES_MAX, LOAD_MIN_FREE, RETRY_PAUSE, TICKET_ROOT_MAX};
use crate::log;
use crate::serve::signers::Signers;
use crate::serve::socket::{self, Incoming, Unreceived};
use luassl_keeper_ipc::admin::{self, Answer, Blamed, DESCRIPTORS_MAX, Failed, Fault, Loaded, Request};
use luassl_keeper_ipc::sd_notify::SdNotify;
use luassl_keeper_ipc::transport::{PollFlags, RecvFlags, wait};
use luassl_keeper_ipc::{Malformed, TooLong};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The reason why the connection of the supervisor was dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error("user {0} is neither root nor the keeper's own")]
    UnauthorizedPeer(u32),
    #[error("it sent an invalid request: {0}")]
    Malformed(#[from] Malformed),
    #[error("a request had more than {max} bytes", max = admin::REQUEST_MAX)]
    Oversized,
    #[error("it sent more descriptors than an identity has files, or than the keeper may open")]
    Descriptors,
    #[error("more than {FRONTS_MAX} fronts")]
    Fronts,
    #[error("it sent nothing for {} seconds while other pushes wait", ADMIN_IDLE.as_secs())]
    Idle,
    #[error("an answer was too long")]
    Answer(#[from] TooLong),
    #[error("the socket failed: {0}")]
    System(#[from] Errno),
}

impl From<Unreceived> for Broken {
    fn from(unreceived: Unreceived) -> Self {
        match unreceived {
            Unreceived::Oversized => Self::Oversized,
            Unreceived::Descriptors => Self::Descriptors,
            Unreceived::System(error) => error.into(),
        }
    }
}

/// Accepts and serves connections, one after the other, until the process ends.
pub(crate) fn listen(
    registry: &Registry,
    signers: &Signers,
    listener: &OwnedFd,
    sd_notify: Option<&SdNotify>,
) {
    loop {
        match socket::accept(listener) {
            Ok(socket) => serve(registry, signers, &socket, Some(ADMIN_IDLE), sd_notify),
            Err(error) => {
                log::warning(format_args!("admin: a connection was not accepted: {error}"));
                std::thread::sleep(RETRY_PAUSE);
            }
        }
    }
}

/// Serves one connection until it ends.
pub(crate) fn serve(
    registry: &Registry,
    signers: &Signers,
    socket: &OwnedFd,
    idle: Option<Duration>,
    sd_notify: Option<&SdNotify>,
) {
    let told = Told { sd_notify, reloading: false };
    let mut session =
        Session { registry, signers, socket, idle, push: Push::default(), out: Vec::new(), told };
    if let Err(broken) = session.run() {
        log::warning(format_args!("admin: the connection was dropped: {broken}"));
    }
}

struct Session<'a> {
    registry: &'a Registry,
    /// The threads that do all work with keys.
    signers: &'a Signers,
    socket: &'a OwnedFd,
    idle: Option<Duration>,
    push: Push,
    out: Vec<u8>,
    told: Told<'a>,
}

/// The last notification of the service manager about the current push.
struct Told<'a> {
    sd_notify: Option<&'a SdNotify>,
    reloading: bool,
}

impl Told<'_> {
    fn begun(&mut self) {
        if !std::mem::replace(&mut self.reloading, true) {
            log::told(self.sd_notify.map(SdNotify::reloading));
        }
    }

    fn done(&mut self) {
        if std::mem::replace(&mut self.reloading, false) {
            log::told(self.sd_notify.map(SdNotify::ready));
        }
    }
}

/// Notifies the service manager of the end of the push, even if the push was aborted.
impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.done();
    }
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), Broken> {
        let uid = socket_peercred(self.socket)?.uid;
        if !uid.is_root() && uid != rustix::process::geteuid() {
            return Err(Broken::UnauthorizedPeer(uid.as_raw()));
        }
        let mut buffer = vec![0; admin::REQUEST_MAX];
        while self.receive(&mut buffer)? {}
        Ok(())
    }

    /// Receives one request. Returns `false` at the end of the connection.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, Broken> {
        let [ready] = wait([self.socket.as_fd()], PollFlags::IN, self.idle)?;
        if !ready {
            return Err(Broken::Idle);
        }
        match socket::receive(self.socket, buffer, DESCRIPTORS_MAX, RecvFlags::DONTWAIT)? {
            Incoming::End => Ok(false),
            Incoming::Nothing => Ok(true),
            Incoming::Datagram(length, descriptors) => {
                let request = Request::decode(buffer.get(..length).unwrap_or_default())?;
                self.answer(request, descriptors).map(|()| true)
            }
        }
    }

    fn answer(&mut self, request: Request<'_>, descriptors: Vec<OwnedFd>) -> Result<(), Broken> {
        if request != Request::Status {
            self.told.begun();
        }
        match request {
            Request::Begin { serial } => {
                self.push = Push::default();
                self.send(&Answer::Begun { serial })
            }
            Request::Front { name, rights, all, identities } => {
                #[cfg(feature = "hostile")]
                attack(name);
                if self.push.front(name, rights, all, &identities) { Ok(()) } else { Err(Broken::Fronts) }
            }
            Request::Identity { name, files } => self.identity(name, files, descriptors),
            Request::Tickets { domains, .. } if domains.len() > FRONTS_MAX => Err(Broken::Fronts),
            Request::Tickets { epoch, root, domains } => self.tickets(epoch, root, &domains, descriptors),
            Request::Rates(rates) => {
                self.push.rates(rates);
                Ok(())
            }
            Request::Handshake { deadline_ms } => {
                self.push.handshake(Duration::from_millis(deadline_ms.into()));
                Ok(())
            }
            Request::Status => self.status(),
            Request::Commit => {
                let push = std::mem::take(&mut self.push);
                self.signers.run(|| self.registry.commit(push, Instant::now()));
                self.told.done();
                let warnings = arena::kind().and_then(Kind::warning).into_iter().collect();
                self.send(&Answer::Committed { warnings })
            }
        }
    }

    fn identity(&mut self, name: &str, files: admin::Files, descriptors: Vec<OwnedFd>) -> Result<(), Broken> {
        let admitted = if self.push.has_capacity_for(name) { check_memory() } else { Err(full()) };
        match admitted
            .and_then(|()| assign(files, descriptors))
            .and_then(|files| self.signers.run(|| load(files)))
        {
            Ok(identity) => self.loaded(name, identity),
            Err(fault) => {
                let named = fault.kind != Fault::Limit || self.push.has_capacity_for(name);
                if named {
                    self.push.identity(name, None);
                }
                let keeps_previous = named && self.registry.serves(name);
                let LoadFault { file, kind, reason } = fault;
                self.send(&Answer::Failed(Failed { name, file, kind, keeps_previous, reason: &reason }))
            }
        }
    }

    fn tickets(
        &mut self,
        epoch: u32,
        given: bool,
        domains: &[(&str, &str)],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Broken> {
        let root = if given {
            self.signers.run(|| ticket_root(descriptors)).map(Root::Given)
        } else {
            Ok(Root::Own)
        };
        let (root, fault) = root.map_or_else(|fault| (Root::Failed, Some(fault)), |root| (root, None));
        let domain = |(front, domain): &(&str, &str)| ((*front).to_owned(), (*domain).to_owned());
        self.push.tickets(Plan { epoch, root, domains: domains.iter().map(domain).collect() });
        match fault {
            None => self.send(&Answer::TicketsTaken),
            Some((kind, reason)) => self.send(&Answer::TicketsFailed { kind, reason: &reason }),
        }
    }

    fn status(&mut self) -> Result<(), Broken> {
        for (front, usage) in self.registry.usage() {
            for (identity, tally) in usage.counts.tallies() {
                self.send(&Answer::Count(tally.message(&front, &identity)))?;
            }
        }
        self.send(&Answer::Counted)
    }

    fn loaded(&mut self, name: &str, identity: Identity) -> Result<(), Broken> {
        let public = Arc::clone(&identity.public);
        let (changed, generation) = self.registry.preview(name, &public);
        let key_type = identity.key.kind().to_string();
        // An identity that is already in service is not kept twice.
        self.push.identity(name, changed.then_some(identity));
        self.send(&Answer::Loaded(Loaded {
            name,
            generation,
            changed,
            key_type: &key_type,
            key_id: public.key_id,
            chain: public.chain.iter().map(Vec::as_slice).collect(),
        }))
    }

    fn send(&mut self, answer: &Answer<'_>) -> Result<(), Broken> {
        answer.encode(&mut self.out)?;
        Ok(socket::send_soon(self.socket, &self.out)?)
    }
}

/// Performs the attempt that the name of a front selects: `hostile-keeper-ATTEMPT`.
#[cfg(feature = "hostile")]
fn attack(front: &str) {
    if let Some(attempt) = front.strip_prefix("hostile-keeper-") {
        log::line(format_args!("hostile: {attempt}"));
        let outcome = luassl_sandbox::hostile::attempt(attempt);
        log::line(format_args!("hostile: {attempt}: {outcome:?}"));
    }
}

/// Reads the root of the ticket keys.
fn ticket_root(descriptors: Vec<OwnedFd>) -> Result<Arc<TicketRoot>, (Fault, String)> {
    let file = match <[OwnedFd; 1]>::try_from(descriptors) {
        Ok([file]) => SecretFile::read(file.as_fd(), TICKET_ROOT_MAX),
        Err(_) => return Err((Fault::Internal, "the supervisor passed no descriptor for it".to_owned())),
    };
    let file = file.map_err(|fault| (Fault::Unreadable, fault.to_string()))?;
    TicketRoot::from_file(file).map(Arc::new).ok_or_else(|| {
        let least = TicketRoot::MIN_LEN;
        (Fault::Unsupported, format!("it has fewer than {least} bytes"))
    })
}

/// Checks the free memory. Reading an identity must not use the memory that signatures need.
fn check_memory() -> Result<(), LoadFault> {
    match arena::capacity() {
        Some((free, all)) if free < LOAD_MIN_FREE => Err(out_of_memory(all)),
        _ => Ok(()),
    }
}

/// Loads the files. Does not blame a file if the keeper ran out of memory.
fn load(files: Files) -> Result<Identity, LoadFault> {
    let before = arena::refused();
    files.load().map_err(|fault| match arena::capacity() {
        Some((_, all)) if arena::refused() != before => out_of_memory(all),
        _ => fault,
    })
}

fn out_of_memory(all: usize) -> LoadFault {
    let reason = format!(
        "the keeper's secret memory of {} KiB is full: raise RLIMIT_MEMLOCK (LimitMEMLOCK= of the unit) and restart \
         it",
        all >> 10
    );
    LoadFault { file: Blamed::None, kind: Fault::Limit, reason }
}

fn full() -> LoadFault {
    let reason = format!("at most {IDENTITIES_MAX} identities are allowed");
    LoadFault { file: Blamed::None, kind: Fault::Limit, reason }
}

/// Assigns each descriptor to its file, in the order of the protocol.
fn assign(files: admin::Files, descriptors: Vec<OwnedFd>) -> Result<Files, LoadFault> {
    let wrong = || LoadFault {
        file: Blamed::None,
        kind: Fault::Internal,
        reason: "the supervisor did not pass a descriptor for each file".to_owned(),
    };
    if !files.key || files.count() != descriptors.len() {
        return Err(wrong());
    }
    let mut descriptors = descriptors.into_iter();
    let key = descriptors.next().ok_or_else(wrong)?;
    let mut next = |named: bool| if named { descriptors.next() } else { None };
    Ok(Files {
        key,
        certificate: next(files.certificate),
        password: next(files.password),
        staple: next(files.staple),
    })
}
