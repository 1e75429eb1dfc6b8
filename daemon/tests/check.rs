//! `luassld check` says what is wrong, where, why, and how to mend it.

mod common;

use common::{damage, luassld, pair, shell};
use std::path::Path;
use std::process::Command;

/// Runs check over `text` in `directory`: its exit code, and its lines with the directory left out.
fn check(directory: &Path, text: &str) -> (i32, String) {
    // Identities that nobody may use are a finding of their own.
    let grant = if text.contains("[[grant]]") { "" } else { "\n[[grant]]\nuser = 0\nidentities = ['*']\n" };
    std::fs::write(directory.join("luassl.toml"), format!("{text}{grant}")).expect("written");
    let output = Command::new(luassld())
        .args(["check", "--config", "luassl.toml"])
        .current_dir(directory)
        .output()
        .expect("luassld runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let said = String::from_utf8_lossy(&output.stdout).replace(&directory.display().to_string(), "DIR");
    (output.status.code().expect("no signal"), said)
}

fn expect(script: &str, text: &str, code: i32, said: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), script);
    assert_eq!(check(directory.path(), text), (code, said.to_owned()), "for\n{text}");
}

#[test]
fn nothing_wrong_is_said_and_exits_0() {
    let text = "[identity.a]\nkey='a.key'\ncertificate='a.crt'\n[trust.t]\nfile='a.crt'\n\
                [[grant]]\nuser='root'\nidentities=['a']\n";
    expect(&pair("a", 100), text, 0, "1 identities, 0 errors, 0 warnings\n");
}

/// SEQUENCE { ENUMERATED successful, [0] {} and zeros }: the first bytes are right, and nothing else is.
const STAPLE: &str = "{ printf '\\060\\201\\314\\012\\001\\000\\240'; head -c 200 /dev/zero; } >a.ocsp\n";

#[test]
fn finding_17_a_staple_that_fronts_cannot_parse_is_no_fault_of_the_keepers_and_is_told() {
    let text = "[identity.a]\nkey='a.key'\ncertificate='a.crt'\nstaple='a.ocsp'\n";
    let said = "warning: luassl.toml:4: identity `a`: the staple cannot be parsed and is ignored\n\
                hint: name an OCSP response in DER\n1 identities, 0 errors, 1 warnings\n";
    expect(&format!("{}{STAPLE}", pair("a", 100)), text, 1, said);
}

#[test]
fn finding_17_a_certificate_that_the_supervisor_cannot_parse_is_found() {
    let text = "[identity.a]\nkey='a.key'\ncertificate='a.crt'\n";
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), &(pair("a", 100) + &damage("a")));
    let (code, said) = check(directory.path(), text);
    assert_eq!(code, 2, "{said}");
    let cause = "error: luassl.toml:3: identity `a`: a certificate in the file cannot be read: ";
    assert!(said.starts_with(cause), "{said}");
    let hint = "\nhint: name a PEM file with the certificate first and its issuers after it\n\
                0 identities, 1 errors, 0 warnings\n";
    assert!(said.ends_with(hint), "{said}");
    // Positive control: the same pair, undamaged.
    expect(&pair("a", 100), text, 0, "1 identities, 0 errors, 0 warnings\n");
}

#[test]
fn a_missing_key_file_is_named() {
    let text = "\n[identity.a]\nkey = '/no/such.key'\n";
    let said = "error: luassl.toml:3: identity `a`: key /no/such.key cannot be opened: No such file or directory \
                (os error 2)\nhint: check the path, and that luassl's supervisor can read it\n\
                0 identities, 1 errors, 0 warnings\n";
    expect("", text, 2, said);
}

#[test]
fn a_key_of_another_certificate_is_found() {
    let text = "[identity.a]\nkey = 'a.key'\ncertificate = 'b.crt'\n";
    let said = "error: luassl.toml:1: identity `a`: key and certificate do not match: no certificate in the file \
                belongs to the private key\n\
                hint: name the certificate that was issued for this key, or the key that belongs to it\n\
                0 identities, 1 errors, 0 warnings\n";
    expect(&(pair("a", 100) + &pair("b", 100)), text, 2, said);
}

#[test]
fn an_encrypted_key_without_its_passphrase_is_found() {
    let script =
        pair("a", 100) + "openssl pkey -in a.key -aes256 -passout pass:x -out b.key; chmod 600 b.key";
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), &script);
    let (code, said) = check(directory.path(), "[identity.a]\nkey = 'b.key'\ncertificate = 'a.crt'\n");
    assert_eq!(code, 2);
    assert!(said.starts_with("error: luassl.toml:1: identity `a`: "), "{said}");
    assert!(said.contains("\nhint: set `password_file` to the file with its passphrase\n"), "{said}");
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let script =
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout a.key -out r.crt \
                  -subj /CN=a 2>/dev/null; chmod 600 a.key; touch index; echo 01 > serial
                  printf '[ca]\ndefault_ca=c\n[c]\ndatabase=index\nserial=serial\nnew_certs_dir=.\npolicy=p\n\
                  default_md=sha256\n[p]\ncommonName=supplied\n' > ca.cnf
                  openssl req -new -key a.key -subj /CN=a -out a.csr
                  openssl ca -config ca.cnf -batch -selfsign -keyfile a.key -in a.csr -out a.crt -notext \
                  -startdate 20200101000000Z -enddate 20200201000000Z 2>/dev/null";
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), script);
    let (code, said) = check(directory.path(), "[identity.a]\nkey = 'a.key'\ncertificate = 'a.crt'\n");
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("warning: luassl.toml:3: identity `a`: the certificate expired "), "{said}");
    assert!(said.contains("\nhint: renew it\n"), "{said}");
}

