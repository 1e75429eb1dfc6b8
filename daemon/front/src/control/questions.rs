//! Questions about a connection, which wait for the thread that runs it.

use crate::control::{
    reply::{Outcome, Pending},
    session::Session,
};
use crate::runtime::connection::{Command, Connection, with_addresses};
use luassl_protocol::{
    ConnectionRef, Done, ErrorCode, Export, Exported, Failure, Info, Matched, PeerCertificate, PeerMatches,
    SetOption, SocketOption, Status, Token,
};
use luassl_tls as tls;
use openssl::ssl::SslRef;
use rustix::net::sockopt;
use std::{os::fd::BorrowedFd, sync::Arc};
use tokio::sync::oneshot;

/// The largest amount of keying material that one request exports, in bytes. It is the maximum with SHA-384 (RFC 5869,
/// 2.3).
const MAX_EXPORT: u32 = 255 * 48;

/// The limit on the label and the context value of such a request together, in bytes. TLS 1.2 hashes them again for
/// about every 32 bytes that it exports, on a thread with connections of all owners.
const MAX_EXPORTED_FROM: usize = 4 * 1024;

impl Session {
    fn find(&self, token: &Token) -> Outcome<Arc<Connection>> {
        self.services.runtime.connections.find(token, &self.principal.owner)
    }

    pub(super) fn status(&self, of: &ConnectionRef) -> Outcome<Status> {
        self.services.runtime.connections.status(&of.token, &self.principal.owner)
    }

    /// Sends a question to the pump that runs the connection.
    fn ask<T: Send + 'static>(
        &self,
        token: &Token,
        question: impl FnOnce(&SslRef, Option<BorrowedFd<'_>>) -> Outcome<T> + Send + 'static,
    ) -> Outcome<Pending<T>> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |ssl: &SslRef, fd: Option<BorrowedFd<'_>>| {
            // If the principal has disconnected, the answer is not needed.
            let _ = reply.send(question(ssl, fd));
        });
        self.find(token)?.send(Command::Ask(question))?;
        Ok(self.wait_for(answer))
    }

    fn wait_for<T>(&self, answer: oneshot::Receiver<Outcome<T>>) -> Pending<T> {
        Pending { answer, deadline: self.services.authority.limits().handshake() }
    }

    pub(super) fn info(&self, of: &ConnectionRef) -> Outcome<Pending<Info>> {
        self.ask(&of.token, |ssl, fd| Ok(with_addresses(tls::summary(ssl), fd)))
    }

    pub(super) fn peer_certificate(&self, of: &ConnectionRef) -> Outcome<Pending<PeerCertificate>> {
        self.ask(&of.token, |ssl, _| Ok(tls::peer_certificate(ssl)))
    }

    pub(super) fn peer_matches(&self, ask: PeerMatches) -> Outcome<Pending<Matched>> {
        let PeerMatches { token, host } = ask;
        self.ask(&token, move |ssl, _| Ok(Matched { matches: tls::peer_matches(ssl, &host) }))
    }

    pub(super) fn export(&self, export: Export) -> Outcome<Pending<Exported>> {
        if export.length > MAX_EXPORT {
            return Err(Failure::new(
                ErrorCode::Invalid,
                format!("at most {MAX_EXPORT} bytes can be exported"),
            ));
        }
        let context = export.context.as_ref().map_or(0, |context| context.len());
        if export.label.len().saturating_add(context) > MAX_EXPORTED_FROM {
            return Err(Failure::new(
                ErrorCode::Invalid,
                format!("label and context have at most {MAX_EXPORTED_FROM} bytes together"),
            ));
        }
        let token = export.token;
        self.ask(&token, move |ssl, _| {
            let mut data = vec![0; export.length as usize];
            let context = export.context.as_ref().map(|context| &context[..]);
            ssl.export_keying_material(&mut data, &export.label, context)
                .map_err(|_| Failure::new(ErrorCode::Tls, "OpenSSL exports no keying material here"))?;
            Ok(Exported { data })
        })
    }

    pub(super) fn set_option(&self, set: &SetOption) -> Outcome<Pending<Done>> {
        let SetOption { token, option, on } = *set;
        self.ask(&token, move |_, fd| {
            let gone = || Failure::new(ErrorCode::Closed, "the connection has ended");
            let fd = fd.ok_or_else(gone)?;
            let outcome = match option {
                SocketOption::NoDelay => sockopt::set_tcp_nodelay(fd, on),
                SocketOption::KeepAlive => sockopt::set_socket_keepalive(fd, on),
            };
            outcome.map(|()| Done {}).map_err(|_| gone())
        })
    }

    pub(super) fn renegotiate(&self, of: &ConnectionRef) -> Outcome<Pending<Done>> {
        let (reply, answer) = oneshot::channel();
        self.find(&of.token)?.send(Command::Renegotiate(reply))?;
        Ok(self.wait_for(answer))
    }

    pub(super) fn close(&self, of: &ConnectionRef) -> Outcome<Pending<Done>> {
        let (reply, answer) = oneshot::channel();
        self.find(&of.token)?.send(Command::Close(reply))?;
        Ok(self.wait_for(answer))
    }
}
