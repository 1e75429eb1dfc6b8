//! The users that the keeper and the fronts run as if root starts them. Each has its own user, so that no
//! child runs as root, and no child can access another.
//!
//! The users are those of the configuration; otherwise those that packages create (`luassl-keeper`, `luassl`,
//! `luassl-NAME`); otherwise unused numbers ([`numbers`]).

use crate::config::{Config, DEFAULT_FRONT, Finding, sections::accounts};
use crate::run::numbers::{self, NUMBERS, Number};
use luassl_sandbox::user::User;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The users of the children; `None` for children that run as the user who starts them.
#[derive(Debug, Default)]
pub struct Users {
    /// The user of the keeper.
    pub keeper: Option<User>,
    /// The users of the fronts, by name.
    pub fronts: BTreeMap<String, User>,
    /// The user IDs without a name, locked against other use.
    _numbers: Vec<Number>,
}

impl Users {
    /// Chooses the users, and returns warnings.
    ///
    /// # Errors
    /// Returns a finding if two children would have the same user, or if no user ID is free.
    pub fn choose(config: &Config) -> Result<(Self, Vec<Finding>), Finding> {
        let configured =
            config.keeper_user.is_some() || config.fronts.values().any(|front| front.user.is_some());
        if !rustix::process::geteuid().is_root() {
            let warning = Finding::warning(
                None,
                "cannot switch users: keeper and fronts run as the user who started luassld",
            )
            .hint("start luassld as root, or remove `user` from the configuration");
            return Ok((Self::default(), configured.then_some(warning).into_iter().collect()));
        }
        if let Some(reason) = cannot_change() {
            let warning = Finding::warning(None, format!("keeper and fronts run as root: {reason}")).hint(
                "allow luassld to change users (CAP_SETUID, CAP_SETGID, CAP_CHOWN), or do not start it as root",
            );
            return Ok((Self::default(), vec![warning]));
        }
        let mut choice = Choice::new(Path::new(numbers::DIRECTORY));
        let keeper = choice.user("the keeper", "luassl-keeper", config.keeper_user)?;
        let mut fronts = BTreeMap::new();
        for (name, front) in &config.fronts {
            let known = if name == DEFAULT_FRONT { "luassl".to_owned() } else { format!("luassl-{name}") };
            fronts.insert(name.clone(), choice.user(&format!("front `{name}`"), &known, front.user)?);
        }
        distinct(keeper, &fronts)?;
        Ok((Self { keeper: Some(keeper), fronts, _numbers: choice.numbers }, Vec::new()))
    }
}

fn distinct(keeper: User, fronts: &BTreeMap<String, User>) -> Result<(), Finding> {
    let mut seen = BTreeSet::from([keeper.uid()]);
    match fronts.iter().find(|(_, user)| !seen.insert(user.uid())) {
        None => Ok(()),
        Some((name, user)) => {
            let cause =
                format!("front `{name}` would run as user {}, as another child already does", user.uid());
            Err(Finding::error(None, cause).hint("give the keeper and each front its own `user`"))
        }
    }
}

/// Returns the reason why root cannot switch users here, as in many containers.
fn cannot_change() -> Option<&'static str> {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
    if !capabilities(None).is_ok_and(|sets| sets.effective.contains(needed)) {
        return Some("it lacks the capabilities to change users");
    }
    let there = ["/proc/self/uid_map", "/proc/self/gid_map"]
        .map(|map| std::fs::read_to_string(map).unwrap_or_default())
        .iter()
        .all(|map| NUMBERS.clone().any(|number| is_mapped(map, number)));
    (!there).then_some("this user namespace has no other users")
}

/// Returns whether a line of uid_map (user_namespaces(7)) contains this number inside the namespace.
fn is_mapped(map: &str, number: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (first, count) = (numbers.next().unwrap_or(0), numbers.nth(1).unwrap_or(0));
        (first..first + count).contains(&number.into())
    })
}

struct Choice {
    /// The directory of the locks.
    directory: PathBuf,
    taken: BTreeSet<u32>,
    numbers: Vec<Number>,
}

