//! Every supported key loads, in every form; everything else fails with a reason and a remedy.

mod kit;

use kit::{Bench, Keeper, Loaded, server_message};
use luassl_keeper_ipc::admin::{Blamed, Fault, Files};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const ED25519: &str = "-algorithm ED25519";

fn key_alone(keeper: &Keeper, file: &str) -> kit::Outcome {
    keeper.identity("a", [Some(file), None, None, None])
}

/// The only certificate of a PEM file, by the openssl command.
fn der(bench: &Bench, file: &str) -> Vec<u8> {
    bench.openssl(&format!("x509 -in {file} -outform DER -out {file}.der"));
    bench.read(&format!("{file}.der"))
}

fn refusal(keeper: &Keeper, file: &str) -> (Blamed, Fault, String) {
    key_alone(keeper, file).failed()
}

#[test]
fn every_kind_of_key_loads() {
    let keeper = Keeper::start(&[]);
    let kinds = [
        ("RSA 2048", RSA),
        ("RSA 3072", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072"),
        ("RSA 4096", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096"),
        ("P-256", P256),
        ("P-384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("P-521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
        ("Ed25519", ED25519),
        ("Ed448", "-algorithm ED448"),
    ];
    for (name, kind) in kinds {
        keeper.bench.identity("a", kind);
        let Loaded { generation, changed, key_type, chain } = keeper.load("a");
        assert_eq!((generation, changed, key_type.as_str()), (1, true, name));
        assert_eq!(chain, [der(&keeper.bench, "a.crt")]);
    }
}

#[test]
fn a_key_without_a_certificate_loads() {
    let keeper = Keeper::start(&[]);
    keeper.bench.identity("a", P256);
    assert!(key_alone(&keeper, "a.key").loaded().chain.is_empty());
}

#[test]
fn every_form_of_pem_loads() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    bench.identity("rsa", RSA);
    bench.openssl("rsa -in rsa.key -traditional -out pkcs1.key");
    bench.openssl("ecparam -name prime256v1 -genkey -out sec1.key");
    assert!(bench.read("sec1.key").starts_with(b"-----BEGIN EC PARAMETERS"));
    bench.write("text", "Bag Attributes\n  friendlyName: x\n");
    bench.join("mixed.key", &["text", "rsa.crt", "text", "pkcs1.key", "text"]);
    for (file, key_type) in [("pkcs1.key", "RSA 2048"), ("sec1.key", "P-256"), ("mixed.key", "RSA 2048")] {
        assert_eq!(key_alone(&keeper, file).loaded().key_type, key_type, "{file}");
    }
}

#[test]
fn the_chain_is_found_in_the_keys_file() {
    let keeper = Keeper::start(&[]);
    keeper.bench.identity("a", P256);
    keeper.bench.join("key-first.pem", &["a.key", "a.crt"]);
    keeper.bench.join("key-last.pem", &["a.crt", "a.key"]);
    for file in ["key-first.pem", "key-last.pem"] {
        let chain = key_alone(&keeper, file).loaded().chain;
        assert_eq!(chain, [der(&keeper.bench, "a.crt")], "{file}");
    }
}

#[test]
fn keys_that_nobody_takes_fail_with_the_remedy() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    let kinds = [
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "an RSA key of 1024 bits"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:4608", "an RSA key of 4608 bits"),
        ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "an RSA key restricted to PSS"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "the curve secp256k1"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", "a named curve"),
        ("-algorithm X25519", "this kind of key"),
    ];
    for (kind, what) in kinds {
        bench.openssl(&format!("genpkey {kind} -out a.key"));
        let (file, kind, reason) = refusal(&keeper, "a.key");
        assert_eq!((file, kind), (Blamed::Key, Fault::Unsupported));
        assert!(reason.contains(what) && reason.contains("use an RSA key of 2048"), "{reason}");
    }
    bench.openssl("dsaparam -genkey -noout -out dsa.key 1024");
    let (_, kind, reason) = refusal(&keeper, "dsa.key");
    assert!(kind == Fault::Unsupported && reason.contains("DSA is not supported"), "{reason}");
}

#[test]
fn files_without_a_private_key_say_what_they_are() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    bench.identity("a", P256);
    bench.openssl("pkey -in a.key -outform DER -out der");
    bench.openssl("pkey -in a.key -pubout -out public");
    bench.write("empty", "");
    bench.write("cut", &bench.read("a.key")[..100]);
    bench.write("openssh", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n");
    bench.write("garbage", "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n");
    let expected = [
        ("a.crt", Fault::NoKey, "only certificates"),
        ("der", Fault::NoKey, "-inform DER"),
        ("public", Fault::NoKey, "no private key in PEM"),
        ("empty", Fault::NoKey, "it is empty"),
        ("cut", Fault::NoKey, "cannot be read"),
        ("garbage", Fault::NoKey, "cannot be read"),
        ("openssh", Fault::Unsupported, "OpenSSH"),
    ];
    for (name, fault, text) in expected {
        let (file, kind, reason) = refusal(&keeper, name);
        assert_eq!((file, kind), (Blamed::Key, fault), "{name}: {reason}");
        assert!(reason.contains(text), "{name}: {reason}");
    }
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_file() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    bench.identity("a", RSA);
    bench.openssl("pkey -in a.key -aes256 -passout pass:secret -out pkcs8.key");
    bench.openssl("rsa -in a.key -traditional -aes128 -passout pass:secret -out pkcs1.key");
    let passphrases = [("plain", "secret"), ("line", "secret\n"), ("dos", "secret\r\n")];
    for (name, content) in passphrases {
        bench.write(name, content);
    }
    bench.write("wrong", "secrets\n");
    bench.write("none", "");
    for key in ["pkcs8.key", "pkcs1.key"] {
        for (name, _) in passphrases {
            let loaded = keeper.identity("a", [Some(key), None, Some(name), None]).loaded();
            assert_eq!(loaded.key_type, "RSA 2048");
        }
        let (file, kind, reason) = refusal(&keeper, key);
        assert_eq!((file, kind), (Blamed::Key, Fault::Passphrase), "{key}: {reason}");
        assert!(reason.contains("needs a passphrase") && reason.contains("password_file"), "{reason}");
        for name in ["wrong", "none"] {
            let (file, kind, reason) = keeper.identity("a", [Some(key), None, Some(name), None]).failed();
            assert_eq!((file, kind), (Blamed::Password, Fault::Passphrase), "{key}, {name}: {reason}");
        }
    }
}

/// An element with the shortest length.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    match (high, low) {
        (0, 0..0x80) => [&[tag, low], content].concat(),
        (0, _) => [&[tag, 0x81, low], content].concat(),
        _ => [&[tag, 0x82, high, low], content].concat(),
    }
}

