//! Every message that a TLS peer signs is recognised; nothing else is.

#[path = "kit/recogniser.rs"]
mod recogniser;
#[path = "kit/shapes.rs"]
mod shapes;

use luassl_keeper::handshake_message::{HandshakeMessage, NotAHandshakeMessage, is_own_leaf};
use proptest::collection::vec;
use proptest::prelude::*;
use recogniser::{Verdict, verdict};
use shapes::Choices;
use std::collections::BTreeSet;

const CURVES: [(u16, usize); 8] =
    [(23, 65), (24, 97), (25, 133), (26, 65), (27, 97), (28, 129), (29, 32), (30, 56)];

fn certificate_verify(role: &str, hash: &[u8]) -> Vec<u8> {
    let context = format!("TLS 1.3, {role} CertificateVerify\0");
    [&[0x20; 64], context.as_bytes(), hash].concat()
}

fn ecdhe(randoms: &[u8], curve: u16, point: &[u8]) -> Vec<u8> {
    let mut point = point.to_vec();
    if !matches!(curve, 29 | 30) {
        point[0] = 4;
    }
    let length = u8::try_from(point.len()).expect("short");
    [randoms, &[3], &curve.to_be_bytes(), &[length], &point].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes(), bytes].concat()
}

fn vector24(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length[1..], bytes].concat()
}

fn dhe(randoms: &[u8], prime: &[u8], generator: &[u8], public: &[u8]) -> Vec<u8> {
    let mut prime = prime.to_vec();
    prime[0] |= 0x80;
    if let Some(last) = prime.last_mut() {
        *last |= 1;
    }
    [randoms, &vector16(&prime), &vector16(generator), &vector16(public)].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], vector24(body).as_slice()].concat()
}

fn hello(rest: &[u8]) -> Vec<u8> {
    [&[3, 3], [7; 32].as_slice(), &[0], rest].concat()
}

fn certificate(list: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = list.iter().flat_map(|certificate| vector24(certificate)).collect();
    vector24(&list)
}

const LEAF: &[u8] = b"the client's own certificate";

/// The messages of a full handshake; a test may change them.
fn flights() -> Vec<(u8, Vec<u8>)> {
    vec![
        (1, hello(b"suites and extensions")),
        (2, hello(b"\x00\x9c\x00")),
        (11, certificate(&[b"server", b"issuer"])),
        (22, vec![1, 0, 0, 2, 8, 9]),
        (12, vec![3, 0, 29]),
        (13, vec![1, 1, 0, 0]),
        (14, vec![]),
        (11, certificate(&[LEAF, b"another"])),
        (16, vec![1, 2, 3]),
    ]
}

fn transcript(flights: &[(u8, Vec<u8>)]) -> Vec<u8> {
    flights.iter().flat_map(|(kind, body)| handshake(*kind, body)).collect()
}

/// What the random bytes of a server's and a client's hello look like: not spaces, and no other protocol's beginning.
fn randoms() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 64).prop_filter("cannot be told from others", |bytes| {
        !matches!(bytes[0], 0x00 | 0x01 | 0x30 | 0x31) && *bytes != [0x20; 64]
    })
}

