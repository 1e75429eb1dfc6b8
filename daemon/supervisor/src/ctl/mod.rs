//! `luasslctl`: the supervisor's part if systemd starts the keeper and the front. It opens the files and
//! passes them on; systemd creates the units' sockets.

mod args;

pub use args::{ConfigArgs, PushArgs, ReloadArgs, StatusArgs, Target};

use crate::config::{self, Config, DEFAULT_FRONT, Finding, Loaded, Request};
use crate::push::{self, Account, Report, Trusts};
use crate::run::STATUS_SUFFIX;
use luassl_settings::{NO_GRANT, Open, OwnerStatus};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The directory of the units' sockets.
const RUN: &str = "/run/luassl";

/// The hint when no process answers.
const NOBODY_THERE: &str = "are the units running, and are you root? For a `luassld run` name its control socket with \
                            --socket PATH, as the user who started it";

/// Passes one unit its configuration and files. Returns the findings of a push that completed.
///
/// # Errors
/// Returns the findings that prevented the push.
pub fn push(args: PushArgs) -> Result<Vec<Finding>, Vec<Finding>> {
    let (config, mut findings) = load(&args.config.into())?;
    match args.to {
        Target::Keeper => {
            let admin = args.admin.unwrap_or_else(keeper_admin);
            findings.extend(to_keeper(&admin, &config).map_err(|finding| vec![finding])?.findings);
        }
        Target::Front => {
            let admin = args.admin.unwrap_or_else(|| front_admin(&args.name));
            let (trusts, unread) = push::read_trusts(&config, None);
            findings.extend(unread);
            findings.extend(
                to_front(&admin, &args.name, &config, &trusts, None).map_err(|finding| vec![finding])?,
            );
        }
    }
    Ok(findings)
}

/// Reads everything again and passes it to the keeper, then to each front.
///
/// # Errors
/// Returns the findings that prevented a part of the push.
pub fn reload(args: ReloadArgs) -> Result<Vec<Finding>, Vec<Finding>> {
    let (config, mut findings) = load(&args.config.into())?;
    let admin = args.keeper_admin.unwrap_or_else(keeper_admin);
    let report = to_keeper(&admin, &config).map_err(|finding| vec![finding])?;
    findings.extend(report.findings.iter().cloned());
    let (trusts, unread) = push::read_trusts(&config, None);
    findings.extend(unread);
    let mut failures = Vec::new();
    for name in config.fronts.keys() {
        let given = args.front_admin.iter().find(|(front, _)| front == name).map(|(_, path)| path.clone());
        let admin = given.unwrap_or_else(|| front_admin(name));
        match to_front(&admin, name, &config, &trusts, Some(&report)) {
            Ok(faults) => findings.extend(faults),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        return Ok(findings);
    }
    findings.extend(failures);
    Err(findings)
}

/// Returns the keeper's counters, and the open objects and counters of the fronts, as tables. Also returns
/// findings for the parts that are missing.
#[must_use]
pub fn status(args: StatusArgs) -> (String, Vec<Finding>) {
    let started = started_by_run(&args);
    let asked = match &started {
        // Only the supervisor can reach the keeper of `luassld run`.
        Some(socket) => Vec::from([fronts_table(&args.front_admin, || run_fronts(socket))]),
        None => {
            let fronts = || fronts_in(Path::new(RUN), "front", "-admin.sock");
            let keeper = || keeper_table(&args.keeper_admin.clone().unwrap_or_else(keeper_admin));
            // If the caller gives sockets of only one kind, only those are queried.
            match (&args.keeper_admin, &args.front_admin[..]) {
                (Some(_), []) => Vec::from([keeper()]),
                (None, [_, ..]) => Vec::from([fronts_table(&args.front_admin, fronts)]),
                _ => Vec::from([keeper(), fronts_table(&args.front_admin, fronts)]),
            }
        }
    };
    let (texts, findings): (Vec<String>, Vec<Vec<Finding>>) = asked.into_iter().unzip();
    let texts: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    (texts.join("\n"), findings.concat())
}

/// Returns the control socket of the `luassld run` to query: the one of the command line, or, if no unit has
/// a socket, the one that `luassld run` creates by default.
fn started_by_run(args: &StatusArgs) -> Option<PathBuf> {
    if args.socket.is_some() || args.keeper_admin.is_some() || !args.front_admin.is_empty() {
        return args.socket.clone();
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|base| PathBuf::from(base).join("luassl"));
    let places = [Some(PathBuf::from(RUN)), own];
    let sockets = places.into_iter().flatten().map(|place| place.join("luassl.sock"));
    if keeper_admin().exists() {
        None
    } else {
        sockets.into_iter().find(|socket| !run_fronts(socket).is_empty())
    }
}

/// Returns the admin sockets that `luassld run` creates beside its control socket, by front.
fn run_fronts(control: &Path) -> Vec<(String, PathBuf)> {
    let directory = control.parent().filter(|parent| !parent.as_os_str().is_empty());
    let Some(name) = control.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    fronts_in(directory.unwrap_or(Path::new(".")), &format!("{name}{STATUS_SUFFIX}"), "")
}

/// Returns the sockets in `directory` whose names are `FIRST` + `LAST` (the default front) or `FIRST-NAME` +
/// `LAST`.
fn fronts_in(directory: &Path, first: &str, last: &str) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut fronts: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let middle = name.strip_prefix(first)?.strip_suffix(last)?;
            let front = if middle.is_empty() { DEFAULT_FRONT } else { middle.strip_prefix('-')? };
            // The name is printed on a terminal, and every user may create files in a world-writable
            // directory.
            config::is_plain(front).then(|| (front.to_owned(), entry.path()))
        })
        .collect();
    fronts.sort();
    fronts
}

