use super::*;
use luassl_settings::{Limits, Log, LogFormat};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A configuration with at least one entry of each kind.
const SAMPLE: &str = r#"
[control]
mode = "0660"
group = "root"

[socket.tenant]
path = "/run/x/tenant.sock"
mode = 0o600

[front.default]
keeper_socket = "/run/x/keeper.sock"
identities = ["a"]
roles = ["server"]
ticket_domain = "web"

[identity.a]
key = "a.key"
certificate = "/etc/x/a.crt"
password_file = "credential:a-pass"
aliases = ["www.a.example"]

[trust.internal]
file = "ca.pem"

[listener.https]
address = "[::]:443"

[[grant]]
user = "root"
identities = ["*"]

[[grant]]
group = 5
identities = ["a"]
roles = ["client"]
listeners = ["https"]
listen = false
minimum_protocol = "TLSv1.3"
max_connections = 7

[[grant]]
socket = "tenant"

[limits]
handshake = 2.5
connections = 12

[tickets]
epoch = 3600
lifetime = 600
root = "credential:tickets"

[log]
level = "debug"
format = "journal"
"#;

fn read(text: &str) -> Loaded {
    load_text(Path::new("/etc/x/luassl.toml"), text, &Request::default())
}

fn only_error(text: &str) -> String {
    let loaded = read(text);
    assert!(loaded.config.is_none(), "no configuration comes with an error: {text}");
    let lines: Vec<String> = loaded.findings.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].replace("error: /etc/x/luassl.toml:", "")
}

#[test]
fn everything_is_read() {
    let loaded = read(SAMPLE);
    assert_eq!(loaded.findings, []);
    let config = loaded.config.expect("no errors");
    assert_eq!(config.control, SocketFile { path: None, mode: 0o660, group: Some(0) });
    assert_eq!(config.sockets["tenant"].mode, 0o600);
    let front = &config.fronts["default"];
    assert!(front.control && front.sockets.contains("tenant") && front.listeners.contains("https"));
    assert_eq!(front.roles, Roles { server: true, client: false });
    assert!(front.identities.contains("a") && !front.identities.contains("b"));
    assert_eq!(front.ticket_domain.as_deref(), Some("web"));
    let identity = &config.identities["a"];
    assert_eq!(identity.other_names(), ["/etc/x/a.key", "/etc/x/a.crt", "www.a.example"]);
    assert_eq!(
        identity.password.as_ref().map(|file| file.source.clone()),
        Some(FileSource::Credential("a-pass".into()))
    );
    assert_eq!(config.grants[0].grantee, Grantee::User(0));
    assert!(config.grants[0].server && config.grants[0].client && config.grants[0].listen);
    assert_eq!(config.grants[1].grantee, Grantee::Group(5));
    assert!(!config.grants[1].server && !config.grants[1].listen && config.grants[1].connect);
    assert_eq!(config.grants[1].max_connections, Some(7));
    assert_eq!(config.grants[2].grantee, Grantee::Socket("tenant".into()));
    assert_eq!((config.limits.handshake_ms, config.limits.connections), (2_500, 12));
    assert_eq!((config.tickets.epoch, config.tickets.lifetime), (3600, 600));
    let root = config.tickets.root.as_ref().map(|file| file.source.clone());
    assert_eq!(root, Some(FileSource::Credential("tickets".into())));
    assert_eq!(config.log, Log { level: tracing::Level::DEBUG, format: LogFormat::Journal });
}

