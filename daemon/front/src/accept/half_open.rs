//! The limits on handshakes of accepted connections that have not ended, for each listener and for each source of an
//! owner's connections.
//!
//! Such handshakes cost a peer nothing, and a front one descriptor each. A source is an IPv4 address, or the 64-bit
//! network of an IPv6 address, because a peer with one address there has all of them. A source is counted separately
//! for each owner: an owner who listens in a private network namespace can connect from any address there.

use crate::authorization::owner::Owner;
use luassl_settings::Limits;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// The initial probability of an early drop, beyond half of a listener's limit, in thousandths. The probability rises
/// linearly, and reaches [`ALL`] at the limit. The default of sshd's `MaxStartups` has the same share.
const FIRST: u32 = 300;
/// Certainty, in thousandths.
const ALL: u32 = 1000;
/// The bits of an IPv6 address that belong to its network.
const NETWORK: u128 = !0 << 64;

/// The source of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
            address => address,
        })
    }
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Its listener has many handshakes in progress, and the connection was chosen at random.
    Early,
    /// Its source has the maximum number of handshakes for one source of its owner.
    Source,
}

/// A source of connections to listeners of this owner.
type OfOwner = (Owner, Source);

/// The handshakes of accepted connections by owner and source, over all listeners of the owner.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    open: Arc<Mutex<HashMap<OfOwner, u32>>>,
}

/// The number of handshakes in progress of a listener's connections.
#[derive(Clone, Default)]
pub(crate) struct OfListener(Arc<AtomicU32>);

/// One handshake's part of both counts. Dropping it returns the part.
pub(crate) struct HalfOpen {
    sources: Sources,
    source: OfOwner,
    listener: OfListener,
}

impl Sources {
    /// Counts a connection that a listener has accepted. `chance` is below [`ALL`], and uniformly distributed.
    ///
    /// # Errors
    /// Returns [`Dropped`] if the connection is to be reset.
    pub(crate) fn admit(
        &self,
        owner: &Owner,
        address: IpAddr,
        listener: &OfListener,
        limits: &Limits,
        chance: u32,
    ) -> Result<HalfOpen, Dropped> {
        let source = (owner.clone(), Source::of(address));
        let mut open = self.open();
        let count = open.get(&source).copied().unwrap_or(0);
        if count >= limits.handshakes_per_source {
            return Err(Dropped::Source);
        }
        // Only the listener's own thread increments its count.
        if chance < early(listener.0.load(Ordering::Relaxed), limits.handshakes_per_listener) {
            return Err(Dropped::Early);
        }
        open.insert(source.clone(), count + 1);
        drop(open);
        listener.0.fetch_add(1, Ordering::Relaxed);
        Ok(HalfOpen { sources: self.clone(), source, listener: listener.clone() })
    }

    /// Locks the counts. Each change under the lock is one insertion or removal.
    fn open(&self) -> MutexGuard<'_, HashMap<OfOwner, u32>> {
        self.open.lock()
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.listener.0.fetch_sub(1, Ordering::Relaxed);
        let mut open = self.sources.open();
        match open.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.source)),
        }
    }
}

/// Returns the probability that the next connection is dropped, in thousandths.
fn early(open: u32, bound: u32) -> u32 {
    let begins = bound.div_ceil(2);
    if open >= bound {
        return ALL;
    }
    if open <= begins {
        return 0;
    }
    FIRST + (ALL - FIRST) * (open - begins) / (bound - begins)
}