impl Choice {
    fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), taken: in_use(), numbers: Vec::new() }
    }

    fn user(&mut self, who: &str, known: &str, configured: Option<User>) -> Result<User, Finding> {
        let user = match configured.or_else(|| user_of(known)) {
            Some(user) => user,
            None => self
                .free(known)
                .map_err(|errno| {
                    let directory = self.directory.display();
                    let cause =
                        format!("{who} has no user: no user ID can be locked in {directory}: {errno}");
                    Finding::error(None, cause)
                        .hint(format!("create a user `{known}`, or let luassld write to that directory"))
                })?
                .ok_or_else(|| {
                    let cause = format!(
                        "{who} has no user: every user ID from {} to {} is in use",
                        NUMBERS.start(),
                        NUMBERS.end()
                    );
                    Finding::error(None, cause).hint(format!("create a user `{known}`"))
                })?,
        };
        self.taken.insert(user.uid());
        Ok(user)
    }

    /// Returns a user ID that no account, process or lock uses. If possible, it is the same one at each
    /// start.
    fn free(&mut self, name: &str) -> Result<Option<User>, Errno> {
        numbers::make_directory(&self.directory)?;
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let count = NUMBERS.end() - NUMBERS.start() + 1;
        let first = u32::try_from(hasher.finish() % u64::from(count)).unwrap_or(0);
        let candidates = (0..count).map(|n| NUMBERS.start() + (first + n) % count);
        for candidate in candidates {
            if self.taken.contains(&candidate) || has_account(candidate) {
                continue;
            }
            if let Some(number) = Number::take(&self.directory, candidate, name)? {
                let user = User::new(number.value(), number.value());
                self.numbers.push(number);
                return Ok(user);
            }
        }
        Ok(None)
    }
}

fn user_of(name: &str) -> Option<User> {
    let uid = accounts::uid_of(name).ok().flatten()?;
    User::new(uid, accounts::gid_of_user(uid).ok().flatten()?)
}

fn has_account(number: u32) -> bool {
    let account = accounts::gid_of_user(number).is_ok_and(|gid| gid.is_some());
    let group = accounts::is_group(number).unwrap_or(false);
    account || group
}

/// Returns the users of all processes. The owners of /proc/PID are not used: root owns the entries of
/// processes that are not dumpable.
fn in_use() -> BTreeSet<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let statuses =
        processes.filter_map(|process| std::fs::read_to_string(process.path().join("status")).ok());
    statuses
        .filter_map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            line.split_whitespace().next()?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Request, load_text};

    fn config(text: &str) -> Config {
        load_text(Path::new("/x.toml"), text, &Request::default()).config.expect("a good configuration")
    }

    #[test]
    fn a_map_of_a_user_namespace_says_who_is_there() {
        assert!(is_mapped("         0          0 4294967295\n", 61_184));
        assert!(!is_mapped("         0       1000          1\n", 61_184));
        assert!(is_mapped("0 1000 1\n1 100000 65536\n", 65_519));
        assert!(!is_mapped("", 0));
    }

    #[test]
    fn a_number_that_is_taken_is_not_chosen_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut choice = Choice::new(directory.path());
        let first = choice.user("a", "no-such-user-here", None).expect("a number");
        let second = choice.user("b", "no-such-user-here", None).expect("a number");
        assert_ne!(first, second);
        assert!(NUMBERS.contains(&first.uid()) && NUMBERS.contains(&second.gid()));
    }

    #[test]
    fn finding_21_two_supervisors_do_not_take_the_same_number() {
        let directory = tempfile::tempdir().expect("a directory");
        let [mut one, mut other] = [(), ()].map(|()| Choice::new(directory.path()));
        let first = one.user("a", "no-such-user-here", None).expect("a number");
        assert_ne!(other.user("a", "no-such-user-here", None).expect("a number"), first);
        // Positive control: without the lock of the first one, both choose the same ID.
        drop(one);
        let mut third = Choice::new(directory.path());
        assert_eq!(third.user("a", "no-such-user-here", None).expect("a number"), first);
    }

    #[test]
    fn two_children_are_not_one_user() {
        let config = config("[keeper]\nuser = 4711\n[front.default]\n[front.a]\nuser = 4711");
        let fronts = [("a".to_owned(), config.fronts["a"].user.expect("a user"))].into();
        let refused = distinct(config.keeper_user.expect("a user"), &fronts).expect_err("refused");
        assert_eq!(refused.cause, "front `a` would run as user 4711, as another child already does");
    }
}
