//! Every message that a TLS peer signs has its shape; nothing else has one.

use luassl_keeper::structure::{Misshape, Shape, is_own_leaf};
use proptest::collection::vec;
use proptest::prelude::*;

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

/// What the random bytes of a server's and a client's hello look like: not spaces, and no ClientHello's header.
fn randoms() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 64).prop_filter("cannot be told from others", |bytes| {
        !bytes.starts_with(&[0x30]) && !bytes.starts_with(&[0x31]) && *bytes != [0x20; 64]
    })
}

proptest! {
    #[test]
    fn tls13_is_accepted_to_the_byte(hash in vec(any::<u8>(), 0..80)) {
        for (role, shape) in [("server", Shape::Server13), ("client", Shape::Client13)] {
            let message = certificate_verify(role, &hash);
            let expected = if [32, 48].contains(&hash.len()) { Ok(shape) } else { Err(Misshape::Hash) };
            prop_assert_eq!(Shape::of(&message), expected);
        }
    }

    #[test]
    fn a_changed_tls13_context_is_refused(place in 0..98_usize, byte: u8, hash: [u8; 32]) {
        for (role, shape) in [("server", Shape::Server13), ("client", Shape::Client13)] {
            let mut message = certificate_verify(role, &hash);
            let same = message[place] == byte;
            message[place] = byte;
            prop_assert_eq!(Shape::of(&message) == Ok(shape), same);
            prop_assert_eq!(Shape::of(&message).is_ok(), same);
        }
    }

    #[test]
    fn ecdhe_is_accepted_to_the_byte(randoms in randoms(), choice in 0..8_usize, point in vec(any::<u8>(), 133)) {
        let (curve, length) = CURVES[choice];
        let mut message = ecdhe(&randoms, curve, &point[..length]);
        prop_assert_eq!(Shape::of(&message), Ok(Shape::Server12));
        for cut in 64..message.len() {
            prop_assert!(Shape::of(&message[..cut]).is_err(), "cut to {}", cut);
        }
        message.push(point[0]);
        prop_assert!(Shape::of(&message).is_err());
    }

    #[test]
    fn other_curves_and_lengths_are_refused(randoms in randoms(), curve: u16, point in vec(any::<u8>(), 1..200)) {
        let message = ecdhe(&randoms, curve, &point);
        let known = CURVES.contains(&(curve, point.len()));
        prop_assert_eq!(Shape::of(&message).is_ok(), known);
    }

    #[test]
    fn dhe_is_accepted_to_the_byte(
        randoms in randoms(), prime in vec(any::<u8>(), 128..=1024), generator in vec(any::<u8>(), 1..=128),
        public in vec(any::<u8>(), 1..=128),
    ) {
        let mut message = dhe(&randoms, &prime, &generator, &public);
        prop_assert_eq!(Shape::of(&message), Ok(Shape::Server12));
        message.push(0);
        prop_assert!(Shape::of(&message).is_err());
        message.truncate(message.len() - 2);
        prop_assert!(Shape::of(&message).is_err());
    }

    #[test]
    fn random_bytes_have_no_shape(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(Shape::of(&bytes).is_err());
    }

    #[test]
    fn random_bytes_behind_randoms_have_no_shape(randoms in randoms(), bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(Shape::of(&[randoms, bytes].concat()).is_err());
    }

    #[test]
    fn a_transcript_must_add_up(place: prop::sample::Index, delta in 1..=255_u8) {
        let good = transcript(&flights());
        prop_assert_eq!(Shape::of(&good), Ok(Shape::Client12 { leaf: LEAF }));
        let cut = place.index(good.len());
        prop_assert!(Shape::of(&good[..cut]).is_err());
        let mut longer = good.clone();
        longer.push(delta);
        prop_assert!(Shape::of(&longer).is_err());
        let mut changed = good.clone();
        let header = header_places()[place.index(header_places().len())];
        changed[header] = changed[header].wrapping_add(delta);
        prop_assert!(Shape::of(&changed).is_err(), "byte {} changed", header);
    }

    #[test]
    fn no_bytes_make_the_check_panic(kinds in vec((any::<u8>(), vec(any::<u8>(), 0..60)), 0..12), tail in vec(any::<u8>(), 0..8)) {
        let mut message = transcript(&kinds);
        message.extend_from_slice(&tail);
        let _ = Shape::of(&message);
        let mut after_hello = transcript(&flights()[..1]);
        after_hello.extend_from_slice(&message);
        let _ = Shape::of(&after_hello);
    }
}

/// Where each handshake header of [`flights`] is: type and length.
fn header_places() -> Vec<usize> {
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
            Shape::of(&transcript(&flights)),
            Ok(Shape::Client12 { leaf: LEAF }),
            "without {missing:?}"
        );
    }
}

