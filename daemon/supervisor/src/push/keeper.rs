//! The push to the keeper: the identities of each front, and the open files of each identity.

use crate::config::{Config, Finding, Front, Identity, Location, Selection, few};
use crate::push::channel::{ANSWER_DEADLINE, PushError, receive_by, send_within};
use crate::push::files::chain::{self, Facts, Unfit};
use crate::push::files::opened::Opened;
use crate::push::files::shared;
use crate::push::files::{open_root, too_open_root};
use crate::push::report::{Account, LoadedIdentity, Outcome, Report};
use crate::push::rights::{common, rights};
use crate::push::settings::concerns;
use luassl_keeper_ipc::admin::{
    ANSWER_MAX, Answer, Blamed, Count, Failed, Fault, Files, Loaded, Rates, Request, Rights,
};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The number of names in one message. With names of the maximum length, the message is within its limit.
const NAMES_IN_A_MESSAGE: usize = 128;

/// The maximum number of answers to former pushes that are skipped before the answer to the beginning of this
/// push. Each push that was aborted because an answer was missing leaves one.
const MAX_LATE_ANSWERS: usize = 64;

/// Distinguishes the pushes of this process.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// Pushes `config` to the keeper behind `admin`, and reads its answer for each identity.
///
/// # Errors
/// Returns [`PushError`] if the keeper exits or violates the protocol. An identity's own errors are in the
/// report instead.
pub fn push_keeper(admin: BorrowedFd<'_>, config: &Config) -> Result<Report, PushError> {
    push_keeper_within(admin, config, &mut Caution::default(), ANSWER_DEADLINE)
}

/// The known facts about files on which a keeper hangs, and the results of a push about them.
#[derive(Debug, Clone, Default)]
pub struct Caution {
    /// Identities whose files are not passed.
    pub left_out: BTreeSet<String>,
    /// Devices with files on which a keeper hung. Files on these devices are not passed, except those of
    /// identities in `trusted`.
    pub devices: BTreeSet<u64>,
    /// Identities whose files a keeper has read completely.
    pub trusted: BTreeSet<String>,
    /// Result: the identities that the keeper has answered about.
    pub answered: BTreeSet<String>,
    /// Result: the identity without an answer, and the devices of its files.
    pub stuck: Option<(String, BTreeSet<u64>)>,
    /// Result: whether identities were postponed because of their device.
    pub put_off: bool,
}

impl Caution {
    /// Returns whether the files of an identity are postponed until the others are served.
    fn puts_off(&self, name: &str, devices: &BTreeSet<u64>) -> bool {
        !self.trusted.contains(name) && !self.devices.is_disjoint(devices)
    }
}

/// Like [`push_keeper`], with `caution` about files, and with the given deadline for each answer.
///
/// # Errors
/// As [`push_keeper`].
pub fn push_keeper_within(
    admin: BorrowedFd<'_>,
    config: &Config,
    caution: &mut Caution,
    patience: Duration,
) -> Result<Report, PushError> {
    let mut channel = Channel { patience, ..Channel::new(admin) };
    channel.begin()?;
    for (name, front) in &config.fronts {
        channel.front(name, front, config)?;
    }
    let (identity, front) = (config.limits.signatures_per_identity, config.limits.signatures_per_front);
    channel.send(&Request::Rates(Rates { identity, front }), &[])?;
    channel.send(&Request::Handshake { deadline_ms: config.limits.handshake_ms }, &[])?;
    let mut report = Report::default();
    channel.tickets(config, &mut report.findings)?;
    let mut of_directories = Vec::new();
    channel.identities(config, caution, &mut report, &mut of_directories)?;
    channel.withdraw_shared(config, &mut report, &mut of_directories)?;
    report.findings.extend(few(of_directories));
    channel.commit(&mut report.findings)?;
    Ok(report)
}

