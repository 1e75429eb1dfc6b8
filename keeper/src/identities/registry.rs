//! The state in service: the identities by name, and the rights of each front. A commit builds a new state and replaces
//! the old one in one step.

use crate::crypto::{PrivateKey, TicketRoot};
use crate::identities::identity::{Identity, Public};
use crate::identities::tickets::{Plan, Tickets};
use crate::limits::{FIRST_PUSH_WAIT, FORMER_MAX, FRONTS_MAX, IDENTITIES_MAX};
use crate::log::{self, Audit};
use crate::policy::usage::Usage;
use luassl_keeper_ipc::admin::{HANDSHAKE_MS, Rates, Rights};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// One generation of an identity in service.
#[derive(Clone)]
pub(crate) struct Generation {
    /// The number of the generation. It counts the changes of the identity, from 1.
    pub(crate) number: u64,
    /// The part that fronts get.
    pub(crate) public: Arc<Public>,
    key: Arc<PrivateKey>,
}

/// An identity in service. A handshake that began with a former generation can be signed until its deadline has passed.
#[derive(Clone)]
struct Entry {
    current: Generation,
    former: Vec<Former>,
}

/// A generation that was replaced.
#[derive(Clone)]
struct Former {
    generation: Generation,
    /// The end of the last handshake that may have begun with this generation. The generation is dropped at this time.
    until: Instant,
}

/// A key that signs for an identity, with the certificates that it has had.
pub(crate) struct Holder {
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) publics: Vec<Arc<Public>>,
}

/// The rights of a front.
#[derive(Clone, Default)]
struct Reach {
    /// The rights for every identity.
    all: Option<Rights>,
    /// The additional rights for these identities.
    identities: BTreeMap<String, Rights>,
}

impl Reach {
    /// Returns `None` if the identity is out of reach.
    fn rights(&self, name: &str) -> Option<Rights> {
        let own = self.identities.get(name).copied();
        own.into_iter().chain(self.all).reduce(Rights::or)
    }

    fn add(&mut self, rights: Rights, all: bool, identities: &[&str]) {
        if all {
            self.all = Some(self.all.unwrap_or_default().or(rights));
            return;
        }
        for name in identities {
            let own = self.identities.entry((*name).to_owned()).or_default();
            *own = own.or(rights);
        }
    }
}

/// The complete state in service.
#[derive(Default)]
pub(crate) struct Service {
    identities: BTreeMap<String, Entry>,
    fronts: BTreeMap<String, Reach>,
    /// The rate limits of each front.
    pub(crate) rates: Rates,
    /// `None` if libcrypto could not generate a root.
    pub(crate) tickets: Option<Arc<Tickets>>,
}

/// The reason why no key is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The front reaches no identity of that name, for any reason.
    Identity,
    /// The identity has no such key.
    Generation,
}

impl Service {
    /// Returns the rights of `front` for an identity that it reaches, and the key.
    pub(crate) fn holder(
        &self,
        front: &str,
        name: &str,
        key_id: &[u8; 32],
    ) -> Result<(Rights, Holder), NoKey> {
        let (rights, entry) = self.entry(front, name).ok_or(NoKey::Identity)?;
        let former = entry.former.iter().map(|former| &former.generation);
        let generations = std::iter::once(&entry.current).chain(former);
        let mut fitting = generations.filter(|generation| generation.public.key_id == *key_id).peekable();
        let key = fitting.peek().map(|generation| Arc::clone(&generation.key)).ok_or(NoKey::Generation)?;
        let publics = fitting.map(|generation| Arc::clone(&generation.public)).collect();
        Ok((rights, Holder { key, publics }))
    }

    fn entry(&self, front: &str, name: &str) -> Option<(Rights, &Entry)> {
        let rights = self.fronts.get(front)?.rights(name)?;
        Some((rights, self.identities.get(name)?))
    }

    /// Returns whether `front` reaches an identity of this name.
    pub(crate) fn reaches(&self, front: &str, name: &str) -> bool {
        self.entry(front, name).is_some()
    }

