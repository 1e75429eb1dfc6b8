//! `luasslctl`: the supervisor's part where systemd starts keeper and front. It opens the files and hands them over; the
//! units' sockets are systemd's.

use crate::cli::{PushArgs, ReloadArgs, StatusArgs, Target};
use crate::config::{self, Config, DEFAULT_FRONT, Finding, Loaded, Request};
use crate::push::{self, Account, Report, Trusts};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the units' sockets are.
const RUN: &str = "/run/luassl";

/// Hands one unit what it needs. Gives what an operator should know, though the push came to its end.
///
/// # Errors
/// The findings for which there was no push.
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

/// Reads everything again and hands it to the keeper, then to each front.
///
/// # Errors
/// The findings for which a part of it was not handed over.
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

/// What the keeper has counted, as a table.
///
/// # Errors
/// The finding for which nothing can be said.
pub fn status(args: StatusArgs) -> Result<String, Vec<Finding>> {
    let admin = args.keeper_admin.unwrap_or_else(keeper_admin);
    let ask = || {
        let socket = connected(&admin)?;
        push::keeper_status(socket.as_fd()).map_err(|error| not_taken(&admin, &error))
    };
    ask().map(|accounts| table(&accounts)).map_err(|finding| vec![finding])
}

fn table(accounts: &[Account]) -> String {
    let head = ["FRONT", "IDENTITY", "SIGNED", "DECRYPTED", "REFUSED"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(accounts.iter().map(row)).collect();
    let mut widths = [0; 5];
    for row in &rows {
        widths = std::array::from_fn(|column| widths[column].max(row[column].chars().count()));
    }
    let line = |row: &[String; 5]| {
        let cells: [String; 5] =
            std::array::from_fn(|column| format!("{:width$}", row[column], width = widths[column]));
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(account: &Account) -> [String; 5] {
    let refused: Vec<_> = account.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    [
        account.front.clone(),
        account.identity.clone(),
        account.signed.to_string(),
        account.decrypted.to_string(),
        if refused.is_empty() { "0".to_owned() } else { refused.join(", ") },
    ]
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
            .hint(format!("there are: {}", known.join(", ")))
    })?;
    let socket = connected(admin)?;
    let settings = push::for_front(name, front, config, trusts, report);
    let reply =
        push::send_settings(socket.as_fd(), &settings, &[]).map_err(|error| not_taken(admin, &error))?;
    let fault = |text: String| Finding::error(None, format!("front `{name}`: {text}"));
    Ok(reply.faults.into_iter().map(fault).collect())
}

fn connected(admin: &Path) -> Result<OwnedFd, Finding> {
    let attempt = || {
        let address = SocketAddrUnix::new(admin)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &address).map(|()| socket)
    };
    attempt().map_err(|errno| {
        Finding::error(None, format!("{}: the admin socket cannot be connected to: {errno}", admin.display()))
            .hint("is the unit running, and are you root? Under `luassld run` send it SIGHUP instead")
    })
}

fn not_taken(admin: &Path, error: &push::PushError) -> Finding {
    Finding::error(None, format!("{}: {error}", admin.display())).hint("see the unit's log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ConfigArgs;
    use crate::push::{MAX_MESSAGE, PushReply, receive_settings};
    use luassl_keeper_ipc::transport::{RecvFlags, SendFlags, recv, send};
    use rustix::net::{accept, bind, listen};

    /// A front that answers one push with `faults`, and gives back what it was told.
    fn front(socket: &OwnedFd, faults: Vec<String>) -> crate::settings::Settings {
        let connection = accept(socket).expect("a connection");
        let mut buffer = vec![0; MAX_MESSAGE];
        let received = recv(&connection, &mut buffer, 8, RecvFlags::empty()).expect("a push");
        let push = receive_settings(&buffer[..received.len], received.descriptors).expect("well-formed");
        send(&connection, &PushReply { faults }.encode(), &[], SendFlags::empty()).expect("answered");
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
        let settings = answering.join().expect("no panic");
        assert_eq!(settings.grants[0].grantee, crate::settings::Grantee::User(4711));
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
        assert_eq!(table(&accounts).lines().collect::<Vec<_>>(), lines);
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
            "error: /no/such/socket: the admin socket cannot be connected to: No such file or directory (os error 2)\n\
             hint: is the unit running, and are you root? Under `luassld run` send it SIGHUP instead"
        );
    }
}
