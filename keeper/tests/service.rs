//! What fronts get: signatures over handshake messages of their own identities, and nothing else; and that no front,
//! however it behaves, stands in another's way.

mod kit;

use kit::{BOTH, Keeper, Outcome, client_message, exchange_message, server_message};
use luassl_keeper_ipc::admin::{self, Rates, Rights};
use luassl_keeper_ipc::front::{self, Answer, REQUEST_MAX, Refusal, Request, Sign};
use luassl_keeper_ipc::transport::{SendFlags, send};
use rustix::io::Errno;

const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const P384: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";
const P521: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-521";
const ED25519: &str = "-algorithm ED25519";
const ED448: &str = "-algorithm ED448";
const ALL_SCHEMES: [u16; 11] =
    [0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806, 0x0403, 0x0503, 0x0603, 0x0807, 0x0808];

#[test]
fn each_key_signs_with_its_schemes_and_no_other() {
    let expected: [(&str, &[u16], &[u16]); 6] = [
        (RSA, &[0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806], &[0x0804, 0x0805, 0x0806]),
        (P256, &[0x0403, 0x0503, 0x0603], &[0x0403]),
        (P384, &[0x0403, 0x0503, 0x0603], &[0x0503]),
        (P521, &[0x0403, 0x0503, 0x0603], &[0x0603]),
        (ED25519, &[0x0807], &[0x0807]),
        (ED448, &[0x0808], &[0x0808]),
    ];
    for (kind, tls12, tls13) in expected {
        let keeper = Keeper::serving(&["web"], "a", kind);
        let front = keeper.connect("web");
        let key_id = keeper.key_id("a");
        let schemes = ALL_SCHEMES.into_iter().chain([0x0201, 0x0203, 0x0809, 0, 0xffff]);
        for scheme in schemes {
            for (message, allowed) in [(exchange_message(), tls12), (server_message(), tls13)] {
                let signed = front.sign("a", key_id, scheme, &message);
                if allowed.contains(&scheme) {
                    let signature = signed.expect("signed");
                    assert!(
                        keeper.bench.verifies("a", scheme, &message, &signature),
                        "{kind}, {scheme:#06x}"
                    );
                } else {
                    assert_eq!(signed, Err(Refusal::Scheme), "{kind}, {scheme:#06x}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_handshake_message_is_not_signed() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    keeper.bench.openssl("req -new -key a.key -subj /CN=a -outform DER -out csr");
    let front = keeper.connect("web");
    let key_id = keeper.key_id("a");
    let messages: [&[u8]; 6] = [
        b"",
        b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJyb290In0",
        &keeper.bench.read("csr"),
        &[0x42; 32],
        &[0x20; 130],
        &[0; 60_000],
    ];
    for message in messages {
        assert_eq!(front.sign("a", key_id, 0x0403, message), Err(Refusal::NotHandshake));
    }
    assert!(front.sign("a", key_id, 0x0403, &server_message()).is_ok());
}

#[test]
fn a_front_has_its_roles_only() {
    let keeper = Keeper::start(&["server", "client", "neither"]);
    keeper.bench.identity("a", P256);
    let server = Rights { tls13_server: true, tls12_server: true, ..Rights::default() };
    let client = Rights { tls13_client: true, tls12_client: true, ..Rights::default() };
    keeper.front("server", server, None);
    keeper.front("client", client, None);
    keeper.front("neither", Rights::default(), None);
    keeper.load("a");
    keeper.commit();
    let key_id = keeper.key_id("a");
    let transcript = client_transcript(&der(&keeper, "a"));
    let messages = [
        (server_message(), true),
        (exchange_message(), true),
        (client_message(), false),
        (transcript, false),
    ];
    for (message, is_server) in messages {
        for (front, server, client) in
            [("server", true, false), ("client", false, true), ("neither", false, false)]
        {
            let signed = keeper.connect(front).sign("a", key_id, 0x0403, &message);
            let allowed = if is_server { server } else { client };
            assert_eq!(signed.is_ok(), allowed, "{front}: {signed:?}");
            assert!(allowed || signed == Err(Refusal::Role));
        }
    }
}

fn der(keeper: &Keeper, name: &str) -> Vec<u8> {
    keeper.bench.openssl(&format!("x509 -in {name}.crt -outform DER -out {name}.der"));
    keeper.bench.read(&format!("{name}.der"))
}

/// A TLS 1.2 client's transcript with this certificate as its own.
fn client_transcript(leaf: &[u8]) -> Vec<u8> {
    let vector =
        |bytes: &[u8]| [&u32::try_from(bytes.len()).expect("short").to_be_bytes()[1..], bytes].concat();
    let message = |kind: u8, body: &[u8]| [&[kind], vector(body).as_slice()].concat();
    let hello = [[3, 3].as_slice(), &[7; 40]].concat();
    let certificate = |der: &[u8]| vector(&vector(der));
    [
        message(1, &hello),
        message(2, &hello),
        message(11, &certificate(b"server")),
        message(12, &[3, 0, 29]),
        message(13, &[1, 1, 0, 0]),
        message(14, &[]),
        message(11, &certificate(leaf)),
        message(16, &[32; 33]),
    ]
    .concat()
}

#[test]
fn a_clients_transcript_needs_the_identitys_own_leaf() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    keeper.bench.identity("b", P256);
    keeper.front("web", BOTH, None);
    keeper.load("a");
    keeper.identity("bare", [Some("b.key"), None, None, None]).loaded();
    keeper.commit();
    let front = keeper.connect("web");
    let own = client_transcript(&der(&keeper, "a"));
    let foreign = client_transcript(&der(&keeper, "b"));
    let (a, b) = (keeper.key_id("a"), keeper.key_id("b"));
    assert!(keeper.bench.verifies("a", 0x0403, &own, &front.sign("a", a, 0x0403, &own).expect("signed")));
    assert_eq!(front.sign("a", a, 0x0403, &foreign), Err(Refusal::NotHandshake));
    assert!(front.sign("bare", b, 0x0403, &foreign).is_ok());
    assert_eq!(front.sign("bare", b, 0x0403, &own), Err(Refusal::NotHandshake));
    assert_eq!(front.sign("a", a, 0x0403, &own[..own.len() - 1]), Err(Refusal::NotHandshake));
}

#[test]
fn a_certificate_renewed_for_the_same_key_leaves_the_old_one_usable() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let old = client_transcript(&der(&keeper, "a"));
    keeper.bench.self_sign("a", "-days 100");
    keeper.front("web", BOTH, None);
    let loaded = keeper.load("a");
    assert_eq!((loaded.generation, loaded.changed), (2, true));
    keeper.commit();
    let front = keeper.connect("web");
    let key_id = keeper.key_id("a");
    assert!(front.sign("a", key_id, 0x0403, &client_transcript(&der(&keeper, "a"))).is_ok());
    assert!(front.sign("a", key_id, 0x0403, &old).is_ok());
}

#[test]
fn anothers_identity_and_an_unknown_one_get_the_same_bytes() {
    let keeper = Keeper::start(&["one", "two", "unnamed"]);
    for name in ["a", "b"] {
        keeper.bench.identity(name, P256);
        keeper.load(name);
    }
    keeper.front("one", BOTH, Some(&["a"]));
    keeper.front("two", BOTH, Some(&["b"]));
    keeper.commit();
    let (a, b) = (keeper.key_id("a"), keeper.key_id("b"));
    let answer = |front: &str, name, key_id| {
        let front = keeper.connect(front);
        let message = server_message();
        front.ask(&Request::Sign(Sign { call: 1, key_id, name, scheme: 0x0403, message: &message }), &[]);
        front.next()
    };
    let unknown = answer("one", "nobody", a);
    assert_eq!(Answer::decode(&unknown), Ok(Answer::Refused { call: 1, reason: Refusal::UnknownIdentity }));
    assert_eq!(answer("one", "b", b), unknown);
    assert_eq!(answer("two", "a", a), unknown);
    assert_eq!(answer("unnamed", "a", a), unknown);
    assert!(matches!(Answer::decode(&answer("one", "a", a)), Ok(Answer::Signature { .. })));
    assert!(matches!(Answer::decode(&answer("two", "b", b)), Ok(Answer::Signature { .. })));
    assert_eq!(
        Answer::decode(&answer("one", "a", b)),
        Ok(Answer::Refused { call: 1, reason: Refusal::UnknownKey })
    );
}

#[test]
fn a_renewal_leaves_the_old_key_usable_until_the_next_but_one() {
    let keeper = Keeper::start(&["web"]);
    let renew = |generation: u64| {
        keeper.bench.identity("a", P256);
        keeper.front("web", BOTH, None);
        let loaded = keeper.load("a");
        assert_eq!((loaded.generation, loaded.changed), (generation, true));
        keeper.commit();
        keeper.key_id("a")
    };
    let front = keeper.connect("web");
    let usable = |key_id| match front.sign("a", key_id, 0x0403, &server_message()) {
        Ok(_) => true,
        Err(Refusal::UnknownKey) => false,
        Err(other) => panic!("{other}"),
    };
    let first = renew(1);
    let second = renew(2);
    assert_eq!([first, second].map(usable), [true, true]);
    keeper.front("web", BOTH, None);
    let same = keeper.load("a");
    assert_eq!((same.generation, same.changed), (2, false));
    keeper.commit();
    assert_eq!([first, second].map(usable), [true, true]);
    let third = renew(3);
    assert_eq!([first, second, third].map(usable), [false, true, true]);
}

#[test]
fn finding_12_a_replaced_key_signs_no_longer_than_a_handshake_may_last() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let front = keeper.connect("web");
    let sign = |key_id| front.sign("a", key_id, 0x0403, &server_message());
    let renew = |deadline_ms: u32| {
        let former = keeper.key_id("a");
        keeper.bench.identity("a", P256);
        keeper.admin.ask(&admin::Request::Handshake { deadline_ms }, &[]);
        keeper.push_a();
        former
    };
    // An hour is more than the test takes: the handshakes that have begun are signed.
    let first = renew(3_600_000);
    assert!(sign(first).is_ok());
    // No other push follows.
    let second = renew(1);
    while sign(second).is_ok() {}
    assert_eq!(sign(second), Err(Refusal::UnknownKey));
    assert!(sign(keeper.key_id("a")).is_ok());
}

#[test]
fn a_failed_renewal_leaves_the_old_generation_in_service() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let key_id = keeper.key_id("a");
    keeper.bench.write("broken", "-----BEGIN PRIVATE KEY-----\n");
    keeper.front("web", BOTH, None);
    let outcome = keeper.identity("a", [Some("broken"), Some("a.crt"), None, None]);
    assert!(matches!(outcome, Outcome::Failed { keeps_previous: true, .. }), "{outcome:?}");
    let outcome = keeper.identity("never", [Some("broken"), None, None, None]);
    assert!(matches!(outcome, Outcome::Failed { keeps_previous: false, .. }), "{outcome:?}");
    keeper.commit();
    let front = keeper.connect("web");
    assert!(front.sign("a", key_id, 0x0403, &server_message()).is_ok());
}

#[test]
fn what_a_push_does_not_name_is_withdrawn() {
    let keeper = Keeper::serving(&["one", "two"], "a", P256);
    let key_id = keeper.key_id("a");
    let sign = |front: &str| keeper.connect(front).sign("a", key_id, 0x0403, &server_message());
    keeper.front("one", BOTH, None);
    keeper.load("a");
    keeper.commit();
    assert!(sign("one").is_ok());
    assert_eq!(sign("two"), Err(Refusal::UnknownIdentity));
    keeper.front("one", BOTH, None);
    keeper.commit();
    assert_eq!(sign("one"), Err(Refusal::UnknownIdentity));
}

#[test]
fn nothing_of_a_push_counts_before_its_commit() {
    let keeper = Keeper::start(&["web"]);
    keeper.bench.identity("a", P256);
    let key_id = keeper.key_id("a");
    let front = keeper.connect("web");
    keeper.front("web", BOTH, None);
    keeper.load("a");
    assert_eq!(front.sign("a", key_id, 0x0403, &server_message()), Err(Refusal::NotYet));
    // A request that waits for the first push gets its signature from it.
    let message = server_message();
    let sign = Sign { call: 7, key_id, name: "a", scheme: 0x0403, message: &message };
    front.ask(&Request::Sign(sign), &[]);
    keeper.commit();
    let answer = front.next();
    let again = || front.sign("a", key_id, 0x0403, &message);
    match Answer::decode(&answer).expect("an answer") {
        Answer::Signature { .. } => {}
        // The commit came more than a second later.
        Answer::Refused { reason: Refusal::NotYet, .. } => assert!(again().is_ok()),
        other => panic!("{other:?}"),
    }
}

/// What a subscriber is told, in short, ticket keys aside.
fn told(front: &kit::Socket) -> String {
    let bytes = front.next();
    match Answer::decode(&bytes).expect("an answer") {
        Answer::Identity(identity) => format!("{} {}", identity.name, identity.generation),
        Answer::Withdrawn { name } => format!("-{name}"),
        Answer::Synced => "synced".to_owned(),
        Answer::Tickets(_) => told(front),
        other => panic!("not for a subscriber: {other:?}"),
    }
}

#[test]
fn subscribers_are_told_of_every_change() {
    let keeper = Keeper::start(&["all", "one"]);
    let (all, one) = (keeper.connect("all"), keeper.connect("one"));
    all.subscribe();
    one.subscribe();
    let push = |names: &[&str]| {
        keeper.front("all", BOTH, None);
        keeper.front("one", BOTH, Some(&["b"]));
        for name in names {
            keeper.load(name);
        }
        keeper.commit();
    };
    for name in ["a", "b", "c"] {
        keeper.bench.identity(name, P256);
    }
    push(&["a", "b"]);
    assert_eq!([told(&all), told(&all), told(&all)], ["a 1", "b 1", "synced"]);
    assert_eq!([told(&one), told(&one)], ["b 1", "synced"]);
    keeper.bench.identity("a", ED25519);
    push(&["a", "b", "c"]);
    assert_eq!([told(&all), told(&all)], ["a 2", "c 1"]);
    keeper.bench.identity("b", P256);
    push(&["b"]);
    assert_eq!([told(&all), told(&all), told(&all)], ["b 2", "-a", "-c"]);
    // The front that has b alone heard of nothing in between.
    assert_eq!(told(&one), "b 2");
    push(&["a", "b"]);
    assert_eq!(told(&all), "a 3");
    let late = keeper.connect("one");
    late.subscribe();
    assert_eq!([told(&late), told(&late)], ["b 2", "synced"]);
    // Whoever asks again learns that the keeper is alive, and nothing twice.
    late.subscribe();
    assert_eq!(told(&late), "synced");
}

#[test]
fn the_public_half_is_what_openssl_says() {
    let keeper = Keeper::serving(&["web"], "a", RSA);
    let front = keeper.connect("web");
    front.subscribe();
    let bytes = front.next();
    let Ok(Answer::Identity(identity)) = Answer::decode(&bytes) else { panic!("no identity") };
    assert_eq!(identity.key_id, keeper.key_id("a"));
    assert_eq!(identity.public_key, keeper.bench.read("a.spki"));
    assert_eq!(identity.chain, [der(&keeper, "a")]);
    assert_eq!(identity.staple, b"");
}

#[test]
fn a_subscriber_may_sign_on_the_same_connection() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let front = keeper.connect("web");
    front.subscribe();
    assert_eq!([told(&front), told(&front)], ["a 1", "synced"]);
    assert!(front.sign("a", keeper.key_id("a"), 0x0403, &server_message()).is_ok());
}