#[test]
fn each_mistake_has_its_line_and_its_hint() {
    let table = [
        ("\n[contrl]\n", "2: unknown key `contrl`\nhint: did you mean `control`?"),
        ("[identity.a]\nkay = 'a'", "2: unknown key `kay` in [identity.a]\nhint: did you mean `key`?"),
        ("[log]\nzzz = 'a'", "2: unknown key `zzz` in [log]\nhint: valid keys are level, format"),
        (
            "[identity.a]\nkey = 3",
            "2: expected a quoted string, found integer 3\nhint: write a quoted string here",
        ),
        (
            "[limits]\nconnections = 'x'",
            "2: expected an integer, found string \"x\"\nhint: write an integer here",
        ),
        ("identity = 3", "1: expected a table, found integer 3\nhint: write a table here"),
        (
            "[[grant]]\nuser = 0\nlisten = 1",
            "3: expected true or false, found integer 1\nhint: write true or false here",
        ),
        ("[log]\nlevel='info'\nlevel='warn'", "3: duplicate key or table\nhint: remove one of the two"),
        (
            "[identity.a\n",
            "1: invalid TOML: unclosed table, expected `]`\nhint: a line is `[table]` or `key = value`, and strings are quoted (https://toml.io)",
        ),
        ("[identity.a]\naliases = []", "1: identity `a` has no `key`\nhint: set it to the private key file"),
        (
            "[[grant]]\nuser = 'no-such-user'",
            "2: unknown user `no-such-user`\nhint: name a user that `getent passwd` knows, or give its number",
        ),
        (
            "[[grant]]\ngroup = 'no-such-group'",
            "2: unknown group `no-such-group`\nhint: name a group that `getent group` knows, or give its number",
        ),
        (
            "[[grant]]\nuser = -1",
            "2: -1 is not a valid user number\nhint: name a user that `getent passwd` knows, or give its number",
        ),
        ("\n[[grant]]\n", "2: the grant names no grantee\nhint: set one of `user`, `group` and `socket`"),
        (
            "[[grant]]\nuser = 0\ngroup = 0",
            "1: the grant names more than one grantee\n\
             hint: set exactly one of `user`, `group` and `socket`, and write a separate [[grant]] for each",
        ),
        (
            "[identity.web]\nkey = '/k'\n[[grant]]\nuser = 0\nidentities = ['wep']",
            "5: unknown identity `wep`\nhint: did you mean `web`?",
        ),
        (
            "[[grant]]\nuser = 0\nlisteners = ['https']",
            "3: unknown listener `https`\nhint: declare [listener.https]",
        ),
        ("[[grant]]\nsocket = 'x'", "2: unknown socket `x`\nhint: declare [socket.x]"),
        ("[[grant]]\nuser = 0\nroles = ['sever']", "3: unknown role `sever`\nhint: use server or client"),
        (
            "[[grant]]\nuser = 0\nminimum_protocol = 'SSLv3'",
            "3: unknown protocol `SSLv3`\nhint: use TLSv1.2 or TLSv1.3",
        ),
        (
            "[[grant]]\nuser = 0\nmax_contexts = 0",
            "3: 0 is out of range\nhint: give a number from 1 to 1073741824",
        ),
        (
            "[identity.a]\nkey = '/a'\n[identity.b]\nkey = '/b'\naliases = ['a']",
            "3: `a` is already a name of identity `a`, so it cannot be a name of `b`\n\
             hint: a name, alias or file can belong to only one identity: remove it from the other",
        ),
        (
            "[identity.a]\nkey = '/a'\n[identity.b]\nkey = '/a'",
            "3: `/a` is already a name of identity `a`, so it cannot be a name of `b`\n\
             hint: a name, alias or file can belong to only one identity: remove it from the other",
        ),
        (
            "[identity.'*']\nkey = '/a'",
            "1: `*` is not a valid identity name\n\
             hint: use 1 to 255 bytes without control characters, and not `*`",
        ),
        (
            "[identity.a]\nkey = 'credential:../x'",
            "2: `../x` is not a valid credential name\n\
             hint: write \"credential:NAME\", where NAME is the name in LoadCredential=",
        ),
        (
            "[listener.a]\naddress = 'localhost:443'",
            "2: `localhost:443` is not a valid listen address\n\
             hint: write IP:PORT, such as \"0.0.0.0:443\" or \"[::]:443\"",
        ),
        (
            "[listener.a]\naddress='0.0.0.0:1'\n[listener.b]\naddress='0.0.0.0:1'",
            "4: listener `a` already uses the address 0.0.0.0:1\nhint: give each listener its own address",
        ),
        (
            "[listener.a]\naddress='0.0.0.0:1'\n[listener.b]\naddress='127.0.0.1:1'",
            "4: listener `a` already uses the address 0.0.0.0:1\nhint: give each listener its own address",
        ),
        (
            "[listener.'a:b']\n",
            "1: `a:b` is not a valid name\nhint: use up to 64 letters, digits, `_`, `-` and `.`",
        ),
        ("[control]\nmode = 660", "2: invalid file mode\nhint: write it in octal, such as \"0660\""),
        (
            "[control]\nsocket = '/x'\n[socket.a]\npath = '/x'",
            "4: another socket already uses the path /x\nhint: give each socket its own path",
        ),
        (
            "[trust.a]\ncrl = 'x'",
            "1: trust `a` has no certificates\nhint: give it `file`, `directory` or both",
        ),
        (
            "[trust.system]\nfile = 'x'",
            "1: `system` is reserved for the operating system's trust store and cannot be declared\nhint: choose another name",
        ),
        (
            "[limits]\nhandshake = 0",
            "2: 0 is not a valid deadline\nhint: give a number of seconds from 0.01 to 86400",
        ),
        ("limits = [1]", "1: expected a table, found sequence\nhint: write a table here"),
        (
            "[limits]\nconection = 1",
            "2: unknown key `conection` in [limits]\nhint: did you mean `connections`?",
        ),
        ("[limits]\nkeeper = 'x'", "2: expected a number, found string \"x\"\nhint: write a number here"),
        ("[limits]\nframe_bytes = 10", "2: 10 is out of range\nhint: give a number from 16384 to 67108864"),
        ("[tickets]\nepoch = 0", "2: 0 is out of range\nhint: give a number from 1 to 2592000"),
        (
            "[tickets]\nepoch = 60\nlifetime = 61",
            "3: sessions of 61 seconds outlive the keys of their tickets\n\
             hint: give at most the `epoch`, which is 60",
        ),
        (
            "[front.default]\nticket_domain = 'a b'",
            "2: `a b` is not a valid name\nhint: use up to 64 letters, digits, `_`, `-` and `.`",
        ),
        ("[log]\nlevel = 'loud'", "2: unknown level `loud`\nhint: use error, warn, info, debug or trace"),
        ("[log]\nformat = 'xml'", "2: unknown format `xml`\nhint: known are text and journal"),
        (
            "[front.a]\n[front.b]",
            "1: no front serves the control socket\nhint: name one of the fronts `default`",
        ),
        ("[front.default]\n[front.b]\nsockets = ['x']", "3: unknown socket `x`\nhint: declare [socket.x]"),
        (
            "[identities]\ndirectory = '/no/such/directory'",
            "2: /no/such/directory cannot be read: No such file or directory (os error 2)\n\
             hint: name a directory of identities",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(only_error(text), expected, "for\n{text}");
    }
}

/// Every limit accepts both ends of its range, and rejects values beyond them.
#[test]
fn each_limit_is_read_in_its_range() {
    for limit in Limits::ALL {
        let text = |value: f64| format!("[limits]\n{} = {value}", limit.name);
        let [least, most] = [limit.range.start(), limit.range.end()].map(|bound| limit.configured(*bound));
        for bound in [limit.range.start(), limit.range.end()] {
            let config = read(&text(limit.configured(*bound))).config.expect("no errors");
            let mut expected = Limits::default();
            limit.set(&mut expected, *bound);
            assert_eq!(config.limits, expected);
        }
        for beyond in [least - limit.configured(1), most + limit.configured(1)] {
            let hint = format!("from {least} to {most}");
            assert!(only_error(&text(beyond)).ends_with(&hint), "{} = {beyond}", limit.name);
        }
    }
}

#[test]
fn sessions_end_with_a_short_epoch() {
    let tickets = |text: &str| read(text).config.expect("no errors").tickets;
    assert_eq!(tickets(""), Tickets { epoch: 43_200, lifetime: 7_200, root: None });
    assert_eq!(tickets("[tickets]\nepoch = 60").lifetime, 60);
    assert_eq!(tickets("[tickets]\nlifetime = 0").lifetime, 0);
}

#[test]
fn one_run_names_every_mistake() {
    let text = "[control]\nmode = 'x'\n[[grant]]\nuser = 'no-such-user'\n[limits]\nkeeper = -1\n";
    let lines: Vec<Option<usize>> = read(text)
        .findings
        .iter()
        .map(|finding| finding.location.as_ref().and_then(|location| location.line))
        .collect();
    assert_eq!(lines.len(), 3);
    for line in [2, 4, 6] {
        assert!(lines.contains(&Some(line)), "line {line} in {lines:?}");
    }
}

#[test]
fn without_a_configuration_the_starter_has_every_grant() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("a.pem"), "").expect("written");
    let request = Request { identities: vec![directory.path().to_owned()], ..Request::default() };
    let config = load(&request).config.expect("no errors");
    assert_eq!(config.grants.len(), 1);
    assert_eq!(config.grants[0].grantee, Grantee::User(rustix::process::getuid().as_raw()));
    assert!(config.identities["a"].discovered);
    assert_eq!(config.fronts.keys().collect::<Vec<_>>(), ["default"]);
}

