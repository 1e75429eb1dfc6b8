//! What is in service: identities by name, and what each front may reach. A commit makes it anew and swaps it whole.

use crate::crypto::{PrivateKey, TicketRoot};
use crate::identity::{Identity, Public};
use crate::ledger::Ledger;
use crate::limits::{FIRST_PUSH_WAIT, FRONTS_MAX, IDENTITIES_MAX};
use crate::log::{self, Audit};
use crate::tickets::{Plan, Tickets};
use luassl_keeper_ipc::admin::{Rates, Rights};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// One generation of an identity in service.
#[derive(Clone)]
pub(crate) struct Generation {
    /// Counts changes of the identity from 1.
    pub(crate) number: u64,
    /// What fronts get.
    pub(crate) public: Arc<Public>,
    key: Arc<PrivateKey>,
}

/// An identity in service. Handshakes that began with the former generation can still be signed.
#[derive(Clone)]
struct Entry {
    current: Generation,
    former: Vec<Generation>,
}

/// A key that signs for an identity, with the certificates that it has had.
pub(crate) struct Holder {
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) publics: Vec<Arc<Public>>,
}

/// What a front may reach.
#[derive(Clone, Default)]
struct Reach {
    /// Of every identity.
    all: Option<Rights>,
    /// Of these, besides.
    identities: BTreeMap<String, Rights>,
}

impl Reach {
    /// None for an identity that is out of reach.
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

/// Everything that is in service.
#[derive(Default)]
pub(crate) struct Service {
    identities: BTreeMap<String, Entry>,
    fronts: BTreeMap<String, Reach>,
    /// What each front may ask for.
    pub(crate) rates: Rates,
    /// None where libcrypto could not draw a root.
    pub(crate) tickets: Option<Arc<Tickets>>,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// No identity of that name for that front, for whatever reason.
    Identity,
    /// The identity has no such key.
    Generation,
}

impl Service {
    /// What `front` has of an identity that it reaches, and the key.
    pub(crate) fn holder(
        &self,
        front: &str,
        name: &str,
        key_id: &[u8; 32],
    ) -> Result<(Rights, Holder), NoKey> {
        let (rights, entry) = self.entry(front, name).ok_or(NoKey::Identity)?;
        let generations = std::iter::once(&entry.current).chain(&entry.former);
        let mut fitting = generations.filter(|generation| generation.public.key_id == *key_id).peekable();
        let key = fitting.peek().map(|generation| Arc::clone(&generation.key)).ok_or(NoKey::Generation)?;
        let publics = fitting.map(|generation| Arc::clone(&generation.public)).collect();
        Ok((rights, Holder { key, publics }))
    }

    fn entry(&self, front: &str, name: &str) -> Option<(Rights, &Entry)> {
        let rights = self.fronts.get(front)?.rights(name)?;
        Some((rights, self.identities.get(name)?))
    }

    /// Whether there is such an identity for `front`.
    pub(crate) fn reaches(&self, front: &str, name: &str) -> bool {
        self.entry(front, name).is_some()
    }

    /// The identities that a front reaches, by name.
    pub(crate) fn reached<'a>(&'a self, front: &str) -> impl Iterator<Item = (&'a str, &'a Generation)> {
        let reach = self.fronts.get(front).cloned().unwrap_or_default();
        let entries = self.identities.iter().filter(move |(name, _)| reach.rights(name).is_some());
        entries.map(|(name, entry)| (name.as_str(), &entry.current))
    }
}

/// A push that has not been committed.
#[derive(Default)]
pub(crate) struct Push {
    fronts: BTreeMap<String, Reach>,
    /// None where loading failed: what is in service stays.
    identities: BTreeMap<String, Option<Identity>>,
    tickets: Plan,
    rates: Rates,
}

impl Push {
    /// Names a front, or more of what it has; false beyond the bound on fronts.
    pub(crate) fn front(&mut self, name: &str, rights: Rights, all: bool, identities: &[&str]) -> bool {
        if self.fronts.len() >= FRONTS_MAX && !self.fronts.contains_key(name) {
            return false;
        }
        self.fronts.entry(name.to_owned()).or_default().add(rights, all, identities);
        true
    }

    /// Names an identity, loaded or failed.
    pub(crate) fn identity(&mut self, name: &str, identity: Option<Identity>) {
        self.identities.insert(name.to_owned(), identity);
    }

    /// Says how ticket keys are made.
    pub(crate) fn tickets(&mut self, plan: Plan) {
        self.tickets = plan;
    }

    /// Says how much a front may ask for.
    pub(crate) fn rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// Whether there is room for one more name.
    pub(crate) fn has_room_for(&self, name: &str) -> bool {
        self.identities.len() < IDENTITIES_MAX || self.identities.contains_key(name)
    }
}

/// What is kept of a front, whatever is in service.
#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) audit: Arc<Audit>,
}

impl Books {
    fn new(front: &str) -> Self {
        Self { ledger: Arc::new(Ledger::new(Instant::now())), audit: Arc::new(Audit::new(front)) }
    }
}

