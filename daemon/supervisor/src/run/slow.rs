//! Identities on whose files the keeper hangs: what its previous runs showed, so that the next run soon serves the
//! others, however many there are.

use crate::push::Caution;
use std::collections::BTreeSet;

/// Lives of the keeper that files on a device which kept one may keep as well, before they are left out until a reload.
const SECOND_TRIES: u32 = 3;

/// What is known about one state.
#[derive(Debug, Default)]
pub(super) struct Slow {
    /// Those that this life of the keeper was silent about, with the devices of their files. It is asked for them again,
    /// since it may come back.
    seen: Vec<(String, BTreeSet<u64>)>,
    /// Those that this life has answered about.
    answered: BTreeSet<String>,
    /// Those that a former life was silent about. They are left out, so that the new one serves the others.
    left_out: BTreeSet<String>,
    /// What their files lie on: whatever else lies there is pushed once the others are served.
    devices: BTreeSet<u64>,
    /// Those that the former life has answered about: they are pushed all the same.
    trusted: BTreeSet<String>,
    /// Whether this life serves the others, and is pushed the rest.
    is_second: bool,
    /// Whether that push is still to be made.
    is_due: bool,
    /// Lives that the rest has kept.
    kept: u32,
    /// The state that this is about: with the next all are tried again.
    serial: u64,
}

impl Slow {
    /// Another life begins.
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

    /// What a push of this state must consider.
    pub(super) fn caution(&mut self, serial: u64) -> Caution {
        if self.serial != serial {
            *self = Self { serial, ..Self::default() };
        }
        let devices = if self.is_second { BTreeSet::new() } else { self.devices.clone() };
        let (left_out, trusted) = (self.left_out.clone(), self.trusted.clone());
        Caution { left_out, devices, trusted, ..Caution::default() }
    }

    /// A push has ended: `committed` says whether it came to its end.
    pub(super) fn learn(&mut self, learned: Caution, committed: bool) {
        self.answered.extend(learned.answered);
        self.seen.extend(learned.stuck);
        if committed {
            self.seen.clear();
            self.is_due = learned.put_off && self.kept < SECOND_TRIES;
            self.is_second |= self.is_due;
        }
    }

    /// Whether to push the same state again at once, with the postponed identities.
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

    /// Answers as a keeper does that never comes back from the files of identities whose names begin with `stuck`.
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

    /// One life of such a keeper: the identities whose files it read, for each push that came to its end.
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

    /// A configuration with these identities, the files of which lie on one device.
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
        // What was read before is served at once, and then what lies beside the file that kept it.
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
        // Positive control: the first life serves nothing, since nothing is known of the files.
        assert!(life(&config, &mut slow).is_empty());
        for kept in 0..SECOND_TRIES {
            // Each of these serves, and then is kept by the next one.
            assert_eq!(life(&config, &mut slow), [vec!["a"]]);
            assert_eq!(slow.kept, kept);
        }
        // From then on they are left out, with whatever lies on that device.
        for _ in 0..2 {
            assert_eq!(life(&config, &mut slow), [vec!["a"]]);
            assert!(slow.seen.is_empty());
        }
    }
}
