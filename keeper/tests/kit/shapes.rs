//! Messages that know the shapes: what TLS peers sign, what other protocols sign, each bent towards the others. Bytes
//! choose, so that a fuzzer, a property test and a run of an hour drive the same generator.

/// Takes choices off some bytes; zeros once they are used up.
pub(crate) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        if bound == 0 { 0 } else { number % bound }
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Bytes that look random, whatever is left.
    fn noise(&mut self, count: usize) -> Vec<u8> {
        let mut state = u64::from(self.byte()) << 8 | u64::from(self.byte()) | 0x9e37_79b9_0000_0000;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..count).map(|_| next()).collect()
    }
}

/// A message of some protocol, bent by what follows in the choices.
pub(crate) fn message(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut message = template(choices);
    for _ in 0..choices.below(4) {
        bend(choices, &mut message);
    }
    message
}

const TEMPLATES: [fn(&mut Choices<'_>) -> Vec<u8>; 20] = [
    tls13,
    ecdhe,
    dhe,
    transcript,
    dtls,
    ssl2,
    cose,
    jws,
    script,
    ikev2,
    ssh,
    cms,
    certificate,
    ocsp,
    quic,
    noise,
    token,
    ber,
    sshsig,
    paseto,
];

/// How many sorts of messages there are.
pub(crate) const SORTS: usize = TEMPLATES.len();

fn template(choices: &mut Choices<'_>) -> Vec<u8> {
    let choice = choices.below(SORTS);
    TEMPLATES[choice](choices)
}

/// The message of one sort as its protocol has it, with a TLS 1.2 key exchange written over its end where that fits.
pub(crate) fn of_sort(sort: usize, choices: &mut Choices<'_>) -> Vec<u8> {
    let mut message = TEMPLATES[sort % SORTS](choices);
    if choices.byte() & 1 == 1 {
        overlay(choices, &mut message);
    }
    message
}

fn vector<const N: usize>(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length[4 - N..], bytes].concat()
}

fn tls13(choices: &mut Choices<'_>) -> Vec<u8> {
    let role = choices.pick(&["server", "client", "Server", "server "]);
    let spaces = choices.pick(&[64, 64, 64, 63, 65]);
    let hash = choices.pick(&[32, 48, 20, 31, 33, 64]);
    let hash = choices.noise(hash);
    [&vec![0x20; spaces][..], format!("TLS 1.3, {role} CertificateVerify\0").as_bytes(), &hash].concat()
}

/// The curves of TLS 1.2, with their points' lengths.
const CURVES: [(u16, usize); 9] =
    [(23, 65), (24, 97), (25, 133), (26, 65), (27, 97), (28, 129), (29, 32), (30, 56), (22, 65)];

fn parameters(choices: &mut Choices<'_>) -> Vec<u8> {
    let (curve, size) = choices.pick(&CURVES);
    let mut point = choices.noise(size);
    if size % 2 == 1 {
        point[0] = choices.pick(&[4, 4, 4, 2, 3]);
    }
    [&[3], &curve.to_be_bytes()[..], &vector::<1>(&point)].concat()
}

fn ecdhe(choices: &mut Choices<'_>) -> Vec<u8> {
    [choices.noise(64), parameters(choices)].concat()
}

fn dhe(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.pick(&[256, 384, 512, 768, 1024, 255, 1025, 128]);
    let mut prime = choices.noise(size);
    prime[0] |= 0x80;
    prime[size - 1] |= 1;
    let (generator, public) = (choices.pick(&[1, 2, size, size + 1]), choices.pick(&[size, size - 1, 1]));
    let numbers = [prime, choices.noise(generator), choices.noise(public)];
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| vector::<2>(number)).collect();
    [choices.noise(64), numbers].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector::<3>(body)].concat()
}

fn hello(choices: &mut Choices<'_>, extensions: usize) -> Vec<u8> {
    let version = choices.pick(&[[3, 3], [3, 3], [3, 4], [3, 1], [3, 0x7f], [0xfe, 0xfd], [2, 0]]);
    let session = choices.pick(&[0, 32]);
    let session = choices.noise(session);
    let rest = choices.noise(extensions);
    [&version[..], &choices.noise(32), &vector::<1>(&session), &[0, 2, 0xc0, 0x2b, 1, 0], &vector::<2>(&rest)]
        .concat()
}

fn certificates(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.pick(&[400, 44, 1, 0]);
    let leaf = choices.noise(size);
    vector::<3>(&vector::<3>(&leaf))
}

