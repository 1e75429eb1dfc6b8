//! RSA key exchange: a 48-byte secret for whom it is granted, and nothing that tells a good ciphertext from a bad one.

mod kit;

use kit::{BOTH, Keeper, Socket};
use luassl_keeper_ipc::admin::Rights;
use luassl_keeper_ipc::front::{Answer, Decrypt, PRE_MASTER, Refusal, Request};

const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const GRANTED: Rights = Rights { rsa_key_exchange: true, ..BOTH };
const TLS12: u16 = 0x0303;

/// A keeper with identity `a`, granted to the front `web`.
fn granted(kind: &str, rights: Rights) -> Keeper {
    let keeper = Keeper::start(&["web"]);
    keeper.bench.identity("a", kind);
    keeper.bench.openssl("pkey -in a.key -pubout -out a.pub");
    keeper.front("web", rights, None);
    keeper.load("a");
    keeper.commit();
    keeper
}

/// Encrypts with the key of `a`, by a padding of `openssl pkeyutl`.
fn encrypted(keeper: &Keeper, padding: &str, content: &[u8]) -> Vec<u8> {
    keeper.bench.write("content", content);
    let command =
        "pkeyutl -encrypt -pubin -inkey a.pub -in content -out ciphertext -pkeyopt rsa_padding_mode:";
    keeper.bench.openssl(&format!("{command}{padding}"));
    keeper.bench.read("ciphertext")
}

fn decrypt(front: &Socket, key_id: [u8; 32], version: u16, ciphertext: &[u8]) -> Result<Vec<u8>, Refusal> {
    decrypt_by(front, "a", key_id, version, ciphertext)
}

fn decrypt_by(
    front: &Socket,
    name: &str,
    key_id: [u8; 32],
    version: u16,
    ciphertext: &[u8],
) -> Result<Vec<u8>, Refusal> {
    front.ask(&Request::Decrypt(Decrypt { call: 9, key_id, name, version, ciphertext }), &[]);
    match Answer::decode(&front.next()).expect("an answer") {
        Answer::Secret { call: 9, secret } => Ok(secret.0.to_vec()),
        Answer::Refused { call: 9, reason } => Err(reason),
        other => panic!("no answer to a decryption: {other:?}"),
    }
}

/// A pre-master secret with its version.
fn secret() -> Vec<u8> {
    [&[3, 3], [0x5a; 46].as_slice()].concat()
}

#[test]
fn a_secret_comes_out_as_it_went_in() {
    let keeper = granted(RSA, GRANTED);
    let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
    let ciphertext = encrypted(&keeper, "pkcs1", &secret());
    assert_eq!(decrypt(&front, key_id, TLS12, &ciphertext), Ok(secret()));
}

#[test]
fn nothing_tells_bad_padding_or_a_wrong_version_from_a_good_secret() {
    let keeper = granted(RSA, GRANTED);
    let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
    // What Bleichenbacher's attack sends: blocks that are well-formed to some degree.
    let block = |start: &[u8], rest: &[u8]| {
        let mut block = vec![0x77; 256];
        block[..start.len()].copy_from_slice(start);
        block[256 - rest.len()..].copy_from_slice(rest);
        block
    };
    let short = [&[0], b"not forty-eight bytes".as_slice()].concat();
    let blocks = [
        block(&[0, 2], &short),
        block(&[0, 2], &[]),
        block(&[0, 1], &[&[0], secret().as_slice()].concat()),
        block(&[1, 2], &[]),
        block(&[0, 0], &[0; 200]),
    ];
    let mut bad: Vec<_> = blocks.iter().map(|block| (TLS12, encrypted(&keeper, "none", block))).collect();
    let good = encrypted(&keeper, "pkcs1", &secret());
    bad.push((0x0301, good.clone()));
    bad.push((TLS12, encrypted(&keeper, "pkcs1", &[[3, 1].as_slice(), &[0x5a; 46]].concat())));
    bad.push((TLS12, encrypted(&keeper, "pkcs1", &[0x42; 47])));
    for (version, ciphertext) in bad {
        let answers = [0, 1].map(|_| decrypt(&front, key_id, version, &ciphertext).expect("a secret"));
        for answer in &answers {
            assert_eq!(answer.len(), PRE_MASTER);
            assert!(
                *answer != secret() && !answer.windows(8).any(|part| part == [0x77; 8] || part == [0; 8])
            );
        }
    }
    assert_eq!(decrypt(&front, key_id, TLS12, &good), Ok(secret()));
}

