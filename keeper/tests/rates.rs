//! What a captured front can have of the keeper in a second, and what is said and counted of it.

mod kit;

use kit::process::Process;
use kit::{BOTH, Bench, Keeper, listener, server_message};
use luassl_keeper_ipc::admin::{self, Rates, Rights};
use luassl_keeper_ipc::front::{Answer, Refusal};
use std::os::fd::OwnedFd;
use std::path::Path;

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const PROGRAM: &str = env!("CARGO_BIN_EXE_luassl-keeper");
/// Long enough for no token to come back while a test runs: one in a second, and a burst of one.
const ONE: Rates = Rates { identity: 1, front: 1_000_000 };

/// Front, identity, signatures, refusals.
type Account = (String, String, u64, Vec<(Refusal, u64)>);

/// The accounts of all fronts.
fn status(keeper: &Keeper) -> Vec<Account> {
    keeper.admin.ask(&admin::Request::Status, &[]);
    let mut accounts = Vec::new();
    loop {
        let bytes = keeper.admin.next();
        match admin::Answer::decode(&bytes).expect("an answer") {
            admin::Answer::Count(count) => {
                let (front, identity) = (count.front.to_owned(), count.identity.to_owned());
                accounts.push((front, identity, count.signed, count.refused));
            }
            admin::Answer::Counted => return accounts,
            other => panic!("no count: {other:?}"),
        }
    }
}

/// Identities `a` and `b` for the fronts `web` and `mail`.
fn keeper(rates: Rates) -> Keeper {
    let keeper = Keeper::start(&["web", "mail"]);
    for name in ["a", "b"] {
        keeper.bench.identity(name, P256);
        keeper.load(name);
    }
    for front in ["web", "mail"] {
        keeper.front(front, BOTH, None);
    }
    keeper.admin.ask(&admin::Request::Rates(rates), &[]);
    keeper.commit();
    keeper
}

/// Asks `count` times, and gives how often it was refused for the rate.
fn ask(keeper: &Keeper, front: &str, name: &str, count: usize) -> usize {
    let (front, key_id) = (keeper.connect(front), keeper.key_id("a"));
    let rate = |_: &usize| front.sign(name, key_id, 0x0403, &server_message()) == Err(Refusal::Rate);
    (0..count).filter(rate).count()
}

#[test]
fn a_flood_is_refused_and_touches_neither_another_identity_nor_another_front() {
    let keeper = keeper(ONE);
    let refused = ask(&keeper, "web", "a", 500);
    assert!(refused > 400, "{refused}");
    for (front, name) in [("web", "b"), ("mail", "a")] {
        let signed = keeper.connect(front).sign(name, keeper.key_id(name), 0x0403, &server_message());
        assert!(signed.is_ok(), "{front} {name}: {signed:?}");
    }
}

#[test]
fn the_front_as_a_whole_has_a_rate_whatever_names_it_makes_up() {
    let keeper = keeper(Rates { identity: 1_000_000, front: 1 });
    let refused = (0..500).filter(|n| ask(&keeper, "web", &format!("no-{n}"), 1) == 1).count();
    assert!(refused > 400, "{refused}");
    assert_eq!(ask(&keeper, "mail", "a", 1), 0, "another front's is its own");
}

#[test]
fn without_a_word_about_rates_there_are_the_usual_ones() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    assert_eq!(ask(&keeper, "web", "a", 100), 0);
}

#[test]
fn what_was_made_and_refused_is_counted_for_each_front_and_identity() {
    let keeper = keeper(Rates::default());
    let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
    for _ in 0..3 {
        assert!(front.sign("a", key_id, 0x0403, &server_message()).is_ok());
    }
    assert!(front.sign("a", key_id, 0x0403, b"eyJhbGciOiJFUzI1NiJ9").is_err());
    assert!(front.sign("a", key_id, 0x0807, &server_message()).is_err());
    for name in ["x", "y", "*"] {
        assert_eq!(front.sign(name, key_id, 0x0403, &server_message()), Err(Refusal::UnknownIdentity));
    }
    let own = |front: &str, identity: &str| (front.to_owned(), identity.to_owned());
    let ((web, all), (_, a)) = (own("web", "*"), own("web", "a"));
    let expected = [
        (web.clone(), all, 0, vec![(Refusal::UnknownIdentity, 3)]),
        (web, a, 3, vec![(Refusal::NotHandshake, 1), (Refusal::Scheme, 1)]),
    ];
    assert_eq!(status(&keeper), expected);
}

/// What a keeper of its own said while `attack` had it.
fn said(rights: Rights, attack: impl FnOnce(&Keeper)) -> String {
    let bench = Bench::new();
    bench.identity("a", P256);
    let listener: OwnedFd = listener(&bench.path("web.socket"));
    let (process, admin) = Process::start_after(Path::new(PROGRAM), &listener, ":", None);
    let keeper = Keeper { bench, admin };
    keeper.front("web", rights, None);
    keeper.load("a");
    keeper.commit();
    attack(&keeper);
    drop(keeper);
    process.said().1
}

#[test]
fn a_refusal_is_a_line_with_a_field_for_each_fact() {
    let said = said(BOTH, |keeper| {
        let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
        assert!(front.sign("a", key_id, 0x0403, b"eyJhbGciOiJFUzI1NiJ9").is_err());
        assert!(front.sign("no\n\"such", key_id, 0x0403, b"").is_err());
    });
    let first = "audit by=keeper event=refused front=\"web\" identity=\"a\" operation=sign reason=not-handshake \
                 detail=\"not a handshake message: neither key exchange parameters nor a transcript\"\n";
    let second = "audit by=keeper event=refused front=\"web\" identity=\"no\\n\\\"such\" operation=sign \
                  reason=unknown-identity detail=\"no such identity for this front\"\n";
    assert!(said.contains(first) && said.contains(second), "{said}");
    assert!(!said.contains("event=used"), "{said}");
}

#[test]
fn each_use_is_a_line_where_audit_is_on() {
    let said = said(Rights { audit: true, ..BOTH }, |keeper| {
        assert!(
            keeper.connect("web").sign("a", keeper.key_id("a"), 0x0403, &server_message()).is_ok(),
            "signed"
        );
    });
    let line =
        "audit by=keeper event=used front=\"web\" identity=\"a\" operation=sign message=tls13-server\n";
    assert!(said.contains(line), "{said}");
}

#[test]
fn a_flood_of_refusals_does_not_fill_the_log() {
    let said = said(BOTH, |keeper| {
        let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
        for _ in 0..2_000 {
            assert!(front.sign("a", key_id, 0x0403, b"random").is_err());
        }
    });
    let lines = said.matches("event=refused").count();
    assert!((1..200).contains(&lines), "{lines}");
}

/// Subscribes, and says whether the keeper answered to the end.
fn is_subscribed(front: &kit::Socket) -> bool {
    front.subscribe();
    loop {
        let bytes = front.next();
        if bytes.is_empty() {
            return false;
        }
        if matches!(Answer::decode(&bytes).expect("an answer"), Answer::Synced) {
            return true;
        }
    }
}

#[test]
fn finding_15_subscriptions_are_within_the_fronts_rate() {
    let keeper = keeper(Rates { identity: 1_000_000, front: 20 });
    let front = keeper.connect("web");
    assert!((0..500).any(|_| !is_subscribed(&front)), "a front subscribes without end");
    // Positive control: another front does it once, and has it.
    assert!(is_subscribed(&keeper.connect("mail")));
    assert_eq!(ask(&keeper, "mail", "a", 1), 0);
}