fn keeper_table(admin: &Path) -> (String, Vec<Finding>) {
    let ask = || {
        let socket = asked(admin)?;
        push::keeper_status(socket.as_fd()).map_err(|error| not_taken(admin, &error))
    };
    match ask() {
        Ok(accounts) => (accounts_table(&accounts), Vec::new()),
        Err(finding) => (String::new(), vec![finding]),
    }
}

fn fronts_table(
    given: &[(String, PathBuf)],
    found: impl FnOnce() -> Vec<(String, PathBuf)>,
) -> (String, Vec<Finding>) {
    let fronts = if given.is_empty() { found() } else { given.to_vec() };
    if fronts.is_empty() {
        let finding = Finding::error(None, "no admin socket of a front was found").hint(NOBODY_THERE);
        return (String::new(), vec![finding]);
    }
    let mut rows = Vec::new();
    let mut findings = Vec::new();
    for (name, admin) in fronts {
        let ask = || {
            let socket = asked(&admin)?;
            push::front_status(socket.as_fd()).map_err(|error| not_taken(&admin, &error))
        };
        match ask() {
            Ok(owners) => rows.extend(owners.iter().map(|owner| owner_row(&name, owner))),
            Err(finding) => findings.push(finding),
        }
    }
    let head = [
        "FRONT",
        "SOCKET",
        "UID",
        "HANDSHAKING",
        "UNDELIVERED",
        "SERVER",
        "CLIENT",
        "LOCK-STEP",
        "HANDSHAKES",
        "FAILED",
        "REFUSED",
    ];
    let all_silent = rows.is_empty() && !findings.is_empty();
    (if all_silent { String::new() } else { table(head, &rows) }, findings)
}

fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows.iter().cloned()).collect();
    let mut widths = [0; N];
    for row in &rows {
        widths = std::array::from_fn(|column| widths[column].max(row[column].chars().count()));
    }
    let line = |row: &[String; N]| {
        let cells: [String; N] =
            std::array::from_fn(|column| format!("{:width$}", row[column], width = widths[column]));
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn accounts_table(accounts: &[Account]) -> String {
    let rows: Vec<_> = accounts.iter().map(row).collect();
    table(["FRONT", "IDENTITY", "SIGNED", "DECRYPTED", "REFUSED"], &rows)
}

fn row(account: &Account) -> [String; 5] {
    [
        account.front.clone(),
        account.identity.clone(),
        account.signed.to_string(),
        account.decrypted.to_string(),
        reasons(account.refused.iter().copied()),
    ]
}

fn owner_row(front: &str, owner: &OwnerStatus) -> [String; 11] {
    let Open { handshaking, undelivered, server, client, lock_step } = owner.open;
    let by_reason = |counts: &BTreeMap<String, u64>| {
        reasons(counts.iter().map(|(reason, count)| (reason.as_str(), *count)))
    };
    let (socket, uid) = match owner.uid {
        Some(NO_GRANT) => ("(without a grant)".to_owned(), "-".to_owned()),
        Some(uid) => (owner.socket.clone(), uid.to_string()),
        None => ("(others)".to_owned(), "-".to_owned()),
    };
    [
        front.to_owned(),
        socket,
        uid,
        handshaking.to_string(),
        undelivered.to_string(),
        server.to_string(),
        client.to_string(),
        lock_step.to_string(),
        owner.done.to_string(),
        by_reason(&owner.failed),
        by_reason(&owner.refused),
    ]
}

fn reasons<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let counts: Vec<_> = counts.map(|(reason, count)| format!("{reason} {count}")).collect();
    if counts.is_empty() { "0".to_owned() } else { counts.join(", ") }
}

