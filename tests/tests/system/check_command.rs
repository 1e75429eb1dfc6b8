//! `luassld check` says what is wrong, where, why, and how to mend it.

use luassl_tests::daemon::fill_in;
use luassl_tests::pki::{self, Leaf};
use luassl_tests::process::Process;
use luassl_tests::{built, repository, scratch};
use std::process::Command;
use tempfile::TempDir;

/// The exit code of `luassld check` over a configuration, and everything that it said.
fn check(config: &str, directory: &TempDir) -> (i32, String) {
    let path = directory.path().join("luassl.toml");
    // Identities that nobody may use are a finding of their own.
    let has_grants = config.contains("[[grant]]") || !config.contains("[identity.");
    let grant = if has_grants { "" } else { "\n[[grant]]\nuser = UID\nidentities = ['*']\n" };
    std::fs::write(&path, fill_in(&format!("{config}{grant}"), directory.path())).expect("a configuration");
    let mut process =
        Process::start(Command::new(built("bin/luassld")).arg("check").arg("--config").arg(path));
    let code = process.wait().code().unwrap_or(-1);
    (code, process.output() + &process.errors())
}

/// An error at `line`, with these words in its cause and a hint.
fn is_an_error(config: &str, line: usize, words: &[&str]) {
    is_an_error_in(&scratch(), config, line, words);
}

fn is_an_error_in(directory: &TempDir, config: &str, line: usize, words: &[&str]) {
    let (code, said) = check(config, directory);
    assert_eq!(code, 2, "{said}");
    let place = format!("luassl.toml:{line}");
    let message =
        said.lines().find(|text| text.contains(&place)).unwrap_or_else(|| panic!("no {place} in: {said}"));
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {said}");
    }
    assert!(said.lines().any(|text| text.starts_with("hint: ")), "{said}");
}

#[test]
fn a_good_configuration_is_clean() {
    let config = "[identity.site]\nkey = 'PKI/bare/server-p256.key'\ncertificate = 'PKI/bare/server-p256.crt'\n\
                  [trust.own]\nfile = 'PKI/keys/rootcert.pem'\n[[grant]]\nuser = UID\nidentities = ['site']\n\
                  roles = ['server']\n";
    let (code, said) = check(config, &scratch());
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_misspelt_key_is_answered_with_the_nearest_one() {
    is_an_error("[identity.site]\nkey = 'PKI/bare/server-p256.key'\ncertifcate = 'x'\n", 3, &["certifcate"]);
}

#[test]
fn a_key_of_another_certificate_is_found() {
    let config = "[control]\n\n[identity.site]\nkey = 'PKI/bare/server-p256.key'\n\
                  certificate = 'PKI/bare/server-p384.crt'\n";
    is_an_error(config, 3, &["site", "match"]);
}

#[test]
fn a_missing_file_is_named() {
    is_an_error("[identity.site]\nkey = 'DIR/no-such.key'\n", 2, &["no-such.key"]);
}

#[test]
fn a_grant_of_an_unknown_identity_is_found() {
    let config =
        "[identity.site]\nkey = 'PKI/keys/server.pem'\n[[grant]]\nuser = UID\nidentities = ['sight']\n";
    is_an_error(config, 5, &["sight"]);
}

#[test]
fn an_encrypted_key_without_a_passphrase_is_found() {
    let directory = scratch();
    encrypt(&directory);
    is_an_error_in(&directory, "[identity.site]\nkey = 'DIR/locked.key'\n", 1, &["pass"]);
}

#[test]
fn an_encrypted_key_with_its_passphrase_is_loaded() {
    let directory = scratch();
    encrypt(&directory);
    std::fs::write(directory.path().join("password"), "secret\n").expect("a file");
    let (code, said) =
        check("[identity.site]\nkey = 'DIR/locked.key'\npassword_file = 'DIR/password'\n", &directory);
    assert_eq!(code, 0, "{said}");
}

fn encrypt(directory: &TempDir) {
    let mut command = Command::new("openssl");
    command
        .args(["pkey", "-aes256", "-passout", "pass:secret", "-in"])
        .arg(pki::file("bare/server-p256.key"));
    command.arg("-out").arg(directory.path().join("locked.key"));
    Process::start(&mut command).finish();
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let directory = scratch();
    let expired =
        pki::issue(&Leaf { from_days: -30, to_days: -1, ..Leaf::default() }, Some(&pki::issuer("root")));
    std::fs::write(directory.path().join("old.pem"), expired.pem()).expect("a file");
    let (code, said) = check("[identity.site]\nkey = 'DIR/old.pem'\n", &directory);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("expired"), "{said}");
}