/// A DSA key of 128,000 bits.
fn costly_dsa() -> Vec<u8> {
    let integer = element(2, &[&[0x7f; 15_999][..], &[0x7b]].concat());
    let parameters = element(0x30, &[&integer[..], &integer, &element(2, &[2])].concat());
    let algorithm = element(0x30, &[element(6, b"\x2a\x86\x48\xce\x38\x04\x01"), parameters].concat());
    element(0x30, &[element(2, &[0]), algorithm, element(4, &integer)].concat())
}

#[test]
fn a_costly_key_is_refused_before_it_is_decoded_dsa() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    for label in ["PRIVATE KEY", "DSA PRIVATE KEY"] {
        bench.pem("a.key", label, &costly_dsa());
        let (_, kind, reason) = refusal(&keeper, "a.key");
        assert!(kind == Fault::Unsupported && reason.contains("DSA is not supported"), "{reason}");
    }
    // Only the first key is looked at, and nothing else of the file is decoded.
    bench.pem("costly", "PRIVATE KEY", &costly_dsa());
    bench.identity("b", P256);
    bench.join("both", &["b.key", "costly"]);
    assert_eq!(key_alone(&keeper, "both").loaded().key_type, "P-256");
    bench.pem("hollow", "PRIVATE KEY", b"\x30\x00");
    bench.join("both", &["hollow", "costly"]);
    let (_, kind, reason) = refusal(&keeper, "both");
    assert!(kind == Fault::NoKey && reason.contains("its encoding is invalid"), "{reason}");
}

