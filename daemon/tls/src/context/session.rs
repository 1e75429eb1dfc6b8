//! Sessions: the settings that differ between the roles, and between connections.

use crate::context::build::Built;
use crate::context::key_log;
use crate::context::options::ALLOW_RENEGOTIATION;
use crate::context::plan::Plan;
use crate::ffi::safe_ffi;
use crate::handshake::hello;
use crate::handshake::peer_bounds;
use crate::handshake::psk;
use crate::names::Host;
use crate::resumption::Resuming;
use crate::verify::{self, expect_host, remember};
use luassl_protocol::{ErrorCode, Failure, Role};
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslRef, SslVerifyMode, StatusType};
use openssl::x509::X509PurposeId;

/// Enables read-ahead for a session over a transport that keeps its input in a buffer. OpenSSL then reads as much as
/// its buffer holds, instead of a header and then a record, and keeps the buffer until it has processed this input. On
/// a transport that other code polls, it would read too much.
pub fn read_ahead(ssl: &mut SslRef) {
    safe_ffi::set_read_ahead(ssl);
}

pub(crate) fn server(
    plan: &Plan,
    built: &Built,
    resuming: &Resuming,
    host: Option<&str>,
) -> Result<Ssl, Failure> {
    let none = plan.identity.is_none() && plan.identities.is_empty() && plan.sni.is_empty();
    if none && !plan.client_hello && plan.psk.is_none() {
        return Err(Failure::new(ErrorCode::Invalid, "a server needs an identity, and the context has none"));
    }
    let expected = host.map(parse).transpose()?;
    let mut mode = plan.modes.server;
    if expected.is_some() {
        // A server that expects a certain client cannot continue without its certificate.
        mode |= SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    }
    let configure = || {
        let mut ssl = Ssl::new(&built.context)?;
        ssl.set_accept_state();
        if let Some(host) = &expected {
            expect_host(&mut ssl, host)?;
        }
        if let Some(common) = &built.common {
            resuming.serve(&mut ssl, common, host)?;
        }
        Ok(ssl)
    };
    let mut ssl = configure().map_err(internal)?;
    peer_bounds::watch(&mut ssl, true);
    if plan.client_hello {
        hello::pause(&mut ssl);
    }
    extras(plan, &mut ssl, Role::Server, host)?;
    verification(plan, &mut ssl, host, mode)?;
    Ok(ssl)
}

/// Sets the options that sessions of either role have if their context requests them.
fn extras(plan: &Plan, ssl: &mut Ssl, role: Role, host: Option<&str>) -> Result<(), Failure> {
    if plan.key_log {
        key_log::keep(ssl);
    }
    let Some(shared) = &plan.psk else { return Ok(()) };
    if host.is_some() {
        let message = "a psk proves nobody's name: leave out the host that is expected, or the psk";
        return Err(Failure::new(ErrorCode::Invalid, message));
    }
    psk::share(ssl, role, shared).map_err(internal)
}

/// Sets the verification of the peer's certificates.
fn verification(plan: &Plan, ssl: &mut Ssl, host: Option<&str>, mode: SslVerifyMode) -> Result<(), Failure> {
    remember(ssl, host, plan.verify_required);
    if plan.ignore_purpose {
        ssl.param_mut().set_purpose(X509PurposeId::SSL_SERVER).map_err(internal)?;
    }
    if plan.verify_continue {
        ssl.set_verify_callback(mode, verify::record_and_go_on);
    } else {
        ssl.set_verify_callback(mode, verify::record);
    }
    Ok(())
}

pub(crate) fn client(
    plan: &Plan,
    built: &Built,
    host: Option<&str>,
    sni: Option<&str>,
) -> Result<Ssl, Failure> {
    if plan.verify_required && host.is_none() {
        let message = "the grant requires that the peer's name is checked; give the host that is expected";
        return Err(Failure::new(ErrorCode::Refused, message));
    }
    let expected = host.map(parse).transpose()?;
    let asked = match (sni.map(parse).transpose()?, &expected) {
        (Some(Host::Name(name)), _) => Some(name),
        (None, Some(Host::Name(name))) => Some(name.clone()),
        _ => None,
    };
    let configure = || {
        let mut ssl = Ssl::new(&built.context)?;
        ssl.set_connect_state();
        if let Some(host) = &expected {
            expect_host(&mut ssl, host)?;
        }
        if let Some(name) = &asked {
            ssl.set_hostname(name)?;
        }
        if plan.staple {
            ssl.set_status_type(StatusType::OCSP)?;
        }
        Ok(ssl)
    };
    let mut ssl = configure().map_err(internal)?;
    peer_bounds::watch(&mut ssl, plan.options.contains(ALLOW_RENEGOTIATION));
    extras(plan, &mut ssl, Role::Client, host)?;
    verification(plan, &mut ssl, host, plan.modes.client)?;
    Ok(ssl)
}

fn parse(text: &str) -> Result<Host, Failure> {
    Host::parse(text).map_err(|error| Failure::new(ErrorCode::Invalid, error.to_string()))
}

fn internal(error: ErrorStack) -> Failure {
    Failure::new(ErrorCode::Internal, format!("a session cannot be made: {error}"))
}
