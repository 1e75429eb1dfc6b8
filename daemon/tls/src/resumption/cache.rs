//! A bounded number of sessions by owner and key. One owner cannot displace the others: if the total limit is exceeded,
//! the oldest session of the owner with the most sessions is dropped.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

/// The maximum number of values under one key: twice the number of tickets that a server sends for one connection.
const PER_KEY: usize = 4;

/// The limits on the number of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) per_owner: usize,
    pub(crate) all: usize,
}

/// A cache as the module documentation describes it.
pub(crate) struct Cache<K, V> {
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    owner_caches: HashMap<Arc<str>, OwnerCache<K, V>>,
    bounds: Bounds,
    /// The number of values of all owners.
    count: usize,
    next: u64,
}

/// The values of one owner.
struct OwnerCache<K, V> {
    by_key: HashMap<K, VecDeque<(u64, V)>>,
    /// The keys in the order in which their values were added.
    order: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { state: Mutex::new(State { owner_caches: HashMap::new(), bounds, count: 0, next: 0 }) }
    }

    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        let mut state = self.lock();
        state.bounds = bounds;
        state.shrink();
    }

    /// Adds a value to those of the key. If there are too many, the oldest is dropped.
    pub(crate) fn add(&self, owner: &Arc<str>, key: &K, value: V) {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.count += 1;
        let state = &mut *state;
        let owner_cache = state.owner_caches.entry(Arc::clone(owner)).or_default();
        owner_cache.add(number, key, value);
        if owner_cache.by_key[key].len() > PER_KEY {
            state.count -= owner_cache.drop_oldest_of(key);
        }
        if owner_cache.order.len() > state.bounds.per_owner {
            state.count -= owner_cache.drop_oldest();
        }
        state.shrink();
    }

    /// Calls `look` with the newest value under a key. The value stays in the cache.
    pub(crate) fn look<R>(&self, owner: &str, key: &K, look: impl FnOnce(&V) -> R) -> Option<R> {
        let state = self.lock();
        let (_, value) = state.owner_caches.get(owner)?.by_key.get(key)?.back()?;
        Some(look(value))
    }

    /// Removes and returns the newest value under a key.
    pub(crate) fn take(&self, owner: &str, key: &K) -> Option<V> {
        let mut state = self.lock();
        let owner_cache = state.owner_caches.get_mut(owner)?;
        let values = owner_cache.by_key.get_mut(key)?;
        let (number, value) = values.pop_back()?;
        if values.is_empty() {
            owner_cache.by_key.remove(key);
        }
        owner_cache.order.remove(&number);
        state.count -= 1;
        state.tidy(owner);
        Some(value)
    }

    /// Removes everything under a key.
    pub(crate) fn forget(&self, owner: &str, key: &K) {
        let mut state = self.lock();
        let Some(owner_cache) = state.owner_caches.get_mut(owner) else { return };
        let values = owner_cache.by_key.remove(key).unwrap_or_default();
        for (number, _) in &values {
            owner_cache.order.remove(number);
        }
        state.count -= values.len();
        state.tidy(owner);
    }

    /// Locks the state. A thread that panicked may have left the count too high, but never a broken owner cache.
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock()
    }
}

impl<K: Clone + Eq + Hash, V> State<K, V> {
    fn shrink(&mut self) {
        let per_owner = self.bounds.per_owner;
        for owner_cache in
            self.owner_caches.values_mut().filter(|owner_cache| owner_cache.order.len() > per_owner)
        {
            while owner_cache.order.len() > per_owner {
                self.count -= owner_cache.drop_oldest();
            }
        }
        while self.count > self.bounds.all {
            let largest = self.owner_caches.values_mut().max_by_key(|owner_cache| owner_cache.order.len());
            match largest.map_or(0, OwnerCache::drop_oldest) {
                0 => self.count = 0,
                dropped => self.count -= dropped,
            }
        }
    }