#[test]
fn one_bad_identity_does_not_hide_another() {
    let config = "[identity.a]\nkey = 'DIR/a.key'\n[identity.b]\nkey = 'DIR/b.key'\n";
    let (code, said) = check(config, &scratch());
    assert_eq!(code, 2);
    assert!(said.contains("a.key") && said.contains("b.key"), "{said}");
}

#[test]
fn the_samples_of_the_documents_are_clean_once_their_files_are_there() {
    let samples = samples();
    assert!(samples.len() > 4, "{}", samples.len());
    for (name, sample) in samples {
        let directory = scratch();
        let (code, said) = check(&with_files(&sample, &directory), &directory);
        assert_eq!(code, 0, "{name}: {said}");
    }
}

/// A sample whose files, directories and users are there: each key is one of the PKI's, with its certificate.
fn with_files(sample: &str, directory: &TempDir) -> String {
    let at = |name: String| directory.path().join(name);
    std::fs::create_dir(at("empty".to_owned())).expect("a directory");
    let mut keys = 0;
    let mut given = |line: &str| {
        let (name, _) = line.split_once(" = \"/")?;
        let path = match (name.trim(), keys) {
            ("key", _) => {
                keys += 1;
                std::fs::copy(pki::file("keys/server.pem"), at(format!("{keys}.pem"))).expect("a key");
                at(format!("{keys}.pem"))
            }
            ("certificate", 1..) => at(format!("{keys}.pem")),
            ("root", _) => {
                // With the mode of a key.
                std::fs::copy(pki::file("keys/server.pem"), at("root".to_owned())).expect("a root");
                std::fs::write(at("root".to_owned()), [7; 48]).expect("a root");
                at("root".to_owned())
            }
            ("file", _) => pki::file("keys/rootcert.pem"),
            ("crl", _) => {
                let revoked = pki::issue(&Leaf::default(), Some(&pki::issuer("root")));
                let list = pki::revocation_list("root", &revoked.certificate);
                std::fs::write(at("crl".to_owned()), list).expect("a list");
                at("crl".to_owned())
            }
            ("directory", _) => at("empty".to_owned()),
            _ => return None,
        };
        Some(format!("{name} = \"{}\"", path.display()))
    };
    let lines: Vec<_> = sample.lines().map(|line| given(line).unwrap_or_else(|| line.to_owned())).collect();
    lines.join("\n").replace("user = \"prosody\"", "user = \"nobody\"")
}

/// `systemd/luassl.toml` and every ```toml block of the documents.
fn samples() -> Vec<(String, String)> {
    let root = repository();
    let mut found = Vec::new();
    let default = root.join("systemd/luassl.toml");
    found.push((
        default.display().to_string(),
        std::fs::read_to_string(&default).expect("systemd/luassl.toml"),
    ));
    let mut documents = vec![root.join("README.md")];
    documents.extend(
        std::fs::read_dir(root.join("docs")).into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    for document in documents.into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(&document).unwrap_or_default();
        for block in text.split("```toml\n").skip(1) {
            let sample = block.split("\n```").next().unwrap_or_default();
            found.push((document.display().to_string(), sample.to_owned()));
        }
    }
    found
}
