//! The public halves of the front's identities, as the keeper last sent them.

use luassl_tls::identity::{IdentitySource, PublicIdentity};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// The identities of a front.
#[derive(Default)]
pub(super) struct Identities {
    by_name: RwLock<BTreeMap<String, Arc<PublicIdentity>>>,
    /// The number of changes. A change is visible before it is counted. A caller that reads the epoch first and the
    /// identities afterwards misses no change.
    epoch: AtomicU64,
    /// Whether the keeper has sent all identities once.
    synced: watch::Sender<bool>,
}

impl Identities {
    /// Returns whether the keeper has sent all identities once.
    pub(super) fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until the keeper has sent all identities once.
    pub(super) async fn synced(&self) {
        // The sender lives as long as this.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<PublicIdentity>>> {
        self.by_name.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<PublicIdentity>>> {
        self.by_name.write()
    }

    /// Adds an identity, unless it is known. A restarted keeper counts generations from 1, and also sends what has not
    /// changed.
    pub(super) fn put(&self, identity: PublicIdentity) {
        let mut by_name = self.write();
        let known = by_name.get(&identity.name);
        if !known.is_some_and(|known| is_same(known, &identity)) {
            by_name.insert(identity.name.clone(), Arc::new(identity));
            self.count();
        }
    }

    pub(super) fn withdraw(&self, name: &str) {
        if self.write().remove(name).is_some() {
            self.count();
        }
    }

    /// Removes the identities that the keeper has not named, after it has sent all of them.
    pub(super) fn finish(&self, named: &BTreeSet<String>) {
        let mut by_name = self.write();
        let before = by_name.len();
        by_name.retain(|name, _| named.contains(name));
        if by_name.len() != before {
            self.count();
        }
        drop(by_name);
        self.synced.send_replace(true);
    }

    fn count(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }
}

impl IdentitySource for Identities {
    fn current(&self, name: &str) -> Option<Arc<PublicIdentity>> {
        self.read().get(name).cloned()
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}

fn is_same(known: &PublicIdentity, told: &PublicIdentity) -> bool {
    known.public_key == told.public_key && known.chain == told.chain && known.staple == told.staple
}

#[cfg(test)]
mod tests {
    use super::*;
    use luassl_tls::identity::KeyId;

    fn identity(name: &str, generation: u64, key: u8) -> PublicIdentity {
        PublicIdentity {
            name: name.to_owned(),
            generation,
            key_id: KeyId([key; 32]),
            public_key: vec![key],
            chain: Vec::new(),
            staple: None,
        }
    }

    #[test]
    fn only_changes_are_counted() {
        let identities = Identities::default();
        identities.put(identity("a", 1, 1));
        identities.put(identity("a", 3, 1));
        assert_eq!(identities.epoch(), 1);
        identities.put(identity("a", 2, 2));
        assert_eq!(identities.epoch(), 2);
        identities.withdraw("b");
        identities.finish(&BTreeSet::from(["a".to_owned()]));
        assert_eq!(identities.epoch(), 2);
        assert!(identities.is_synced());
    }

    #[test]
    fn what_a_new_subscription_does_not_name_is_gone() {
        let identities = Identities::default();
        identities.put(identity("a", 1, 1));
        identities.put(identity("b", 1, 2));
        identities.finish(&BTreeSet::from(["b".to_owned()]));
        assert!(identities.current("a").is_none());
        assert!(identities.current("b").is_some());
        assert_eq!(identities.epoch(), 3);
    }
}