fn load(request: &Request) -> Result<(Config, Vec<Finding>), Vec<Finding>> {
    let Loaded { config, findings, .. } = config::load(request);
    match config {
        Some(config) => Ok((config, findings)),
        None => Err(findings),
    }
}

fn keeper_admin() -> PathBuf {
    Path::new(RUN).join("keeper-admin.sock")
}

fn front_admin(name: &str) -> PathBuf {
    Path::new(RUN).join(match name {
        DEFAULT_FRONT => "front-admin.sock".to_owned(),
        other => format!("front-{other}-admin.sock"),
    })
}

fn to_keeper(admin: &Path, config: &Config) -> Result<Report, Finding> {
    let socket = connected(admin)?;
    push::push_keeper(socket.as_fd(), config).map_err(|error| not_taken(admin, &error))
}

fn to_front(
    admin: &Path,
    name: &str,
    config: &Config,
    trusts: &Trusts,
    report: Option<&Report>,
) -> Result<Vec<Finding>, Finding> {
    let front = config.fronts.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.fronts.keys().map(String::as_str).collect();
        Finding::error(None, format!("the configuration has no front `{name}`"))
            .hint(format!("the fronts are: {}", known.join(", ")))
    })?;
    let socket = connected(admin)?;
    let settings = push::for_front(name, front, config, trusts, report);
    let reply =
        push::send_settings(socket.as_fd(), &settings, &[]).map_err(|error| not_taken(admin, &error))?;
    let text = |text: String| format!("front `{name}`: {text}");
    let faults = reply.faults.into_iter().map(|fault| Finding::error(None, text(fault)));
    let warnings = reply.warnings.into_iter().map(|warning| Finding::warning(None, text(warning)));
    Ok(faults.chain(warnings).collect())
}

fn connected(admin: &Path) -> Result<OwnedFd, Finding> {
    connected_or(admin, "is the unit running, and are you root? Under `luassld run` send it SIGHUP instead")
}

/// Connects for one query.
fn asked(admin: &Path) -> Result<OwnedFd, Finding> {
    connected_or(admin, NOBODY_THERE)
}

fn connected_or(admin: &Path, hint: &str) -> Result<OwnedFd, Finding> {
    let attempt = || {
        let address = SocketAddrUnix::new(admin)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &address).map(|()| socket)
    };
    attempt().map_err(|errno| {
        Finding::error(None, format!("cannot connect to the admin socket {}: {errno}", admin.display()))
            .hint(hint)
    })
}

