//! Messages on the socket of a lock-step connection: frames, strictly alternating. The client sends a
//! request. The front works on the TCP socket until it would block, and sends the answer. Between two
//! requests, the front does not access the TCP socket.

use crate::{DecodeError, Failure, Info, PskQuestion, bounds::is_false, from_body, to_frame};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

/// The maximum plaintext in one message, in bytes: the result of a read, or the data of a write.
pub const MAX_LOCK_STEP_DATA: usize = 128 * 1024;
/// The minimum for `max` of a read, in bytes: the plaintext of one TLS record. A smaller `max` is raised to
/// it.
pub const MIN_LOCK_STEP_READ: usize = 16 * 1024;
/// The maximum size of the body of a frame on a lock-step socket, in bytes.
pub const MAX_LOCK_STEP_FRAME: usize = MAX_LOCK_STEP_DATA + 16 * 1024;

/// A request of the client. It borrows the plaintext, which is large and short-lived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockStepRequest<'a> {
    /// Continues the handshake.
    Handshake,
    /// Reads available plaintext, at most `max` bytes.
    Read {
        /// The limit, from [`MIN_LOCK_STEP_READ`] to [`MAX_LOCK_STEP_DATA`]; other values are clamped to this
        /// range.
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
    /// Ends the connection: sends close_notify if possible without waiting. No message follows on this
    /// socket.
    Close,
    /// Answers [`LockStepState::NeedClientHello`]; the handshake continues.
    ClientHello {
        /// The context to continue with; omitted: the current one.
        context: Option<u64>,
        /// The application protocol to select; omitted: none.
        alpn: Option<&'a str>,
        /// Fails the handshake with `unrecognized_name`.
        refuse: bool,
    },
    /// Answers [`LockStepState::NeedPsk`]; the handshake continues.
    Psk {
        /// A client's PSK identity; omitted: the client has no key to offer.
        identity: Option<&'a [u8]>,
        /// The key; omitted: there is no key.
        key: Option<&'a [u8]>,
    },
    /// An operation that is unknown to this side.
    Unknown(&'a str),
}

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockStepState {
    /// Done.
    Ok,
    /// Retry when the TCP socket is readable.
    WantRead,
    /// Retry when the TCP socket is writable.
    WantWrite,
    /// The handshake waits for [`LockStepRequest::ClientHello`].
    NeedClientHello,
    /// The handshake waits for [`LockStepRequest::Psk`].
    NeedPsk,
    /// Failed. Later requests have the same answer, except after `invalid`.
    Error,
}

/// The parts of a peer's ClientHello on which a client bases its decision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientHello {
    /// The server name that the peer requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// The application protocols that the peer offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}

/// A verification error of a peer's certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyFault {
    /// The position of the certificate: 0 is the leaf, 1 its issuer.
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
    /// The Finished message of this side in the last handshake.
    pub finished: ByteBuf,
    /// The Finished message of the peer.
    pub peer_finished: ByteBuf,
    /// OpenSSL's result of the verification of the peer; 0 is success (X509_V_OK).
    pub verify_code: i32,
    /// The result as text.
    pub verify_text: String,
    /// The verification errors, in the order of their detection; more than one only with `verify_continue`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verify_faults: Vec<VerifyFault>,
    /// The peer's certificate, DER; omitted if it sent none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<ByteBuf>,
    /// The peer's certificates as returned by OpenSSL, DER. A server's list begins with its own certificate,
    /// a client's does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peer_chain: Vec<ByteBuf>,
    /// The certificate that this side sent, and its chain, DER.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local_chain: Vec<ByteBuf>,
    /// The OCSP response that a server stapled, DER; only with [`crate::ContextSpec::staple`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staple: Option<ByteBuf>,
    /// The status of the server's certificate in that response: `good`, `revoked` or `unknown`; or `invalid:
    /// ` and the reason why the response is not usable.
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
    /// The front has data to read that the TCP socket's readiness does not indicate: read before polling.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pending: bool,
    /// In answer to `read`: all decrypted data.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a Bytes>,
    /// In answer to `write`: the number of bytes in records that the kernel has accepted completely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u32>,
    /// In answer to `shutdown`: whether the peer's close_notify has been received too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// In answer to `handshake` and `info`: information about the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
    /// With [`LockStepState::NeedClientHello`]: the basis of the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_hello: Option<ClientHello>,
    /// With [`LockStepState::NeedPsk`]: the required key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk: Option<PskQuestion>,
    /// In answer to `facts`: the information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Box<Facts>>,
    /// With [`LockStepState::Error`]: the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// With `error`: the message of OpenSSL or the system, for programs that compare it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl LockStepAnswer<'_> {
    /// Creates an answer that consists only of its state.
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

    /// Creates the answer for a failure.
    #[must_use]
    pub fn failed(error: Failure) -> Self {
        Self { error: Some(error), ..Self::new(LockStepState::Error) }
    }
}

/// Every possible field of a request, as it is on the wire.
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
    /// Returns the operation's name on the wire.
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

    /// Decodes a request from a frame's body.
    ///
    /// # Errors
    /// Returns [`DecodeError`] if the body is not a map of the operation's fields.
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

    /// Encodes the request as a frame.
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
