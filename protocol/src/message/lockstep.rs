//! Messages on the socket of a lock-step connection: frames, strictly alternating. The client asks, the front
//! works on the TCP socket until it would wait, and answers. Between two questions the front does not touch it.

use crate::{DecodeError, Failure, Info, PskQuestion, bounds::is_false, from_body, to_frame};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

/// The most plaintext in one message, in bytes: what a read returns, what a write carries.
pub const MAX_LOCK_STEP_DATA: usize = 128 * 1024;
/// The least that a read may ask for, in bytes: one TLS record's plaintext. A smaller `max` counts as this.
pub const MIN_LOCK_STEP_READ: usize = 16 * 1024;
/// The largest body of a frame on a lock-step socket, in bytes.
pub const MAX_LOCK_STEP_FRAME: usize = MAX_LOCK_STEP_DATA + 16 * 1024;

/// A question of the client. It borrows the plaintext, which is large and short-lived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockStepRequest<'a> {
    /// Continues the handshake.
    Handshake,
    /// Reads available plaintext, at most `max` bytes.
    Read {
        /// The bound, from [`MIN_LOCK_STEP_READ`] to [`MAX_LOCK_STEP_DATA`]; outside, the nearer of the two counts.
        max: u32,
    },
    /// Writes plaintext.
    Write {
        /// At most [`MAX_LOCK_STEP_DATA`] bytes. After a partial write, it begins with the remaining bytes.
        data: &'a [u8],
    },
    /// Sends close_notify, and checks for the one of the peer.
    Shutdown,
    /// Requests information about the connection.
    Info,
    /// Requests all information about the session.
    Facts,
    /// Ends the connection: sends close_notify if possible without waiting. Nothing follows on this socket.
    Close,
    /// Answers [`LockStepState::NeedClientHello`]; the handshake continues.
    ClientHello {
        /// The context to continue with; omitted: the present one.
        context: Option<u64>,
        /// The application protocol to select; omitted: none.
        alpn: Option<&'a str>,
        /// Fails the handshake with `unrecognized_name`.
        refuse: bool,
    },
    /// Answers [`LockStepState::NeedPsk`]; the handshake continues.
    Psk {
        /// A client's PSK identity; omitted: it has no key to offer.
        identity: Option<&'a [u8]>,
        /// The key; omitted: there is none.
        key: Option<&'a [u8]>,
    },
    /// An operation that this side does not know.
    Unknown(&'a str),
}

/// The result of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockStepState {
    /// Done.
    Ok,
    /// Ask again when the TCP socket is readable.
    WantRead,
    /// Ask again when the TCP socket is writable.
    WantWrite,
    /// The handshake waits for [`LockStepRequest::ClientHello`].
    NeedClientHello,
    /// The handshake waits for [`LockStepRequest::Psk`].
    NeedPsk,
    /// Failed. Later questions have the same answer, except after `invalid`.
    Error,
}

/// The parts of a peer's ClientHello that a client decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientHello {
    /// The server name that it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// The application protocols that it offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}

/// A verification error of a peer's certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyFault {
    /// Which certificate: 0 is the leaf, 1 its issuer.
    pub depth: u32,
    /// OpenSSL's message.
    pub message: String,
}

/// All information about a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: String,
    /// OpenSSL's description of the cipher suite: name, protocol, Kx, Au, Enc, Mac.
    pub cipher: String,
    /// Strength of the cipher in bits.
    pub bits: u32,
    /// Length of the cipher's key in bits.
    pub algorithm_bits: u32,
    /// The own Finished message of the last handshake.
    pub finished: ByteBuf,
    /// The peer's.
    pub peer_finished: ByteBuf,
    /// OpenSSL's number for the verification of the peer: 0 is good (X509_V_OK).
    pub verify_code: i32,
    /// The same as text.
    pub verify_text: String,
    /// The verification errors, in the order of their detection; more than one only with `verify_continue`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verify_faults: Vec<VerifyFault>,
    /// The peer's certificate, DER; omitted if it sent none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<ByteBuf>,
    /// The peer's certificates as OpenSSL has them, DER: a server's begin with its own, a client's do not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peer_chain: Vec<ByteBuf>,
    /// The certificate that was sent, DER, and what goes with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local_chain: Vec<ByteBuf>,
    /// The OCSP response that a server has stapled, DER; only with [`crate::ContextSpec::staple`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staple: Option<ByteBuf>,
    /// What that says of the server's certificate: `good`, `revoked` or `unknown`; or, after `invalid: `, why it says
    /// nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staple_status: Option<String>,
    /// The secrets, as lines of a key log (RFC 9850); only with [`crate::ContextSpec::key_log`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_log: Option<String>,
}

