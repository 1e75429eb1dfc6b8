//! Every message comes back as it went, nothing cut or lengthened is taken, and no bytes make a decoder panic.

use luassl_keeper_ipc::{Malformed, NAME_MAX, TooLong, admin, front};
use proptest::collection::vec;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Zäß/._ -]{1,40}"
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

fn refusal() -> impl Strategy<Value = front::Refusal> {
    proptest::sample::select(front::Refusal::ALL.to_vec())
}

fn refs(items: &[Vec<u8>]) -> Vec<&[u8]> {
    items.iter().map(Vec::as_slice).collect()
}

fn strs(items: &[String]) -> Vec<&str> {
    items.iter().map(String::as_str).collect()
}

/// Checks the way there and back, and that each shorter or longer datagram is refused.
macro_rules! survives {
    ($module:ident :: $message:ident, $value:expr) => {{
        let value = $value;
        let mut wire = vec![0xaa; 7];
        value.encode(&mut wire).expect("within bounds");
        prop_assert_eq!($module::$message::decode(&wire), Ok(value.clone()));
        for len in 0..wire.len() {
            prop_assert!($module::$message::decode(&wire[..len]).is_err(), "cut to {} bytes", len);
        }
        wire.push(0);
        prop_assert_eq!($module::$message::decode(&wire), Err(Malformed::Trailing));
    }};
}

