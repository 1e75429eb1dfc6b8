//! The audit log is as `docs/audit.md` says: every line of it is read by the page's rules, and what happened is in it.

use crate::api::{accepted, serve};
use luassl_keeper_ipc::front::{ANSWER_MAX, Answer, Refusal, Request, Sign};
use luassl_keeper_ipc::transport::{RecvFlags, SendFlags, recv, send};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::{repository, until};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

type Fields = BTreeMap<String, String>;

/// Every line of the audit log, by the rules of the page.
fn lines(log: &str) -> Vec<Fields> {
    let audit = |line: &str| line.split_once(" audit ").map(|(_, fields)| fields.to_owned());
    log.lines().filter_map(audit).map(|line| fields(&line)).collect()
}

fn fields(line: &str) -> Fields {
    let mut fields = Fields::new();
    let mut rest = line;
    loop {
        let (key, value) = rest.split_once('=').unwrap_or_else(|| panic!("no field: {rest:?} in {line:?}"));
        assert!(
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
            "{line:?}"
        );
        let (value, after) = match value.strip_prefix('"') {
            Some(text) => quoted(text),
            None => word(value),
        };
        assert!(fields.insert(key.to_owned(), value).is_none(), "{key} comes twice: {line:?}");
        match after.strip_prefix(' ') {
            Some(after) => rest = after,
            None if after.is_empty() => return fields,
            None => panic!("no space after {key}: {line:?}"),
        }
    }
}

fn word(text: &str) -> (String, &str) {
    let (word, _) = text.split_once(' ').unwrap_or((text, ""));
    let bare = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    assert!(!word.is_empty() && word.bytes().all(bare), "no bare word: {word:?}");
    (word.to_owned(), &text[word.len()..])
}

fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match letters.next().expect("something behind a \\").1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let number: String = letters
                        .by_ref()
                        .map(|(_, letter)| letter)
                        .skip(1)
                        .take_while(|letter| *letter != '}')
                        .collect();
                    u32::from_str_radix(&number, 16).ok().and_then(char::from_u32).expect("a number")
                }
                letter => {
                    assert!(letter == '"' || letter == '\\', "\\{letter}");
                    letter
                }
            }),
            letter => value.push(letter),
        }
    }
    panic!("a text without its end: {text:?}");
}

/// Whether a line has all these fields.
fn has(lines: &[Fields], wanted: &[(&str, &str)]) -> bool {
    lines.iter().any(|line| wanted.iter().all(|(key, value)| line.get(*key).is_some_and(|own| own == value)))
}

fn expect(daemon: &Daemon, wanted: &[(&str, &str)]) {
    until(&format!("a line with {wanted:?}"), || has(&lines(&daemon.log()), wanted));
}

fn daemon() -> Daemon {
    Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'PKI/keys/server.pem'\n[identity.other]\n\
         key = 'PKI/keys/client.pem'\n[[grant]]\nuser = UID\nidentities = ['site']\naudit = true\n\
         [log]\nlevel = 'error'\n",
    )
}

