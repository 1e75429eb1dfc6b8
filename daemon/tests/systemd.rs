//! The units, the sample configuration, and keeper, front and `luasslctl` as systemd starts them.

mod common;

use common::{luassld, pair, shell};
use luassl_supervisor::run::launch::{self, Program};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

fn systemd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

fn units() -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(systemd()).expect("systemd/").map(|entry| entry.expect("an entry").path());
    let is_unit = |path: &PathBuf| {
        path.extension().is_some_and(|kind| kind == "service" || kind == "socket" || kind == "path")
    };
    entries.filter(is_unit).collect()
}

/// Copies of the units, whose programs are there.
fn copies_in(directory: &Path) -> Vec<PathBuf> {
    let program = luassld();
    let programs = format!("{}/luassl", program.parent().expect("a directory").display());
    let copy = |unit: PathBuf| {
        let copy = directory.join(unit.file_name().expect("a name"));
        let text = std::fs::read_to_string(&unit).expect("a unit").replace("/usr/bin/luassl", &programs);
        std::fs::write(&copy, text).expect("written");
        copy
    };
    units().into_iter().map(copy).collect()
}

/// What `systemd-analyze verify` says of units.
fn verified(units: &[PathBuf]) -> String {
    let output = Command::new("systemd-analyze")
        .args(["verify", "--recursive-errors=no"])
        .args(units)
        .output()
        .expect("systemd-analyze, of Debian's package systemd");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || !said.is_empty(), "{}", output.status);
    said
}

#[test]
fn the_units_are_sound() {
    let directory = tempfile::tempdir().expect("a directory");
    let copies = copies_in(directory.path());
    assert!(copies.len() >= 15, "{copies:?}");
    assert_eq!(verified(&copies), "");
}

/// Positive control of the two tests round it.
#[test]
fn a_unit_with_a_mistake_is_not_sound() {
    let directory = tempfile::tempdir().expect("a directory");
    copies_in(directory.path());
    let unit = directory.path().join("luassl-reload.path");
    std::fs::write(&unit, "[Path]\nPathChangd=/etc\n").expect("written");
    assert!(verified(&[unit]).contains("PathChangd"));
}

fn systemd_version() -> u32 {
    let output = Command::new("systemd-analyze").arg("--version").output().expect("systemd-analyze");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a version")
}

/// The drop-ins, beside the units that they are for.
#[test]
fn the_drop_ins_are_sound() {
    let mut drop_ins = vec![("credentials.conf", vec!["luassl-keeper.service"])];
    if systemd_version() >= 253 {
        drop_ins.push(("notify-reload.conf", vec!["luassl-keeper.service", "luassld.service"]));
    } else {
        eprintln!("not tried: notify-reload.conf (systemd 253; `make test-long` has a newer one)");
    }
    for (drop_in, units) in drop_ins {
        let directory = tempfile::tempdir().expect("a directory");
        copies_in(directory.path());
        for unit in units {
            let place = directory.path().join(format!("{unit}.d"));
            std::fs::create_dir(&place).expect("a directory");
            std::fs::copy(systemd().join("drop-ins").join(drop_in), place.join(drop_in)).expect("copied");
            assert_eq!(verified(&[directory.path().join(unit)]), "", "{drop_in}");
        }
    }
}

#[test]
fn the_sockets_have_the_names_that_their_services_look_for() {
    let named = |unit: &str| {
        let text = std::fs::read_to_string(systemd().join(unit)).expect("a unit");
        let line = text.lines().find_map(|line| line.strip_prefix("FileDescriptorName=")).map(str::to_owned);
        line.expect("a name")
    };
    let expected = [
        ("luassl-keeper-admin.socket", "admin"),
        ("luassl-keeper.socket", "front.default"),
        ("luassld-admin.socket", "admin"),
        ("luassld.socket", "control"),
        ("luassl-https.socket", "listener.https"),
        ("luassl-keeper@.socket", "front.%i"),
        ("luassld-admin@.socket", "admin"),
        ("luassld@.socket", "socket.%i"),
    ];
    for (unit, name) in expected {
        assert_eq!(named(unit), name, "{unit}");
    }
}

