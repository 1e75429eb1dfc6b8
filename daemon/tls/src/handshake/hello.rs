//! The pause at the ClientHello: a server's session stops there until the client of the daemon has decided how to
//! continue.

use crate::ffi::safe_ffi;
use crate::names::name_in;
use luassl_protocol::ClientHello;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{ClientHelloResponse, Ssl, SslAlert, SslContext, SslRef};
use parking_lot::{Mutex, MutexGuard};
use std::sync::LazyLock;

const SERVER_NAME: u32 = 0;
const APPLICATION_PROTOCOLS: u32 = 16;

/// The decision on how a session continues.
#[derive(Default)]
pub struct Decision {
    /// The context to continue with, in place of the session's own.
    pub context: Option<SslContext>,
    /// The application protocol to agree on, if the peer offers it.
    pub alpn: Option<String>,
    /// Whether to fail the handshake with unrecognized_name.
    pub refuse: bool,
}

/// The state of a session that pauses.
#[derive(Default)]
struct Pause {
    asked: Mutex<Option<ClientHello>>,
    decision: Mutex<Option<Decision>>,
}

static PAUSE: LazyLock<Option<Index<Ssl, Pause>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

fn pause_of(ssl: &SslRef) -> Option<&Pause> {
    ssl.ex_data((*PAUSE)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// Makes a session stop at its ClientHello.
pub(crate) fn pause(ssl: &mut SslRef) {
    if let Some(index) = *PAUSE {
        ssl.set_ex_data(index, Pause::default());
    }
}

/// Returns the request in the ClientHello of a stopped session, once.
#[must_use]
pub fn take_hello(ssl: &SslRef) -> Option<ClientHello> {
    lock(&pause_of(ssl)?.asked).take()
}

/// Allows a stopped session to continue with its next handshake call.
pub fn decide(ssl: &SslRef, decision: Decision) {
    if let Some(pause) = pause_of(ssl) {
        *lock(&pause.decision) = Some(decision);
    }
}

/// Returns the application protocol of the decision. `None` if there was no decision.
pub(crate) fn decided_protocol(ssl: &SslRef) -> Option<Option<String>> {
    lock(&pause_of(ssl)?.decision).as_ref().map(|decision| decision.alpn.clone())
}

/// The ClientHello callback.
pub(crate) fn answer(ssl: &mut SslRef, alert: &mut SslAlert) -> Result<ClientHelloResponse, ErrorStack> {
    let Some(pause) = pause_of(ssl) else { return Ok(ClientHelloResponse::SUCCESS) };
    let Some((refuse, context)) =
        lock(&pause.decision).as_ref().map(|decision| (decision.refuse, decision.context.clone()))
    else {
        let hello = read(ssl);
        if let Some(pause) = pause_of(ssl) {
            *lock(&pause.asked) = Some(hello);
        }
        return Ok(ClientHelloResponse::RETRY);
    };
    if refuse {
        *alert = SslAlert::UNRECOGNIZED_NAME;
        return Err(ErrorStack::get());
    }
    if let Some(context) = context {
        ssl.set_ssl_context(&context)?;
    }
    Ok(ClientHelloResponse::SUCCESS)
}

fn read(ssl: &mut SslRef) -> ClientHello {
    let name = safe_ffi::hello_extension(ssl, SERVER_NAME);
    let name = name.as_deref().and_then(name_in).map(|name| String::from_utf8_lossy(name).into_owned());
    let protocols = safe_ffi::hello_extension(ssl, APPLICATION_PROTOCOLS).unwrap_or_default();
    ClientHello { sni: name, alpn: protocols_in(&protocols) }
}

/// Returns the names in an application_layer_protocol_negotiation extension (RFC 7301, 3.1).
fn protocols_in(extension: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = extension.get(2..).unwrap_or_default();
    while let Some((&length, behind)) = rest.split_first() {
        let Some((name, next)) = behind.split_at_checked(usize::from(length)) else { break };
        names.push(String::from_utf8_lossy(name).into_owned());
        rest = next;
    }
    names
}

#[cfg(test)]
mod tests {
    use crate::handshake::hello::protocols_in;

    #[test]
    fn the_protocols_of_a_client_are_found_and_broken_lists_end() {
        assert_eq!(protocols_in(b"\0\x0c\x02h2\x08http/1.1"), ["h2", "http/1.1"]);
        assert_eq!(protocols_in(b"\0\x05\x02h2\x09ht"), ["h2"]);
        assert!(protocols_in(b"").is_empty() && protocols_in(b"\0").is_empty());
    }
}
