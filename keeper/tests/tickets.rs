//! Ticket keys: which fronts have the same ones, how long, and what becomes of a root that cannot be used.

mod kit;

use kit::{BOTH, Keeper, Socket};
use luassl_keeper_ipc::admin::{self, EPOCH, Fault};
use luassl_keeper_ipc::front::Answer;
use std::time::{SystemTime, UNIX_EPOCH};

/// An epoch that does not end while a test runs, in seconds.
const LONG: u32 = 1_000_000_000;

/// Length, number and keys that a front was told last before its `Synced`.
type Told = (u32, u64, [[u8; 32]; 3]);

fn next(front: &Socket) -> Told {
    let bytes = front.next();
    match Answer::decode(&bytes).expect("an answer") {
        Answer::Tickets(tickets) => (tickets.length, tickets.number, tickets.keys.map(|key| *key.0)),
        other => panic!("no ticket keys: {other:?}"),
    }
}

/// A front that subscribes, and what it is told; it has no identities.
fn subscribed(keeper: &Keeper, name: &str) -> (Socket, Told) {
    let front = keeper.connect(name);
    front.subscribe();
    let told = next(&front);
    assert_eq!(Answer::decode(&front.next()), Ok(Answer::Synced));
    (front, told)
}

fn keys(keeper: &Keeper, name: &str) -> [[u8; 32]; 3] {
    subscribed(keeper, name).1.2
}

/// A push of fronts without identities, and with ticket keys; gives the complaint about the root.
fn push(
    keeper: &Keeper,
    epoch: u32,
    root: Option<&str>,
    domains: &[(&str, &str)],
) -> Option<(Fault, String)> {
    for front in ["a", "b", "c"] {
        keeper.front(front, BOTH, Some(&[]));
    }
    let files: Vec<_> = root.iter().map(|name| keeper.bench.open(name)).collect();
    let request = admin::Request::Tickets { epoch, root: root.is_some(), domains: domains.to_vec() };
    keeper.admin.ask(&request, &files);
    let answer = keeper.admin.next();
    let complaint = match admin::Answer::decode(&answer).expect("an answer") {
        admin::Answer::TicketsTaken => None,
        admin::Answer::TicketsFailed { kind, reason } => Some((kind, reason.to_owned())),
        other => panic!("{other:?}"),
    };
    keeper.commit();
    complaint
}

fn started() -> Keeper {
    Keeper::start(&["a", "b", "c"])
}

/// A keeper whose root is these bytes.
fn rooted(root: &[u8]) -> Keeper {
    let keeper = started();
    keeper.bench.write("root", root);
    assert_eq!(push(&keeper, LONG, Some("root"), &[]), None);
    keeper
}

#[test]
fn without_a_word_about_tickets_each_front_has_keys_of_its_own_and_each_keeper_others() {
    let keepers = [started(), started()];
    for keeper in &keepers {
        for front in ["a", "b"] {
            keeper.front(front, BOTH, Some(&[]));
        }
        keeper.commit();
    }
    let (_, (length, number, first)) = subscribed(&keepers[0], "a");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert_eq!(length, EPOCH);
    assert!([0, 1].contains(&(now / u64::from(EPOCH) - number)));
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
    assert_eq!(keys(&keepers[0], "a"), first);
    for other in [keys(&keepers[0], "b"), keys(&keepers[1], "a")] {
        assert!(first.iter().all(|key| !other.contains(key)));
    }
}

#[test]
fn fronts_of_one_domain_share_their_keys() {
    let keeper = started();
    assert_eq!(push(&keeper, LONG, None, &[("a", "web"), ("b", "web")]), None);
    assert_eq!(keys(&keeper, "a"), keys(&keeper, "b"));
    assert_ne!(keys(&keeper, "a"), keys(&keeper, "c"));
}

#[test]
fn keepers_with_one_root_have_the_same_keys() {
    let keepers = [rooted(&[7; 32]), rooted(&[7; 32]), rooted(&[8; 32])];
    assert_eq!(keys(&keepers[0], "a"), keys(&keepers[1], "a"));
    assert_ne!(keys(&keepers[0], "a"), keys(&keepers[1], "b"));
    assert_ne!(keys(&keepers[0], "a"), keys(&keepers[2], "a"));
}

#[test]
fn a_root_that_cannot_be_used_leaves_the_former_in_service() {
    let keeper = rooted(&[7; 32]);
    let before = keys(&keeper, "a");
    keeper.bench.write("short", [9; 31]);
    keeper.bench.write("long", vec![9; (4 << 10) + 1]);
    let (kind, reason) = push(&keeper, LONG, Some("short"), &[]).expect("a complaint");
    assert_eq!((kind, &*reason), (Fault::Unsupported, "it has fewer than 32 bytes"));
    let (kind, reason) = push(&keeper, LONG, Some("long"), &[]).expect("a complaint");
    assert_eq!((kind, &*reason), (Fault::Unreadable, "it has more than 4096 bytes"));
    assert_eq!(keys(&keeper, "a"), before);
    assert_eq!(push(&keeper, LONG, None, &[]), None);
    assert_ne!(keys(&keeper, "a"), before);
}

#[test]
fn a_front_is_told_of_a_new_root_and_not_of_the_same_again() {
    let keeper = rooted(&[7; 32]);
    let (front, before) = subscribed(&keeper, "a");
    assert_eq!(push(&keeper, LONG, Some("root"), &[]), None);
    keeper.bench.write("root", [8; 32]);
    assert_eq!(push(&keeper, LONG, Some("root"), &[]), None);
    let after = next(&front);
    assert_eq!((before.0, before.1), (after.0, after.1));
    assert!(before.2.iter().all(|key| !after.2.contains(key)));
}

#[test]
fn a_front_is_told_the_next_key_when_an_epoch_ends() {
    let keeper = started();
    assert_eq!(push(&keeper, 1, None, &[]), None);
    let (front, mut last) = subscribed(&keeper, "a");
    for _ in 0..3 {
        let told = next(&front);
        assert!(told.1 > last.1, "{} after {}", told.1, last.1);
        if told.1 == last.1 + 1 {
            assert_eq!([told.2[0], told.2[1]], [last.2[1], last.2[2]]);
        }
        last = told;
    }
}

#[test]
fn a_root_without_its_descriptor_is_refused() {
    let keeper = started();
    keeper.admin.ask(&admin::Request::Tickets { epoch: 1, root: true, domains: vec![] }, &[]);
    let answer = keeper.admin.next();
    let answer = admin::Answer::decode(&answer).expect("an answer");
    assert!(matches!(answer, admin::Answer::TicketsFailed { kind: Fault::Internal, .. }), "{answer:?}");
}