/// The front's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockStepAnswer<'a> {
    /// The result.
    pub state: LockStepState,
    /// The front has data to read that the TCP socket's readiness does not indicate: read before you poll.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pending: bool,
    /// To `read`: everything that was decrypted.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a Bytes>,
    /// To `write`: how many bytes are in records that the kernel has taken completely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u32>,
    /// To `shutdown`: whether the peer's close_notify has been seen too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// To `handshake` and `info`: information about the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
    /// With [`LockStepState::NeedClientHello`]: what to decide by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_hello: Option<ClientHello>,
    /// With [`LockStepState::NeedPsk`]: which key is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk: Option<PskQuestion>,
    /// To `facts`: the information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Box<Facts>>,
    /// With [`LockStepState::Error`]: what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// With `error`: the message of OpenSSL or the system, for programs that compare it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl LockStepAnswer<'_> {
    /// An answer that consists only of its state.
    #[must_use]
    pub fn new(state: LockStepState) -> Self {
        Self {
            state,
            pending: false,
            data: None,
            taken: None,
            complete: None,
            info: None,
            client_hello: None,
            psk: None,
            facts: None,
            error: None,
            reason: None,
        }
    }

    /// The answer that something failed.
    #[must_use]
    pub fn failed(error: Failure) -> Self {
        Self { error: Some(error), ..Self::new(LockStepState::Error) }
    }
}

/// Every field that a request may have, as it is on the wire.
#[derive(Default, Serialize, Deserialize)]
struct Wire<'a> {
    op: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    data: Option<&'a Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alpn: Option<&'a str>,
    #[serde(default, skip_serializing_if = "is_false")]
    refuse: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    identity: Option<&'a Bytes>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<&'a Bytes>,
}

impl<'a> LockStepRequest<'a> {
    /// The operation's name on the wire.
    #[must_use]
    pub fn operation(&self) -> &'a str {
        match self {
            Self::Handshake => "handshake",
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Shutdown => "shutdown",
            Self::Info => "info",
            Self::Facts => "facts",
            Self::Close => "close",
            Self::ClientHello { .. } => "client_hello",
            Self::Psk { .. } => "psk",
            Self::Unknown(operation) => operation,
        }
    }

    /// Reads a request from a frame's body.
    ///
    /// # Errors
    /// [`DecodeError`] where the body is no map of the operation's fields.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let Wire { op, max, data, context, alpn, refuse, identity, key } = from_body(body)?;
        Ok(match op {
            "handshake" => Self::Handshake,
            "read" => Self::Read { max: needed(max, "read", "max")? },
            "write" => Self::Write { data: needed(data, "write", "data")? },
            "shutdown" => Self::Shutdown,
            "info" => Self::Info,
            "facts" => Self::Facts,
            "close" => Self::Close,
            "client_hello" => Self::ClientHello { context, alpn, refuse },
            "psk" => {
                let bytes = |field: Option<&'a Bytes>| field.map(|bytes| &bytes[..]);
                Self::Psk { identity: bytes(identity), key: bytes(key) }
            }
            unknown => Self::Unknown(unknown),
        })
    }

    /// Writes the request as a frame.
    ///
    /// # Errors
    /// As [`crate::to_body`].
    pub fn to_frame(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        let op = self.operation();
        to_frame(&match *self {
            Self::Read { max } => Wire { op, max: Some(max), ..Wire::default() },
            Self::Write { data } => Wire { op, data: Some(Bytes::new(data)), ..Wire::default() },
            Self::ClientHello { context, alpn, refuse } => {
                Wire { op, context, alpn, refuse, ..Wire::default() }
            }
            Self::Psk { identity, key } => {
                Wire { op, identity: identity.map(Bytes::new), key: key.map(Bytes::new), ..Wire::default() }
            }
            _ => Wire { op, ..Wire::default() },
        })
    }
}

fn needed<T>(value: Option<T>, operation: &'static str, field: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { operation, field })
}
