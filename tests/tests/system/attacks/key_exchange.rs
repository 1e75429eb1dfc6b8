//! RSA key exchange is there for whom it is granted, and for nobody else.

use crate::api::serve;
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{self, try_connect};

fn with_grant(rsa_key_exchange: bool) -> Daemon {
    Daemon::with_config(&format!(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n\
         [[grant]]\nuser = UID\nidentities = ['*']\nrsa_key_exchange = {rsa_key_exchange}\n"
    ))
}

/// A peer that has nothing else.
fn rsa_only(builder: &mut openssl::ssl::SslConnectorBuilder) {
    peer::only(builder, "TLSv1.2");
    builder.set_cipher_list("AES256-GCM-SHA384").expect("a cipher");
}

#[test]
fn rsa_key_exchange_is_on_by_a_grant() {
    let daemon = with_grant(true);
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('server')");
    for _ in 0..20 {
        agent.send("c = assert(s:accept()) c:write('hello')");
        let mut tls = try_connect(&peer::connector(rsa_only), port).expect("a handshake");
        assert_eq!(tls.ssl().current_cipher().map(|cipher| cipher.name()), Some("AES256-GCM-SHA384"));
        assert_eq!(crate::api::text(&mut tls), "hello");
        agent.answer();
    }
}

#[test]
fn openssl_s_client_negotiates_it() {
    let daemon = with_grant(true);
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('server')");
    agent.send("c = assert(s:accept())");
    let client = peer::s_client(port, &["-tls1_2", "-cipher", "AES128-GCM-SHA256"]);
    client.expect("Cipher is AES128-GCM-SHA256");
    agent.answer();
}

#[test]
fn rsa_key_exchange_is_off_without_one() {
    let daemon = with_grant(false);
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('server')");
    agent.send("return s:accept{report = true}");
    assert!(try_connect(&peer::connector(rsa_only), port).is_err());
    // The server says why, or was told by the peer.
    assert!(agent.answer().starts_with("nil, "));
}