#[test]
fn a_certificate_that_went_away_does_not_stop_the_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!(
        "[identities]\ndirectory = '{}'\n[[grant]]\nuser = 0\nidentities = ['gone']",
        directory.path().display()
    );
    let loaded = read(&text);
    assert!(loaded.config.is_some());
    assert_eq!(loaded.findings[0].severity, Severity::Warning);
}

#[test]
fn a_second_file_of_a_name_is_left_out() {
    let directories = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    for directory in &directories {
        std::fs::write(directory.path().join("ca.pem"), "").expect("written");
    }
    let identities = directories.iter().map(|directory| directory.path().to_owned()).collect();
    let loaded = load(&Request { identities, ..Request::default() });
    let second = directories[1].path().join("ca.pem");
    assert_eq!(
        loaded.findings[0].to_string(),
        format!(
            "warning: {}: identity `ca` already exists\n\
             hint: the file is ignored: remove it, or rename it",
            second.display()
        )
    );
    let key = &loaded.config.expect("no errors").identities["ca"].key;
    assert_eq!(key.source, FileSource::Path(directories[0].path().join("ca.pem")));
}

#[test]
fn fronts_get_what_they_claim_and_default_the_rest() {
    let text = "[socket.a]\npath='/a'\n[socket.b]\npath='/b'\n[listener.l]\n\
                [front.x]\nsockets=['a']\nidentities=[]\n[front.default]\n";
    let config = read(text).config.expect("no errors");
    let (x, rest) = (&config.fronts["x"], &config.fronts["default"]);
    assert!(x.sockets.contains("a") && !x.sockets.contains("b") && x.listeners.is_empty() && !x.control);
    assert!(rest.sockets.contains("b") && rest.listeners.contains("l") && rest.control);
    assert_eq!(x.identities, Selection::Only(BTreeSet::new()));
    let nobodys = "[socket.a]\npath='/a'\n[front.x]\n[front.y]\n";
    let causes: Vec<String> = read(nobodys).findings.into_iter().map(|finding| finding.cause).collect();
    assert_eq!(causes, ["no front serves socket `a`", "no front serves the control socket"]);
    let twice = "[socket.a]\npath='/a'\n[front.default]\nsockets=['a']\n[front.y]\nsockets=['a']\n";
    assert_eq!(only_error(twice), "6: two fronts claim socket `a`\nhint: remove it from one of them");
}