fn not_taken(admin: &Path, error: &push::PushError) -> Finding {
    Finding::error(None, format!("{}: {error}", admin.display())).hint("see the unit's log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use luassl_keeper_ipc::transport::{RecvFlags, SendFlags, recv, send};
    use luassl_settings::{MAX_MESSAGE, PushReply, receive_settings};
    use rustix::net::{accept, bind, listen};

    /// Runs a front that answers one push with `faults`, and returns the settings that it received.
    fn front(socket: &OwnedFd, faults: Vec<String>) -> luassl_settings::Settings {
        let connection = accept(socket).expect("a connection");
        let mut buffer = vec![0; MAX_MESSAGE];
        let received = recv(&connection, &mut buffer, 8, RecvFlags::empty()).expect("a push");
        let push = receive_settings(&buffer[..received.len], received.descriptors).expect("well-formed");
        send(
            &connection,
            &PushReply { faults, warnings: vec!["2 open connections end".into()] }.encode(),
            &[],
            SendFlags::empty(),
        )
        .expect("answered");
        push.settings
    }

    #[test]
    fn a_push_to_a_front_carries_the_settings_and_brings_its_faults() {
        let directory = tempfile::tempdir().expect("a directory");
        let (config, admin) = (directory.path().join("x.toml"), directory.path().join("admin"));
        std::fs::write(&config, "[[grant]]\nuser = 4711\n").expect("written");
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("made");
        bind(&socket, &SocketAddrUnix::new(&admin).expect("short")).expect("bound");
        listen(&socket, 1).expect("listening");
        let answering = std::thread::spawn(move || front(&socket, vec!["trust x is bad".to_owned()]));
        let args = PushArgs {
            to: Target::Front,
            config: ConfigArgs { config: Some(config), identities: vec![] },
            admin: Some(admin),
            name: DEFAULT_FRONT.to_owned(),
        };
        let findings = push(args).expect("answered");
        assert_eq!(findings[0].to_string(), "error: front `default`: trust x is bad");
        assert_eq!(findings[1].to_string(), "warning: front `default`: 2 open connections end");
        let settings = answering.join().expect("no panic");
        assert_eq!(settings.grants[0].grantee, luassl_settings::Grantee::User(4711));
        assert!(settings.trusts.contains_key("system"));
    }

    #[test]
    fn counts_are_a_table() {
        let account = |identity: &str, signed, refused| Account {
            front: "default".to_owned(),
            identity: identity.to_owned(),
            signed,
            decrypted: 0,
            refused,
        };
        let accounts =
            [account("*", 0, vec![("unknown-identity", 3), ("rate", 1)]), account("www", 12345, vec![])];
        let lines = [
            "FRONT    IDENTITY  SIGNED  DECRYPTED  REFUSED",
            "default  *         0       0          unknown-identity 3, rate 1",
            "default  www       12345   0          0",
        ];
        assert_eq!(accounts_table(&accounts).lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn what_a_front_has_open_is_a_table() {
        let owner = OwnerStatus {
            socket: "control".into(),
            uid: Some(1000),
            open: Open { server: 3, ..Open::default() },
            done: 7,
            failed: [("cut".to_owned(), 2), ("timeout".to_owned(), 1)].into(),
            refused: BTreeMap::new(),
        };
        let others = OwnerStatus { done: 1, ..OwnerStatus::default() };
        let without = OwnerStatus {
            uid: Some(NO_GRANT),
            refused: [("no-grant".to_owned(), 4)].into(),
            ..OwnerStatus::default()
        };
        let cells = |owner| owner_row("default", owner).join("|");
        assert_eq!(cells(&owner), "default|control|1000|0|0|3|0|0|7|cut 2, timeout 1|0");
        assert_eq!(cells(&others), "default|(others)|-|0|0|0|0|0|1|0|0");
        assert_eq!(cells(&without), "default|(without a grant)|-|0|0|0|0|0|0|0|no-grant 4");
    }

    #[test]
    fn sockets_of_fronts_are_found_by_their_names() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in [
            "front-admin.sock",
            "front-a-admin.sock",
            "front-\x1b[2J-admin.sock",
            "keeper-admin.sock",
            "x.sock.admin",
            "x.sock.admin-b",
            "x.sock.admin-b\nb",
        ] {
            std::fs::write(directory.path().join(name), "").expect("written");
        }
        let names =
            |fronts: Vec<(String, PathBuf)>| fronts.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(fronts_in(directory.path(), "front", "-admin.sock")), ["a", "default"]);
        assert_eq!(names(run_fronts(&directory.path().join("x.sock"))), ["b", "default"]);
    }

    #[test]
    fn where_no_daemon_is_the_status_says_so() {
        let socket = Some(PathBuf::from("/no/such/luassl.sock"));
        let (text, findings) = status(StatusArgs { keeper_admin: None, front_admin: vec![], socket });
        assert_eq!((text.as_str(), findings.len()), ("", 1));
        assert!(findings[0].to_string().contains("--socket PATH"), "{}", findings[0]);
    }

    #[test]
    fn an_admin_socket_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("x.toml");
        std::fs::write(&config, "").expect("written");
        let args = PushArgs {
            to: Target::Keeper,
            config: ConfigArgs { config: Some(config), identities: vec![] },
            admin: Some("/no/such/socket".into()),
            name: DEFAULT_FRONT.to_owned(),
        };
        let findings = push(args).expect_err("nobody there");
        assert_eq!(
            findings[0].to_string(),
            "error: cannot connect to the admin socket /no/such/socket: No such file or directory (os error 2)\n\
             hint: is the unit running, and are you root? Under `luassld run` send it SIGHUP instead"
        );
    }
}