#[test]
fn malformed_requests_end_their_connection_alone() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let key_id = keeper.key_id("a");
    let good = keeper.connect("web");
    let mut cut = Vec::new();
    let message = server_message();
    let sign = Sign { call: 1, key_id, name: "a", scheme: 0x0403, message: &message };
    Request::Sign(sign).encode(&mut cut).expect("fits");
    cut.pop();
    let frames: [&[u8]; 5] = [&cut, &[0xff; 100], &[0x43], &[2], &vec![2; REQUEST_MAX + 1]];
    for frame in frames {
        let bad = keeper.connect("web");
        bad.send(frame, &[]);
        assert!(bad.has_ended(), "{} bytes", frame.len());
        assert!(good.sign("a", key_id, 0x0403, &message).is_ok());
    }
}

#[test]
fn a_flood_of_descriptors_ends_its_connection_alone() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let good = keeper.connect("web");
    let bad = keeper.connect("web");
    let descriptors: Vec<_> = (0..200).map(|_| keeper.bench.open("a.crt")).collect();
    bad.ask(&Request::Subscribe, &descriptors);
    assert!(bad.has_ended());
    assert!(good.sign("a", keeper.key_id("a"), 0x0403, &server_message()).is_ok());
}

#[test]
fn a_front_that_never_reads_is_dropped_and_nobody_waits_for_it() {
    let fronts = ["web", "other"];
    let keeper = Keeper::start(&fronts);
    // What it asks counts against the rate of its front, and that is not what this is about.
    let rates = Rates { identity: u32::MAX, front: u32::MAX };
    keeper.admin.ask(&admin::Request::Rates(rates), &[]);
    keeper.serve(&fronts, "a", P256);
    let key_id = keeper.key_id("a");
    let bad = keeper.connect("web");
    let mut frame = Vec::new();
    let refused = Sign { call: 1, key_id, name: "a", scheme: 0, message: b"" };
    Request::Sign(refused).encode(&mut frame).expect("fits");
    let good = [keeper.connect("web"), keeper.connect("other")];
    // The keeper stops reading when its answers pile up, and drops the connection at its deadline.
    let end = loop {
        match send(&bad.0, &frame, &[], SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(Errno::AGAIN) => {
                for front in &good {
                    assert!(front.sign("a", key_id, 0x0403, &server_message()).is_ok());
                }
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Errno::PIPE | Errno::CONNRESET), "{end}");
}

#[test]
fn connections_of_a_front_are_bounded_and_another_fronts_are_not_touched() {
    let keeper = Keeper::serving(&["web", "other"], "a", P256);
    let key_id = keeper.key_id("a");
    let mut idle: Vec<_> = (0..128).map(|_| keeper.connect("web")).collect();
    for front in &idle {
        assert!(front.sign("a", key_id, 0x0403, &server_message()).is_ok());
    }
    let waiting = keeper.connect("web");
    let message = server_message();
    waiting.ask(&Request::Sign(Sign { call: 7, key_id, name: "a", scheme: 0x0403, message: &message }), &[]);
    for _ in 0..10 {
        assert!(keeper.connect("other").sign("a", key_id, 0x0403, &message).is_ok());
    }
    let mut byte = [0; 1];
    let nothing = luassl_keeper_ipc::transport::recv(
        &waiting.0,
        &mut byte,
        0,
        luassl_keeper_ipc::transport::RecvFlags::DONTWAIT,
    );
    assert!(nothing.is_err(), "the connection beyond the bound was served");
    idle.pop();
    assert!(matches!(Answer::decode(&waiting.next()), Ok(Answer::Signature { .. })));
}

#[test]
fn many_fronts_sign_at_once() {
    let keeper = Keeper::serving(&["one", "two"], "a", RSA);
    let key_id = keeper.key_id("a");
    let message = server_message();
    std::thread::scope(|scope| {
        for front in ["one", "two"].repeat(8) {
            let (keeper, message) = (&keeper, &message);
            scope.spawn(move || {
                let front = keeper.connect(front);
                for _ in 0..20 {
                    front.sign("a", key_id, 0x0804, message).expect("signed");
                }
            });
        }
    });
}

#[test]
fn a_malformed_push_has_no_effect() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let key_id = keeper.key_id("a");
    keeper.front("web", BOTH, Some(&[]));
    keeper.admin.send(&[0x43, 0], &[]);
    assert!(keeper.admin.has_ended());
    assert!(keeper.connect("web").sign("a", key_id, 0x0403, &server_message()).is_ok());
}

