//! The keeper as a process: how it starts, what it keeps others from, how it ends.

mod kit;

use kit::process::Process;
use kit::{Bench, listener, server_message};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_luassl-keeper");
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

fn serving() -> (Process, kit::Keeper) {
    let bench = Bench::new();
    bench.identity("a", P256);
    let listener: OwnedFd = listener(&bench.path("web.socket"));
    Process::serving(Path::new(PROGRAM), &listener, bench)
}

#[test]
fn it_signs_and_ends_well_with_its_supervisor() {
    let (process, keeper) = serving();
    let signature =
        keeper.connect("web").sign("a", keeper.key_id("a"), 0x0403, &server_message()).expect("signed");
    assert!(keeper.bench.verifies("a", 0x0403, &server_message(), &signature));
    drop(keeper);
    assert!(process.ends_well());
}

#[test]
fn it_leaves_no_core() {
    let (process, _keeper) = serving();
    let proc = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.id()));
    let limits = proc("limits").expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
}

#[test]
fn its_memory_is_closed_to_its_own_user() {
    let (bench, (ours, theirs)) = (Bench::new(), kit::pair());
    let mut command = Command::new("sh");
    let script = "export LISTEN_PID=$$; exec \"$0\" 3<&0 0</dev/null";
    command.env_clear().envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "admin")]).args(["-c", script]);
    command.arg(program_for_everybody(&bench)).stdin(Stdio::from(theirs));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY);
    }
    let child = command.spawn().expect("started");
    let admin = kit::Socket::new(ours);
    // It serves once it answers; root made the socket pair, and may speak.
    admin.ask(&luassl_keeper_ipc::admin::Request::Commit, &[]);
    assert!(!admin.has_ended());
    // In /proc, a process belongs to its user, but to root when its user may not look into it (proc(5)).
    let owner = |pid: u32, file: &str| fs::metadata(format!("/proc/{pid}/{file}")).expect("a process").uid();
    assert_eq!(owner(child.id(), "mem"), 0);
    drop(admin);
    assert!(child.wait_with_output().expect("waited for").status.success());
    // The same look at a process that lets its user in.
    let mut other = Command::new("sleep");
    if rustix::process::geteuid().is_root() {
        other.uid(NOBODY);
    }
    let mut other = other.arg("1000").spawn().expect("started");
    let as_usual = owner(other.id(), "mem");
    other.kill().expect("killed");
    other.wait().expect("waited for");
    assert_ne!(as_usual, 0);
}

/// Some user that is not root.
const NOBODY: u32 = 65534;

/// A copy that every user may start: the build directory may be closed to others.
fn program_for_everybody(bench: &Bench) -> PathBuf {
    fs::set_permissions(bench.directory.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let program = bench.path("keeper");
    fs::copy(PROGRAM, &program).expect("copied");
    program
}

#[test]
fn it_keeps_no_key_file_open() {
    let (process, _keeper) = serving();
    let open = fs::read_dir(format!("/proc/{}/fd", process.id())).expect("descriptors");
    let targets: Vec<_> = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(!targets.is_empty());
    assert!(
        !targets.iter().any(|target| target.ends_with("a.key") || target.ends_with("a.crt")),
        "{targets:?}"
    );
}

#[test]
fn what_is_wrong_with_its_start_is_said() {
    let with_file = "export LISTEN_PID=$$; exec \"$0\" 3</dev/null";
    let cases = [
        ("", "exec \"$0\"", "no sockets were passed"),
        ("LISTEN_FDS=1", "export LISTEN_PID=1; exec \"$0\"", "no sockets were passed"),
        ("LISTEN_FDS=1", with_file, "invalid socket name \"\""),
        ("LISTEN_FDS=2 LISTEN_FDNAMES=admin", with_file, "does not name each"),
        ("LISTEN_FDS=1 LISTEN_FDNAMES=admin", with_file, "is not an AF_UNIX socket"),
        ("LISTEN_FDS=1 LISTEN_FDNAMES=admin", "export LISTEN_PID=$$; exec \"$0\" 3<&-", "cannot be used"),
    ];
    for (environment, script, text) in cases {
        let variables = environment.split_whitespace().filter_map(|variable| variable.split_once('='));
        let mut command = Command::new("sh");
        let output =
            command.env_clear().envs(variables).args(["-c", script, PROGRAM]).output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(text), "{environment}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn no_openssl_configuration_changes_what_it_does() {
    let bench = Bench::new();
    bench.identity("a", P256);
    let configuration = "openssl_conf = i\n[i]\nproviders = p\n[p]\nnull = n\n[n]\nactivate = 1\n";
    bench.write("openssl.cnf", configuration);
    let path = bench.path("openssl.cnf").to_str().expect("utf-8").to_owned();
    // Whoever reads this configuration has no algorithm left.
    let openssl =
        Command::new("openssl").env("OPENSSL_CONF", &path).args(["dgst", "-sha256", &path]).output();
    assert!(!openssl.expect("started").status.success());
    let listener = listener(&bench.path("web.socket"));
    let environment = format!("OPENSSL_CONF={path}");
    let (_process, admin) = Process::start_with(Path::new(PROGRAM), &listener, &environment);
    let keeper = kit::Keeper { bench, admin };
    keeper.push_a();
    assert!(keeper.connect("web").sign("a", keeper.key_id("a"), 0x0403, &server_message()).is_ok());
}

/// libcrypto is a library of its own, so that the program has the names of what it calls there.
#[test]
fn finding_17_the_program_imports_no_parser_of_certificates() {
    let program = std::fs::read(PROGRAM).expect("the program");
    // X509_SIG is what an encrypted private key is called (PKCS#8).
    let program = String::from_utf8_lossy(&program).replace("X509_SIG_", "");
    // Control: calls are found like this.
    for called in ["PEM_read_bio", "i2d_PUBKEY"] {
        assert!(program.contains(called), "{called}");
    }
    for parser in ["X509_", "d2i_", "OCSP_", "GENERAL_NAMES_"] {
        assert!(!program.contains(parser), "{parser}");
    }
}
