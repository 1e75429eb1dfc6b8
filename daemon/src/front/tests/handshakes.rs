//! Handshakes of the front with OpenSSL, in both roles.

use super::{
    peers::{self, BOUND},
    rig::block_on,
};
use crate::front::handshake::handshake;
use luassl_protocol::Role;
use openssl::ssl::SslVersion;
use std::thread;

#[test]
fn both_roles_shake_hands() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (tcp, peer) = peers::tcp_pair();
        let peer = thread::spawn(move || peers::client(version, peer));
        let done = block_on(handshake(peers::session(version), tcp, Role::Server, BOUND));
        assert!(done.is_ok(), "as a server: {:?}", done.err());
        peer.join().unwrap();
        let (tcp, peer) = peers::tcp_pair();
        let peer = thread::spawn(move || peers::server(version, peer));
        let done = block_on(handshake(peers::session(version), tcp, Role::Client, BOUND));
        assert!(done.is_ok(), "as a client: {:?}", done.err());
        peer.join().unwrap();
    }
}