#[test]
fn finding_14_the_answer_to_a_bad_ciphertext_follows_from_key_version_and_ciphertext() {
    let keeper = granted(RSA, GRANTED);
    keeper.bench.identity("b", RSA);
    keeper.front("web", GRANTED, None);
    let names = ["a", "b"].map(|name| {
        keeper.load(name);
        (name, keeper.key_id(name))
    });
    keeper.commit();
    let front = keeper.connect("web");
    let good = encrypted(&keeper, "pkcs1", &secret());
    let short = encrypted(&keeper, "pkcs1", &[0x42; 47]);
    let foreign = encrypted(&keeper, "none", &[&[0, 2, 9, 9, 9, 0], [0x77; 250].as_slice()].concat());
    let ask = |(name, key_id): (&str, _), version, ciphertext: &[u8]| {
        decrypt_by(&front, name, key_id, version, ciphertext)
    };
    // A number below the modulus of either key.
    let below = [&[0][..], &[0x5a; 255]].concat();
    let questions = [
        (names[0], TLS12, &short),
        (names[0], TLS12, &below),
        (names[1], TLS12, &below),
        (names[0], TLS12, &foreign),
        (names[0], 0x0301, &short),
        (names[0], 0x0301, &good),
        (names[0], TLS12, &good),
    ];
    let mut answers = questions.map(|(name, version, ciphertext)| {
        let (first, second) = (ask(name, version, ciphertext), ask(name, version, ciphertext));
        assert_eq!(first, second, "asked twice, a bad ciphertext is as constant as a good one");
        let answer = first.expect("an answer");
        // A good secret begins so as well: the answer for a bad one must not be told by its first bytes.
        assert_eq!((answer.len(), &answer[..2]), (PRE_MASTER, version.to_be_bytes().as_slice()));
        answer
    });
    // The same request without bad padding gives what was sent.
    assert_eq!(answers[6], secret());
    // Another connection, and the same key as it was loaded again, answer the same.
    assert_eq!(decrypt(&keeper.connect("web"), names[0].1, TLS12, &short).as_ref(), Ok(&answers[0]));
    let again = granted_key(&keeper.bench.read("a.key"));
    assert_eq!(decrypt(&again.connect("web"), names[0].1, TLS12, &short).as_ref(), Ok(&answers[0]));
    answers.sort();
    assert!(
        answers.windows(2).all(|pair| pair[0][2..] != pair[1][2..]),
        "each question has an answer of its own"
    );
}

/// Another keeper with the same key.
fn granted_key(pem: &[u8]) -> Keeper {
    let keeper = Keeper::start(&["web"]);
    keeper.bench.write("a.key", pem);
    keeper.front("web", GRANTED, None);
    keeper.identity("a", [Some("a.key"), None, None, None]).loaded();
    keeper.commit();
    keeper
}

#[test]
fn it_is_off_unless_the_front_has_it() {
    {
        let keeper = granted(RSA, BOTH);
        let ciphertext = encrypted(&keeper, "pkcs1", &secret());
        let answer = decrypt(&keeper.connect("web"), keeper.key_id("a"), TLS12, &ciphertext);
        assert_eq!(answer, Err(Refusal::KeyExchange));
    }
}

#[test]
fn it_is_off_for_an_identity_that_was_not_named() {
    let keeper = granted(RSA, BOTH);
    let ciphertext = encrypted(&keeper, "pkcs1", &secret());
    keeper.front("web", BOTH, None);
    keeper.front("web", Rights { rsa_key_exchange: true, ..Rights::default() }, Some(&["b"]));
    keeper.load("a");
    keeper.commit();
    let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
    assert_eq!(decrypt(&front, key_id, TLS12, &ciphertext), Err(Refusal::KeyExchange));
    keeper.front("web", BOTH, None);
    keeper.front("web", Rights { rsa_key_exchange: true, ..Rights::default() }, Some(&["b", "a"]));
    keeper.load("a");
    keeper.commit();
    assert_eq!(decrypt(&front, key_id, TLS12, &ciphertext), Ok(secret()));
}

#[test]
fn a_key_that_is_not_rsa_decrypts_nothing() {
    let keeper = granted(P256, GRANTED);
    let answer = decrypt(&keeper.connect("web"), keeper.key_id("a"), TLS12, &[1; 256]);
    assert_eq!(answer, Err(Refusal::KeyExchange));
}

#[test]
fn what_is_no_ciphertext_of_the_key_is_refused() {
    let keeper = granted(RSA, GRANTED);
    let (front, key_id) = (keeper.connect("web"), keeper.key_id("a"));
    for length in [0, 1, 48, 255, 257, 512] {
        assert_eq!(decrypt(&front, key_id, TLS12, &vec![1; length]), Err(Refusal::NotHandshake), "{length}");
    }
    // No number below the modulus, which everybody can see.
    assert_eq!(decrypt(&front, key_id, TLS12, &[0xff; 256]), Err(Refusal::Failed));
    assert_eq!(decrypt(&front, [7; 32], TLS12, &[1; 256]), Err(Refusal::UnknownKey));
}