    /// Returns the identities that a front reaches, by name.
    pub(crate) fn reached<'a>(&'a self, front: &str) -> impl Iterator<Item = (&'a str, &'a Generation)> {
        let reach = self.fronts.get(front).cloned().unwrap_or_default();
        let entries = self.identities.iter().filter(move |(name, _)| reach.rights(name).is_some());
        entries.map(|(name, entry)| (name.as_str(), &entry.current))
    }

    /// Returns the time when the next former generation ends.
    fn next_end(&self) -> Option<Instant> {
        self.identities.values().flat_map(|entry| &entry.former).map(|former| former.until).min()
    }

    /// Returns the same state without the former generations that have ended.
    fn at(&self, now: Instant) -> Self {
        let mut identities = self.identities.clone();
        identities.values_mut().for_each(|entry| entry.former.retain(|former| now < former.until));
        let (fronts, rates, tickets) = (self.fronts.clone(), self.rates, self.tickets.clone());
        Self { identities, fronts, rates, tickets }
    }
}

/// A push that has not been committed.
#[derive(Default)]
pub(crate) struct Push {
    fronts: BTreeMap<String, Reach>,
    /// `None` if loading failed. The previous generation then stays in service.
    identities: BTreeMap<String, Option<Identity>>,
    tickets: Plan,
    rates: Rates,
    /// The deadline of a handshake. `None` if the push does not set it.
    handshake: Option<Duration>,
}

impl Push {
    /// Adds a front, or adds rights to it. Returns `false` if the limit on fronts is exceeded.
    pub(crate) fn front(&mut self, name: &str, rights: Rights, all: bool, identities: &[&str]) -> bool {
        if self.fronts.len() >= FRONTS_MAX && !self.fronts.contains_key(name) {
            return false;
        }
        self.fronts.entry(name.to_owned()).or_default().add(rights, all, identities);
        true
    }

    /// Adds an identity, loaded or failed.
    pub(crate) fn identity(&mut self, name: &str, identity: Option<Identity>) {
        self.identities.insert(name.to_owned(), identity);
    }

    /// Sets the derivation of ticket keys.
    pub(crate) fn tickets(&mut self, plan: Plan) {
        self.tickets = plan;
    }

    /// Sets the rates of a front.
    pub(crate) fn rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// Sets the deadline of a handshake, at most [`FORMER_MAX`].
    pub(crate) fn handshake(&mut self, deadline: Duration) {
        self.handshake = Some(deadline.min(FORMER_MAX));
    }

    /// Returns whether one more name fits.
    pub(crate) fn has_capacity_for(&self, name: &str) -> bool {
        self.identities.len() < IDENTITIES_MAX || self.identities.contains_key(name)
    }
}

/// The usage of a front and its audit log. Both stay when the state in service is replaced.
#[derive(Clone)]
pub(crate) struct FrontUsage {
    pub(crate) counts: Arc<Usage>,
    pub(crate) audit: Arc<Audit>,
}

impl FrontUsage {
    fn new(front: &str) -> Self {
        Self { counts: Arc::new(Usage::new(Instant::now())), audit: Arc::new(Audit::new(front)) }
    }
}

/// The state in service, the threads that wait for the first push, and the subscribers to changes.
pub(crate) struct Registry {
    state: Mutex<State>,
    first_push: Condvar,
    /// Notifies [`Registry::drop_former`] of a commit.
    committed: Condvar,
    /// The usage by front.
    usage: Mutex<BTreeMap<String, FrontUsage>>,
}

#[derive(Default)]
struct State {
    /// `None` before the first push.
    service: Option<Arc<Service>>,
    /// The time when the next former generation in service ends. `None` if there is no former generation.
    next_end: Option<Instant>,
    /// The last generation number of every name that was ever in service. No number is used twice.
    numbers: BTreeMap<String, u64>,
    /// The root of ticket keys for pushes without a root.
    root: Option<Arc<TicketRoot>>,
    /// An eventfd of each connection that has subscribed.
    subscribers: Vec<Weak<OwnedFd>>,
}