/// The service, who waits for its first push, and who is to be told of changes.
pub(crate) struct Registry {
    state: Mutex<State>,
    first_push: Condvar,
    /// What each front has had, and what was said of it.
    books: Mutex<BTreeMap<String, Books>>,
}

#[derive(Default)]
struct State {
    /// None before the first push.
    service: Option<Arc<Service>>,
    /// The last generation of every name that there was: numbers are not used twice.
    numbers: BTreeMap<String, u64>,
    /// The root of ticket keys for pushes that bring none.
    root: Option<Arc<TicketRoot>>,
    /// An eventfd of each connection that has subscribed.
    subscribers: Vec<Weak<OwnedFd>>,
}

impl Registry {
    /// Nothing in service, no push yet.
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), first_push: Condvar::new(), books: Mutex::default() }
    }

    /// The books of a front.
    pub(crate) fn books_of(&self, front: &str) -> Books {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.entry(front.to_owned()).or_insert_with(|| Books::new(front)).clone()
    }

    /// The books of all fronts, by name.
    pub(crate) fn books(&self) -> Vec<(String, Books)> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.iter().map(|(front, books)| (front.clone(), books.clone())).collect()
    }

    /// Every change under the lock is one assignment or one insertion, so a thread that panicked leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in service; none before the first push.
    pub(crate) fn service(&self) -> Option<Arc<Service>> {
        self.lock().service.clone()
    }

    /// What is in service; before the first push, waits for it a bounded time.
    pub(crate) fn service_soon(&self) -> Option<Arc<Service>> {
        let before = |state: &mut State| state.service.is_none();
        let waited = self.first_push.wait_timeout_while(self.lock(), FIRST_PUSH_WAIT, before);
        waited.unwrap_or_else(PoisonError::into_inner).0.service.clone()
    }

    /// From now on each commit writes to the eventfd, until it is dropped.
    pub(crate) fn subscribe(&self, subscriber: &Arc<OwnedFd>) {
        let subscribers = &mut self.lock().subscribers;
        subscribers.retain(|other| other.strong_count() > 0);
        subscribers.push(Arc::downgrade(subscriber));
    }

    /// Whether there is a generation of an identity in service.
    pub(crate) fn serves(&self, name: &str) -> bool {
        self.service().is_some_and(|service| service.identities.contains_key(name))
    }

    /// Whether an identity differs from what is in service, and the number that it has or will have.
    pub(crate) fn preview(&self, name: &str, public: &Public) -> (bool, u64) {
        let state = self.lock();
        let current = state.service.as_ref().and_then(|service| service.identities.get(name));
        match current.map(|entry| &entry.current) {
            Some(current) if *current.public == *public => (false, current.number),
            _ => (true, state.numbers.get(name).map_or(1, |number| number + 1)),
        }
    }

    /// Puts a push into service; what it did not name is withdrawn.
    pub(crate) fn commit(&self, push: Push) {
        let mut state = self.lock();
        let former = state.service.clone().unwrap_or_default();
        let tickets = state.tickets(push.tickets, former.tickets.as_deref());
        let mut service = Service { fronts: push.fronts, rates: push.rates, tickets, ..Service::default() };
        for (name, identity) in push.identities {
            let entry = former.identities.get(&name);
            if let Some(entry) = state.successor(&name, entry, identity) {
                service.identities.insert(name, entry);
            }
        }
        state.service = Some(Arc::new(service));
        for subscriber in state.subscribers.iter().filter_map(Weak::upgrade) {
            // A full counter wakes as well; there is no other error.
            let _ = rustix::io::write(&*subscriber, &1_u64.to_ne_bytes());
        }
        drop(state);
        self.first_push.notify_all();
    }
}

impl State {
    fn tickets(&mut self, plan: Plan, former: Option<&Tickets>) -> Option<Arc<Tickets>> {
        if self.root.is_none() {
            match TicketRoot::draw() {
                Ok(root) => self.root = Some(Arc::new(root)),
                Err(error) => log::warning(format_args!("there will be no session tickets: {error}")),
            }
        }
        self.root.as_ref().map(|own| Arc::new(Tickets::new(plan, own, former)))
    }

    fn successor(&mut self, name: &str, entry: Option<&Entry>, identity: Option<Identity>) -> Option<Entry> {
        let Some(identity) = identity else { return entry.cloned() };
        if let Some(entry) = entry.filter(|entry| entry.current.public == identity.public) {
            return Some(entry.clone());
        }
        let number = self.numbers.entry(name.to_owned()).or_default();
        *number += 1;
        let current = Generation { number: *number, public: identity.public, key: identity.key };
        let former = entry.map(|entry| former(entry, &current)).unwrap_or_default();
        Some(Entry { current, former })
    }
}

/// What stays usable beside a new generation: the last one. Where that has the same key (a new staple, a certificate
/// renewed for the old key), the key before it stays as well: it was not the key that changed.
fn former(entry: &Entry, new: &Generation) -> Vec<Generation> {
    let other_key = |generation: &&Generation| generation.public.key_id != new.public.key_id;
    let older = match entry.current.public.key_id == new.public.key_id {
        true => entry.former.iter().find(other_key),
        false => None,
    };
    std::iter::once(&entry.current).chain(older).cloned().collect()
}
