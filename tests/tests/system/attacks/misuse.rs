//! Attacks 4, 5, 6 and 18 by a captured front: a test build of it asks its keeper for what it should not have. Each is
//! refused, counted and logged; the front's own handshakes and another front's are signed as before.

use crate::api::serve;
use luassl_tests::activated::{self, listening};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::process::Process;
use luassl_tests::{built, peer, pki, scratch};
use rustix::net::SocketType;
use std::path::Path;
use std::process::Command;

/// A request of a captured front's that is refused.
struct Misuse {
    /// As the test build of the front calls it.
    request: &'static str,
    /// The captured front's role.
    role: &'static str,
    /// What the front is answered.
    answer: &'static str,
    /// The account that the keeper counts it in.
    identity: &'static str,
    operation: &'static str,
    /// The reason in the audit log and in `luasslctl status`.
    reason: &'static str,
}

const fn of_a_server(request: &'static str) -> Misuse {
    Misuse {
        request,
        role: "server",
        answer: "refused: not a handshake message",
        identity: "site",
        operation: "sign",
        reason: "not-handshake",
    }
}

const JWT: Misuse = of_a_server("jwt");
const CSR: Misuse = of_a_server("csr");
const RANDOM: Misuse = of_a_server("random");
const DIGEST: Misuse = of_a_server("digest");
const OTHER_CONTEXT: Misuse = of_a_server("other-context");
const LONGER: Misuse = of_a_server("longer");
const TRANSCRIPT: Misuse = Misuse { role: "client", ..of_a_server("transcript") };
const CLIENT_CONTEXT: Misuse = Misuse {
    answer: "refused: this front does not have this role",
    reason: "role",
    ..of_a_server("client-context")
};
const SCHEME: Misuse = Misuse {
    answer: "refused: the signature scheme does not fit",
    reason: "scheme",
    ..of_a_server("scheme")
};
const DECRYPT: Misuse = Misuse {
    answer: "refused: no RSA key exchange for this front",
    operation: "decrypt",
    reason: "key-exchange",
    ..of_a_server("decrypt")
};
const OTHERS: Misuse = Misuse {
    answer: "refused: no such identity, as nobody's is",
    identity: "others",
    reason: "unknown-identity",
    ..of_a_server("others")
};
const NO_SUCH_KEY: Misuse = Misuse {
    answer: "refused: the identity has no such key",
    reason: "unknown-key",
    ..of_a_server("no-such-key")
};

const ALL: [Misuse; 12] = [
    JWT,
    CSR,
    RANDOM,
    DIGEST,
    OTHER_CONTEXT,
    LONGER,
    TRANSCRIPT,
    CLIENT_CONTEXT,
    SCHEME,
    DECRYPT,
    OTHERS,
    NO_SUCH_KEY,
];

/// Two identities.
const IDENTITIES: &str = "[identity.site]\nkey = 'PKI/keys/server-p256.pem'\n\
     [identity.others]\nkey = 'PKI/keys/server-rsa.pem'\n";

fn front(request: &str, role: &str) -> String {
    format!("[front.hostile-front-asks-{request}]\nidentities = ['site']\nroles = ['{role}']\n")
}

/// A keeper with two fronts: the captured one has `site` in one role, the other one has `others`.
fn captured(request: &str, role: &str, more: &str) -> Daemon {
    Daemon::hostile(&format!(
        "[control]\nsocket = 'SOCKET'\n{IDENTITIES}[socket.captured]\npath = 'DIR/captured.sock'\n\
         [front.default]\nidentities = ['others']\n{}sockets = ['captured']\n\
         [[grant]]\nuser = UID\nidentities = ['*']\n{more}",
        front(request, role)
    ))
}