proptest! {
    #[test]
    fn tls13_is_accepted_to_the_byte(hash in vec(any::<u8>(), 0..80)) {
        for (role, kind) in [("server", HandshakeMessage::Server13), ("client", HandshakeMessage::Client13)] {
            let message = certificate_verify(role, &hash);
            let expected = if [32, 48].contains(&hash.len()) { Ok(kind) } else { Err(NotAHandshakeMessage::Hash) };
            prop_assert_eq!(HandshakeMessage::of(&message), expected);
        }
    }

    #[test]
    fn a_changed_tls13_context_is_refused(position in 0..98_usize, byte: u8, hash: [u8; 32]) {
        for (role, kind) in [("server", HandshakeMessage::Server13), ("client", HandshakeMessage::Client13)] {
            let mut message = certificate_verify(role, &hash);
            let same = message[position] == byte;
            message[position] = byte;
            prop_assert_eq!(HandshakeMessage::of(&message) == Ok(kind), same);
            prop_assert_eq!(HandshakeMessage::of(&message).is_ok(), same);
        }
    }

    #[test]
    fn ecdhe_is_accepted_to_the_byte(randoms in randoms(), choice in 0..8_usize, point in vec(any::<u8>(), 133)) {
        let (curve, length) = CURVES[choice];
        let mut message = ecdhe(&randoms, curve, &point[..length]);
        prop_assert_eq!(HandshakeMessage::of(&message), Ok(HandshakeMessage::Ecdhe12 { curve, point: &message[68..] }));
        for cut in 64..message.len() {
            prop_assert!(HandshakeMessage::of(&message[..cut]).is_err(), "cut to {}", cut);
        }
        message.push(point[0]);
        prop_assert!(HandshakeMessage::of(&message).is_err());
    }

    #[test]
    fn other_curves_and_lengths_are_refused(randoms in randoms(), curve: u16, point in vec(any::<u8>(), 1..200)) {
        let message = ecdhe(&randoms, curve, &point);
        let known = CURVES.contains(&(curve, point.len()));
        prop_assert_eq!(HandshakeMessage::of(&message).is_ok(), known);
    }

    #[test]
    fn dhe_is_accepted_to_the_byte(
        randoms in randoms(), prime in vec(any::<u8>(), 256..=1024), generator in vec(any::<u8>(), 1..=128),
        public in vec(any::<u8>(), 1..=128),
    ) {
        let mut message = dhe(&randoms, &prime, &generator, &public);
        prop_assert_eq!(HandshakeMessage::of(&message), Ok(HandshakeMessage::Dhe12));
        message.push(0);
        prop_assert!(HandshakeMessage::of(&message).is_err());
        message.truncate(message.len() - 2);
        prop_assert!(HandshakeMessage::of(&message).is_err());
    }

    #[test]
    fn random_bytes_have_no_shape(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(HandshakeMessage::of(&bytes).is_err());
    }

    #[test]
    fn random_bytes_behind_randoms_have_no_shape(randoms in randoms(), bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(HandshakeMessage::of(&[randoms, bytes].concat()).is_err());
    }

    #[test]
    fn a_transcript_must_add_up(position: prop::sample::Index, delta in 1..=255_u8) {
        let good = transcript(&flights());
        prop_assert_eq!(HandshakeMessage::of(&good), Ok(HandshakeMessage::Client12 { leaf: LEAF }));
        let cut = position.index(good.len());
        prop_assert!(HandshakeMessage::of(&good[..cut]).is_err());
        let mut longer = good.clone();
        longer.push(delta);
        prop_assert!(HandshakeMessage::of(&longer).is_err());
        let mut changed = good.clone();
        let header = header_positions()[position.index(header_positions().len())];
        changed[header] = changed[header].wrapping_add(delta);
        prop_assert!(HandshakeMessage::of(&changed).is_err(), "byte {} changed", header);
    }

    #[test]
    fn no_bytes_make_the_check_panic(kinds in vec((any::<u8>(), vec(any::<u8>(), 0..60)), 0..12), tail in vec(any::<u8>(), 0..8)) {
        let mut message = transcript(&kinds);
        message.extend_from_slice(&tail);
        let _ = HandshakeMessage::of(&message);
        let mut after_hello = transcript(&flights()[..1]);
        after_hello.extend_from_slice(&message);
        let _ = HandshakeMessage::of(&after_hello);
    }
}

/// Where each handshake header of [`flights`] is: type and length.
fn header_positions() -> Vec<usize> {
    let mut places = Vec::new();
    let mut start = 0;
    for (_, body) in flights() {
        places.extend(start..start + 4);
        start += 4 + body.len();
    }
    places
}

#[test]
fn messages_that_may_be_missing_may() {
    for missing in [vec![22], vec![12], vec![22, 12]] {
        let mut flights = flights();
        flights.retain(|(kind, _)| !missing.contains(kind));
        assert_eq!(
            HandshakeMessage::of(&transcript(&flights)),
            Ok(HandshakeMessage::Client12 { leaf: LEAF }),
            "without {missing:?}"
        );
    }
}

