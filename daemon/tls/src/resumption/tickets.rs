//! The keys of session tickets, as the keeper sends them to this front.
//!
//! A front has the keys of three consecutive epochs. Each of them provides a derived key for each scope (the settings
//! that a session was made under, see `resumption_scope`). A ticket of another scope is not recognised.

use luassl_keeper_ipc::front::Tickets;
use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::{HkdfMode, PkeyCtx};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// The maximum number of scopes whose keys are cached. With more requested host names, keys are derived again.
const SCOPES_MAX: usize = 1024;

/// A digest of the settings that a session was made under.
pub(crate) type Scope = [u8; 32];

/// The ticket keys of a front. They are wiped when they are replaced or dropped.
#[derive(Default)]
pub struct TicketKeys {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    epochs: Option<Epochs>,
    derived: HashMap<Scope, Arc<Keys>>,
}

/// The epochs as the keeper sent them.
struct Epochs {
    length: u64,
    /// The number of the epoch of the second key.
    number: u64,
    keys: [Zeroizing<[u8; 32]>; 3],
}

/// The keys of one scope for the three epochs.
pub(crate) struct Keys {
    keys: [TicketKey; 3],
    /// The start of the first epoch. It determines which key belongs to the current epoch: 0 at `start`, and one more
    /// after each `length`.
    start: u64,
    length: u64,
}

impl TicketKeys {
    /// Stores the keys from the keeper. The keys of former epochs are dropped.
    pub fn put(&self, tickets: &Tickets<'_>) {
        let keys = tickets.keys.map(|key| Zeroizing::new(*key.0));
        let epochs = Epochs { length: tickets.length.into(), number: tickets.number, keys };
        *self.write() = State { epochs: Some(epochs), derived: HashMap::new() };
    }

    /// Returns whether tickets can be sealed at this time. Without a keeper, this is possible until its last epochs
    /// end.
    pub(crate) fn can_seal(&self) -> bool {
        self.read().epochs.as_ref().is_some_and(|epochs| epochs.place(now()).is_some())
    }

    /// Returns the keys of a scope. `None` before the keeper has sent keys.
    pub(crate) fn of(&self, scope: &Scope) -> Option<Arc<Keys>> {
        if let Some(known) = self.read().derived.get(scope) {
            return Some(Arc::clone(known));
        }
        let mut state = self.write();
        let keys = Arc::new(state.epochs.as_ref()?.derive(scope).ok()?);
        if state.derived.len() >= SCOPES_MAX {
            state.derived.clear();
        }
        state.derived.insert(*scope, Arc::clone(&keys));
        Some(keys)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// Locks the state for writing. Every change under the lock is one assignment or insertion, so a panic leaves it
    /// consistent.
    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }
}

impl Epochs {
    /// Returns the start of the first epoch.
    fn start(&self) -> u64 {
        self.number.saturating_sub(1).saturating_mul(self.length)
    }

    fn place(&self, now: Duration) -> Option<usize> {
        place(self.start(), self.length, now)
    }

    fn derive(&self, scope: &Scope) -> Result<Keys, ErrorStack> {
        let [first, second, third] = &self.keys;
        let derive = |epoch: &[u8; 32]| TicketKey::derive(epoch, scope);
        let keys = [derive(first)?, derive(second)?, derive(third)?];
        Ok(Keys { keys, start: self.start(), length: self.length })
    }
}

/// Returns the index of the current epoch among the three.
fn place(start: u64, length: u64, now: Duration) -> Option<usize> {
    let since = now.as_secs().checked_sub(start)?;
    usize::try_from(since / length.max(1)).ok().filter(|place| *place < 3)
}

pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Keys {
    /// Returns the key to seal with, which is that of the current epoch. At the very end of the last epoch it is still
    /// the last key.
    pub(crate) fn sealing(&self) -> &TicketKey {
        &self.keys[self.place().unwrap_or(2)]
    }

    /// Returns the key that a ticket names, and whether a new ticket is due because the epoch has changed.
    pub(crate) fn opening(&self, name: &[u8]) -> Option<(&TicketKey, bool)> {
        let found = self.keys.iter().position(|key| key.name() == name)?;
        Some((&self.keys[found], self.place() != Some(found)))
    }

    fn place(&self) -> Option<usize> {
        place(self.start, self.length, now())
    }
}

/// One key: its name, which every ticket carries, an AES-256 key and an HMAC-SHA-256 key.
pub(crate) struct TicketKey(Zeroizing<[u8; 80]>);