/// The other front's identity is there, and in service.
fn others_go_on(daemon: &Daemon) {
    let mut agent = Agent::start(daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('others')");
    agent.send("c = assert(s:accept())");
    drop(peer::connect(port));
    agent.answer();
}

fn is_refused(misuse: &Misuse) {
    let Misuse { request, role, answer, identity, operation, reason } = misuse;
    let daemon = captured(request, role, "");
    daemon.expect_log(&format!("hostile: {request}: {answer}"));
    daemon.expect_log(&format!(
        "audit by=keeper event=refused front=\"hostile-front-asks-{request}\" identity=\"{identity}\" \
         operation={operation} reason={reason} "
    ));
    // Positive control: what it may have it gets.
    if *role == "server" {
        daemon.expect_log("hostile: a handshake after that: signed");
    }
    others_go_on(&daemon);
}

/// What a captured front with the server role is answered under a grant with `more` in it.
fn is_answered(request: &str, more: &str, answer: &str) {
    let daemon = captured(request, "server", more);
    daemon.expect_log(&format!("hostile: {request}: {answer}"));
    daemon.expect_log("hostile: a handshake after that: signed");
    others_go_on(&daemon);
}

const NO_RIGHT: &str = "refused: this front does not have this role";
const NO_HANDSHAKE: &str = "refused: not a handshake message";

#[test]
fn finding_1_a_hello_in_the_shape_of_dhe_is_refused_where_dhe_is_granted() {
    is_answered("hello-as-dhe", "dhe = true\n", NO_HANDSHAKE);
    // Positive control: the same parameters behind random bytes.
    is_answered("dhe", "dhe = true\n", "signed");
}

#[test]
fn finding_2_dhe_needs_a_grant_that_says_so() {
    is_answered("dhe", "", NO_RIGHT);
}

#[test]
fn finding_2_tls_1_2_is_a_right_that_the_lowest_protocol_of_a_grant_takes_away() {
    is_answered("exchange", "minimum_protocol = 'TLSv1.3'\ndhe = true\nrsa_key_exchange = true\n", NO_RIGHT);
    is_answered("dhe", "minimum_protocol = 'TLSv1.3'\ndhe = true\n", NO_RIGHT);
    is_answered(
        "decrypt",
        "minimum_protocol = 'TLSv1.3'\nrsa_key_exchange = true\n",
        "refused: no RSA key exchange",
    );
    // Positive control: with TLS 1.2 it is signed.
    is_answered("exchange", "", "signed");
}

#[test]
fn finding_2_a_cose_structure_in_the_shape_of_ecdhe_is_refused() {
    is_answered("cose", "", NO_HANDSHAKE);
}

/// What is no request at all ends the connection that it came on.
fn is_dropped(request: &str, detail: &str) {
    let daemon = captured(request, "server", "");
    daemon.expect_log(&format!("hostile: {request}: dropped: "));
    daemon.expect_log(&format!(
        "audit by=keeper event=dropped front=\"hostile-front-asks-{request}\" detail=\"{detail}"
    ));
    daemon.expect_log("hostile: a handshake after that: signed");
    others_go_on(&daemon);
}

#[test]
fn attack_4_a_json_web_token_is_refused() {
    is_refused(&JWT);
}

#[test]
fn attack_4_a_certificate_request_is_refused() {
    is_refused(&CSR);
}

#[test]
fn attack_4_random_bytes_are_refused() {
    is_refused(&RANDOM);
}

#[test]
fn attack_4_a_bare_digest_is_refused() {
    is_refused(&DIGEST);
}

#[test]
fn attack_4_another_context_is_refused() {
    is_refused(&OTHER_CONTEXT);
}

#[test]
fn attack_4_one_byte_behind_the_transcripts_hash_is_refused() {
    is_refused(&LONGER);
}

#[test]
fn attack_4_a_clients_context_for_a_servers_identity_is_refused() {
    is_refused(&CLIENT_CONTEXT);
}

/// Positive control: a front with the client's role gets it.
#[test]
fn attack_4_a_clients_context_for_a_clients_identity_is_signed() {
    let daemon = captured("client-context", "client", "");
    daemon.expect_log("hostile: client-context: signed");
    // And nothing as a server.
    daemon.expect_log("hostile: a handshake after that: refused: this front does not have this role");
}

#[test]
fn attack_4_a_transcript_without_the_identitys_own_leaf_is_refused() {
    is_refused(&TRANSCRIPT);
}

#[test]
fn attack_4_a_scheme_of_another_kind_of_key_is_refused() {
    is_refused(&SCHEME);
}

#[test]
fn attack_5_rsa_decryption_is_no_operation_of_a_front_without_the_grant() {
    is_refused(&DECRYPT);
}

#[test]
fn attack_18_another_fronts_identity_is_as_unknown_as_any() {
    is_refused(&OTHERS);
}

#[test]
fn attack_18_a_key_that_the_identity_never_had_is_refused() {
    is_refused(&NO_SUCH_KEY);
}

#[test]
fn attack_6_a_captured_fronts_garbage_ends_its_connection_alone() {
    is_dropped("garbage", "it sent an invalid request");
}

#[test]
fn attack_6_a_captured_fronts_huge_frame_ends_its_connection_alone() {
    is_dropped("huge", "it sent a request of more than");
}

#[test]
fn attack_6_a_captured_fronts_descriptors_end_its_connection_alone() {
    is_dropped("descriptors", "it sent descriptors");
}

/// Ten thousand requests for signatures, as fast as the keeper answers.
#[test]
fn attack_4_a_flood_meets_its_rate_and_another_front_does_not() {
    let daemon = captured("flood", "server", "[limits]\nsignatures_per_identity = 100\n");
    daemon.expect_log("hostile: flood: begins");
    others_go_on(&daemon);
    daemon.expect_log("hostile: flood: ended");
    let log = daemon.log();
    let count = |what: &str| -> u32 {
        let at = log.find(what).unwrap_or_else(|| panic!("no {what:?} in {log}"));
        log[..at].rsplit([' ', ',']).find_map(|word| word.parse().ok()).expect("a number")
    };
    let (signed, refused) = (count(" times signed"), count(" times refused: too many requests"));
    assert_eq!(signed + refused, 10_000);
    // One second brings a hundred; a machine that needed a minute for it would have had no flood.
    assert!((100..6_000).contains(&signed), "{signed}");
    daemon.expect_log(
        "audit by=keeper event=refused front=\"hostile-front-asks-flood\" identity=\"site\" operation=sign \
         reason=rate ",
    );
    assert!(log.matches("reason=rate").count() <= 100, "the flood went on in the log");
    others_go_on(&daemon);
}

/// The keeper of one machine and the captured fronts on it, each with its sockets, as systemd has them.
struct Machine {
    directory: tempfile::TempDir,
    keeper: Process,
}

impl Machine {
    fn start() -> Self {
        let directory = scratch();
        let at = |name: &str| directory.path().join(name);
        let fronts: String = ALL.iter().map(|misuse| front(misuse.request, misuse.role)).collect();
        let grant = "[[grant]]\nuser = 0\nidentities = ['*']\n";
        let config = format!("{IDENTITIES}[front.default]\nidentities = ['others']\n{fronts}{grant}");
        let pki = pki::file("").display().to_string();
        std::fs::write(at("luassl.toml"), config.replace("PKI/", &pki)).expect("the configuration");
        let names: Vec<_> =
            ALL.iter().map(|misuse| format!("front.hostile-front-asks-{}", misuse.request)).collect();
        let sockets: Vec<_> =
            names.iter().map(|name| (name.as_str(), listening(&at(name), SocketType::SEQPACKET))).collect();
        let admin = listening(&at("admin"), SocketType::SEQPACKET);
        let mut passed = vec![("admin", &admin)];
        passed.extend(sockets.iter().map(|(name, socket)| (*name, socket)));
        let keeper = activated::start(&built("bin/luassl-keeper"), &[], &passed);
        let machine = Self { directory, keeper };
        machine.luasslctl(&["push", "--to", "keeper", "--config", "luassl.toml", "--admin", "admin"]);
        machine
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn luasslctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(built("bin/luasslctl"));
        let output = command.args(arguments).current_dir(self.directory.path()).output().expect("luasslctl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", self.keeper.errors());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A captured front has done what its name says.
    fn attacked_by(&self, name: &str) {
        let socket = |purpose: &str, kind| listening(&self.at(&format!("{name}-{purpose}")), kind);
        let (admin, control) =
            (socket("admin", SocketType::SEQPACKET), socket("control", SocketType::STREAM));
        let keeper = self.at(&format!("front.{name}"));
        let arguments = ["front", "--name", name, "--keeper", keeper.to_str().expect("text")];
        let sockets = [("admin", &admin), ("control", &control)];
        let process = activated::start(Path::new(&built("test/luassld-hostile")), &arguments, &sockets);
        process.expect_error("hostile: a handshake after that: ");
    }
}

#[test]
fn attack_4_each_misuse_is_counted_by_front_identity_and_reason() {
    let machine = Machine::start();
    for misuse in &ALL {
        machine.attacked_by(&format!("hostile-front-asks-{}", misuse.request));
    }
    let table = machine.luasslctl(&["status", "--keeper-admin", "admin"]);
    for misuse in &ALL {
        let front = format!("hostile-front-asks-{}", misuse.request);
        // What a front cannot reach is in one account, whatever it calls it.
        let identity = if misuse.identity == "site" { "site" } else { "*" };
        let is_its = |line: &&str| {
            let mut words = line.split_whitespace();
            words.next() == Some(&front) && words.next() == Some(identity)
        };
        let line = table.lines().find(is_its).unwrap_or_else(|| panic!("no {front} {identity} in {table}"));
        // Two questions tell whether somebody else's is as unknown as nobody's.
        let times = if misuse.identity == "site" { 1 } else { 2 };
        assert!(line.contains(&format!("{} {times}", misuse.reason)), "{line}");
    }
}