impl Registry {
    /// Returns a registry with nothing in service and no push.
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            first_push: Condvar::new(),
            committed: Condvar::new(),
            usage: Mutex::default(),
        }
    }

    /// Returns the usage of a front.
    pub(crate) fn usage_of(&self, front: &str) -> FrontUsage {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.entry(front.to_owned()).or_insert_with(|| FrontUsage::new(front)).clone()
    }

    /// Returns the usage of all fronts, by name.
    pub(crate) fn usage(&self) -> Vec<(String, FrontUsage)> {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.iter().map(|(front, usage)| (front.clone(), usage.clone())).collect()
    }

    /// Locks the state. Every change under the lock is one assignment or insertion, so the state stays consistent if a
    /// thread panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state in service. `None` before the first push.
    pub(crate) fn service(&self) -> Option<Arc<Service>> {
        self.lock().service.clone()
    }

    /// Returns the state in service. Before the first push, waits for it for a bounded time. The result does not
    /// include former generations that have ended.
    pub(crate) fn service_soon(&self) -> Option<Arc<Service>> {
        let before = |state: &mut State| state.service.is_none();
        let waited = self.first_push.wait_timeout_while(self.lock(), FIRST_PUSH_WAIT, before);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.end_former(Instant::now());
        state.service.clone()
    }

    /// Drops former generations when they have ended. Runs until the process ends.
    pub(crate) fn drop_former(&self) {
        loop {
            self.wait_for_end();
        }
    }

    /// Drops the generations that have ended. If there are none, waits for the next end or for a commit.
    fn wait_for_end(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        if state.end_former(now) {
            return;
        }
        let left = state.next_end.map_or(Duration::MAX, |end| end.saturating_duration_since(now));
        drop(self.committed.wait_timeout(state, left));
    }

    /// Registers an eventfd. Each commit writes to it until it is dropped.
    pub(crate) fn subscribe(&self, subscriber: &Arc<OwnedFd>) {
        let subscribers = &mut self.lock().subscribers;
        subscribers.retain(|other| other.strong_count() > 0);
        subscribers.push(Arc::downgrade(subscriber));
    }

    /// Returns whether a generation of an identity is in service.
    pub(crate) fn serves(&self, name: &str) -> bool {
        self.service().is_some_and(|service| service.identities.contains_key(name))
    }

    /// Returns whether an identity differs from the one in service, and the number that it has or will have.
    pub(crate) fn preview(&self, name: &str, public: &Public) -> (bool, u64) {
        let state = self.lock();
        let current = state.service.as_ref().and_then(|service| service.identities.get(name));
        match current.map(|entry| &entry.current) {
            Some(current) if *current.public == *public => (false, current.number),
            _ => (true, state.numbers.get(name).map_or(1, |number| number + 1)),
        }
    }

    /// Puts a push into service. Names that are not part of the push are withdrawn.
    pub(crate) fn commit(&self, push: Push, now: Instant) {
        let mut state = self.lock();
        let former = state.service.clone().unwrap_or_default();
        let tickets = state.tickets(push.tickets, former.tickets.as_deref());
        let until = now + push.handshake.unwrap_or(Duration::from_millis(HANDSHAKE_MS.into()));
        let mut service = Service { fronts: push.fronts, rates: push.rates, tickets, ..Service::default() };
        for (name, identity) in push.identities {
            let entry = former.identities.get(&name);
            if let Some(entry) = state.successor(&name, entry, identity, until) {
                service.identities.insert(name, entry);
            }
        }
        state.next_end = service.next_end();
        state.service = Some(Arc::new(service));
        state.end_former(now);
        for subscriber in state.subscribers.iter().filter_map(Weak::upgrade) {
            // A full counter also wakes the reader. No other error is possible.
            let _ = rustix::io::write(&*subscriber, &1_u64.to_ne_bytes());
        }
        drop(state);
        self.first_push.notify_all();
        self.committed.notify_all();
    }
}

impl State {
    fn tickets(&mut self, plan: Plan, former: Option<&Tickets>) -> Option<Arc<Tickets>> {
        if self.root.is_none() {
            match TicketRoot::draw() {
                Ok(root) => self.root = Some(Arc::new(root)),
                Err(error) => log::warning(format_args!("session tickets are disabled: {error}")),
            }
        }
        self.root.as_ref().map(|own| Arc::new(Tickets::new(plan, own, former)))
    }

    /// Removes former generations that have ended from service, and returns whether there were any. A request in
    /// progress keeps the state that it uses alive.
    fn end_former(&mut self, now: Instant) -> bool {
        if self.next_end.is_none_or(|end| now < end) {
            return false;
        }
        self.service = self.service.take().map(|service| Arc::new(service.at(now)));
        self.next_end = self.service.as_ref().and_then(|service| service.next_end());
        true
    }

