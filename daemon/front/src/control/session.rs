//! The session of a control connection. It maps each request to an operation.

use crate::control::reply::{Answering, Outcome, later, plain, with_descriptor};
use crate::{
    authorization::{principal::Principal, quota::QuotaGuard},
    context::ContextTable,
    services::Services,
};
use luassl_protocol::{Done, ErrorCode, Failure, Hello, Request, VERSION, Welcome, feature};
use luassl_tls as tls;
use std::{collections::HashMap, os::fd::OwnedFd, sync::Arc};

/// The objects that one control connection has created.
pub(super) struct Session {
    pub(super) services: Services,
    pub(super) principal: Principal,
    /// Whether a grant applied to the caller when it connected.
    has_grant: bool,
    introduced: bool,
    pub(super) contexts: ContextTable,
    pub(super) next_context: u64,
    pub(super) blobs: HashMap<[u8; 32], (Arc<[u8]>, QuotaGuard)>,
}

impl Session {
    pub(super) fn new(services: Services, principal: Principal, has_grant: bool) -> Self {
        Self {
            services,
            principal,
            has_grant,
            introduced: false,
            contexts: ContextTable::default(),
            next_context: 1,
            blobs: HashMap::new(),
        }
    }

    /// Returns whether the client has sent `hello`.
    pub(super) fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// Executes a request of `size` bytes. The descriptor that arrived with it is removed if it is valid. A request
    /// that waits for a connection is answered later, so other requests do not wait for it.
    pub(super) async fn answer(
        &mut self,
        id: u64,
        request: Request,
        size: u64,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Answering {
        if !self.introduced && !matches!(request, Request::Hello(_)) {
            let message =
                "the first request of a control connection is hello: connect again and begin with it";
            return Answering::Now(plain(id, Err::<Done, _>(Failure::new(ErrorCode::Version, message))));
        }
        if !self.has_grant && !matches!(request, Request::Hello(_)) {
            return Answering::Now(plain(
                id,
                Err::<Done, _>(self.services.authority.without_grant(&self.principal)),
            ));
        }
        Answering::Now(match request {
            Request::Info(of) => return later(id, self.info(&of)),
            Request::PeerCertificate(of) => return later(id, self.peer_certificate(&of)),
            Request::PeerMatches(ask) => return later(id, self.peer_matches(ask)),
            Request::Export(export) => return later(id, self.export(export)),
            Request::SetOption(set) => return later(id, self.set_option(&set)),
            Request::Renegotiate(of) => return later(id, self.renegotiate(&of)),
            Request::Close(of) => return later(id, self.close(&of)),
            Request::Hello(hello) => plain(id, self.hello(&hello)),
            Request::Blob(blob) => plain(id, self.blob(blob, size).await),
            Request::Context(make) => plain(id, self.context(*make, size).await),
            Request::FreeContext(free) => plain(id, self.free_context(&free)),
            Request::Connect(connect) => with_descriptor(id, self.connect(connect, descriptors).await),
            Request::Bind(bind) => with_descriptor(id, self.bind(bind, descriptors).await),
            Request::Status(of) => plain(id, self.status(&of)),
            Request::Certificate(read) => plain(id, self.parse(move || tls::read_certificate(&read)).await),
            Request::CheckIssued(check) => plain(id, self.parse(move || tls::check_issued(&check)).await),
            Request::Describe(_) => plain(id, Ok(tls::capabilities())),
            Request::Unknown(op) => {
                let message = format!("operation \"{op}\" is not known to this luassld");
                plain(id, Err::<Done, _>(Failure::new(ErrorCode::UnknownOperation, message)))
            }
        })
    }

    fn hello(&mut self, hello: &Hello) -> Outcome<Welcome> {
        if self.introduced {
            return Err(Failure::new(ErrorCode::Invalid, "hello has been said already"));
        }
        if hello.version != VERSION {
            return Err(Failure::new(
                ErrorCode::Version,
                format!(
                    "version {} of the protocol is not spoken here: connect again with version {VERSION}, or use a module and a luassld of like age",
                    hello.version
                ),
            ));
        }
        self.introduced = true;
        tracing::debug!(uid = self.principal.owner.uid, client = %hello.client, "hello");
        Ok(Welcome {
            version: VERSION,
            features: feature::ALL.map(str::to_owned).into(),
            server: concat!("luassld ", env!("CARGO_PKG_VERSION")).to_owned(),
            openssl: openssl::version::version().to_owned(),
            frame_limit: u64::from(self.services.authority.limits().frame_bytes),
        })
    }

    /// Parses data of a caller with a grant, on a thread that does not delay other work.
    pub(super) async fn parse<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        self.services.authority.granted(&self.principal)?;
        self.services.parsing.run(&self.principal.owner, &self.services.authority.limits(), work).await?
    }
}