/// Returns the counters of the keeper behind `admin`.
///
/// # Errors
/// Returns [`PushError`] if the keeper exits or violates the protocol.
pub fn keeper_status(admin: BorrowedFd<'_>) -> Result<Vec<Account>, PushError> {
    let mut channel = Channel::new(admin);
    channel.send(&Request::Status, &[])?;
    let mut accounts = Vec::new();
    loop {
        match channel.answer()? {
            Answer::Count(count) => accounts.push(count.into()),
            Answer::Counted => return Ok(accounts),
            _ => return Err(PushError::Malformed("expected an answer about counts".to_owned())),
        }
    }
}

impl From<Count<'_>> for Account {
    fn from(count: Count<'_>) -> Self {
        Self {
            front: count.front.to_owned(),
            identity: count.identity.to_owned(),
            signed: count.signed,
            decrypted: count.decrypted,
            refused: count.refused.iter().map(|(reason, number)| (reason.as_str(), *number)).collect(),
        }
    }
}

struct Channel<'a> {
    admin: BorrowedFd<'a>,
    /// The time to wait for an answer.
    patience: Duration,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl<'a> Channel<'a> {
    fn new(admin: BorrowedFd<'a>) -> Self {
        Self { admin, patience: ANSWER_DEADLINE, request: Vec::new(), answer: vec![0; ANSWER_MAX] }
    }

    fn send(&mut self, request: &Request<'_>, descriptors: &[BorrowedFd<'_>]) -> Result<(), PushError> {
        request.encode(&mut self.request).map_err(|error| PushError::Malformed(error.to_string()))?;
        send_within(self.admin, &self.request, descriptors)
    }

    fn answer(&mut self) -> Result<Answer<'_>, PushError> {
        let length = receive_by(self.admin, &mut self.answer, Instant::now() + self.patience)?;
        Answer::decode(&self.answer[..length]).map_err(|error| PushError::Malformed(error.to_string()))
    }

    /// Begins a push. The keeper discards the content of an aborted push. Late answers to it are skipped.
    fn begin(&mut self) -> Result<(), PushError> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        self.send(&Request::Begin { serial }, &[])?;
        for _ in 0..=MAX_LATE_ANSWERS {
            if self.answer()? == (Answer::Begun { serial }) {
                return Ok(());
            }
        }
        Err(PushError::Malformed("expected an answer to the start of a push".to_owned()))
    }

    /// Sends the identities of a front to the keeper, and then the rights that each grant gives it to them.
    fn front(&mut self, name: &str, front: &Front, config: &Config) -> Result<(), PushError> {
        self.reach(name, Rights::default(), &front.identities)?;
        for grant in config.grants.iter().filter(|grant| concerns(front, grant)) {
            let rights = rights(front, grant);
            if rights != Rights::default() {
                self.reach(name, rights, &common(&front.identities, grant))?;
            }
        }
        Ok(())
    }

    fn reach(&mut self, name: &str, rights: Rights, identities: &Selection) -> Result<(), PushError> {
        let (all, names): (bool, Vec<&str>) = match identities {
            Selection::All => (true, Vec::new()),
            Selection::Only(names) => (false, names.iter().map(String::as_str).collect()),
        };
        // A front without identities gets a message as well.
        let mut pieces: Vec<&[&str]> = names.chunks(NAMES_IN_A_MESSAGE).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        for piece in pieces {
            self.send(&Request::Front { name, rights, all, identities: piece.to_vec() }, &[])?;
        }
        Ok(())
    }

    /// Pushes declared identities first, then those from directories, so that the latter cannot displace the former.
    fn identities(
        &mut self,
        config: &Config,
        caution: &mut Caution,
        report: &mut Report,
        of_directories: &mut Vec<Finding>,
    ) -> Result<(), PushError> {
        let (discovered, declared): (Vec<_>, Vec<_>) =
            config.identities.iter().partition(|(_, identity)| identity.discovered);
        for (name, identity) in declared {
            let outcome = self.identity(name, identity, caution, &mut report.findings)?;
            report.outcomes.insert(name.clone(), outcome);
        }
        for (name, identity) in discovered {
            let outcome = self.identity(name, identity, caution, of_directories)?;
            report.outcomes.insert(name.clone(), outcome);
        }
        Ok(())
    }

    fn identity(
        &mut self,
        name: &str,
        identity: &Identity,
        caution: &mut Caution,
        findings: &mut Vec<Finding>,
    ) -> Result<Outcome, PushError> {
        let held_back = |cause: &str| {
            Finding::error(identity.location.clone(), format!("identity `{name}`: {cause}"))
                .hint("repair the device or file system that holds them, and reload")
        };
        if caution.left_out.contains(name) {
            let finding = held_back("the keeper hung while it read its files");
            return self.without_files(name, finding, findings);
        }
        let opened = match Opened::of(name, identity) {
            Ok(opened) => opened,
            Err(finding) => return self.without_files(name, *finding, findings),
        };
        let devices = opened.devices();
        if caution.puts_off(name, &devices) {
            caution.put_off = true;
            let finding = held_back("its files are on a device on which the keeper hung, and are not passed");
            return self.without_files(name, finding, findings);
        }
        let sent = self.send(&Request::Identity { name, files: opened.files }, &opened.descriptors());
        let answer = sent.and_then(|()| self.answer()).inspect_err(|error| {
            if error.is_silence() {
                caution.stuck = Some((name.to_owned(), devices));
            }
        })?;
        caution.answered.insert(name.to_owned());
        match answer {
            Answer::Loaded(loaded) if loaded.name == name => {
                match chain::look(&loaded.chain, &loaded.key_id) {
                    Ok(facts) => {
                        findings.extend(opened.too_open.clone());
                        findings.extend(warnings(name, identity, &facts.warnings));
                        Ok(Outcome::Loaded(LoadedIdentity::new(&loaded, facts)))
                    }
                    Err(unfit) => self.unfit(name, identity, &unfit, findings),
                }
            }
            Answer::Failed(failed) if failed.name == name => Ok(failure(identity, &failed, findings)),
            _ => Err(PushError::Malformed(format!("expected an answer about identity `{name}`"))),
        }
    }

    /// Withdraws an identity whose chain does not belong to its key or cannot be parsed.
    fn unfit(
        &mut self,
        name: &str,
        identity: &Identity,
        unfit: &Unfit,
        findings: &mut Vec<Finding>,
    ) -> Result<Outcome, PushError> {
        let keeps_previous = self.keep_former(name)?;
        let (kind, reason) = (unfit.kind, unfit.reason.as_str());
        let failed = Failed { name, file: Blamed::Certificate, kind, keeps_previous, reason };
        Ok(failure(identity, &failed, findings))
    }

    /// Sends the name of an identity without its files, so that the keeper retains its present version and
    /// gets no new one. Returns whether the keeper has one.
    fn keep_former(&mut self, name: &str) -> Result<bool, PushError> {
        self.send(&Request::Identity { name, files: Files::default() }, &[])?;
        match self.answer()? {
            Answer::Failed(failed) if failed.name == name => Ok(failed.keeps_previous),
            _ => Err(PushError::Malformed(format!("expected an answer about identity `{name}`"))),
        }
    }

    /// Handles an identity whose files are not passed to the keeper.
    fn without_files(
        &mut self,
        name: &str,
        mut finding: Finding,
        findings: &mut Vec<Finding>,
    ) -> Result<Outcome, PushError> {
        let keeps_previous = self.keep_former(name)?;
        finding.cause.push_str(former(keeps_previous));
        findings.push(finding.clone());
        Ok(Outcome::Failed { cause: finding.cause, keeps_previous })
    }

    /// Withdraws identities with the key of another identity, unless the configuration allows it.
    fn withdraw_shared(
        &mut self,
        config: &Config,
        report: &mut Report,
        of_directories: &mut Vec<Finding>,
    ) -> Result<(), PushError> {
        for (name, finding) in shared::refused(config, &report.outcomes) {
            let discovered = config.identities.get(&name).is_some_and(|identity| identity.discovered);
            let findings = if discovered { &mut *of_directories } else { &mut report.findings };
            let outcome = self.without_files(&name, finding, findings)?;
            report.outcomes.insert(name, outcome);
        }
        Ok(())
    }

    fn tickets(&mut self, config: &Config, findings: &mut Vec<Finding>) -> Result<(), PushError> {
        let domain =
            |(name, front): (&'_ String, &'_ Front)| Some((name.clone(), front.ticket_domain.clone()?));
        let domains: Vec<(String, String)> = config.fronts.iter().filter_map(domain).collect();
        let domains = domains.iter().map(|(front, domain)| (front.as_str(), domain.as_str())).collect();
        let file = config.tickets.root.as_ref();
        let opened = file.and_then(|file| open_root(file).map_err(|finding| findings.push(finding)).ok());
        findings.extend(file.zip(opened.as_ref()).and_then(|(file, opened)| too_open_root(file, opened)));
        let descriptors: Vec<BorrowedFd<'_>> = opened.iter().map(AsFd::as_fd).collect();
        // Without a descriptor, the keeper retains its present root.
        let request = Request::Tickets { epoch: config.tickets.epoch, root: file.is_some(), domains };
        self.send(&request, &descriptors)?;
        match (self.answer()?, file, &opened) {
            (Answer::TicketsTaken, ..) => {}
            (Answer::TicketsFailed { reason, .. }, Some(file), Some(_)) => {
                let cause = format!("[tickets]: the root cannot be used: {reason}");
                let hint = "make one: `openssl rand -out FILE 48`, the same file on each machine";
                findings.push(Finding::error(file.location.clone(), cause).hint(hint));
            }
            // The failure to open it has already been reported.
            (Answer::TicketsFailed { .. }, ..) => {}
            _ => return Err(PushError::Malformed("expected an answer about ticket keys".to_owned())),
        }
        Ok(())
    }

    fn commit(&mut self, findings: &mut Vec<Finding>) -> Result<(), PushError> {
        self.send(&Request::Commit, &[])?;
        match self.answer()? {
            Answer::Committed { warnings } => {
                findings.extend(warnings.into_iter().map(of_keeper));
                Ok(())
            }
            _ => Err(PushError::Malformed("expected an answer to the commit".to_owned())),
        }
    }
}