#[test]
fn every_other_message_is_required_in_its_place() {
    for position in 0..flights().len() {
        let mut without = flights();
        let (kind, _) = without.remove(position);
        if ![22, 12].contains(&kind) {
            assert!(HandshakeMessage::of(&transcript(&without)).is_err(), "without message {position}");
        }
        let mut twice = flights();
        twice.insert(position, flights()[position].clone());
        assert!(HandshakeMessage::of(&transcript(&twice)).is_err(), "message {position} twice");
    }
    let mut swapped = flights();
    swapped.swap(7, 8);
    assert!(HandshakeMessage::of(&transcript(&swapped)).is_err());
}

#[test]
fn a_transcript_of_another_version_is_refused() {
    for position in [0, 1] {
        for version in [[3, 1], [3, 2], [3, 4], [2, 3]] {
            let mut other = flights();
            other[position].1[..2].copy_from_slice(&version);
            assert!(
                HandshakeMessage::of(&transcript(&other)).is_err(),
                "message {position}, version {version:?}"
            );
        }
    }
}

#[test]
fn a_client_without_a_certificate_signs_nothing() {
    let mut none = flights();
    none[7].1 = certificate(&[]);
    assert_eq!(HandshakeMessage::of(&transcript(&none)), Err(NotAHandshakeMessage::Certificate));
    none[7].1 = certificate(&[b""]);
    assert_eq!(HandshakeMessage::of(&transcript(&none)), Err(NotAHandshakeMessage::Certificate));
    none[7].1 = [certificate(&[LEAF]), vec![0]].concat();
    assert_eq!(HandshakeMessage::of(&transcript(&none)), Err(NotAHandshakeMessage::Certificate));
    none[7].1 = vector24(&[vector24(LEAF), vec![0, 0]].concat());
    assert_eq!(HandshakeMessage::of(&transcript(&none)), Err(NotAHandshakeMessage::Certificate));
}

#[test]
fn a_transcript_has_64_kib_and_the_rest_4() {
    let fill = |length: usize| {
        let mut long = flights();
        long[5].1 = vec![1; length];
        transcript(&long)
    };
    let rest = fill(0).len() - 1;
    assert!(HandshakeMessage::of(&fill((64 << 10) - rest - 1)).is_ok());
    assert_eq!(HandshakeMessage::of(&fill((64 << 10) - rest)), Err(NotAHandshakeMessage::TooLong));
    let longest = dhe(&[0xee; 64], &[1; 1024], &[2; 1024], &[3; 1024]);
    assert_eq!(HandshakeMessage::of(&longest), Ok(HandshakeMessage::Dhe12));
    assert_eq!(HandshakeMessage::of(&vec![0; 4097]), Err(NotAHandshakeMessage::TooLong));
}

#[test]
fn ffdhe6144_is_not_taken_for_a_curve() {
    let message = dhe(&[0xee; 64], &[0xff; 768], &[2], &[0x5a; 768]);
    assert_eq!(&message[64..66], &[3, 0]);
    assert_eq!(HandshakeMessage::of(&message), Ok(HandshakeMessage::Dhe12));
}

#[test]
fn dhe_parameters_that_are_no_numbers_are_refused() {
    let ok = |prime: &[u8], generator: &[u8], public: &[u8]| {
        let message = [&[0xee; 64], &*vector16(prime), &*vector16(generator), &*vector16(public)].concat();
        HandshakeMessage::of(&message).is_ok()
    };
    let prime = [0xff; 256];
    assert!(ok(&prime, &[2], &[1; 256]));
    let mut even = prime;
    even[255] = 0xfe;
    assert!(!ok(&even, &[2], &[1; 256]));
    let mut padded = prime;
    padded[0] = 0;
    assert!(!ok(&padded, &[2], &[1; 256]));
    assert!(!ok(&prime[..255], &[2], &[1; 255]));
    assert!(!ok(&[0xff; 1025], &[2], &[1; 256]));
    assert!(!ok(&prime, &[], &[1; 256]));
    assert!(!ok(&prime, &[2], &[]));
    assert!(!ok(&prime, &[2], &[1; 257]));
}