/// A tenant's front is the default one, but for its names.
#[test]
fn the_template_of_a_front_says_what_the_default_front_says() {
    let lines = |unit: &str| -> Vec<String> {
        let text = std::fs::read_to_string(systemd().join(unit)).expect("a unit");
        let lines = text.lines().map(|line| {
            line.replace("@%i.", ".")
                .replace("-%i", "")
                .replace(" luassl-keeper.socket", "")
                .replace(" --name %i", "")
        });
        let named = |line: &String| {
            let names = ["Description=", "Wants=", "ExecStart=", "Also=", "#"];
            !names.iter().any(|name| line.starts_with(name))
        };
        lines.filter(named).collect()
    };
    assert_eq!(lines("luassld@.service"), lines("luassld.service"));
}

/// The lines of a unit, without its comments.
fn lines_of(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// What is wrong with a service that a watched path starts: whoever can write to the path decides how often it starts, so
/// the service itself has to pause, and to look again after the pause.
fn unlimited(service: &str) -> Option<String> {
    let pause = service.lines().find_map(|line| line.strip_prefix("Environment=PAUSE="));
    if pause.and_then(|pause| pause.parse::<u32>().ok()).is_none_or(|seconds| seconds < 30) {
        return Some("it does not pause for 30 seconds".to_owned());
    }
    let started: Vec<&str> = service.lines().filter(|line| line.starts_with("ExecStart")).collect();
    let wanted = [
        "ExecStartPre=/bin/sleep 1",
        // A failure ends the service, and with it the pause, unless the line begins with a dash.
        "ExecStart=-/usr/bin/luasslctl reload",
        "ExecStart=/bin/sleep ${PAUSE}",
        "ExecStart=/usr/bin/luasslctl reload",
    ];
    if started != wanted {
        return Some(format!("it runs {started:?}"));
    }
    // A path unit whose service may not be started fails, and watches no more.
    let limit = service.lines().any(|line| line == "StartLimitIntervalSec=0");
    (!limit).then(|| "a limit on its starts ends the watching".to_owned())
}

#[test]
fn finding_22_a_directory_that_changes_all_the_time_does_not_reload_without_end() {
    let read = |unit: &str| std::fs::read_to_string(systemd().join(unit)).expect("a unit");
    let paths: Vec<PathBuf> =
        units().into_iter().filter(|unit| unit.extension().is_some_and(|kind| kind == "path")).collect();
    assert_eq!(paths.len(), 2);
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a unit");
        let started =
            text.lines().find_map(|line| line.strip_prefix("Unit=")).expect("the unit that it starts");
        assert_eq!(unlimited(&read(started)), None, "{}", path.display());
    }
    // Positive control: what the deploy hook starts would reload as often as it is started.
    assert!(unlimited(&read("luassl-reload.service")).is_some());
}