    /// Removes the cache of an owner without sessions.
    fn tidy(&mut self, owner: &str) {
        if self.owner_caches.get(owner).is_some_and(|owner_cache| owner_cache.order.is_empty()) {
            self.owner_caches.remove(owner);
        }
    }
}

impl<K, V> Default for OwnerCache<K, V> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), order: BTreeMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V> OwnerCache<K, V> {
    fn add(&mut self, number: u64, key: &K, value: V) {
        self.by_key.entry(key.clone()).or_default().push_back((number, value));
        self.order.insert(number, key.clone());
    }

    /// Drops the oldest value, and returns the number of dropped values: one or zero.
    fn drop_oldest(&mut self) -> usize {
        match self.order.values().next().cloned() {
            Some(key) => self.drop_oldest_of(&key),
            None => 0,
        }
    }

    fn drop_oldest_of(&mut self, key: &K) -> usize {
        let Some(values) = self.by_key.get_mut(key) else { return 0 };
        let Some((number, _)) = values.pop_front() else { return 0 };
        if values.is_empty() {
            self.by_key.remove(key);
        }
        self.order.remove(&number);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(per_owner: usize, all: usize) -> Cache<u32, u32> {
        Cache::new(Bounds { per_owner, all })
    }

    fn owner(name: &str) -> Arc<str> {
        name.into()
    }

    fn has(cache: &Cache<u32, u32>, owner: &str, key: u32) -> bool {
        cache.look(owner, &key, |_| ()).is_some()
    }

    #[test]
    fn the_newest_of_a_key_is_taken_first_and_only_so_many_stay() {
        let cache = cache(100, 100);
        for value in 0..10 {
            cache.add(&owner("a"), &1, value);
        }
        assert_eq!(cache.look("a", &1, |value| *value), Some(9));
        let taken: Vec<_> = std::iter::from_fn(|| cache.take("a", &1)).collect();
        assert_eq!(taken, [9, 8, 7, 6]);
        let state = cache.lock();
        assert_eq!((state.count, state.owner_caches.len()), (0, 0));
    }

    #[test]
    fn an_owner_has_its_own_bound_and_its_own_sessions() {
        let cache = cache(3, 100);
        for key in 0..5 {
            cache.add(&owner("a"), &key, key);
        }
        cache.add(&owner("b"), &0, 7);
        assert_eq!((0..5).filter(|key| has(&cache, "a", *key)).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(cache.take("b", &0), Some(7));
        assert_eq!(cache.take("b", &2), None);
    }

    #[test]
    fn beyond_the_bound_in_all_the_largest_owner_gives_way() {
        let cache = cache(8, 10);
        cache.add(&owner("small"), &0, 0);
        for key in 0..8 {
            cache.add(&owner("large"), &key, key);
        }
        for key in 1..4 {
            cache.add(&owner("small"), &key, key);
        }
        assert_eq!(cache.lock().count, 10);
        assert!((0..4).all(|key| has(&cache, "small", key)));
        assert_eq!((0..8).filter(|key| has(&cache, "large", *key)).count(), 6);
    }

    #[test]
    fn narrower_bounds_take_effect_at_once() {
        let cache = cache(8, 10);
        for key in 0..8 {
            cache.add(&owner("a"), &key, key);
        }
        cache.set_bounds(Bounds { per_owner: 4, all: 3 });
        assert_eq!((0..8).filter(|key| has(&cache, "a", *key)).collect::<Vec<_>>(), [5, 6, 7]);
        cache.set_bounds(Bounds { per_owner: 0, all: 0 });
        cache.add(&owner("a"), &9, 9);
        assert_eq!(cache.lock().count, 0);
    }

    #[test]
    fn what_is_forgotten_is_gone_and_counted() {
        let cache = cache(8, 10);
        cache.add(&owner("a"), &1, 1);
        cache.add(&owner("a"), &1, 2);
        cache.add(&owner("a"), &2, 3);
        cache.forget("a", &1);
        cache.forget("nobody", &1);
        assert!(!has(&cache, "a", 1) && has(&cache, "a", 2));
        assert_eq!(cache.lock().count, 1);
    }
}
