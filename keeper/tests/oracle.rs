//! What a captured front can have signed: a generator that knows the shapes of other protocols asks a keeper, and
//! whatever it signs is looked at by the second recogniser. `LUASSL_ORACLE_SECONDS` makes it last.

mod kit;
#[path = "kit/recogniser.rs"]
mod recogniser;
#[path = "kit/shapes.rs"]
mod shapes;

use kit::{Keeper, Socket, server_message};
use luassl_keeper_ipc::admin::{Rates, Request, Rights};
use luassl_keeper_ipc::front::Refusal;
use recogniser::{Verdict, verdict};
use shapes::Choices;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const ECDSA_P256: u16 = 0x0403;

/// Messages of one run, at least.
const MESSAGES: u32 = 20_000;

/// The same messages each time.
fn choices(seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..120).map(|_| next()).collect()
}

fn duration() -> Duration {
    let seconds = std::env::var("LUASSL_ORACLE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// A keeper whose front has these rights and no rate to speak of.
fn keeper(rights: Rights) -> Keeper {
    let keeper = Keeper::start(&["web"]);
    keeper.bench.identity("a", P256);
    keeper.front("web", rights, None);
    keeper.admin.ask(&Request::Rates(Rates { identity: u32::MAX, front: u32::MAX }), &[]);
    keeper.load("a");
    keeper.commit();
    keeper
}

/// Asks for the signatures of what the generator makes; counts what was signed, by what it is.
fn ask_for_everything(
    front: &Socket,
    key_id: [u8; 32],
    allowed: impl Fn(&Verdict, &[u8]) -> bool,
) -> BTreeMap<String, u32> {
    let (mut signed, end) = (BTreeMap::new(), Instant::now() + duration());
    for seed in 0.. {
        if seed >= MESSAGES && Instant::now() >= end {
            break;
        }
        let bytes = choices(seed);
        let mut choices = Choices::new(&bytes);
        let message = match seed % 2 {
            0 => shapes::message(&mut choices),
            _ => shapes::of_sort(seed as usize / 2, &mut choices),
        };
        if message.len() > luassl_keeper_ipc::front::TRANSCRIPT_MAX {
            continue;
        }
        match front.sign("a", key_id, ECDSA_P256, &message) {
            Ok(_) => {
                let verdict = verdict(&message);
                assert!(allowed(&verdict, &message), "{verdict:?} was signed: {message:02x?}");
                let kind = match verdict {
                    Verdict::Ecdhe(..) => format!("ECDHE, {} bytes", message.len()),
                    other => format!("{other:?}"),
                };
                *signed.entry(kind).or_default() += 1;
            }
            Err(Refusal::NotHandshake | Refusal::Role) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    println!("signed: {signed:?}");
    signed
}

#[test]
fn finding_2_a_server_of_tls_1_3_alone_signs_nothing_else() {
    let keeper = keeper(Rights { tls13_server: true, ..Rights::default() });
    let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
    let signed = ask_for_everything(&front, key_id, |verdict, _| *verdict == Verdict::Server13);
    assert_eq!(signed.keys().collect::<Vec<_>>(), ["Server13"], "its own handshakes are signed");
    assert!(front.sign("a", key_id, ECDSA_P256, &server_message()).is_ok());
}

#[test]
fn finding_2_a_server_of_tls_1_2_signs_ecdhe_on_its_curves_beside_that() {
    let keeper = keeper(Rights { tls13_server: true, tls12_server: true, ..Rights::default() });
    let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
    let ecdhe = |verdict: &Verdict, message: &[u8]| match verdict {
        Verdict::Server13 => true,
        Verdict::Ecdhe(..) => (100..=201).contains(&message.len()),
        _ => false,
    };
    let signed = ask_for_everything(&front, key_id, ecdhe);
    assert!(signed.contains_key("ECDHE, 100 bytes") && signed.contains_key("ECDHE, 124 bytes"), "{signed:?}");
    // Random bytes are on none of the NIST and Brainpool curves but by luck: half of all x have a y, no y is guessed.
    assert_eq!(signed.len(), 3, "{signed:?}");
}

#[test]
fn finding_2_dhe_and_clients_messages_need_rights_of_their_own() {
    let all = keeper(kit::BOTH);
    let everything =
        ask_for_everything(&all.connect("web"), all.key_id("a"), |verdict, _| *verdict != Verdict::Nothing);
    assert!(everything.contains_key("Dhe") && everything.contains_key("Client13"), "{everything:?}");
    for (rights, lost) in [
        (Rights { dhe: false, ..kit::BOTH }, "Dhe"),
        (Rights { tls12_server: false, ..kit::BOTH }, "Dhe"),
        (Rights { tls13_client: false, ..kit::BOTH }, "Client13"),
    ] {
        let keeper = keeper(rights);
        let signed = ask_for_everything(&keeper.connect("web"), keeper.key_id("a"), |verdict, _| {
            format!("{verdict:?}") != lost
        });
        assert!(!signed.contains_key(lost) && !signed.is_empty(), "{signed:?}");
    }
}

#[test]
fn finding_2_a_point_that_is_not_on_its_curve_is_refused() {
    let keeper = keeper(Rights { tls12_server: true, ..Rights::default() });
    let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
    for (curve, code) in [
        ("P-256", 23_u8),
        ("P-384", 24),
        ("P-521", 25),
        ("brainpoolP256r1", 26),
        ("brainpoolP384r1", 27),
        ("brainpoolP512r1", 28),
    ] {
        keeper
            .bench
            .openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out point.key"));
        keeper.bench.openssl("pkey -in point.key -pubout -outform DER -out point.der");
        let der = keeper.bench.read("point.der");
        let size = match code {
            23 | 26 => 65,
            24 | 27 => 97,
            28 => 129,
            _ => 133,
        };
        let point = &der[der.len() - size..];
        let length = u8::try_from(size).expect("short");
        let mut message = [&[0xee; 64][..], &[3, 0, code, length], point].concat();
        assert!(front.sign("a", key_id, ECDSA_P256, &message).is_ok(), "{curve}");
        *message.last_mut().expect("a byte") ^= 1;
        assert_eq!(front.sign("a", key_id, ECDSA_P256, &message), Err(Refusal::NotHandshake), "{curve}");
    }
}