impl LoadedIdentity {
    fn new(loaded: &Loaded<'_>, facts: Facts) -> Self {
        Self {
            generation: loaded.generation,
            changed: loaded.changed,
            key_type: loaded.key_type.to_owned(),
            not_before: facts.validity.0,
            not_after: facts.validity.1,
            names: facts.names,
            key_id: loaded.key_id,
        }
    }
}

fn warnings(name: &str, identity: &Identity, warnings: &[String]) -> Vec<Finding> {
    let location = &identity.certificate.as_ref().unwrap_or(&identity.key).location;
    let finding = |warning: &String| {
        let (cause, hint) =
            warning.split_once(": ").unwrap_or((warning.as_str(), "see the certificate's file"));
        Finding::warning(location.clone(), format!("identity `{name}`: {cause}")).hint(hint)
    };
    warnings.iter().map(finding).collect()
}

/// Converts a warning of the keeper to a finding. The keeper puts the remedy after the cause.
fn of_keeper(warning: &str) -> Finding {
    let (cause, hint) = warning.split_once(": ").unwrap_or((warning, "see the keeper's log"));
    Finding::warning(None, cause).hint(hint)
}

fn failure(identity: &Identity, failed: &Failed<'_>, findings: &mut Vec<Finding>) -> Outcome {
    if identity.discovered && identity.certificate.is_none() && failed.kind == Fault::NoKey {
        return Outcome::NoIdentity;
    }
    let mut cause = match failed.kind {
        Fault::Mismatch => {
            format!("identity `{}`: key and certificate do not match: {}", failed.name, failed.reason)
        }
        _ => format!("identity `{}`: {}", failed.name, failed.reason),
    };
    cause.push_str(former(failed.keeps_previous));
    let location = location_of(identity, failed).clone();
    findings.push(Finding::error(location, cause.clone()).hint(remedy(identity, failed.kind)));
    Outcome::Failed { cause, keeps_previous: failed.keeps_previous }
}