proptest! {
    #[test]
    fn sign_survives(call: u32, key_id: [u8; 32], name in name(), scheme: u16, message in bytes()) {
        let sign = front::Sign { call, key_id, name: &name, scheme, message: &message };
        survives!(front::Request, front::Request::Sign(sign));
    }

    #[test]
    fn identity_survives(
        name in name(), generation: u64, key_id: [u8; 32], public_key in bytes(),
        chain in vec(bytes(), 0..5), staple in bytes(),
    ) {
        let chain = refs(&chain);
        let identity = front::Identity {
            name: &name, generation, key_id, public_key: &public_key, chain, staple: &staple,
        };
        survives!(front::Answer, front::Answer::Identity(identity));
    }

    #[test]
    fn answers_to_fronts_survive(call: u32, name in name(), signature in bytes(), reason in refusal()) {
        survives!(front::Request, front::Request::Subscribe);
        survives!(front::Answer, front::Answer::Synced);
        survives!(front::Answer, front::Answer::Withdrawn { name: &name });
        survives!(front::Answer, front::Answer::Signature { call, bytes: &signature });
        survives!(front::Answer, front::Answer::Refused { call, reason });
    }

    #[test]
    fn rsa_key_exchange_survives(
        call: u32, key_id: [u8; 32], name in name(), version: u16, ciphertext in bytes(), secret in vec(any::<u8>(), 48),
    ) {
        let decrypt = front::Decrypt { call, key_id, name: &name, version, ciphertext: &ciphertext };
        survives!(front::Request, front::Request::Decrypt(decrypt));
        let secret = front::PreMaster(secret.as_slice().try_into().expect("48 bytes"));
        survives!(front::Answer, front::Answer::Secret { call, secret });
        // It comes in no other length.
        let mut wire = Vec::new();
        front::Answer::Secret { call, secret }.encode(&mut wire).expect("short");
        prop_assert!(front::Answer::decode(&wire[..wire.len() - 1]).is_err());
        wire.push(0);
        prop_assert!(front::Answer::decode(&wire).is_err());
    }

    #[test]
    fn tickets_survive(
        length in 1u32.., number in 1u64.., keys: [[u8; 32]; 3], root: bool, names in vec((name(), name()), 0..6),
        reason in ".{0,60}",
    ) {
        let keys = [&keys[0], &keys[1], &keys[2]].map(front::EpochKey);
        survives!(front::Answer, front::Answer::Tickets(front::Tickets { length, number, keys }));
        let domains = names.iter().map(|(front, domain)| (front.as_str(), domain.as_str())).collect();
        survives!(admin::Request, admin::Request::Tickets { epoch: length, root, domains });
        survives!(admin::Answer, admin::Answer::TicketsTaken);
        let kind = admin::Fault::Unreadable;
        survives!(admin::Answer, admin::Answer::TicketsFailed { kind, reason: &reason });
    }

    #[test]
    fn admin_requests_survive(
        name in name(), rights in any::<[bool; 7]>(), all: bool, names in vec(name(), 0..6),
        files in any::<[bool; 4]>(), serial: u64,
    ) {
        let [tls13_server, tls12_server, dhe, rsa_key_exchange, tls13_client, tls12_client, audit] = rights;
        let rights = admin::Rights {
            tls13_server, tls12_server, dhe, rsa_key_exchange, tls13_client, tls12_client, audit,
        };
        survives!(admin::Request, admin::Request::Front { name: &name, rights, all, identities: strs(&names) });
        let [key, certificate, password, staple] = files;
        let files = admin::Files { key, certificate, password, staple };
        survives!(admin::Request, admin::Request::Identity { name: &name, files });
        survives!(admin::Request, admin::Request::Commit);
        survives!(admin::Request, admin::Request::Begin { serial });
    }

    #[test]
    fn rates_and_counts_survive(
        rates: [u32; 2], front in name(), identity in name(), counts: [u64; 2],
        refused in vec((refusal(), any::<u64>()), 0..9),
    ) {
        survives!(admin::Request, admin::Request::Rates(admin::Rates { identity: rates[0], front: rates[1] }));
        survives!(admin::Request, admin::Request::Handshake { deadline_ms: rates[0].max(1) });
        survives!(admin::Request, admin::Request::Status);
        let [signed, decrypted] = counts;
        let count = admin::Count { front: &front, identity: &identity, signed, decrypted, refused };
        survives!(admin::Answer, admin::Answer::Count(count));
        survives!(admin::Answer, admin::Answer::Counted);
    }

    #[test]
    fn admin_answers_survive(
        name in name(), generation: u64, changed: bool, names in vec(".{0,30}", 0..6),
        chain in vec(vec(any::<u8>(), 0..60), 0..4), file in 0u8..5, kind in 0u8..9,
    ) {
        use admin::{Blamed, Fault};
        let loaded = admin::Loaded {
            name: &name, generation, changed, key_type: "RSA 2048", key_id: [kind; 32],
            chain: chain.iter().map(Vec::as_slice).collect(),
        };
        survives!(admin::Answer, admin::Answer::Loaded(loaded));
        let file = [Blamed::None, Blamed::Key, Blamed::Certificate, Blamed::Password, Blamed::Staple]
            [usize::from(file)];
        let kind = [
            Fault::Unreadable, Fault::NoKey, Fault::Passphrase, Fault::Unsupported, Fault::BadCertificate,
            Fault::Mismatch, Fault::BadStaple, Fault::Limit, Fault::Internal,
        ][usize::from(kind)];
        survives!(admin::Answer, admin::Answer::Failed(admin::Failed {
            name: &name, file, kind, keeps_previous: names.len() % 2 == 1, reason: &names.concat(),
        }));
        survives!(admin::Answer, admin::Answer::Begun { serial: u64::MAX });
        survives!(admin::Answer, admin::Answer::Committed { warnings: vec![] });
        survives!(admin::Answer, admin::Answer::Committed { warnings: vec!["one", "two"] });
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(kind in any::<u8>(), rest in vec(any::<u8>(), 0..400)) {
        // Kinds that exist come up often enough: the low bits of a random byte choose among them as well.
        const KINDS: [u8; 16] =
            [1, 2, 0x81, 0x82, 0x84, 0x85, 0x87, 0x41, 0x42, 0x43, 0x46, 0xc1, 0xc2, 0xc3, 0xc7, 0xff];
        for first in [kind, KINDS[usize::from(kind & 15)]] {
            let mut wire = vec![first];
            wire.extend_from_slice(&rest);
            let _ = front::Request::decode(&wire);
            let _ = front::Answer::decode(&wire);
            let _ = admin::Request::decode(&wire);
            let _ = admin::Answer::decode(&wire);
        }
    }

    #[test]
    fn a_changed_byte_never_panics(name in name(), message in bytes(), position: prop::sample::Index, byte: u8) {
        let sign = front::Sign { call: 1, key_id: [7; 32], name: &name, scheme: 0x0804, message: &message };
        let mut wire = Vec::new();
        front::Request::Sign(sign).encode(&mut wire).expect("within bounds");
        let position = position.index(wire.len());
        wire[position] = byte;
        let _ = front::Request::decode(&wire);
    }
}

#[test]
fn a_length_beyond_the_end_is_truncated() {
    let mut wire = vec![0x84, 0, 0, 0, 0];
    wire.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(front::Answer::decode(&wire), Err(Malformed::Truncated));
}

#[test]
fn a_count_beyond_the_end_is_truncated() {
    let wire = [0x41, 1, 0, b'a', 0, 0, 0xff, 0xff];
    assert_eq!(admin::Request::decode(&wire), Err(Malformed::Truncated));
}

#[test]
fn names_are_bounded_both_ways() {
    let mut wire = Vec::new();
    let long = "x".repeat(NAME_MAX + 1);
    assert_eq!(front::Answer::Withdrawn { name: &long }.encode(&mut wire), Err(TooLong));
    assert_eq!(front::Answer::Withdrawn { name: "" }.encode(&mut wire), Err(TooLong));
    assert_eq!(front::Answer::decode(&[0x82, 0, 0]), Err(Malformed::Name));
    let mut wire = vec![0x82, 0, 1];
    wire.extend_from_slice(&[b'x'; 256]);
    assert_eq!(front::Answer::decode(&wire), Err(Malformed::Name));
}

#[test]
fn the_longest_request_fits_and_a_longer_one_is_refused() {
    let mut wire = Vec::new();
    let name = "n".repeat(NAME_MAX);
    let message = vec![0; front::TRANSCRIPT_MAX + 1];
    let sign = |message| {
        front::Request::Sign(front::Sign { call: 0, key_id: [0; 32], name: &name, scheme: 0, message })
    };
    sign(&message[1..]).encode(&mut wire).expect("fits");
    assert_eq!(wire.len(), front::REQUEST_MAX);
    assert_eq!(sign(&message).encode(&mut wire), Err(TooLong));
}

#[test]
fn an_epoch_without_length_and_one_before_the_first_are_refused() {
    let zeroes = vec![0; 4 + 8 + 3 * 32];
    let mut wire = [vec![0x87], zeroes].concat();
    assert_eq!(front::Answer::decode(&wire), Err(Malformed::Value));
    wire[1] = 1;
    assert_eq!(front::Answer::decode(&wire), Err(Malformed::Value));
    wire[5] = 1;
    assert!(front::Answer::decode(&wire).is_ok());
    assert_eq!(admin::Request::decode(&[0x46, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed::Value));
}

#[test]
fn a_ticket_key_is_not_shown() {
    assert_eq!(format!("{:?}", front::EpochKey(&[7; 32])), "EpochKey");
}

#[test]
fn unknown_values_are_refused() {
    assert_eq!(front::Request::decode(&[9]), Err(Malformed::Kind(9)));
    assert_eq!(front::Request::decode(&[]), Err(Malformed::Truncated));
    assert_eq!(front::Answer::decode(&[0x85, 0, 0, 0, 0, 0]), Err(Malformed::Value));
    assert_eq!(admin::Request::decode(&[0x42, 1, 0, b'a', 16]), Err(Malformed::Value));
    assert_eq!(admin::Request::decode(&[0x41, 1, 0, b'a', 128, 0, 0, 0]), Err(Malformed::Value));
    assert_eq!(admin::Request::decode(&[0x41, 1, 0, b'a', 0, 2, 0, 0]), Err(Malformed::Value));
    assert_eq!(front::Answer::decode(&[0x82, 1, 0, 0xff]), Err(Malformed::Text));
}