#[test]
fn a_transcript_in_the_shape_of_dhe_is_still_a_clients() {
    // The session id of the ClientHello holds the length of a "prime" that reaches to the last 260 bytes.
    let mut flights = flights();
    flights[0].1 = [&[3, 3], [7; 32].as_slice(), &[32], &[9; 32], &[0; 100]].concat();
    flights[8].1 = [vec![1; 129], vector16(&[5; 1]), vector16(&[6; 128])].concat();
    let mut message = transcript(&flights);
    let prime = message.len() - 66 - 3 - 130;
    message[64..66].copy_from_slice(&u16::try_from(prime).expect("short").to_be_bytes());
    assert!((256..=1024).contains(&prime) && message[66] != 0 && message[66 + prime - 1] & 1 == 1);
    assert_eq!(HandshakeMessage::of(&message), Ok(HandshakeMessage::Client12 { leaf: LEAF }));
    // The same bytes are DHE parameters once they do not begin as a transcript does: the test tests something.
    message[0] = 9;
    assert_eq!(HandshakeMessage::of(&message), Ok(HandshakeMessage::Dhe12));
}

#[test]
fn a_der_structure_in_the_shape_of_dhe_is_refused() {
    let mut message = dhe(&[0xee; 64], &[0x41; 256], &[2], &[3; 256]);
    assert_eq!(HandshakeMessage::of(&message), Ok(HandshakeMessage::Dhe12));
    let length = u16::try_from(message.len() - 4).expect("short");
    message[..2].copy_from_slice(&[0x30, 0x82]);
    message[2..4].copy_from_slice(&length.to_be_bytes());
    assert_eq!(HandshakeMessage::of(&message), Err(NotAHandshakeMessage::Foreign("a DER structure")));
    message[0] = 0x31;
    assert_eq!(HandshakeMessage::of(&message), Err(NotAHandshakeMessage::Foreign("a DER structure")));
    message[3] ^= 1;
    assert_eq!(HandshakeMessage::of(&message), Ok(HandshakeMessage::Dhe12));
    // The same with more octets of length than are needed, and without a length: parsers take both.
    let length = u16::try_from(message.len() - 7).expect("short").to_be_bytes();
    message[..7].copy_from_slice(&[0x30, 0x85, 0, 0, 0, length[0], length[1]]);
    assert_eq!(HandshakeMessage::of(&message), Err(NotAHandshakeMessage::Foreign("a DER structure")));
    message[1] = 0x80;
    let end = message.len();
    message[end - 2..].copy_from_slice(&[0, 0]);
    assert_eq!(HandshakeMessage::of(&message), Err(NotAHandshakeMessage::Foreign("a DER structure")));
}

#[test]
fn what_a_captured_front_would_want_is_refused() {
    let token = format!("{}.{}", "eyJhbGciOiJSUzI1NiJ9".repeat(2), "eyJzdWIiOiJyb290In0".repeat(20));
    assert!(HandshakeMessage::of(token.as_bytes()).is_err());
    assert!(HandshakeMessage::of(b"").is_err());
    assert!(HandshakeMessage::of(&[0x20; 64]).is_err());
    assert!(HandshakeMessage::of(&certificate_verify("Server", &[1; 32])).is_err());
    let mut body = vec![0x30, 0x82, 0x02, 0x00];
    body.resize(516, 0x04);
    assert!(HandshakeMessage::of(&body).is_err());
}

#[test]
fn the_leaf_is_the_identitys_own() {
    assert!(is_own_leaf(b"mine", [b"mine".as_slice(), b"old"], b"key"));
    assert!(is_own_leaf(b"old", [b"mine".as_slice(), b"old"], b"key"));
    assert!(!is_own_leaf(b"with key in it", [b"mine".as_slice()], b"key"));
    assert!(is_own_leaf(b"with key in it", [], b"key"));
    assert!(!is_own_leaf(b"with another", [], b"key"));
    assert!(!is_own_leaf(b"anything", [], b""));
}