#[test]
fn a_costly_key_is_refused_before_it_is_decoded_rsa() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    let (short, long) = (element(2, &[5]), element(2, &[0x7f; 16_000]));
    for (position, what) in [(0, "an RSA key of 127999 bits"), (2, "an RSA key with a number of 127999 bits")]
    {
        let integers = (0..8).map(|index| if index == position { &long[..] } else { &short });
        let key = element(
            0x30,
            &std::iter::once(&element(2, &[0])[..]).chain(integers).collect::<Vec<_>>().concat(),
        );
        bench.pem("pkcs1", "RSA PRIVATE KEY", &key);
        let algorithm = element(0x30, b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00");
        let info = element(0x30, &[element(2, &[0]), algorithm, element(4, &key)].concat());
        bench.pem("pkcs8", "PRIVATE KEY", &info);
        for file in ["pkcs1", "pkcs8"] {
            let (_, kind, reason) = refusal(&keeper, file);
            assert!(kind == Fault::Unsupported && reason.contains(what), "{file}: {reason}");
        }
    }
}

/// Makes 70000 iterations 0x7fffffff. The salt before them gives the byte that the number needs, so all lengths stay.
fn raise_count(key: &mut [u8]) {
    let position = key.windows(5).position(|part| part == [2, 3, 1, 0x11, 0x70]).expect("the count");
    let salted =
        |len: &usize| key[position - len - 2..position - len] == [4, u8::try_from(*len).expect("short")];
    let salt = [8, 16].into_iter().find(salted).expect("the salt");
    key[position - salt - 1] -= 1;
    key[position - 1..position + 5].copy_from_slice(&[2, 4, 0x7f, 0xff, 0xff, 0xff]);
}

#[test]
fn a_costly_key_is_refused_before_it_is_decoded_encrypted() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    bench.identity("a", P256);
    bench.write("secret", "secret");
    let load = |file| keeper.identity("a", [Some(file), None, Some("secret"), None]);
    let encrypt = |options: &str, input: &str| {
        let of = "-passout pass:secret -outform DER -out encrypted.der";
        bench.openssl(&format!("pkcs8 -topk8 -in {input} {options} {of}"));
        bench.read("encrypted.der")
    };
    for options in ["-v2 aes256", "-v1 PBE-SHA1-3DES"] {
        let mut key = encrypt(&format!("{options} -iter 70000"), "a.key");
        raise_count(&mut key);
        bench.pem("costly", "ENCRYPTED PRIVATE KEY", &key);
        let (_, kind, reason) = load("costly").failed();
        assert!(kind == Fault::Unsupported && reason.contains("10000000 iterations"), "{options}: {reason}");
    }
    // Controls: the same with usual counts, and scrypt.
    for options in ["-v2 aes256", "-v2 aes256 -iter 70000", "-v1 PBE-SHA1-3DES", "-scrypt"] {
        bench.pem("good", "ENCRYPTED PRIVATE KEY", &encrypt(options, "a.key"));
        assert_eq!(load("good").loaded().key_type, "P-256", "{options}");
    }
    let mut long = b"\x30\x82\x75\x55\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x03\x30\x0d\x04\x08saltsalt\x02\x01\x01".to_vec();
    long.extend(element(4, &[0x5a; 30_005]));
    bench.pem("long", "ENCRYPTED PRIVATE KEY", &long);
    let (_, kind, reason) = load("long").failed();
    assert!(kind == Fault::Unsupported && reason.contains("more than 16384 bytes"), "{reason}");
    // What is inside is looked at as well.
    bench.openssl("dsaparam -genkey -noout -out dsa.key 1024");
    bench.pem("inside", "ENCRYPTED PRIVATE KEY", &encrypt("-v2 aes256", "dsa.key"));
    let (_, kind, reason) = load("inside").failed();
    assert!(kind == Fault::Unsupported && reason.contains("DSA is not supported"), "{reason}");
}

