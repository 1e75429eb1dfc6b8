//! Identities whose files make the keeper hang: records the observations of its previous runs, so that the
//! next run soon serves the other identities, independent of their number.

use crate::push::Caution;
use std::collections::BTreeSet;

/// The number of runs of the keeper that may hang on further files of a device on which a run already hung.
/// After that, these files are left out until a reload.
const SECOND_TRIES: u32 = 3;

/// The observations about one state.
#[derive(Debug, Default)]
pub(super) struct Slow {
    /// The identities without an answer in this run of the keeper, with the devices of their files. The
    /// keeper is asked for them again, because it may recover.
    seen: Vec<(String, BTreeSet<u64>)>,
    /// The identities that this run has answered about.
    answered: BTreeSet<String>,
    /// The identities without an answer in a former run. They are left out, so that the new run serves the
    /// others.
    left_out: BTreeSet<String>,
    /// The devices of their files. Other files on these devices are pushed when the other identities are
    /// served.
    devices: BTreeSet<u64>,
    /// The identities that the former run has answered about. They are pushed in any case.
    trusted: BTreeSet<String>,
    /// Whether this run serves the other identities, and receives the postponed ones.
    is_second: bool,
    /// Whether that push is still to be made.
    is_due: bool,
    /// The number of runs that hung on the postponed identities.
    kept: u32,
    /// The serial of the state. With the next state, all identities are tried again.
    serial: u64,
}

impl Slow {
    /// Begins another run.
    pub(super) fn begin(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.kept += u32::from(self.is_second && !seen.is_empty());
        for (name, devices) in seen {
            self.left_out.insert(name);
            self.devices.extend(devices);
        }
        self.trusted = std::mem::take(&mut self.answered);
        (self.is_second, self.is_due) = (false, false);
    }

    /// Returns the caution for a push of this state.
    pub(super) fn caution(&mut self, serial: u64) -> Caution {
        if self.serial != serial {
            *self = Self { serial, ..Self::default() };
        }
        let devices = if self.is_second { BTreeSet::new() } else { self.devices.clone() };
        let (left_out, trusted) = (self.left_out.clone(), self.trusted.clone());
        Caution { left_out, devices, trusted, ..Caution::default() }
    }

    /// Records the results of a push. `committed` is true if the push completed.
    pub(super) fn learn(&mut self, learned: Caution, committed: bool) {
        self.answered.extend(learned.answered);
        self.seen.extend(learned.stuck);
        if committed {
            self.seen.clear();
            self.is_due = learned.put_off && self.kept < SECOND_TRIES;
            self.is_second |= self.is_due;
        }
    }

