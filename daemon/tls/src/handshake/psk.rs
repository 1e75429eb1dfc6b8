//! Pre-shared keys (RFC 4279; RFC 8446, 4.2.11): the keys of a context, and a question to the client if the context has
//! no key.

use crate::ffi::psk_ffi as ffi;
use luassl_protocol::{ErrorCode, Failure, PskKey, PskQuestion, PskSpec, Role};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslRef};
use parking_lot::Mutex;
use std::ffi::CString;
use std::sync::{Arc, LazyLock};

/// Finds the key that a handshake needs. It may block the thread of the handshake.
pub type AskForKey = dyn Fn(PskQuestion) -> Option<PskKey> + Send + Sync;

/// The keys of a context.
pub(crate) struct Shared {
    keys: Vec<PskKey>,
    hint: Option<CString>,
}

impl Shared {
    /// # Errors
    /// `Invalid` for identities and hints that TLS cannot carry, and for empty keys.
    pub(crate) fn new(spec: &PskSpec) -> Result<Arc<Self>, Failure> {
        let invalid = |message: &str| Failure::new(ErrorCode::Invalid, message);
        if spec.keys.iter().any(|key| key.identity.is_empty() || key.identity.contains(&0)) {
            return Err(invalid("the identity of a psk is empty, or has a zero byte"));
        }
        if spec.keys.iter().any(|key| key.key.bytes().is_empty()) {
            return Err(invalid("the key of a psk is empty"));
        }
        let hint = spec.hint.as_ref().map(|hint| CString::new(hint.to_vec())).transpose();
        let hint = hint.map_err(|_| invalid("the hint of a psk has a zero byte"))?;
        Ok(Arc::new(Self { keys: spec.keys.clone(), hint }))
    }
}

/// The state of a session.
struct Sharing {
    shared: Arc<Shared>,
    ask: Mutex<Option<Arc<AskForKey>>>,
}

static SHARING: LazyLock<Option<Index<Ssl, Sharing>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

fn sharing(ssl: &SslRef) -> Option<&Sharing> {
    ssl.ex_data((*SHARING)?)
}

/// Makes a session use the keys of its context.
pub(crate) fn share(ssl: &mut SslRef, role: Role, shared: &Arc<Shared>) -> Result<(), ErrorStack> {
    let Some(index) = *SHARING else { return Ok(()) };
    ssl.set_ex_data(index, Sharing { shared: Arc::clone(shared), ask: Mutex::default() });
    match role {
        Role::Server => ffi::serve::<OfSession>(ssl, shared.hint.as_deref()),
        Role::Client => {
            ffi::offer::<OfSession>(ssl);
            Ok(())
        }
    }
}

/// Sets the function that finds keys that the session does not have. `None` removes it.
pub fn ask_for_keys_by(ssl: &SslRef, ask: Option<Arc<AskForKey>>) {
    if let Some(sharing) = sharing(ssl) {
        *sharing.ask.lock() = ask;
    }
}

impl Sharing {
    fn ask(&self, question: PskQuestion) -> Option<PskKey> {
        let ask = self.ask.lock().clone();
        ask?(question)
    }
}

/// Provides the keys of a session: those of its context, and those from the answer to a question.
enum OfSession {}

impl ffi::Keys for OfSession {
    fn named(ssl: &SslRef, identity: &[u8], max_key: u32) -> Option<PskKey> {
        let sharing = sharing(ssl)?;
        let known = sharing.shared.keys.iter().find(|key| *key.identity == *identity);
        known.cloned().or_else(|| {
            let identity = Some(identity.to_vec().into());
            sharing.ask(PskQuestion { identity, max_key, ..PskQuestion::default() })
        })
    }

    fn own(ssl: &SslRef, hint: Option<&[u8]>, (max_identity, max_key): (u32, u32)) -> Option<PskKey> {
        let sharing = sharing(ssl)?;
        sharing.shared.keys.first().cloned().or_else(|| {
            let hint = hint.map(|hint| hint.to_vec().into());
            sharing.ask(PskQuestion { hint, max_identity: Some(max_identity), max_key, identity: None })
        })
    }
}