#[test]
fn a_key_and_a_certificate_of_another_do_not_match() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    bench.identity("a", P256);
    bench.identity("b", P256);
    let (file, kind, reason) = keeper.identity("a", [Some("a.key"), Some("b.crt"), None, None]).failed();
    assert_eq!((file, kind), (Blamed::Certificate, Fault::Mismatch), "{reason}");
    bench.join("both.pem", &["a.key", "b.crt"]);
    assert_eq!(key_alone(&keeper, "both.pem").failed().1, Fault::Mismatch);
    let (file, kind, _) = keeper.identity("a", [Some("a.key"), Some("b.key"), None, None]).failed();
    assert_eq!((file, kind), (Blamed::Certificate, Fault::BadCertificate));
    bench.write("bad.crt", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    let (file, kind, _) = keeper.identity("a", [Some("a.key"), Some("bad.crt"), None, None]).failed();
    assert_eq!((file, kind), (Blamed::Certificate, Fault::BadCertificate));
}

#[test]
fn a_key_whose_halves_differ_is_damaged() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    // SEC1: SEQUENCE, version, 32 bytes of private key from offset 7.
    bench.openssl("ecparam -name prime256v1 -genkey -noout -outform DER -out good.der");
    let mut key = bench.read("good.der");
    key[20] ^= 1;
    bench.write("bad.der", key);
    bench.openssl("base64 -in bad.der -out bad.b64");
    let body = String::from_utf8(bench.read("bad.b64")).expect("base64");
    bench.write("bad.key", format!("-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n"));
    let (_, kind, reason) = refusal(&keeper, "bad.key");
    assert!(matches!(kind, Fault::Mismatch | Fault::NoKey), "{reason}");
}

/// root.crt, then middle.crt, then leaf.crt for leaf.key, each signed by the one before.
fn authority(bench: &Bench) {
    bench.identity("root", P256);
    issue(bench, "middle", "root", "basicConstraints=critical,CA:true\nsubjectKeyIdentifier=hash\n");
    let position =
        "authorityInfoAccess=caIssuers;URI:http://example.invalid/issuer\nsubjectAltName=DNS:leaf.example\n";
    issue(bench, "leaf", "middle", position);
}

fn issue(bench: &Bench, name: &str, issuer: &str, extensions: &str) {
    bench.openssl(&format!("genpkey {P256} -out {name}.key"));
    bench.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
    bench.write("extensions", extensions);
    bench.openssl(&format!(
        "x509 -req -in {name}.csr -CA {issuer}.crt -CAkey {issuer}.key -days 100 -extfile extensions -out {name}.crt"
    ));
}

#[test]
fn the_certificate_with_the_key_comes_first_and_the_others_as_they_are() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    authority(bench);
    bench.identity("stranger", ED25519);
    for files in [
        &["leaf.crt", "middle.crt"][..],
        &["root.crt", "middle.crt", "leaf.crt"],
        &["leaf.crt", "root.crt", "middle.crt"],
        &["stranger.crt", "leaf.crt", "middle.crt"],
    ] {
        bench.join("chain", files);
        let chain = keeper.identity("a", [Some("leaf.key"), Some("chain"), None, None]).loaded().chain;
        let others = files.iter().copied().filter(|file| *file != "leaf.crt");
        let expected: Vec<_> =
            std::iter::once("leaf.crt").chain(others).map(|file| der(bench, file)).collect();
        assert_eq!(chain, expected, "{files:?}");
    }
}

#[test]
fn finding_17_the_keeper_parses_no_certificate() {
    let keeper = Keeper::start(&["web"]);
    let bench = &keeper.bench;
    bench.identity("a", P256);
    let certificate = bench.garbage("a", "garbage.crt");
    let loaded = keeper.identity("a", [Some("a.key"), Some("garbage.crt"), None, None]).loaded();
    assert_eq!(loaded.chain, [certificate]);
    // Control: a good one is handed out the same way, and one with another key in it is not.
    assert_eq!(keeper.load("a").chain, [der(bench, "a.crt")]);
    bench.identity("b", P256);
    let (file, kind, reason) =
        keeper.identity("b", [Some("b.key"), Some("garbage.crt"), None, None]).failed();
    assert_eq!((file, kind), (Blamed::Certificate, Fault::Mismatch), "{reason}");
}