fn transcript(choices: &mut Choices<'_>) -> Vec<u8> {
    let kinds: &[u8] = choices.pick(&[
        &[1, 2, 11, 12, 13, 14, 11, 16],
        &[1, 2, 11, 22, 12, 13, 14, 11, 16],
        &[1, 2, 11, 13, 14, 11, 16],
        &[1, 2, 11, 13, 14, 11],
        &[1],
        &[2, 11, 14],
    ]);
    let mut message = Vec::new();
    for kind in kinds {
        let body = match kind {
            1 => {
                let extensions = choices.pick(&[0, 40, 200, 600]);
                hello(choices, extensions)
            }
            2 => hello(choices, 8),
            11 => certificates(choices),
            22 => [&[1][..], &vector::<3>(&choices.noise(9))].concat(),
            12 => parameters(choices),
            14 => Vec::new(),
            _ => choices.noise(33),
        };
        message.extend(handshake(*kind, &body));
    }
    message
}

/// ClientHello of DTLS 1.2: message number, and the fragment's place, behind the length.
fn dtls(choices: &mut Choices<'_>) -> Vec<u8> {
    let body = hello(choices, 300);
    let length = vector::<3>(&body)[..3].to_vec();
    let first = [&[1][..], &length, &[0, 0, 0, 0, 0], &length, &body].concat();
    [first, handshake(16, &choices.noise(33))].concat()
}

/// ClientHello in SSLv2's format, as a transcript has it: without the record's length.
fn ssl2(choices: &mut Choices<'_>) -> Vec<u8> {
    let version = choices.pick(&[3, 4, 1, 0x7f]);
    let (ciphers, challenge) = (choices.pick(&[3, 6, 90, 600]), choices.pick(&[16, 32]));
    let lengths = [ciphers, 0, challenge].map(|length| u16::try_from(length).expect("short").to_be_bytes());
    let body = choices.noise(ciphers + challenge);
    [&[1, 3, version][..], &lengths.concat(), &body, &transcript(choices)].concat()
}

fn cose(choices: &mut Choices<'_>) -> Vec<u8> {
    let context =
        choices.pick(&[&b"\x84\x6aSignature1"[..], b"\x85\x69Signature", b"\x85\x70CounterSignature"]);
    let size = choices.pick(&[45, 54, 110, 700]);
    let claims = choices.noise(size);
    [context, &[0x43, 0xa1, 0x01, 0x26, 0x40, 0x58], &vector::<1>(&claims[..size.min(200)])].concat()
}

fn jws(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.pick(&[20, 100, 700]);
    let header = "eyJhbGciOiJFUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19.";
    [header.as_bytes(), b"payload", &choices.noise(size)].concat()
}

/// A token whose payload is not encoded, and not text (RFC 7797).
fn token(choices: &mut Choices<'_>) -> Vec<u8> {
    let header = "eyJhbGciOiJFZERTQSIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19.";
    [header.as_bytes(), &choices.noise(43)].concat()
}

/// A SEQUENCE with more octets of length than it needs, or none.
fn ber(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.pick(&[93_u8, 94, 120]);
    let content = choices.noise(size.into());
    let head: &[u8] = choices.pick(&[&[0x30, 0x81], &[0x30, 0x83, 0, 0], &[0x30, 0x85, 0, 0, 0, 0]]);
    match choices.byte() & 1 {
        0 => [head, &[size], &content].concat(),
        _ => [&[0x30, 0x80], &content[..], &[0, 0]].concat(),
    }
}

fn sshsig(choices: &mut Choices<'_>) -> Vec<u8> {
    let parts: Vec<u8> = [&b"file"[..], b"", b"sha512"].iter().flat_map(|text| vector::<4>(text)).collect();
    [&b"SSHSIG"[..], &parts, &vector::<4>(&choices.noise(64))].concat()
}

fn paseto(choices: &mut Choices<'_>) -> Vec<u8> {
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).expect("short").to_le_bytes();
    let (header, payload) = (&b"v2.public."[..], choices.noise(60));
    [&[3, 0, 0, 0, 0, 0, 0, 0][..], &length(header), header, &length(&payload), &payload].concat()
}

fn script(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.pick(&[4, 36, 69, 600]);
    [&b"#!/bin/sh\nexec /usr/bin/something --with --options --to --fill --it\n"[..], &choices.noise(size)]
        .concat()
}

