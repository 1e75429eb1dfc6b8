//! Keys for session tickets. They are not stored: each key is derived from the root, the domain of the front and the
//! number of the epoch. A front has the keys of three consecutive epochs, so that a ticket is valid for at least one
//! whole epoch, and a clock may be wrong by one epoch.

use crate::crypto::{CryptoError, TicketRoot};
use luassl_keeper_ipc::admin::EPOCH;
use luassl_keeper_ipc::front;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// The source of the root of a push.
pub(crate) enum Root {
    /// The keeper generates the root once, at its start.
    Own,
    /// The operator configured the root.
    Given(Arc<TicketRoot>),
    /// The configured root is not usable. The previous root stays in service.
    Failed,
}

/// The settings of a push for ticket keys.
pub(crate) struct Plan {
    pub(crate) epoch: u32,
    pub(crate) root: Root,
    /// The ticket domains of fronts whose domain is not their own name.
    pub(crate) domains: BTreeMap<String, String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { epoch: EPOCH, root: Root::Own, domains: BTreeMap::new() }
    }
}

/// Ticket keys in service.
pub(crate) struct Tickets {
    root: Arc<TicketRoot>,
    epoch: u32,
    domains: BTreeMap<String, String>,
}

impl Tickets {
    /// Returns the tickets of `plan`. `own` is used if the root is the keeper's own, and `former` is the previous
    /// state.
    pub(crate) fn new(plan: Plan, own: &Arc<TicketRoot>, former: Option<&Self>) -> Self {
        let root = match plan.root {
            Root::Given(root) => root,
            Root::Own => Arc::clone(own),
            Root::Failed => Arc::clone(former.map_or(own, |former| &former.root)),
        };
        Self { root, epoch: plan.epoch, domains: plan.domains }
    }

    /// Returns the keys of `front` at a given time.
    pub(crate) fn keys(&self, front: &str, now: SystemTime) -> Result<Keys, CryptoError> {
        let domain = self.domains.get(front).map_or(front, String::as_str);
        let number = (seconds(now) / u64::from(self.epoch)).max(1);
        let mut keys = Keys { length: self.epoch, number, keys: Zeroizing::default() };
        for (key, number) in keys.keys.iter_mut().zip(number - 1..) {
            self.root.derive(&purpose(domain, self.epoch, number), key)?;
        }
        Ok(keys)
    }

    /// Returns how long the keys of a given time stay current.
    pub(crate) fn left(&self, now: SystemTime) -> Duration {
        let epoch = u64::from(self.epoch);
        Duration::from_secs(epoch - seconds(now) % epoch)
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns a value that is unique for each (domain, length, number): the domain comes last, and the other fields have a
/// fixed length.
fn purpose(domain: &str, epoch: u32, number: u64) -> Vec<u8> {
    let mut purpose = Vec::with_capacity(12 + domain.len());
    purpose.extend_from_slice(&epoch.to_be_bytes());
    purpose.extend_from_slice(&number.to_be_bytes());
    purpose.extend_from_slice(domain.as_bytes());
    purpose
}

/// The keys of three epochs. They are wiped when dropped.
pub(crate) struct Keys {
    length: u32,
    number: u64,
    keys: Zeroizing<[[u8; 32]; 3]>,
}

impl Keys {
    /// Returns the keys as a message.
    pub(crate) fn message(&self) -> front::Tickets<'_> {
        let [previous, current, next] = &*self.keys;
        let keys = [previous, current, next].map(front::EpochKey);
        front::Tickets { length: self.length, number: self.number, keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn root() -> Arc<TicketRoot> {
        Arc::new(TicketRoot::draw().expect("random bytes"))
    }

    fn tickets(root: &Arc<TicketRoot>, epoch: u64, domains: &[(&str, &str)]) -> Tickets {
        let domains = domains.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let plan = Plan { epoch: u32::try_from(epoch).expect("short"), root: Root::Own, domains };
        Tickets::new(plan, root, None)
    }

    fn keys(tickets: &Tickets, front: &str, now: u64) -> (u64, [[u8; 32]; 3]) {
        let keys = tickets.keys(front, at(now)).expect("derived");
        (keys.number, *keys.keys)
    }

    #[test]
    fn an_epoch_has_one_key_whichever_of_the_three_it_is() {
        let tickets = tickets(&root(), HOUR, &[]);
        let (number, first) = keys(&tickets, "web", 1_000 * HOUR);
        assert_eq!(number, 1_000);
        assert_eq!(keys(&tickets, "web", 1_001 * HOUR - 1), (1_000, first));
        let (number, second) = keys(&tickets, "web", 1_001 * HOUR);
        assert_eq!((number, second[0], second[1]), (1_001, first[1], first[2]));
        assert!(![first[0], first[1], first[2]].contains(&second[2]));
    }

    #[test]
    fn fronts_share_keys_where_their_domain_is_one() {
        let root = root();
        let tickets = tickets(&root, HOUR, &[("a", "both"), ("b", "both")]);
        assert_eq!(keys(&tickets, "a", HOUR), keys(&tickets, "b", HOUR));
        assert_ne!(keys(&tickets, "a", HOUR), keys(&tickets, "c", HOUR));
        assert_ne!(keys(&tickets, "c", HOUR), keys(&tickets, "d", HOUR));
    }

    #[test]
    fn other_lengths_and_other_roots_give_other_keys() {
        let root_of_all = root();
        let (_, one) = keys(&tickets(&root_of_all, HOUR, &[]), "a", 5 * HOUR);
        let (_, other) = keys(&tickets(&root_of_all, 5 * HOUR, &[]), "a", 5 * HOUR);
        let (_, foreign) = keys(&tickets(&root(), HOUR, &[]), "a", 5 * HOUR);
        for key in one {
            assert!(!other.contains(&key) && !foreign.contains(&key));
        }
    }

    #[test]
    fn a_root_that_fails_leaves_the_former_in_service() {
        let (own, given) = (root(), root());
        let plan = |root| Plan { root, ..Plan::default() };
        let first = Tickets::new(plan(Root::Given(Arc::clone(&given))), &own, None);
        let second = Tickets::new(plan(Root::Failed), &own, Some(&first));
        assert!(Arc::ptr_eq(&second.root, &given));
        assert!(Arc::ptr_eq(&Tickets::new(plan(Root::Failed), &own, None).root, &own));
        assert!(Arc::ptr_eq(&Tickets::new(plan(Root::Own), &own, Some(&second)).root, &own));
    }

    #[test]
    fn the_time_that_is_left_ends_with_the_epoch() {
        let tickets = tickets(&root(), HOUR, &[]);
        assert_eq!(tickets.left(at(5 * HOUR)), Duration::from_secs(HOUR));
        assert_eq!(tickets.left(at(5 * HOUR - 1)), Duration::from_secs(1));
        // There is no epoch before 1970. The keys exist in spite of that.
        assert_eq!(keys(&tickets, "a", 0).0, 1);
    }
}