    fn successor(
        &mut self,
        name: &str,
        entry: Option<&Entry>,
        identity: Option<Identity>,
        until: Instant,
    ) -> Option<Entry> {
        let Some(identity) = identity else { return entry.cloned() };
        if let Some(entry) = entry.filter(|entry| entry.current.public == identity.public) {
            return Some(entry.clone());
        }
        let number = self.numbers.entry(name.to_owned()).or_default();
        *number += 1;
        let current = Generation { number: *number, public: identity.public, key: identity.key };
        let former = entry.map(|entry| former(entry, &current, until)).unwrap_or_default();
        Some(Entry { current, former })
    }
}

/// Returns the former generations that stay usable beside a new generation. The last generation stays. If it has the
/// same key as the new one (a new staple, or a certificate renewed for the old key), the key before it also stays,
/// until its own end, because the key did not change.
fn former(entry: &Entry, new: &Generation, until: Instant) -> Vec<Former> {
    let other_key = |former: &&Former| former.generation.public.key_id != new.public.key_id;
    let older = match entry.current.public.key_id == new.public.key_id {
        true => entry.former.iter().find(other_key),
        false => None,
    };
    let last = Former { generation: entry.current.clone(), until };
    std::iter::once(last).chain(older.cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identities::identity::Files;
    use std::process::Command;

    const DEADLINE: Duration = Duration::from_secs(30);
    const FRONT: &str = "web";

    /// Returns a new key without a certificate.
    fn identity() -> Identity {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new("openssl");
        command.args(["genpkey", "-algorithm", "Ed25519", "-out"]).arg(file.path());
        assert!(command.status().expect("the openssl command is installed").success());
        let key = file.reopen().expect("opened").into();
        let files = Files { key, certificate: None, password: None, staple: None };
        files.load().expect("an identity")
    }

    fn push(identity: Option<Identity>, deadline: Duration) -> Push {
        let mut push = Push::default();
        push.front(FRONT, Rights { tls13_server: true, ..Rights::default() }, true, &[]);
        push.identity("a", identity);
        push.handshake(deadline);
        push
    }

    /// Returns a registry whose identity `a` was replaced at `now`, the id of the former key, and a weak reference to
    /// that key.
    fn replaced(now: Instant, deadline: Duration) -> (Registry, [u8; 32], Weak<PrivateKey>) {
        let registry = Registry::new();
        let first = identity();
        let (key_id, key) = (first.public.key_id, Arc::downgrade(&first.key));
        registry.commit(push(Some(first), deadline), now);
        registry.commit(push(Some(identity()), deadline), now);
        (registry, key_id, key)
    }

    fn found(registry: &Registry, key_id: &[u8; 32]) -> Result<(), NoKey> {
        registry.service().expect("a service").holder(FRONT, "a", key_id).map(drop)
    }

    #[test]
    fn finding_12_a_replaced_key_leaves_with_the_handshake_deadline_and_without_another_push() {
        let now = Instant::now();
        let (registry, key_id, key) = replaced(now, DEADLINE);
        registry.lock().end_former(now + DEADLINE - Duration::from_millis(1));
        assert_eq!(found(&registry, &key_id), Ok(()));
        registry.lock().end_former(now + DEADLINE);
        assert_eq!(found(&registry, &key_id), Err(NoKey::Generation));
        assert!(key.upgrade().is_none(), "it is not in memory any more");
        assert!(registry.serves("a"));
    }

    #[test]
    fn finding_12_the_thread_that_drops_former_keys_needs_no_request() {
        let (registry, key_id, key) = replaced(Instant::now(), Duration::from_millis(1));
        while key.strong_count() > 0 {
            registry.wait_for_end();
        }
        assert_eq!(found(&registry, &key_id), Err(NoKey::Generation));
    }

    #[test]
    fn a_push_that_changes_nothing_gives_a_former_key_no_more_time() {
        let now = Instant::now();
        let (registry, key_id, _) = replaced(now, DEADLINE);
        registry.commit(push(None, DEADLINE), now + DEADLINE / 2);
        assert_eq!(found(&registry, &key_id), Ok(()));
        registry.commit(push(None, DEADLINE), now + DEADLINE);
        assert_eq!(found(&registry, &key_id), Err(NoKey::Generation));
    }

    #[test]
    fn no_deadline_keeps_a_former_key_longer_than_the_bound() {
        let now = Instant::now();
        let (registry, _, key) = replaced(now, Duration::from_secs(86_400));
        registry.lock().end_former(now + FORMER_MAX);
        assert!(key.upgrade().is_none());
    }
}
