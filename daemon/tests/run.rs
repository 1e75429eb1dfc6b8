//! `luassld run`: sockets, children, restarts, reloads and the end, with the real programs.

mod common;

use common::{damage, luassld, pair, shell};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, mut question: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !question() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A supervisor in a directory; its log is collected, and it is killed when dropped.
struct Supervisor {
    process: Child,
    log: Arc<Mutex<String>>,
}

impl Supervisor {
    fn spawn(directory: &Path, command: &mut Command) -> Self {
        command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("luassld starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (kept, mut lines) = (Arc::clone(&log), BufReader::new(process.stderr.take().expect("a pipe")));
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                kept.lock().expect("no panic").push_str(&std::mem::take(&mut line));
            }
        });
        Self { process, log }
    }

    /// With `luassl.toml` in `directory`; comes back once it is ready.
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(luassld());
        Self::ready(directory, command.args(["run", "--config", "luassl.toml"]))
    }

    fn ready(directory: &Path, command: &mut Command) -> Self {
        let mut supervisor = Self::spawn(directory, command);
        let mut line = String::new();
        let out = supervisor.process.stdout.as_mut().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "{}", supervisor.log());
        supervisor
    }

    fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    fn expect_log(&self, text: &str) {
        until(text, || self.log().contains(text));
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// The child whose command line has `word`, once it has become what it should be.
    fn child(&self, word: &str) -> Pid {
        let mut found = None;
        until(word, || {
            found = children(self.pid()).into_iter().find(|pid| command_line(*pid).contains(word));
            found.is_some()
        });
        found.expect("just found")
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the supervisor's end", || {
            status = self.process.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("just found")
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn children(pid: Pid) -> Vec<Pid> {
    let file = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
}

fn command_line(pid: Pid) -> String {
    let bytes = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn runs(pid: Pid) -> bool {
    Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists()
}

/// A directory with the identity `a` and this configuration, its control socket at `l.sock`.
fn prepared(rest: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), &pair("a", 100));
    configure(directory.path(), rest);
    directory
}

fn configure(directory: &Path, rest: &str) {
    let text = format!(
        "[control]\nsocket = 'l.sock'\nmode = '0640'\n[identity.a]\nkey = 'a.key'\ncertificate = 'a.crt'\n{rest}"
    );
    std::fs::write(directory.join("luassl.toml"), text).expect("written");
}

fn listener(address: SocketAddr) -> String {
    format!("[listener.l]\naddress = '{address}'\n")
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

#[test]
fn everything_is_bound_and_everything_goes() {
    let named = "[socket.n]\npath = 'n.sock'\nmode = '0600'\n";
    let directory = prepared(named);
    let mut supervisor = Supervisor::start(directory.path());
    for (name, mode) in [("l.sock", 0o640), ("n.sock", 0o600), ("l.sock.keeper", 0o600)] {
        let metadata = std::fs::metadata(directory.path().join(name)).expect(name);
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
    UnixStream::connect(directory.path().join("l.sock")).expect("a control connection");
    let (front, keeper) = (supervisor.child(" front "), supervisor.child("luassl-keeper"));
    supervisor.signal(Signal::TERM);
    assert!(supervisor.wait().success(), "{}", supervisor.log());
    assert!(!runs(front) && !runs(keeper));
    for name in ["l.sock", "n.sock", "l.sock.keeper"] {
        assert!(!directory.path().join(name).exists(), "{name}");
    }
    let mut rest = String::new();
    supervisor.process.stdout.take().expect("a pipe").read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "", "one line and no more");
}

#[test]
fn a_killed_child_is_started_again_and_gets_its_push() {
    let directory = prepared("");
    let supervisor = Supervisor::start(directory.path());
    for (word, name) in [("luassl-keeper", "keeper"), (" front ", "front `default`")] {
        let old = supervisor.child(word);
        kill_process(old, Signal::KILL).expect("it runs");
        supervisor.expect_log(&format!("{name} ended: signal: 9 (SIGKILL)"));
        until("another process", || supervisor.child(word) != old);
    }
    until("a second push to the keeper", || {
        supervisor.log().matches("the keeper serves 1 of 1 identities").count() == 2
    });
}

#[test]
fn children_end_with_a_killed_supervisor_and_the_next_one_starts() {
    let address = free_address();
    let directory = prepared(&listener(address));
    let supervisor = Supervisor::start(directory.path());
    let (front, keeper) = (supervisor.child(" front "), supervisor.child("luassl-keeper"));
    drop(supervisor);
    until("the children's end", || !runs(front) && !runs(keeper));
    assert!(directory.path().join("l.sock").exists(), "nobody was there to remove it");
    let next = Supervisor::start(directory.path());
    TcpStream::connect(address).expect("the listener is back");
    drop(next);
}

#[test]
fn a_second_supervisor_leaves_the_first_alone() {
    let directory = prepared("");
    let first = Supervisor::start(directory.path());
    let mut command = Command::new(luassld());
    let mut second = Supervisor::spawn(directory.path(), command.args(["run", "--config", "luassl.toml"]));
    assert_eq!(second.wait().code(), Some(2));
    second.expect_log("l.sock: another process listens on this socket\nhint: ");
    UnixStream::connect(directory.path().join("l.sock")).expect("the first still listens");
    drop(first);
}

#[test]
fn a_bad_configuration_is_not_loaded_and_a_good_one_is() {
    let directory = prepared("");
    let supervisor = Supervisor::start(directory.path());
    configure(directory.path(), "[grannt]\n");
    supervisor.signal(Signal::HUP);
    supervisor.expect_log("luassl.toml:7: unknown key `grannt` (hint: did you mean `grant`?)");
    supervisor.expect_log("the configuration was not loaded: the previous one stays in force");
    let address = free_address();
    configure(directory.path(), &listener(address));
    supervisor.signal(Signal::HUP);
    supervisor.expect_log("keeper and fronts serve configuration 2");
    TcpStream::connect(address).expect("the new listener");
    configure(directory.path(), "");
    supervisor.signal(Signal::HUP);
    until("the listener's end", || TcpStream::connect(address).is_err());
}

#[test]
fn an_identity_that_is_bad_harms_no_other() {
    let directory = prepared("[identity.b]\nkey = 'b.key'\n");
    let supervisor = Supervisor::start(directory.path());
    supervisor.expect_log("luassl.toml:8: identity `b`: key ");
    supervisor.expect_log("the keeper serves 1 of 2 identities");
    // And once it is good, a reload brings it.
    shell(directory.path(), "umask 077; openssl genpkey -algorithm ED25519 -out b.key");
    supervisor.signal(Signal::HUP);
    supervisor.expect_log("the keeper serves 2 of 2 identities");
}

#[test]
fn finding_17_a_certificate_that_cannot_be_parsed_leaves_the_former_one_in_service() {
    let directory = prepared("");
    let supervisor = Supervisor::start(directory.path());
    supervisor.expect_log("the keeper serves 1 of 1 identities");
    shell(directory.path(), &(pair("a", 50) + &damage("a")));
    supervisor.signal(Signal::HUP);
    supervisor.expect_log("identity `a`: a certificate in the file cannot be read: ");
    supervisor.expect_log("; the previous one stays in service");
    supervisor.expect_log("the keeper serves 1 of 1 identities, 1 of them as before: `a`");
    // Positive control: a good pair takes its place, and the bad one was no generation.
    shell(directory.path(), &pair("a", 60));
    supervisor.signal(Signal::HUP);
    supervisor.expect_log("identity `a` is renewed: P-256, generation 2");
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let directory = prepared(&listener(address));
    let mut command = Command::new(luassld());
    let mut supervisor =
        Supervisor::spawn(directory.path(), command.args(["run", "--config", "luassl.toml"]));
    assert_eq!(supervisor.wait().code(), Some(2));
    supervisor.expect_log(&format!(
        "error: luassl.toml:7: listener `l`: {address} is in use by another program\nhint: "
    ));
    assert!(!directory.path().join("l.sock").exists());
}

#[test]
fn a_keeper_that_is_not_installed_is_named() {
    let directory = prepared("");
    let alone = directory.path().join("luassld");
    // By another process: a program that this one has open for writing cannot be started.
    shell(directory.path(), &format!("cp '{}' luassld", luassld().display()));
    let mut supervisor =
        Supervisor::spawn(directory.path(), Command::new(alone).args(["run", "--config", "luassl.toml"]));
    assert_eq!(supervisor.wait().code(), Some(2));
    supervisor.expect_log("hint: install luassld and luassl-keeper side by side");
}

#[test]
fn a_child_has_its_sockets_and_nothing_else_of_its_parents() {
    assert!(rustix::process::geteuid().is_root(), "only root may look into the children's /proc");
    let directory = prepared("");
    shell(directory.path(), "echo leaked > leaked");
    let mut command = Command::new("sh");
    // A descriptor that the supervisor did not ask for, and variables.
    command.args(["-c", "exec 9<leaked; exec \"$0\" run --config luassl.toml"]).arg(luassld());
    command.env("SSLKEYLOGFILE", "/tmp/keys").env("OPENSSL_CONF", "/tmp/openssl.cnf");
    let supervisor = Supervisor::ready(directory.path(), &mut command);
    for word in [" front ", "luassl-keeper"] {
        let pid = supervisor.child(word).as_raw_nonzero();
        let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).expect("root reads it");
        let variables: Vec<&str> = environment.split_terminator('\0').collect();
        assert!(variables.iter().all(|variable| variable.starts_with("LISTEN_")), "{variables:?}");
        assert!(variables.contains(&format!("LISTEN_PID={pid}").as_str()), "{variables:?}");
        let open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("root reads it")
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .collect();
        assert!(open.iter().all(|target| !target.ends_with("leaked")), "{open:?}");
    }
}