#[test]
fn finding_17_a_key_that_is_called_a_certificate_is_not_handed_out() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    bench.identity("a", P256);
    bench.identity("rsa", RSA);
    bench.openssl("pkey -in a.key -outform DER -out pkcs8");
    bench.openssl("ec -in a.key -outform DER -out sec1");
    bench.openssl("rsa -in rsa.key -traditional -outform DER -out pkcs1");
    bench.openssl("pkcs8 -topk8 -in a.key -passout pass:secret -outform DER -out encrypted");
    bench.openssl("pkcs12 -export -inkey a.key -in a.crt -passout pass:secret -out pkcs12");
    for form in ["pkcs8", "sec1", "pkcs1", "encrypted", "pkcs12"] {
        for label in ["CERTIFICATE", "X509 CERTIFICATE"] {
            bench.pem("disguised", label, &bench.read(form));
            bench.join("both", &["a.crt", "disguised"]);
            let (file, kind, reason) =
                keeper.identity("a", [Some("a.key"), Some("both"), None, None]).failed();
            assert_eq!((file, kind), (Blamed::Certificate, Fault::BadCertificate), "{form}: {reason}");
            assert!(reason.contains("its encoding is invalid"), "{form}: {reason}");
        }
    }
}

/// libcrypto's functions that read certificates, extensions and names are neither declared nor called.
#[test]
fn finding_17_the_keepers_sources_name_no_parser_of_certificates() {
    let mut files = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(path).expect("a directory").map(|entry| entry.expect("read").path()),
            );
            continue;
        }
        // Frees an EncryptedPrivateKeyInfo, which libcrypto calls so; it is no part of a certificate.
        let text = std::fs::read_to_string(&path).expect("a source").replace("X509_SIG_free", "");
        for parser in
            ["X509_", "d2i_", "PEM_read_bio_X509", "GENERAL_NAME", "ASN1_", "OCSP_", "PKCS7_", "PKCS12_"]
        {
            assert!(!text.contains(parser), "{} names {parser}", path.display());
        }
        sources += 1;
    }
    assert!(sources > 20, "{sources}");
}

#[test]
fn what_is_no_regular_file_is_not_waited_for() {
    let keeper = Keeper::start(&["web"]);
    keeper.bench.identity("a", P256);
    let fifo = keeper.bench.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .expect("fifo");
    // Both ends in one descriptor: reading it would wait for ever.
    let fifo = rustix::fs::open(&fifo, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect("opened");
    let directory = keeper.bench.open(".");
    let (socket, _other) = kit::pair();
    let device: OwnedFd = std::fs::File::open("/dev/zero").expect("opened").into();
    for descriptor in [fifo, directory, socket, device] {
        let key = keeper.bench.open("a.key");
        let files = Files { key: true, certificate: true, ..Files::default() };
        let (file, kind, reason) = keeper.pass("a", files, &[key, descriptor]).failed();
        assert_eq!((file, kind), (Blamed::Certificate, Fault::Unreadable));
        assert!(reason.contains("not a regular file"), "{reason}");
    }
}

#[test]
fn long_files_and_unreadable_ones_are_refused() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    bench.identity("a", P256);
    bench.write("long", vec![b'\n'; (256 << 10) + 1]);
    let (file, kind, reason) = refusal(&keeper, "long");
    assert_eq!((file, kind), (Blamed::Key, Fault::Unreadable));
    assert!(reason.contains("more than 262144 bytes"), "{reason}");
    bench.write("longest", [bench.read("a.key"), vec![b'\n'; 255 << 10]].concat());
    key_alone(&keeper, "longest").loaded();
    let write_only = std::fs::File::options().write(true).open(bench.path("a.key")).expect("opened");
    let files = Files { key: true, ..Files::default() };
    let (file, kind, _) = keeper.pass("a", files, &[write_only.into()]).failed();
    assert_eq!((file, kind), (Blamed::Key, Fault::Unreadable));
}

#[test]
fn a_descriptor_is_read_from_its_start_wherever_it_stands() {
    let keeper = Keeper::start(&[]);
    keeper.bench.identity("a", P256);
    let mut file = std::fs::File::open(keeper.bench.path("a.key")).expect("opened");
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).expect("seek");
    let files = Files { key: true, ..Files::default() };
    keeper.pass("a", files, &[file.into()]).loaded();
}