/// The responder's signed octets: the first message, the initiator's nonce, a MAC (RFC 7296, 2.15).
fn ikev2(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.pick(&[60, 300, 371]);
    let payloads = choices.noise(size);
    let length = u32::try_from(28 + size).expect("short").to_be_bytes();
    [&choices.noise(16)[..], &[33, 0x20, 34, 0x20, 0, 0, 0, 0], &length, &payloads, &choices.noise(64)]
        .concat()
}

fn ssh(choices: &mut Choices<'_>) -> Vec<u8> {
    let session = choices.pick(&[20, 32, 64]);
    let strings: Vec<u8> =
        [&b"root"[..], b"ssh-connection", b"publickey"].iter().flat_map(|text| vector::<4>(text)).collect();
    let key = choices.noise(51);
    let session = vector::<4>(&choices.noise(session));
    [session, vec![50], strings, vec![1], vector::<4>(b"ssh-ed25519"), vector::<4>(&key)].concat()
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let head = match content.len() {
        short @ 0..=127 => vec![tag, u8::try_from(short).expect("short")],
        long => [&[tag, 0x82][..], &u16::try_from(long).expect("short").to_be_bytes()].concat(),
    };
    [head, content.to_vec()].concat()
}

/// SignedAttributes of CMS (RFC 5652, 5.4): a SET of content type, message digest, and what else there is.
fn cms(choices: &mut Choices<'_>) -> Vec<u8> {
    let digest = der(
        0x30,
        &[der(6, b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04"), der(0x31, &der(4, &choices.noise(32)))].concat(),
    );
    let kind = der(
        0x30,
        &[
            der(6, b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03"),
            der(0x31, &der(6, b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01")),
        ]
        .concat(),
    );
    let size = choices.pick(&[19, 43, 45, 200]);
    let more = der(4, &choices.noise(size));
    der(0x31, &[kind, digest, more].concat())
}

fn certificate(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.pick(&[60, 96, 129, 161, 500, 1200]);
    der(0x30, &[der(2, &[1]), der(4, &choices.noise(size))].concat())
}

fn ocsp(choices: &mut Choices<'_>) -> Vec<u8> {
    let responses = choices.noise(80);
    der(0x30, &[der(0xa2, &der(4, &[7; 20])), der(0x18, b"20261129000000Z"), der(0x30, &responses)].concat())
}

/// What QUIC's handshake signs is TLS 1.3's; packets are not.
fn quic(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.pick(&[60, 100, 1200]);
    [&[0xc3, 0, 0, 0, 1, 8][..], &choices.noise(size)].concat()
}

fn noise(choices: &mut Choices<'_>) -> Vec<u8> {
    let size = choices.below(700);
    choices.noise(size)
}

/// Writes the parameters of a TLS 1.2 key exchange behind the first 64 bytes, over what is there.
fn overlay(choices: &mut Choices<'_>, message: &mut Vec<u8>) {
    if message.len() < 64 {
        return;
    }
    let size = message.len() - 64;
    let fitting = CURVES.iter().find(|(_, length)| length + 4 == size).copied();
    let (curve, length) = fitting.unwrap_or_else(|| choices.pick(&CURVES));
    if choices.byte() & 3 == 3 && size > 300 {
        // DHE: the lengths alone are written, the numbers are what was there.
        let prime = (size - 6).min(1024) / 2;
        let lengths = [(64, prime), (66 + prime, 1), (69 + prime, size - 7 - prime)];
        for (offset, length) in lengths {
            let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            if let Some(to) = message.get_mut(offset..offset + 2) {
                to.copy_from_slice(&length);
            }
        }
        message[66] |= 1;
        message[65 + prime] |= 1;
        return;
    }
    message.resize(68 + length, 0x5a);
    message[64..68].copy_from_slice(&[
        3,
        0,
        u8::try_from(curve).expect("short"),
        u8::try_from(length).expect("short"),
    ]);
    if length % 2 == 1 {
        message[68] = 4;
    }
}

fn bend(choices: &mut Choices<'_>, message: &mut Vec<u8>) {
    let offset = choices.below(message.len() + 1);
    match choices.below(7) {
        0 => message.truncate(offset),
        1 => message.insert(offset, choices.byte()),
        2 => overlay(choices, message),
        3 => {
            let first = template(choices);
            let end = first.len().min(64).min(message.len());
            message[..end].copy_from_slice(&first[..end]);
        }
        4 => message.extend(template(choices)),
        _ => {
            if let Some(byte) = message.get_mut(offset) {
                *byte = choices.byte();
            }
        }
    }
    message.truncate(70_000);
}