#[test]
fn every_other_message_is_required_in_its_place() {
    for place in 0..flights().len() {
        let mut without = flights();
        let (kind, _) = without.remove(place);
        if ![22, 12].contains(&kind) {
            assert!(Shape::of(&transcript(&without)).is_err(), "without message {place}");
        }
        let mut twice = flights();
        twice.insert(place, flights()[place].clone());
        assert!(Shape::of(&transcript(&twice)).is_err(), "message {place} twice");
    }
    let mut swapped = flights();
    swapped.swap(7, 8);
    assert!(Shape::of(&transcript(&swapped)).is_err());
}

#[test]
fn a_transcript_of_another_version_is_refused() {
    for place in [0, 1] {
        for version in [[3, 1], [3, 2], [3, 4], [2, 3]] {
            let mut other = flights();
            other[place].1[..2].copy_from_slice(&version);
            assert!(Shape::of(&transcript(&other)).is_err(), "message {place}, version {version:?}");
        }
    }
}

#[test]
fn a_client_without_a_certificate_signs_nothing() {
    let mut none = flights();
    none[7].1 = certificate(&[]);
    assert_eq!(Shape::of(&transcript(&none)), Err(Misshape::Certificate));
    none[7].1 = certificate(&[b""]);
    assert_eq!(Shape::of(&transcript(&none)), Err(Misshape::Certificate));
    none[7].1 = [certificate(&[LEAF]), vec![0]].concat();
    assert_eq!(Shape::of(&transcript(&none)), Err(Misshape::Certificate));
    none[7].1 = vector24(&[vector24(LEAF), vec![0, 0]].concat());
    assert_eq!(Shape::of(&transcript(&none)), Err(Misshape::Certificate));
}

#[test]
fn a_transcript_has_64_kib_and_the_rest_4() {
    let fill = |length: usize| {
        let mut long = flights();
        long[5].1 = vec![1; length];
        transcript(&long)
    };
    let rest = fill(0).len() - 1;
    assert!(Shape::of(&fill((64 << 10) - rest - 1)).is_ok());
    assert_eq!(Shape::of(&fill((64 << 10) - rest)), Err(Misshape::TooLong));
    let longest = dhe(&[7; 64], &[1; 1024], &[2; 1024], &[3; 1024]);
    assert_eq!(Shape::of(&longest), Ok(Shape::Server12));
    assert_eq!(Shape::of(&vec![0; 4097]), Err(Misshape::TooLong));
}

#[test]
fn ffdhe6144_is_not_taken_for_a_curve() {
    let message = dhe(&[7; 64], &[0xff; 768], &[2], &[0x5a; 768]);
    assert_eq!(&message[64..66], &[3, 0]);
    assert_eq!(Shape::of(&message), Ok(Shape::Server12));
}

#[test]
fn dhe_parameters_that_are_no_numbers_are_refused() {
    let ok = |prime: &[u8], generator: &[u8], public: &[u8]| {
        let message = [&[7; 64], &*vector16(prime), &*vector16(generator), &*vector16(public)].concat();
        Shape::of(&message).is_ok()
    };
    let prime = [0xff; 256];
    assert!(ok(&prime, &[2], &[1; 256]));
    let mut even = prime;
    even[255] = 0xfe;
    assert!(!ok(&even, &[2], &[1; 256]));
    let mut padded = prime;
    padded[0] = 0;
    assert!(!ok(&padded, &[2], &[1; 256]));
    assert!(!ok(&prime[..127], &[2], &[1; 127]));
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
    assert!((128..=1024).contains(&prime) && message[66] != 0 && message[66 + prime - 1] & 1 == 1);
    assert_eq!(Shape::of(&message), Ok(Shape::Client12 { leaf: LEAF }));
    // The same bytes are DHE parameters once they do not begin as a transcript does: the test tests something.
    message[0] = 9;
    assert_eq!(Shape::of(&message), Ok(Shape::Server12));
}

#[test]
fn a_der_structure_in_the_shape_of_dhe_is_refused() {
    let mut message = dhe(&[7; 64], &[0x41; 256], &[2], &[3; 256]);
    assert_eq!(Shape::of(&message), Ok(Shape::Server12));
    let length = u16::try_from(message.len() - 4).expect("short");
    message[..2].copy_from_slice(&[0x30, 0x82]);
    message[2..4].copy_from_slice(&length.to_be_bytes());
    assert_eq!(Shape::of(&message), Err(Misshape::Der));
    message[0] = 0x31;
    assert_eq!(Shape::of(&message), Err(Misshape::Der));
    message[3] ^= 1;
    assert_eq!(Shape::of(&message), Ok(Shape::Server12));
}

#[test]
fn what_a_captured_front_would_want_is_refused() {
    let token = format!("{}.{}", "eyJhbGciOiJSUzI1NiJ9".repeat(2), "eyJzdWIiOiJyb290In0".repeat(20));
    assert!(Shape::of(token.as_bytes()).is_err());
    assert!(Shape::of(b"").is_err());
    assert!(Shape::of(&[0x20; 64]).is_err());
    assert!(Shape::of(&certificate_verify("Server", &[1; 32])).is_err());
    let mut body = vec![0x30, 0x82, 0x02, 0x00];
    body.resize(516, 0x04);
    assert!(Shape::of(&body).is_err());
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
