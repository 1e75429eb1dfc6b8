//! Attacks 4, 5 and 18 by a captured front: a test build of it asks its keeper for what it should not have. Each is
//! refused, counted and logged; the front's own handshakes and another front's are signed as before.

use crate::api::serve;
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer;

/// A keeper with two fronts: the captured one has `site` in one role, the other one has `others`.
fn captured(request: &str, role: &str) -> Daemon {
    Daemon::hostile(&format!(
        "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'PKI/keys/server-p256.pem'\n\
         [identity.others]\nkey = 'PKI/keys/server-rsa.pem'\n[socket.captured]\npath = 'DIR/captured.sock'\n\
         [front.default]\nidentities = ['others']\n\
         [front.hostile-front-asks-{request}]\nidentities = ['site']\nroles = ['{role}']\nsockets = ['captured']\n\
         [[grant]]\nuser = UID\nidentities = ['*']\n"
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

/// What the captured front is answered, and what the keeper's log says of it.
fn is_refused(request: &str, answer: &str, log: &str) {
    let daemon = captured(request, "server");
    daemon.expect_log(&format!("hostile: {request}: {answer}"));
    daemon.expect_log(log);
    // Positive control: what it may have it gets.
    daemon.expect_log("hostile: a handshake after that: signed");
    others_go_on(&daemon);
}

fn is_no_handshake(request: &str) {
    is_refused(request, "refused: not a handshake message", "not a handshake message");
}

#[test]
fn attack_4_a_json_web_token_is_refused() {
    is_no_handshake("jwt");
}

#[test]
fn attack_4_a_certificate_request_is_refused() {
    is_no_handshake("csr");
}

#[test]
fn attack_4_random_bytes_are_refused() {
    is_no_handshake("random");
}

#[test]
fn attack_4_a_bare_digest_is_refused() {
    is_no_handshake("digest");
}

#[test]
fn attack_4_another_context_is_refused() {
    is_no_handshake("other-context");
}

#[test]
fn attack_4_one_byte_behind_the_transcripts_hash_is_refused() {
    is_no_handshake("longer");
}

#[test]
fn attack_4_a_clients_context_for_a_servers_identity_is_refused() {
    is_refused("client-context", "refused: not a role of this front", "a message of the client role");
}

/// Positive control: a front with the client's role gets it.
#[test]
fn attack_4_a_clients_context_for_a_clients_identity_is_signed() {
    captured("client-context", "client").expect_log("hostile: client-context: signed");
}

#[test]
fn attack_4_a_transcript_without_the_identitys_own_leaf_is_refused() {
    let daemon = captured("transcript", "client");
    daemon.expect_log("hostile: transcript: refused: not a handshake message");
    daemon.expect_log("a transcript without the identity's own certificate");
    // A client's front signs for no server.
    daemon.expect_log("hostile: a handshake after that: refused: not a role of this front");
    others_go_on(&daemon);
}

#[test]
fn attack_4_a_scheme_of_another_kind_of_key_is_refused() {
    is_refused(
        "scheme",
        "refused: the signature scheme does not fit",
        "signature scheme 0x0807 does not fit",
    );
}

#[test]
fn attack_5_rsa_decryption_is_no_operation_of_a_front_without_the_grant() {
    is_refused(
        "decrypt",
        "refused: no RSA key exchange for this front",
        "RSA key exchange is not for this front",
    );
}

#[test]
fn attack_18_another_fronts_identity_is_as_unknown_as_any() {
    is_refused("others", "refused: no such identity, as nobody's is", "no such identity for this front");
}

#[test]
fn attack_18_a_key_that_the_identity_never_had_is_refused() {
    is_refused("no-such-key", "refused: the identity has no such key", "the identity has no such key");
}

#[test]
fn attack_6_a_captured_fronts_garbage_ends_its_connection_alone() {
    is_refused("garbage", "dropped: ", "a connection was dropped: it sent what is no request");
}

#[test]
fn attack_6_a_captured_fronts_huge_frame_ends_its_connection_alone() {
    is_refused("huge", "dropped: ", "a connection was dropped: it sent a request of more than");
}

#[test]
fn attack_6_a_captured_fronts_descriptors_end_its_connection_alone() {
    is_refused("descriptors", "dropped: ", "a connection was dropped: it sent descriptors");
}