#[test]
fn descriptors_that_do_not_fit_the_request_are_refused() {
    let keeper = Keeper::start(&[]);
    keeper.bench.identity("a", P256);
    let key = || keeper.bench.open("a.key");
    let two = Files { key: true, certificate: true, ..Files::default() };
    let without_key = Files { certificate: true, ..Files::default() };
    for (files, descriptors) in [(two, vec![key()]), (without_key, vec![key()]), (Files::default(), vec![])] {
        let (file, kind, _) = keeper.pass("a", files, &descriptors).failed();
        assert_eq!((file, kind), (Blamed::None, Fault::Internal));
    }
    key_alone(&keeper, "a.key").loaded();
}

#[test]
fn a_staple_is_an_ocsp_response_or_refused() {
    let keeper = Keeper::start(&["web"]);
    let bench = &keeper.bench;
    authority(bench);
    bench.write("index", "V\t301231000000Z\t\t01\tunknown\t/CN=leaf\n");
    bench.openssl("ocsp -issuer middle.crt -cert leaf.crt -no_nonce -reqout request");
    bench.openssl(
        "ocsp -index index -rsigner middle.crt -rkey middle.key -CA middle.crt -reqin request -respout staple -ndays 7",
    );
    bench.write("bad", "no response");
    bench.join("more", &["staple", "bad"]);
    // SEQUENCE { ENUMERATED tryLater }
    bench.write("later", [0x30, 0x03, 0x0a, 0x01, 0x03]);
    let with = |staple| keeper.identity("a", [Some("leaf.key"), Some("leaf.crt"), None, Some(staple)]);
    for name in ["bad", "more", "later", "leaf.key"] {
        let (file, kind, reason) = with(name).failed();
        assert_eq!((file, kind), (Blamed::Staple, Fault::BadStaple), "{name}: {reason}");
    }
    with("staple").loaded();
    keeper.front("web", kit::BOTH, None);
    keeper.commit();
    let front = keeper.connect("web");
    front.subscribe();
    let answer = front.next();
    let answer = luassl_keeper_ipc::front::Answer::decode(&answer).expect("an answer");
    let luassl_keeper_ipc::front::Answer::Identity(identity) = answer else { panic!("{answer:?}") };
    assert_eq!(identity.staple, bench.read("staple"));
}

#[test]
fn a_chain_beyond_the_bound_is_refused() {
    let keeper = Keeper::start(&[]);
    let bench = &keeper.bench;
    bench.identity("a", P256);
    let of = |count: usize| {
        bench.join("many", &vec!["a.crt"; count]);
        keeper.identity("a", [Some("a.key"), Some("many"), None, None])
    };
    assert_eq!(of(16).loaded().chain.len(), 16);
    let (_, kind, reason) = of(17).failed();
    assert!(kind == Fault::Limit && reason.contains("the chain has 17 certificates"), "{reason}");
    let (_, kind, reason) = of(65).failed();
    assert!(kind == Fault::BadCertificate && reason.contains("more than 64"), "{reason}");
    let names: Vec<_> =
        (0..2000).map(|n| format!("DNS:{n}.a-long-name-that-fills-certificates.example")).collect();
    bench.write("ext", format!("subjectAltName={}", names.join(",")));
    bench.openssl("req -new -key a.key -subj /CN=a -out a.csr");
    bench.openssl("x509 -req -in a.csr -signkey a.key -extfile ext -out a.crt");
    let (_, kind, reason) = keeper.identity("a", [Some("a.key"), Some("a.crt"), None, None]).failed();
    assert_eq!(kind, Fault::Limit, "{reason}");
    // An answer to the supervisor has room for the longest chain.
    bench.write("ext", format!("subjectAltName={}", names[..1280].join(",")));
    bench.openssl("x509 -req -in a.csr -signkey a.key -extfile ext -out a.crt");
    let chain = keeper.load("a").chain.concat();
    assert!((60 << 10..64 << 10).contains(&chain.len()), "{}", chain.len());
}

#[test]
fn a_failed_identity_does_not_fail_the_others() {
    let keeper = Keeper::start(&["web"]);
    keeper.bench.identity("a", P256);
    keeper.bench.write("empty", "");
    keeper.front("web", kit::BOTH, None);
    keeper.identity("bad", [Some("empty"), None, None, None]).failed();
    keeper.load("a");
    keeper.commit();
    let front = keeper.connect("web");
    let key_id = keeper.key_id("a");
    assert!(front.sign("a", key_id, 0x0403, &server_message()).is_ok());
}
