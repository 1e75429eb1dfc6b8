//! What tests of the installed programs need: the programs, and certificates.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// The `luassld` of this build, with its keeper beside it.
pub(crate) fn luassld() -> PathBuf {
    static KEEPER: Once = Once::new();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_luassld"));
    // `cargo test -p luassl-daemon` alone does not build another package's program.
    KEEPER.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--bin", "luassl-keeper", "-p", "luassl-keeper"]);
        if !program.parent().is_some_and(|target| target.ends_with("debug")) {
            cargo.arg("--release");
        }
        assert!(program.with_file_name("luassl-keeper").exists() || cargo.status().expect("cargo").success());
    });
    program
}

/// Runs a shell script in `directory`; it makes keys and certificates with the `openssl` command.
pub(crate) fn shell(directory: &Path, script: &str) {
    let output = Command::new("sh").args(["-euc", script]).current_dir(directory).output().expect("sh runs");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A shell command that damages the dates in `NAME.crt`: the keeper hands it out, as it parses none, and nobody can parse it.
pub(crate) fn damage(name: &str) -> String {
    format!(
        "openssl x509 -in {name}.crt -outform DER | LC_ALL=C sed 's/\\x17\\x0d/\\xff\\x0d/' >{name}.der
         {{ echo -----BEGIN CERTIFICATE-----; openssl base64 -in {name}.der; echo -----END CERTIFICATE-----; }} >{name}.crt\n"
    )
}

/// A shell command that makes the P-256 key `NAME.key` and its own certificate `NAME.crt`, valid for `days`.
pub(crate) fn pair(name: &str, days: u32) -> String {
    format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.crt \
         -subj /CN={name} -addext subjectAltName=DNS:{name} -days {days} 2>/dev/null; chmod 600 {name}.key\n"
    )
}