/// A TLS 1.2 client's transcript that is made to be DHE parameters as well: the session id holds p's length, a GREASE
/// extension g's, and the rest is Ys. Servers negotiate TLS 1.2 with a ClientHello that names another version.
fn two_faced(version: [u8; 2]) -> Vec<u8> {
    let mut session = [9; 32];
    // The session id begins at 39; p's length is at 64, and p ends within the extensions.
    let prime: u16 = 300;
    session[25..27].copy_from_slice(&prime.to_be_bytes());
    let mut rest = vec![0x5b; 700];
    let end = 64 + 2 + usize::from(prime) - 71;
    rest[end - 1] |= 1;
    rest[end..end + 2].copy_from_slice(&[0, 1]);
    let mut flights = flights();
    flights[0].1 = [&version[..], &[7; 32], &[32], &session, &rest].concat();
    let public = 64 + 2 + usize::from(prime) + 2 + 1;
    let filler = |length: usize| {
        let mut all = flights.clone();
        all[8].1 = vec![1; length];
        transcript(&all)
    };
    // Ys is no longer than p: all but the hello is made short, and the hello ends where Ys begins.
    let mut message = filler(3);
    let hello = 4 + flights[0].1.len();
    message.drain(public + 2..hello);
    let length = u32::try_from(public + 2 - 4).expect("short").to_be_bytes();
    message[1..4].copy_from_slice(&length[1..]);
    let public_length = u16::try_from(message.len() - public - 2).expect("short");
    message[public..public + 2].copy_from_slice(&public_length.to_be_bytes());
    message
}

#[test]
fn finding_1_a_clients_transcript_of_any_version_is_no_key_exchange() {
    for version in [[3, 4], [3, 5], [3, 0xff], [3, 0], [4, 0], [0xfe, 0xfd]] {
        let message = two_faced(version);
        assert_eq!(HandshakeMessage::of(&message), Err(NotAHandshakeMessage::Transcript), "{version:?}");
        // The same bytes behind another first one are DHE parameters: the transcript is refused for its beginning.
        let mut control = message.clone();
        control[0] = 0xee;
        assert_eq!(HandshakeMessage::of(&control), Ok(HandshakeMessage::Dhe12), "{version:?}");
    }
    let good = two_faced([3, 3]);
    assert_eq!(HandshakeMessage::of(&good), Ok(HandshakeMessage::Client12 { leaf: LEAF }));
}

#[test]
fn finding_1_hellos_of_dtls_and_ssl2_are_no_key_exchange() {
    let exchange = dhe(&[0xee; 64], &[0x41; 256], &[2], &[3; 256]);
    assert_eq!(HandshakeMessage::of(&exchange), Ok(HandshakeMessage::Dhe12));
    let with = |begin: &[u8]| {
        let mut message = exchange.clone();
        message[..begin.len()].copy_from_slice(begin);
        HandshakeMessage::of(&message).map(kind)
    };
    let dtls = [1, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 60, 0xfe, 0xfd];
    assert_eq!(with(&dtls), Err(NotAHandshakeMessage::Transcript));
    for version in [0, 1, 3, 4, 0x7f] {
        let ssl2 = [1, 3, version, 0, 9, 0, 0, 0, 32];
        assert_eq!(with(&ssl2), Err(NotAHandshakeMessage::Transcript), "version 3.{version}");
    }
    // Lengths beyond the message are no hello's, and a random may begin so.
    assert_eq!(with(&[1, 0xff, 0, 0]), Ok('d'));
    assert_eq!(with(&[1, 3, 3, 0xff, 0, 0, 0, 0, 32]), Ok('d'));
}