#[test]
fn an_incomplete_chain_is_a_warning() {
    let script = pair("ca", 100)
        + "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout a.key -out a.csr -subj /CN=a \
           2>/dev/null; chmod 600 a.key
           echo 'authorityInfoAccess = caIssuers;URI:http://ca.invalid/ca.crt' > ext
           openssl x509 -req -in a.csr -CA ca.crt -CAkey ca.key -extfile ext -days 90 -out a.crt 2>/dev/null";
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), &script);
    let (code, said) = check(directory.path(), "[identity.a]\nkey = 'a.key'\ncertificate = 'a.crt'\n");
    assert_eq!(code, 1, "{said}");
    assert!(
        said.starts_with("warning: luassl.toml:3: identity `a`: the chain is incomplete\nhint: "),
        "{said}"
    );
}

#[test]
fn a_key_that_everybody_can_read_is_a_warning() {
    let text = "[identity.a]\nkey = 'a.key'\ncertificate = 'a.crt'\n";
    let said = "warning: luassl.toml:2: identity `a`: every user can read its key (mode 0644)\n\
                hint: chmod o-rwx DIR/a.key\n1 identities, 0 errors, 1 warnings\n";
    expect(&(pair("a", 100) + "chmod 644 a.key"), text, 1, said);
}

#[test]
fn every_mistake_of_the_configuration_is_named_in_order() {
    let text = "[[grant]]\nuser = 'no-such-user'\nidentities = ['web']\n[control]\nmode = 'x'\n";
    let said = "error: luassl.toml:2: unknown user `no-such-user`\n\
                hint: name a user that `getent passwd` knows, or give its number\n\
                error: luassl.toml:3: unknown identity `web`\nhint: declare [identity.web]\n\
                error: luassl.toml:5: invalid file mode\nhint: write it in octal, such as \"0660\"\n\
                0 identities, 3 errors, 0 warnings\n";
    expect("", text, 2, said);
}

#[test]
fn an_error_of_the_configuration_hides_none_of_the_files() {
    let text = "[log]\nlevle = 'info'\n[identity.a]\nkey = '/no/such.key'\n[trust.t]\nfile = '/no/such.pem'\n\
                [identity.b]\nkey = 'b.key'\ncertificate = 'a.crt'\n[control]\nmode = 'x'\n";
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), &(pair("a", 100) + &pair("b", 100)));
    let (code, said) = check(directory.path(), text);
    assert_eq!(code, 2);
    let causes = [
        "2: unknown key `levle`",
        "4: identity `a`: key /no/such.key cannot be opened",
        "5: trust `t`",
        "7: identity `b`: key and certificate do not match",
        "11: invalid file mode",
    ];
    for cause in causes {
        assert!(said.contains(&format!("error: luassl.toml:{cause}")), "no {cause:?} in {said}");
    }
    assert!(said.ends_with("0 identities, 5 errors, 0 warnings\n"), "{said}");
}

#[test]
fn an_identity_that_no_grant_names_is_a_warning() {
    let text = "[identity.a]\nkey = 'a.key'\ncertificate = 'a.crt'\n[[grant]]\nuser = 0\n";
    let said = "warning: luassl.toml:1: no grant lists identity `a`, so nothing can use it\n\
                hint: add it to `identities` of a [[grant]], or remove it\n1 identities, 0 errors, 1 warnings\n";
    expect(&pair("a", 100), text, 1, said);
}

#[test]
fn a_trust_without_certificates_is_found() {
    let text = "[trust.t]\nfile = 'empty'\n[trust.u]\nfile = 'bad'\n";
    let script = "echo nothing > empty; printf -- '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' > bad";
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), script);
    let (code, said) = check(directory.path(), text);
    assert_eq!(code, 2);
    assert!(said.contains("error: luassl.toml:1: the files of trust `t` contain no certificate\n"), "{said}");
    assert!(
        said.contains("error: luassl.toml:3: trust `u`: a certificate in its files cannot be read: "),
        "{said}"
    );
}

#[test]
fn files_without_a_key_are_no_identities() {
    let directory = tempfile::tempdir().expect("a directory");
    shell(
        directory.path(),
        &(pair("a", 100) + "cp a.crt rootcert.pem; cat a.key a.crt > b.pem; rm a.*; chmod 600 b.pem"),
    );
    let output = Command::new(luassld()).arg("check").arg("--identities").arg(directory.path()).output();
    let output = output.expect("luassld runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 identities, 0 errors, 0 warnings\n");
}