/// As a front that was taken over: the keeper's socket of the only front, and a request for a signature.
fn captured(daemon: &Daemon) -> impl Fn(&str, &[u8]) -> Refusal {
    let path = daemon.directory().join("luassl.sock.keeper");
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let socket: OwnedFd = socket.expect("a socket");
    connect(&socket, &SocketAddrUnix::new(&path).expect("a short path")).expect("the keeper's socket");
    move |name, message| {
        let sign = Sign { call: 1, key_id: [7; 32], name, scheme: 0x0403, message };
        let (mut out, mut buffer) = (Vec::new(), vec![0; ANSWER_MAX]);
        Request::Sign(sign).encode(&mut out).expect("short");
        send(&socket, &out, &[], SendFlags::empty()).expect("sent");
        let received = recv(&socket, &mut buffer, 0, RecvFlags::empty()).expect("an answer");
        match Answer::decode(&buffer[..received.len]).expect("an answer") {
            Answer::Refused { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_used_an_identity_is_said_by_the_front_and_that_it_signed_by_the_keeper() {
    let daemon = daemon();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('site')");
    let _tls = accepted(&mut agent, port);
    let uid = rustix::process::getuid().as_raw().to_string();
    let gid = rustix::process::getgid().as_raw().to_string();
    let pid = agent.pid().to_string();
    let who = [("uid", uid.as_str()), ("gid", gid.as_str()), ("pid", pid.as_str()), ("socket", "control")];
    let used = [("by", "front"), ("event", "used"), ("operation", "accept"), ("identity", "site")];
    expect(&daemon, &[&used[..], &who].concat());
    let log = lines(&daemon.log());
    let peer = log.iter().find(|line| line["by"] == "front").and_then(|line| line.get("peer"));
    assert!(peer.is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{peer:?}");
    let signed = [("by", "keeper"), ("event", "used"), ("front", "default"), ("identity", "site")];
    expect(&daemon, &[&signed[..], &[("operation", "sign"), ("message", "tls13-server")]].concat());
}

#[test]
fn a_refused_program_is_named_with_what_it_asked_for() {
    let daemon = daemon();
    let mut agent = Agent::start(&daemon, LUA54);
    for chunk in [
        "return ssl.wrap('other')",
        r#"return ssl.wrap('no\n"such event=used')"#,
        "return ssl.wrap{key = 'site', ciphers = 'AES128-GCM-SHA256'}",
    ] {
        assert!(agent.run(chunk).starts_with("nil, "), "{chunk}");
    }
    let pid = agent.pid().to_string();
    let refused = |identity, reason| {
        [
            ("by", "front"),
            ("event", "refused"),
            ("pid", pid.as_str()),
            ("identity", identity),
            ("reason", reason),
        ]
    };
    expect(&daemon, &refused("other", "identity"));
    expect(&daemon, &refused("no\n\"such event=used", "identity"));
    expect(&daemon, &refused("site", "floor"));
    assert!(!has(&lines(&daemon.log()), &[("event", "used")]));
}

#[test]
fn a_front_that_ends_says_what_it_has_counted() {
    let mut daemon = daemon();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('site')");
    let _tls = accepted(&mut agent, port);
    assert!(agent.run("return ssl.wrap('other')").starts_with("nil, "));
    daemon.signal(rustix::process::Signal::TERM);
    daemon.process().wait();
    let counted = [("by", "front"), ("event", "count"), ("handshakes", "1"), ("refused", "1")];
    expect(&daemon, &[&counted[..], &[("handshakes-failed", "0")]].concat());
}

#[test]
fn floods_of_refusals_are_counted_and_do_not_fill_the_log() {
    let daemon = daemon();
    let mut agent = Agent::start(&daemon, LUA54);
    assert_eq!(agent.run("for i = 1, 500 do assert(not ssl.wrap('other')) end return true"), "true");
    let sign = captured(&daemon);
    for _ in 0..500 {
        assert_eq!(sign("site", b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJyb290In0"), Refusal::UnknownKey);
    }
    for (by, own) in [("front", ("socket", "control")), ("keeper", ("front", "default"))] {
        expect(&daemon, &[("by", by), ("event", "suppressed"), own]);
        let log = lines(&daemon.log());
        let own = || log.iter().filter(|line| line["by"] == by);
        let written = own().filter(|line| line["event"] == "refused").count();
        let held =
            own().filter_map(|line| line.get("lines")).map(|lines| lines.parse::<usize>().expect("a number"));
        assert_eq!(written + held.sum::<usize>(), 500, "{by}");
        assert!(written < 100, "{by} {written}");
    }
}

#[test]
fn the_page_has_every_key_event_and_reason_that_is_written() {
    let page = std::fs::read_to_string(repository().join("docs/audit.md")).expect("the page");
    let daemon = daemon();
    let mut agent = Agent::start(&daemon, LUA54);
    assert!(agent.run("return ssl.wrap('other')").starts_with("nil"));
    let port = serve(&mut agent, "ssl.wrap('site')");
    let _tls = accepted(&mut agent, port);
    captured(&daemon)("other", b"");
    captured(&daemon)("nobody's", b"");
    expect(&daemon, &[("by", "keeper"), ("event", "refused"), ("reason", "unknown-identity")]);
    let described = |value: &str| page.contains(&format!("`{value}`"));
    for line in lines(&daemon.log()) {
        for (key, value) in &line {
            assert!(described(key), "{key}");
            let word = ["by", "event", "reason", "operation", "message"].contains(&key.as_str());
            assert!(!word || described(value), "{key}={value}");
        }
    }
    // Its own samples are such lines.
    let samples = page.lines().filter_map(|line| line.strip_prefix("audit ")).map(fields).count();
    assert_eq!(samples, 2);
    assert!(Refusal::ALL.iter().all(|refusal| described(refusal.as_str())));
}