/// Returns the text that the previous version is still served, if it is.
fn former(keeps_previous: bool) -> &'static str {
    if keeps_previous { "; the previous one stays in service" } else { "" }
}

/// Returns the location to fix: that of one file, or that of the whole identity if two files do not match or
/// one is missing.
fn location_of<'a>(identity: &'a Identity, failed: &Failed<'_>) -> &'a Location {
    let file = match (failed.kind, failed.file) {
        (Fault::Mismatch, _) => None,
        (Fault::Passphrase, _) => identity.password.as_ref(),
        (_, Blamed::Certificate) => identity.certificate.as_ref().or(Some(&identity.key)),
        (_, Blamed::Password) => identity.password.as_ref(),
        (_, Blamed::Staple) => identity.staple.as_ref(),
        (_, Blamed::Key | Blamed::None) => Some(&identity.key),
    };
    file.map_or(&identity.location, |file| &file.location)
}

fn remedy(identity: &Identity, kind: Fault) -> &'static str {
    match kind {
        Fault::Unreadable => "name a regular file",
        Fault::NoKey => "name a PEM file with a private key",
        Fault::Passphrase if identity.password.is_none() => {
            "set `password_file` to the file with its passphrase"
        }
        Fault::Passphrase => "put the key's passphrase on the first line of `password_file`",
        Fault::Unsupported => "use RSA of 2048 to 4096 bits, P-256, P-384, P-521, Ed25519 or Ed448",
        Fault::BadCertificate => "name a PEM file with the certificate first and its issuers after it",
        Fault::Mismatch => "name the certificate that was issued for this key, or the key that belongs to it",
        Fault::BadStaple => "name an OCSP response in DER",
        Fault::Limit => "stay below that limit, or raise it",
        Fault::Internal => "see the keeper's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, load_text};
    use luassl_keeper_ipc::admin::REQUEST_MAX;
    use luassl_keeper_ipc::transport::{RecvFlags, SendFlags, recv, send};
    use rustix::fs::fstat;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::OwnedFd;
    use std::path::Path;

    /// Answers a push of a configuration without identities like a keeper.
    fn keep(socket: &OwnedFd) {
        let (mut request, mut answer) = (vec![0; REQUEST_MAX], Vec::new());
        loop {
            let received = recv(socket, &mut request, 4, RecvFlags::empty()).expect("a request");
            let (reply, is_last) = match Request::decode(&request[..received.len]).expect("well-formed") {
                Request::Begin { serial } => (Answer::Begun { serial }, false),
                Request::Tickets { .. } => (Answer::TicketsTaken, false),
                Request::Commit => (Answer::Committed { warnings: vec!["mine"] }, true),
                _ => continue,
            };
            reply.encode(&mut answer).expect("encoded");
            send(socket, &answer, &[], SendFlags::empty()).expect("sent");
            if is_last {
                return;
            }
        }
    }

    /// Returns a connection to a keeper that has already sent these answers.
    fn answered(late: &[Answer<'_>]) -> (OwnedFd, OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair");
        for answer in late {
            let mut bytes = Vec::new();
            answer.encode(&mut bytes).expect("encoded");
            send(&theirs, &bytes, &[], SendFlags::empty()).expect("sent");
        }
        (ours, theirs)
    }

    fn causes(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.cause).collect()
    }

    #[test]
    fn late_answers_to_a_push_that_broke_off_are_no_answers_to_the_next() {
        let reason = "of another push";
        let committed = || Answer::Committed { warnings: vec![reason] };
        let failed = Answer::TicketsFailed { kind: Fault::Internal, reason };
        let (ours, theirs) = answered(&[failed, Answer::Begun { serial: 0 }, committed()]);
        let config = load_text(Path::new("/x.toml"), "", &config::Request::default()).config.expect("good");
        let report = std::thread::scope(|scope| {
            scope.spawn(|| keep(&theirs));
            push_keeper(ours.as_fd(), &config).expect("pushed")
        });
        assert_eq!(causes(report.findings), ["mine"]);
        // Positive control: without the answer to its beginning, a push would accept such an answer as its
        // own.
        let (ours, _theirs) = answered(&[committed()]);
        let mut channel = Channel::new(ours.as_fd());
        let mut findings = Vec::new();
        channel.commit(&mut findings).expect("an answer");
        assert_eq!(causes(findings), [reason]);
    }

    #[test]
    fn an_identity_that_the_keeper_is_silent_about_can_be_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let declared = |name: &str| {
            let key = directory.path().join(name);
            std::fs::write(&key, "no key").expect("written");
            format!("[identity.{name}]\nkey = '{}'\n", key.display())
        };
        let text = declared("a") + &declared("b");
        let loaded = load_text(Path::new("/x.toml"), &text, &config::Request::default());
        let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.findings));
        let failed = |name| {
            let (file, kind) = (Blamed::Key, Fault::NoKey);
            Answer::Failed(Failed { name, file, kind, keeps_previous: false, reason: "no key" })
        };
        let pushed = |left_out: &[&str], answers: &[Answer<'_>]| {
            let (ours, theirs) = answered(answers);
            let mut report = Report::default();
            let left_out = left_out.iter().map(|name| (*name).to_owned()).collect();
            let mut caution = Caution { left_out, ..Caution::default() };
            // All answers are already in the socket buffer.
            let mut channel = Channel { patience: Duration::ZERO, ..Channel::new(ours.as_fd()) };
            let outcome = channel.identities(&config, &mut caution, &mut report, &mut Vec::new());
            let stuck = caution.stuck.map(|(name, _)| name);
            let mut request = vec![0; REQUEST_MAX];
            let received = recv(&theirs, &mut request, 4, RecvFlags::empty()).expect("a request");
            (outcome.is_ok(), stuck, received.descriptors.len(), causes(report.findings))
        };
        let (is_done, stuck, files, _) = pushed(&[], &[]);
        assert_eq!((is_done, stuck.as_deref(), files), (false, Some("a"), 1));
        let (is_done, stuck, files, causes) = pushed(&["a"], &[failed("a"), failed("b")]);
        assert_eq!(
            (is_done, stuck, files),
            (true, None, 0),
            "its file is not passed, and the other is asked for"
        );
        assert_eq!(causes[0], "identity `a`: the keeper hung while it read its files");
        // Positive control: a push with all answers completes, and leaves out no identity.
        let (is_done, stuck, files, causes) = pushed(&[], &[failed("a"), failed("b")]);
        assert_eq!((is_done, stuck, files), (true, None, 1));
        assert_eq!(causes, ["identity `a`: no key", "identity `b`: no key"]);
    }

    /// Returns a configuration with the identities `declared`, and with the discovered ones in a directory.
    fn with_directory(directory: &Path, discovered: impl Iterator<Item = String>) -> Config {
        std::fs::create_dir(directory.join("tenant")).expect("made");
        for name in discovered {
            let link = directory.join("tenant").join(format!("{name}.pem"));
            std::os::unix::fs::symlink("nowhere", link).expect("linked");
        }
        let text = format!(
            "[identities]\ndirectory = '{0}/tenant'\n[identity.www]\nkey = '{0}/www'\n",
            directory.display()
        );
        let loaded = load_text(Path::new("/x.toml"), &text, &config::Request::default());
        loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.findings))
    }

    #[test]
    fn declared_identities_go_first_and_failures_of_discovered_ones_are_told_in_few_lines() {
        let directory = tempfile::tempdir().expect("a directory");
        let links = 50;
        let config = with_directory(directory.path(), (0..links).map(|number| format!("a{number:02}")));
        let (ours, theirs) = answered(&[]);
        let keeper = std::thread::spawn(move || {
            let (mut request, mut answer, mut order) = (vec![0; REQUEST_MAX], Vec::new(), Vec::new());
            loop {
                let received = recv(&theirs, &mut request, 4, RecvFlags::empty()).expect("a request");
                let bytes = &request[..received.len];
                if bytes.is_empty() {
                    return order;
                }
                let Ok(Request::Identity { name, .. }) = Request::decode(bytes) else { continue };
                order.push(name.to_owned());
                let (file, kind) = (Blamed::Key, Fault::Internal);
                let failed = Answer::Failed(Failed { name, file, kind, keeps_previous: false, reason: "no" });
                failed.encode(&mut answer).expect("encoded");
                send(&theirs, &answer, &[], SendFlags::empty()).expect("sent");
            }
        });
        let (mut report, mut of_directories) = (Report::default(), Vec::new());
        let mut channel = Channel::new(ours.as_fd());
        let mut caution = Caution::default();
        channel.identities(&config, &mut caution, &mut report, &mut of_directories).expect("pushed");
        drop(ours);
        let order = keeper.join().expect("no panic");
        assert_eq!((order.len(), order[0].as_str(), order[1].as_str()), (links + 1, "www", "a00"));
        // Positive control: without that order, the others would come first, and each has a finding.
        assert_eq!(config.identities.keys().next_back().map(String::as_str), Some("www"));
        assert_eq!((report.findings.len(), of_directories.len()), (1, links));
        let told = causes(few(of_directories));
        assert_eq!(
            (told.len(), told[20].as_str()),
            (21, "and 30 more findings about identities from directories")
        );
    }

    #[test]
    fn files_on_a_device_that_kept_the_keeper_are_put_off() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = directory.path().join("a");
        std::fs::write(&key, "no key").expect("written");
        let text = format!("[identity.a]\nkey = '{}'\n", key.display());
        let config =
            load_text(Path::new("/x.toml"), &text, &config::Request::default()).config.expect("good");
        let device = fstat(std::fs::File::open(&key).expect("opened")).expect("a status").st_dev;
        let pushed = |devices: &[u64], trusted: &[&str]| {
            let (file, kind) = (Blamed::Key, Fault::NoKey);
            let failed = Failed { name: "a", file, kind, keeps_previous: false, reason: "no key" };
            let (ours, theirs) = answered(&[Answer::Failed(failed)]);
            let mut caution = Caution {
                devices: devices.iter().copied().collect(),
                trusted: trusted.iter().map(|&name| name.to_owned()).collect(),
                ..Caution::default()
            };
            let mut channel = Channel { patience: Duration::ZERO, ..Channel::new(ours.as_fd()) };
            let mut report = Report::default();
            channel.identities(&config, &mut caution, &mut report, &mut Vec::new()).expect("pushed");
            let received =
                recv(&theirs, &mut vec![0; REQUEST_MAX], 4, RecvFlags::empty()).expect("a request");
            (received.descriptors.len(), caution.put_off, caution.answered.len())
        };
        assert_eq!(pushed(&[device], &[]), (0, true, 0));
        // Positive control: the files are passed if the keeper hung on another device, or if it has read them
        // completely.
        assert_eq!(pushed(&[device + 1], &[]), (1, false, 1));
        assert_eq!(pushed(&[device], &["a"]), (1, false, 1));
    }

    #[test]
    fn a_keeper_that_answers_without_end_breaks_the_protocol() {
        let late = vec![Answer::TicketsTaken; MAX_LATE_ANSWERS + 1];
        let (ours, _theirs) = answered(&late);
        let config = load_text(Path::new("/x.toml"), "", &config::Request::default()).config.expect("good");
        assert!(matches!(push_keeper(ours.as_fd(), &config), Err(PushError::Malformed(_))));
    }
}