    /// Returns whether to push the same state again at once, with the postponed identities.
    pub(super) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.is_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Request, load_text};
    use crate::push::{Outcome, PushError, Report, push_keeper_within};
    use luassl_keeper_ipc::admin::{self, Answer, Blamed, Failed, Fault, REQUEST_MAX};
    use luassl_keeper_ipc::transport::{RecvFlags, SendFlags, recv, send};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;
    use std::time::Duration;

    /// Answers like a keeper that hangs on the files of identities whose names begin with `stuck`.
    fn keep(socket: &OwnedFd) {
        let (mut request, mut answer, mut is_stuck) = (vec![0; REQUEST_MAX], Vec::new(), false);
        loop {
            let Ok(received) = recv(socket, &mut request, 4, RecvFlags::empty()) else { return };
            if received.len == 0 {
                return;
            }
            if is_stuck {
                continue;
            }
            let reply = match admin::Request::decode(&request[..received.len]).expect("well-formed") {
                admin::Request::Begin { serial } => Answer::Begun { serial },
                admin::Request::Tickets { .. } => Answer::TicketsTaken,
                admin::Request::Commit => Answer::Committed { warnings: Vec::new() },
                admin::Request::Identity { name, files } if files.key && name.starts_with("stuck") => {
                    is_stuck = true;
                    continue;
                }
                admin::Request::Identity { name, files } => {
                    let reason = if files.key { "read" } else { "not passed" };
                    let (file, kind) = (Blamed::Key, Fault::NoKey);
                    Answer::Failed(Failed { name, file, kind, keeps_previous: false, reason })
                }
                _ => continue,
            };
            reply.encode(&mut answer).expect("encoded");
            send(socket, &answer, &[], SendFlags::empty()).expect("sent");
        }
    }

    fn pushed(config: &Config, slow: &mut Slow, keeper: &OwnedFd) -> Result<Report, PushError> {
        let mut caution = slow.caution(1);
        let outcome = push_keeper_within(keeper.as_fd(), config, &mut caution, Duration::from_millis(300));
        slow.learn(caution, outcome.is_ok());
        outcome
    }

    /// Runs such a keeper once. Returns the identities whose files it read, for each push that completed.
    fn life(config: &Config, slow: &mut Slow) -> Vec<Vec<String>> {
        slow.begin();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair");
        std::thread::scope(|scope| {
            scope.spawn(move || keep(&theirs));
            let mut served = Vec::new();
            while let Ok(report) = pushed(config, slow, &ours) {
                let read = |outcome: &Outcome| matches!(outcome, Outcome::Failed { cause, .. } if cause.ends_with(": read"));
                let names = report.outcomes.iter().filter(|(_, outcome)| read(outcome));
                served.push(names.map(|(name, _)| name.clone()).collect());
                if !slow.take_due() {
                    break;
                }
            }
            drop(ours);
            served
        })
    }

    /// Returns a configuration with these identities. All of their files are on one device.
    fn config(directory: &Path, names: &[&str]) -> Config {
        let declared = |name: &&str| {
            let key = directory.join(name);
            std::fs::write(&key, "no key").expect("written");
            format!("[identity.{name}]\nkey = '{}'\n", key.display())
        };
        let text: String = names.iter().map(declared).collect();
        load_text(Path::new("/x.toml"), &text, &Request::default()).config.expect("good")
    }

    #[test]
    fn an_identity_that_kept_a_keeper_is_left_out_of_the_next_life_until_a_reload() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = config(directory.path(), &["a", "stuck1", "z"]);
        let mut slow = Slow::default();
        assert!(life(&config, &mut slow).is_empty());
        assert!(slow.caution(1).left_out.is_empty(), "the same keeper may come back");
        // Files that were read before are served at once, then the other files on the device of the file that
        // it hung on.
        assert_eq!(life(&config, &mut slow), [vec!["a"], vec!["a", "z"]]);
        assert_eq!(life(&config, &mut slow).last(), Some(&vec!["a".to_owned(), "z".to_owned()]));
        let caution = slow.caution(1);
        assert!(
            caution.left_out.len() == 1 && caution.left_out.contains("stuck1"),
            "and in the one after it"
        );
        // Positive control: a reload tries it again.
        let caution = slow.caution(2);
        assert!(caution.left_out.is_empty() && caution.devices.is_empty());
    }

    #[test]
    fn any_number_of_identities_that_keep_the_keeper_cost_one_life_without_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let stuck: Vec<String> = (0..9).map(|number| format!("stuck{number}")).collect();
        let mut names: Vec<&str> = stuck.iter().map(String::as_str).collect();
        names.extend(["a", "z"]);
        let config = config(directory.path(), &names);
        let mut slow = Slow::default();
        // Positive control: the first run serves nothing, because nothing is known about the files.
        assert!(life(&config, &mut slow).is_empty());
        for kept in 0..SECOND_TRIES {
            // Each of these runs serves, and then hangs on the next file.
            assert_eq!(life(&config, &mut slow), [vec!["a"]]);
            assert_eq!(slow.kept, kept);
        }
        // After that they are left out, with all other files on that device.
        for _ in 0..2 {
            assert_eq!(life(&config, &mut slow), [vec!["a"]]);
            assert!(slow.seen.is_empty());
        }
    }
}