#[test]
fn the_longest_transcript_is_signed() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let mut transcript = client_transcript(&der(&keeper, "a"));
    // CertificateRequest: type, 24-bit length, body; it is the fifth message.
    let position = transcript.windows(8).position(|part| part == [13, 0, 0, 4, 1, 1, 0, 0]).expect("request");
    let more = front::TRANSCRIPT_MAX - transcript.len();
    transcript.splice(position + 8..position + 8, vec![0; more]);
    let length = u32::try_from(more + 4).expect("short").to_be_bytes();
    transcript[position + 1..position + 4].copy_from_slice(&length[1..]);
    assert_eq!(transcript.len(), front::TRANSCRIPT_MAX);
    let signature = keeper.connect("web").sign("a", keeper.key_id("a"), 0x0403, &transcript).expect("signed");
    assert!(keeper.bench.verifies("a", 0x0403, &transcript, &signature));
}

#[test]
fn what_a_push_that_broke_off_has_said_is_no_part_of_the_next() {
    let keeper = Keeper::serving(&["web", "mail"], "a", P256);
    let reach = |front: &str| {
        let key_id = keeper.key_id("a");
        keeper.connect(front).sign("a", key_id, 0x0403, &exchange_message()).is_ok()
    };
    let begin = |serial| {
        keeper.admin.ask(&admin::Request::Begin { serial }, &[]);
        let answer = keeper.admin.next();
        assert_eq!(admin::Answer::decode(&answer), Ok(admin::Answer::Begun { serial }));
    };
    // It gives `mail` the identity, and breaks off before its commit.
    begin(1);
    keeper.front("mail", BOTH, None);
    keeper.load("a");
    begin(2);
    keeper.push_a();
    assert!(reach("web") && !reach("mail"));
    // Positive control: without a beginning of its own a push adds to what was said before.
    keeper.front("mail", BOTH, None);
    keeper.push_a();
    assert!(reach("web") && reach("mail"));
}