impl TicketKey {
    fn derive(epoch: &[u8; 32], scope: &Scope) -> Result<Self, ErrorStack> {
        let mut key = Self(Zeroizing::new([0; 80]));
        let mut hkdf = PkeyCtx::new_id(Id::HKDF)?;
        hkdf.derive_init()?;
        hkdf.set_hkdf_mode(HkdfMode::EXPAND_ONLY)?;
        hkdf.set_hkdf_md(Md::sha256())?;
        hkdf.set_hkdf_key(epoch)?;
        hkdf.add_hkdf_info(b"luassl ticket 1")?;
        hkdf.add_hkdf_info(scope)?;
        hkdf.derive(Some(&mut key.0[..]))?;
        Ok(key)
    }

    pub(crate) fn name(&self) -> &[u8; 16] {
        self.part::<0, 16>()
    }

    pub(crate) fn cipher(&self) -> &[u8; 32] {
        self.part::<16, 32>()
    }

    pub(crate) fn mac(&self) -> &[u8; 32] {
        self.part::<48, 32>()
    }

    fn part<const START: usize, const LENGTH: usize>(&self) -> &[u8; LENGTH] {
        const { assert!(START + LENGTH <= 80) };
        self.0[START..].first_chunk().expect("within the 80 bytes, which was checked above")
    }
}

/// The keys that include the key of a ticket.
pub(crate) struct Opened {
    pub(crate) keys: Arc<Keys>,
    /// Whether the client gets a new ticket.
    pub(crate) renew: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use luassl_keeper_ipc::front::EpochKey;

    /// The length of epochs that do not end while a test runs, in seconds.
    const LONG: u32 = 100_000_000;

    fn put(keys: &TicketKeys, number: u64, secrets: [u8; 3]) {
        let secrets = secrets.map(|byte| [byte; 32]);
        let [a, b, c] = &secrets;
        keys.put(&Tickets { length: LONG, number, keys: [a, b, c].map(EpochKey) });
    }

    fn present() -> u64 {
        now().as_secs() / u64::from(LONG)
    }

    const SCOPE: Scope = [1; 32];

    #[test]
    fn without_the_keepers_word_there_are_none() {
        let keys = TicketKeys::default();
        assert!(!keys.can_seal() && keys.of(&SCOPE).is_none());
    }

    #[test]
    fn another_scope_has_other_keys_and_the_same_has_the_same() {
        let (one, other) = (TicketKeys::default(), TicketKeys::default());
        put(&one, present(), [1, 2, 3]);
        put(&other, present(), [1, 2, 3]);
        let (here, there) = (one.of(&SCOPE).unwrap(), other.of(&SCOPE).unwrap());
        assert_eq!(here.sealing().0, there.sealing().0);
        let foreign = one.of(&[2; 32]).unwrap();
        assert!(foreign.opening(here.sealing().name()).is_none());
        assert_ne!(here.sealing().cipher(), here.sealing().mac());
        assert_ne!(foreign.sealing().cipher(), here.sealing().cipher());
    }

    #[test]
    fn a_ticket_of_the_epoch_before_is_renewed_and_an_older_one_is_unknown() {
        let keys = TicketKeys::default();
        put(&keys, present(), [1, 2, 3]);
        let name = *keys.of(&SCOPE).unwrap().sealing().name();
        let due = |keys: &TicketKeys| keys.of(&SCOPE).unwrap().opening(&name).map(|(_, due)| due);
        assert_eq!(due(&keys), Some(false));
        put(&keys, present(), [2, 3, 4]);
        assert_eq!(due(&keys), Some(true));
        put(&keys, present(), [3, 4, 5]);
        assert_eq!(due(&keys), None);
    }

    #[test]
    fn a_front_whose_keeper_is_gone_goes_on_for_one_epoch() {
        let keys = TicketKeys::default();
        put(&keys, present() - 1, [1, 2, 3]);
        assert!(keys.can_seal());
        let last = keys.of(&SCOPE).unwrap();
        let (_, due) = last.opening(last.sealing().name()).unwrap();
        assert!(!due);
        put(&keys, present() - 2, [1, 2, 3]);
        assert!(!keys.can_seal());
        // The same applies to a front whose clock is ahead of the keeper's.
        put(&keys, present() + 1, [1, 2, 3]);
        assert!(keys.can_seal());
        put(&keys, present() + 2, [1, 2, 3]);
        assert!(!keys.can_seal());
    }

    #[test]
    fn more_scopes_than_are_kept_are_derived_again() {
        let keys = TicketKeys::default();
        put(&keys, present(), [1, 2, 3]);
        let name = *keys.of(&SCOPE).unwrap().sealing().name();
        for number in 0..SCOPES_MAX as u64 + 10 {
            let mut scope = [0; 32];
            scope[..8].copy_from_slice(&number.to_be_bytes());
            keys.of(&scope).unwrap();
        }
        assert!(keys.read().derived.len() <= SCOPES_MAX);
        assert_eq!(*keys.of(&SCOPE).unwrap().sealing().name(), name);
    }
}