#[test]
fn a_credential_is_looked_for_where_systemd_puts_it() {
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), &(pair("a", 100) + "mkdir credentials; mv a.key credentials/a-key"));
    let text = "[identity.a]\nkey = 'credential:a-key'\ncertificate = 'a.crt'\n";
    let (code, said) = check(directory.path(), text);
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "error: luassl.toml:2: identity `a`: key is the credential `a-key`, and no credentials directory was found\n\
         hint: set LoadCredential=a-key:FILE in the unit, or name a file\n0 identities, 1 errors, 0 warnings\n"
    );
    let output = Command::new(luassld())
        .args(["check", "--config", "luassl.toml"])
        .current_dir(directory.path())
        .env("CREDENTIALS_DIRECTORY", directory.path().join("credentials"))
        .output()
        .expect("luassld runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 identities, 0 errors, 0 warnings\n");
}

#[test]
fn each_fault_of_the_root_of_ticket_keys_is_found() {
    let text = "[tickets]\nroot = 'root'\n";
    let good = "head -c 48 /dev/urandom > root; chmod 600 root";
    expect(good, text, 0, "0 identities, 0 errors, 0 warnings\n");
    let missing = "error: luassl.toml:2: [tickets]: root DIR/root cannot be opened: No such file or directory \
                   (os error 2)\nhint: check the path, and that luassl's supervisor can read it\n\
                   0 identities, 1 errors, 0 warnings\n";
    expect("", text, 2, missing);
    let short = "error: luassl.toml:2: [tickets]: the root cannot be used: it has fewer than 32 bytes\n\
                 hint: make one: `openssl rand -out FILE 48`, the same file on each machine\n\
                 0 identities, 1 errors, 0 warnings\n";
    expect("echo short > root; chmod 600 root", text, 2, short);
    let open = "warning: luassl.toml:2: [tickets]: every user can read the root (mode 0644)\nhint: chmod o-rwx DIR/root\n\
                0 identities, 0 errors, 1 warnings\n";
    expect("head -c 48 /dev/urandom > root; chmod 644 root", text, 1, open);
}

#[test]
fn finding_3_a_trust_with_a_private_key_is_found() {
    let text = "[identity.a]\nkey = 'both.pem'\n[trust.own]\nfile = 'both.pem'\n";
    let said = "error: luassl.toml:3: trust `own`: DIR/both.pem contains a private key\n\
                hint: trusts go to processes that must not have keys: name a file with only certificates (`openssl x509 \
                -in FILE -out NEW` writes the first one)\n1 identities, 1 errors, 0 warnings\n";
    let script = pair("a", 100) + "cat a.key a.crt > both.pem; chmod 600 both.pem";
    expect(&script, text, 2, said);
    // Positive control: the certificate by itself.
    expect(
        &script,
        &text.replace("file = 'both.pem'", "file = 'a.crt'"),
        0,
        "1 identities, 0 errors, 0 warnings\n",
    );
}

#[test]
fn finding_9_a_key_under_two_identities_is_found() {
    let table = |name: &str| format!("[identity.{name}]\nkey = '{name}.key'\ncertificate = '{name}.crt'\n");
    let text = table("a") + &table("b");
    let script = pair("a", 100) + "cp a.key b.key; cp a.crt b.crt";
    let finding = |line: u8, name: &str, other: &str| {
        format!(
            "error: luassl.toml:{line}: identity `{name}` has the same key as identity `{other}`\n\
             hint: set `shared_key = true` for each identity with that key, or make one an alias of the other\n"
        )
    };
    let said = finding(1, "a", "b") + &finding(4, "b", "a") + "0 identities, 2 errors, 0 warnings\n";
    expect(&script, &text, 2, &said);
    let shared = text.replace("certificate", "shared_key = true\ncertificate");
    expect(&script, &shared, 0, "2 identities, 0 errors, 0 warnings\n");
}

mod needs_root {
    use super::*;

    #[test]
    fn finding_9_a_users_link_to_anothers_key_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = "mkdir tenant; ln -s ../a.key tenant/a.key; cp a.crt tenant/a.crt
                      chown -h 54321 tenant tenant/*; chmod 755 . tenant";
        shell(directory.path(), &(pair("a", 100) + script));
        let (code, said) = check(directory.path(), "[identities]\ndirectory = 'tenant'\n");
        assert_eq!(code, 2, "{said}");
        let cause = "error: DIR/tenant/a.key: identity `a`: key DIR/tenant/a.key cannot be opened: the \
                     symbolic link DIR/tenant/a.key belongs to user 54321, but its target belongs to user 0\n\
                     hint: name the file itself, or let root or the file's owner create the link\n";
        assert!(said.starts_with(cause), "{said}");
        // Positive control: the same link, made by root.
        shell(directory.path(), "chown -h 0 tenant/a.key");
        assert_eq!(check(directory.path(), "[identities]\ndirectory = 'tenant'\n").0, 0);
    }
}