#[test]
fn a_missing_file_is_named() {
    let request = Request { config: Some("/no/such.toml".into()), ..Request::default() };
    let loaded = load(&request);
    assert_eq!(
        loaded.findings[0].to_string(),
        "error: /no/such.toml: the configuration cannot be read: No such file or directory (os error 2)\n\
         hint: name another file with --config FILE"
    );
}

proptest! {
    /// For any typing error in a configuration, the result is a configuration or a finding.
    #[test]
    fn mutated_configurations_never_panic(
        edits in proptest::collection::vec((0..SAMPLE.len(), any::<Option<char>>()), 1..8),
    ) {
        let mut text: Vec<char> = SAMPLE.chars().collect();
        for (at, edit) in edits {
            let at = at % text.len();
            match edit {
                Some(letter) => text[at] = letter,
                None => drop(text.remove(at)),
            }
        }
        let loaded = read(&text.into_iter().collect::<String>());
        let failed = loaded.findings.iter().any(|finding| finding.severity == Severity::Error);
        prop_assert_eq!(loaded.config.is_none(), failed);
    }
}

#[test]
fn a_path_with_dots_is_answered_to_with_and_without_them() {
    let names = |path: &str| -> Vec<String> {
        crate::config::model::without_dots(std::path::Path::new(path))
            .to_str()
            .map(str::to_owned)
            .into_iter()
            .collect()
    };
    assert_eq!(names("/etc/luassl/../keys/./a.pem"), ["/etc/keys/a.pem"]);
    assert_eq!(names("/etc/keys/a.pem"), ["/etc/keys/a.pem"]);
}