/// Both services that reload have the same rights.
#[test]
fn the_service_for_watched_paths_is_confined_as_the_other_one() {
    let confined = |unit: &str| -> Vec<String> {
        let text = std::fs::read_to_string(systemd().join(unit)).expect("a unit");
        let own = ["Description=", "Exec", "Environment="];
        let lines = lines_of(&text).into_iter().filter(|line| !own.iter().any(|own| line.starts_with(own)));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(confined("luassl-reload-watched.service"), confined("luassl-reload.service"));
}

/// The value of a setting in the text of a unit, where it is given once.
fn setting(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let values: Vec<&str> = values.collect();
    (values.len() == 1).then(|| values[0].to_owned())
}

const SERVICES: [&str; 3] = ["luassl-keeper.service", "luassld.service", "luassld@.service"];

#[test]
fn finding_19_the_journal_drops_no_line_of_the_audit_log() {
    for unit in SERVICES {
        let text = std::fs::read_to_string(systemd().join(unit)).expect("a unit");
        assert_eq!(setting(&text, "LogRateLimitIntervalSec").as_deref(), Some("0"), "{unit}");
    }
    // Positive control: a unit whose lines may be dropped is told from them.
    let text = std::fs::read_to_string(systemd().join("luassl-reload.service")).expect("a unit");
    assert_eq!(setting(&text, "LogRateLimitIntervalSec"), None);
}

#[test]
fn finding_23_a_service_takes_a_bounded_part_of_the_machine() {
    for unit in SERVICES {
        let text = std::fs::read_to_string(systemd().join(unit)).expect("a unit");
        for name in ["MemoryMax", "TasksMax", "CPUWeight"] {
            let value = setting(&text, name).unwrap_or_else(|| panic!("{unit} has no {name}"));
            assert!(value.starts_with(|first: char| first.is_ascii_digit()), "{unit}: {name}={value}");
        }
    }
    // Positive control: systemd knows these settings, and refuses a value that is none.
    let directory = tempfile::tempdir().expect("a directory");
    copies_in(directory.path());
    let unit = directory.path().join("luassld.service");
    let text = std::fs::read_to_string(&unit).expect("a unit");
    std::fs::write(&unit, text.replace("MemoryMax=", "MemoryMax=much")).expect("written");
    assert!(verified(&[unit]).contains("Invalid memory limit"));
}

#[test]
fn the_sample_configuration_is_clean() {
    let sample = systemd().join("luassl.toml");
    let output = Command::new(luassld()).arg("check").arg("--config").arg(sample).output().expect("luassld");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 identities, 0 errors, 0 warnings\n");
    assert_eq!(output.status.code(), Some(0));
}

/// The examples that the sample has behind a single `#` are good, too, as far as their names and types go.
#[test]
fn the_examples_in_the_sample_configuration_are_good() {
    let sample = std::fs::read_to_string(systemd().join("luassl.toml")).expect("the sample");
    let example = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let mut text: String = sample
        .lines()
        .map(|line| if example(line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    // What depends on the machine: its users, its directories.
    for (here, anywhere) in [
        ("\"www-data\"", "\"root\""),
        ("\"tenant\"", "\"root\""),
        ("user = \"luassl-keeper\"", "user = \"nobody\""),
        ("user = \"luassl\"", "user = \"nobody\""),
        ("/etc/letsencrypt/live", "/var/empty-luassl"),
    ] {
        text = text.replace(here, anywhere);
    }
    let directory = tempfile::tempdir().expect("a directory");
    text = text.replace("/var/empty-luassl", &directory.path().display().to_string());
    let loaded = luassl_supervisor::config::load_text(Path::new("luassl.toml"), &text, &Default::default());
    assert!(loaded.config.is_some(), "{:?}\n{text}", loaded.findings);
}

/// A process that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with a configuration, and sockets that listen in it, as systemd would hold them.
struct Host {
    directory: tempfile::TempDir,
    notify: UnixDatagram,
}

impl Host {
    /// Identity `a` is good, `b` has no key file.
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        shell(directory.path(), &pair("a", 100));
        let text =
            "[identity.a]\nkey='a.key'\ncertificate='a.crt'\n[identity.b]\nkey='b.key'\n[listener.https]\n";
        std::fs::write(directory.path().join("luassl.toml"), text).expect("written");
        let notify = UnixDatagram::bind(directory.path().join("notify")).expect("bound");
        notify.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        Self { directory, notify }
    }

    fn listening(&self, name: &str, kind: SocketType) -> OwnedFd {
        let path = self.directory.path().join(name);
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket");
        bind(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("bound");
        listen(&socket, 8).expect("listening");
        socket
    }

    /// Starts `program` with `sockets`, and waits until it says READY=1.
    fn start(&self, program: &str, arguments: &[&str], sockets: &[(&str, BorrowedFd<'_>)]) -> Ending {
        let notify = format!("NOTIFY_SOCKET={}", self.directory.path().join("notify").display());
        let file = luassld().with_file_name(program).display().to_string();
        let mut line = vec![notify, file];
        line.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        // `env` becomes the program in its turn, and passes LISTEN_FDS on.
        let program = Program { file: "/usr/bin/env".into(), arguments: line };
        let sockets: Vec<_> = sockets.iter().map(|(name, socket)| ((*name).to_owned(), *socket)).collect();
        let mut command = launch::command(&luassld(), &program, &sockets).expect("a command");
        let started = Ending(command.spawn().expect("it starts"));
        assert_eq!(self.notified(), "READY=1");
        started
    }

    /// The next notification.
    fn notified(&self) -> String {
        let mut message = [0; 128];
        let length = self.notify.recv(&mut message).expect("a notification");
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    }

    fn keeper(&self) -> Ending {
        let admin = self.listening("keeper-admin", SocketType::SEQPACKET);
        let front = self.listening("keeper", SocketType::SEQPACKET);
        self.start("luassl-keeper", &[], &[("admin", admin.as_fd()), ("front.default", front.as_fd())])
    }

    fn front(&self) -> Ending {
        let admin = self.listening("front-admin", SocketType::SEQPACKET);
        let control = self.listening("control", SocketType::STREAM);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let keeper = self.directory.path().join("keeper").display().to_string();
        let sockets =
            [("control", control.as_fd()), ("listener.https", listener.as_fd()), ("admin", admin.as_fd())];
        self.start("luassld", &["front", "--keeper", &keeper], &sockets)
    }

    /// Runs luasslctl, which everybody answers; what it says is about identity `b` alone.
    fn luasslctl(&self, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_luasslctl"))
            .args(arguments)
            .args(["--config", "luassl.toml"])
            .current_dir(self.directory.path())
            .output()
            .expect("luasslctl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "everything was answered: {said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        let keys_read = !arguments.contains(&"front");
        assert_eq!(errors.len(), usize::from(keys_read), "{said}");
        assert!(
            errors.iter().all(|line| line.starts_with("error: luassl.toml:5: identity `b`: key ")),
            "{said}"
        );
    }
}

#[test]
fn keeper_and_front_start_by_their_sockets_and_take_pushes_again_and_again() {
    let host = Host::new();
    let _keeper = host.keeper();
    let _front = host.front();
    for _ in 0..2 {
        host.luasslctl(&["push", "--to", "keeper", "--admin", "keeper-admin"]);
        host.luasslctl(&["push", "--to", "front", "--admin", "front-admin"]);
        host.luasslctl(&["reload", "--keeper-admin", "keeper-admin", "--front-admin", "default=front-admin"]);
        // Four reloads, told as such: a manager that does not read keeps its services waiting.
        (0..8).for_each(|_| drop(host.notified()));
    }
}

/// systemd.service(5), Type=notify-reload: RELOADING=1 comes with the time, then READY=1.
#[test]
fn a_push_shows_as_a_reload() {
    let host = Host::new();
    let _keeper = host.keeper();
    let _front = host.front();
    for unit in ["keeper", "front"] {
        let before = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        host.luasslctl(&["push", "--to", unit, "--admin", &format!("{unit}-admin")]);
        let reloading = host.notified();
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a reload, with its time");
        let microseconds: i64 = time.parse().expect("a number");
        assert!(microseconds >= before.tv_sec * 1_000_000 + before.tv_nsec / 1_000, "{reloading}");
        assert_eq!(host.notified(), "READY=1");
    }
}

#[test]
fn a_push_does_not_wait_for_the_other_unit() {
    let host = Host::new();
    let _front = host.front();
    host.luasslctl(&["push", "--to", "front", "--admin", "front-admin"]);
}