#[test]
fn finding_2_what_other_protocols_sign_is_no_key_exchange() {
    let refused = |message: &[u8], what| {
        assert_eq!(HandshakeMessage::of(message), Err(NotAHandshakeMessage::Foreign(what)));
        // Random bytes in place of the first 24 make a key exchange of it: nothing else was wrong.
        let mut control = message.to_vec();
        control[..24].copy_from_slice(&[0xee; 24]);
        assert!(
            matches!(
                HandshakeMessage::of(&control),
                Ok(HandshakeMessage::Ecdhe12 { .. } | HandshakeMessage::Dhe12)
            ),
            "{what}"
        );
    };
    let behind = |begin: &[u8]| {
        let mut randoms = [0xd7; 64];
        randoms[..begin.len()].copy_from_slice(begin);
        ecdhe(&randoms, 29, &[0x42; 32])
    };
    refused(&behind(b"\x84\x6aSignature1\x43\xa1\x01\x26"), "a COSE structure");
    refused(&behind(b"\x85\x69Signature\x40"), "a COSE structure");
    let mut ssh = behind(&[0, 0, 0, 32]);
    ssh[36] = 50;
    refused(&ssh, "an SSH authentication request");
    let mut ike = behind(&[]);
    ike[16..24].copy_from_slice(&[33, 0x20, 34, 0x20, 0, 0, 0, 0]);
    refused(&ike, "an IKEv2 message");
    ike[17] = 0x21;
    refused(&ike, "an IKEv2 message");
    refused(&ecdhe(&[b'a'; 64], 29, &[0x42; 32]), "a text");
    // The payload of a token that is not encoded need not be text (RFC 7797).
    refused(&behind(b"eyJhbGciOiJFZERTQSIsImI2NCI6ZmFsc2V9.\xc3\xa9"), "a text");
    refused(&behind(b"SSHSIG\0\0\0\x04file"), "an SSH signature");
    refused(&behind(&[3, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]), "a PASETO token");
    // The signed attributes of CMS in the 124 bytes of X448: the end of the last value lies where the point is.
    let mut cms = ecdhe(&[0x04; 64], 30, &[0x42; 56]);
    cms[..4].copy_from_slice(&[0x31, 122, 0x04, 120]);
    refused(&cms, "a DER structure");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn two_recognisers_agree(choices in vec(any::<u8>(), 0..160)) {
        let message = shapes::message(&mut Choices::new(&choices));
        compare(&message);
    }
}

#[test]
fn two_recognisers_agree_on_every_sort() {
    let mut kinds = BTreeSet::new();
    for sort in 0..shapes::SORTS {
        for seed in 0..400_u32 {
            let seed = seed.wrapping_mul(0x9e37_79b9).to_be_bytes().repeat(12);
            let message = shapes::of_sort(sort, &mut Choices::new(&seed));
            compare(&message);
            kinds.extend(HandshakeMessage::of(&message).ok().map(kind));
        }
    }
    assert_eq!(kinds.into_iter().collect::<String>(), "123de", "the generator makes every kind of message");
}

fn kind(message: HandshakeMessage<'_>) -> char {
    match message {
        HandshakeMessage::Server13 => '1',
        HandshakeMessage::Client13 => '2',
        HandshakeMessage::Client12 { .. } => '3',
        HandshakeMessage::Dhe12 => 'd',
        HandshakeMessage::Ecdhe12 { .. } => 'e',
    }
}

/// The keeper's parser and the second recogniser say the same of a message.
fn compare(message: &[u8]) {
    let second = verdict(message);
    let same = match (HandshakeMessage::of(message), &second) {
        (Ok(HandshakeMessage::Server13), Verdict::Server13)
        | (Ok(HandshakeMessage::Client13), Verdict::Client13)
        | (Ok(HandshakeMessage::Dhe12), Verdict::Dhe)
        | (Err(_), Verdict::Nothing) => true,
        (Ok(HandshakeMessage::Ecdhe12 { curve, point }), Verdict::Ecdhe(also, position)) => {
            curve == *also && point == &message[position.clone()]
        }
        (Ok(HandshakeMessage::Client12 { leaf }), Verdict::Client12(position)) => {
            leaf == &message[position.clone()]
        }
        _ => false,
    };
    assert!(same, "{:?} and {second:?} of {message:02x?}", HandshakeMessage::of(message));
}