/// Returns a random number below [`ALL`]. Returns 0, which any probability covers, if the kernel returns no random
/// bytes.
pub(crate) fn chance() -> u32 {
    let mut bytes = [0; 4];
    if openssl::rand::rand_bytes(&mut bytes).is_err() {
        return 0;
    }
    u32::from_ne_bytes(bytes) % ALL
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn limits(per_source: u32, per_listener: u32) -> Limits {
        Limits {
            handshakes_per_source: per_source,
            handshakes_per_listener: per_listener,
            ..Limits::default()
        }
    }

    /// A number that only certainty covers.
    const LUCKY: u32 = ALL - 1;

    fn owner(uid: u32) -> Owner {
        Owner { socket: "control".into(), uid }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn finding_11_one_source_leaves_room_for_another_and_gets_its_part_back() {
        let (sources, listener, limits) = (Sources::default(), OfListener::default(), limits(2, 100));
        let admit = |from: &str| sources.admit(&owner(1), address(from), &listener, &limits, LUCKY);
        let first = admit("192.0.2.1");
        let _second = admit("192.0.2.1").ok().unwrap();
        assert_eq!(admit("192.0.2.1").err(), Some(Dropped::Source));
        assert_eq!(admit("::ffff:192.0.2.1").err(), Some(Dropped::Source), "the same address");
        assert!(admit("192.0.2.2").is_ok());
        drop(first);
        assert!(admit("192.0.2.1").is_ok());
    }

    #[test]
    fn finding_11_a_source_of_ipv6_is_its_network() {
        let (sources, listener, limits) = (Sources::default(), OfListener::default(), limits(1, 100));
        let admit = |from: &str| sources.admit(&owner(1), address(from), &listener, &limits, LUCKY);
        let _one = admit("2001:db8::1").ok().unwrap();
        let admit = |from: &str| admit(from).err();
        assert_eq!(admit("2001:db8::ffff:1:2:3"), Some(Dropped::Source));
        assert_eq!(admit("2001:db8:0:1::1"), None);
    }

    #[test]
    fn finding_11_a_source_is_bounded_over_all_listeners_of_one_owner() {
        let (sources, limits) = (Sources::default(), limits(1, 100));
        let admit = |uid| {
            let from = address("192.0.2.1");
            sources.admit(&owner(uid), from, &OfListener::default(), &limits, LUCKY)
        };
        let _one = admit(1).ok().unwrap();
        assert_eq!(admit(1).err(), Some(Dropped::Source));
    }

    #[test]
    fn finding_11_a_source_that_one_owner_fills_is_free_for_another() {
        let (sources, listener, limits) = (Sources::default(), OfListener::default(), limits(2, 100));
        let admit = |owner: &Owner| sources.admit(owner, address("192.0.2.1"), &listener, &limits, LUCKY);
        let other_socket = Owner { socket: "tenant".into(), uid: 1 };
        let _tenant = [admit(&owner(1)).ok().unwrap(), admit(&owner(1)).ok().unwrap()];
        // Positive control: the count of the owner itself is full.
        assert_eq!(admit(&owner(1)).err(), Some(Dropped::Source));
        let others = [admit(&owner(2)).ok().unwrap(), admit(&other_socket).ok().unwrap()];
        drop(others);
        assert_eq!(admit(&owner(1)).err(), Some(Dropped::Source), "each gives back its own part");
    }

    #[test]
    fn finding_11_drops_begin_at_half_of_a_listeners_bound_and_are_certain_at_it() {
        let shares = [0, 49, 50, 51, 75, 99, 100, 200].map(|open| early(open, 100));
        assert_eq!(shares, [0, 0, 0, 314, 650, 986, 1000, 1000]);
        assert_eq!([early(0, 1), early(1, 1)], [0, 1000]);
        let (sources, listener, limits) = (Sources::default(), OfListener::default(), limits(100, 4));
        let from = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let admit = |last| sources.admit(&owner(1), from(last), &listener, &limits, LUCKY);
        let kept: Vec<_> = (0..10).filter_map(|last| admit(last).ok()).collect();
        assert_eq!(kept.len(), 4);
        assert_eq!(
            sources.admit(&owner(1), from(11), &OfListener::default(), &limits, 0).err(),
            None,
            "another's"
        );
        drop(kept);
        assert!(sources.open().is_empty());
        let three = [1, 2, 3].map(|last| admit(last).ok().unwrap());
        assert_eq!(sources.admit(&owner(1), from(4), &listener, &limits, 299).err(), Some(Dropped::Early));
        drop(three);
    }
}