#[test]
fn mistakes_of_form_hide_no_others_and_bring_none_that_follow_from_them() {
    let text = "[identity.a]\nkay = 'a.key'\n[log]\nlevel = 3\nzzz = 1\n[control]\nmode = 'x'\n\
                [identity.b]\nkey = b.key\naliases = ['b', 7]\n[[grant]]\nuser = 'no-such-user'\nconect = true\n";
    let findings = read(text).findings;
    let lines: Vec<_> =
        findings.iter().map(|finding| finding.location.as_ref().unwrap().line.unwrap()).collect();
    let said: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(lines, [2, 4, 5, 7, 9, 10, 12, 13], "{said:#?}");
}

#[test]
fn an_identity_that_no_grant_names_is_a_warning_at_its_place() {
    let two = "[identity.a]\nkey = '/a'\n[identity.b]\nkey = '/b'\n";
    let warned = |grant: &str| -> Vec<String> {
        let read = read(&format!("{two}{grant}"));
        assert!(read.config.is_some());
        read.findings.iter().map(|finding| finding.to_string()).collect()
    };
    assert_eq!(
        warned("[[grant]]\nuser = 0\nidentities = ['a']\n"),
        ["warning: /etc/x/luassl.toml:3: no grant lists identity `b`, so nothing can use it\n\
          hint: add it to `identities` of a [[grant]], or remove it"]
    );
    assert_eq!(warned("[[grant]]\nuser = 0\nidentities = ['*']\n"), [] as [&str; 0]);
    assert_eq!(warned("").len(), 2);
}

#[test]
fn a_socket_whose_directory_is_missing_is_a_warning() {
    let read =
        read("[control]\nsocket = '/nonexistent/a.sock'\n[socket.b]\npath = '/run/nonexistent/b.sock'\n");
    assert!(read.config.is_some());
    let said: Vec<_> = read.findings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let start =
        "warning: /etc/x/luassl.toml:2: the socket's directory /nonexistent does not exist\nhint: create it";
    assert!(said[0].starts_with(start), "{said:?}");
}

#[test]
fn a_number_beyond_all_bounds_is_named_as_one() {
    let found = only_error("[limits]\nconnections = 99999999999999999999\n");
    assert_eq!(found, "2: this number is too large\nhint: write a smaller one");
}

#[test]
fn the_wildcard_of_ipv6_beside_ipv4_is_a_warning_and_port_0_is_none() {
    let read = read(
        "[listener.a]\naddress='0.0.0.0:1'\n[listener.b]\naddress='[::]:1'\n[listener.c]\naddress='127.0.0.1:0'\n[listener.d]\naddress='127.0.0.1:0'\n",
    );
    assert!(read.config.is_some());
    let said: Vec<_> = read.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "warning: /etc/x/luassl.toml:4: listener `a` already uses the address 0.0.0.0:1, and [::] also covers IPv4\n\
          hint: keep only [::], or set the sysctl net.ipv6.bindv6only"
        ]
    );
}

#[test]
fn a_pipe_is_no_configuration_and_nobody_waits_for_its_writer() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = crate::config::source::Source::read(&pipe).unwrap_err().to_string();
    assert!(error.contains("it is not a regular file"), "{error}");
}
