//! Messages on a connection's socket and on a delivery socket.

use crate::{Failure, Info, Token};
use serde::{Deserialize, Serialize};

/// The result of a handshake. On an outgoing connection it is the only frame before plaintext; on a delivery
/// socket it is the message itself ([`Delivery`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeResult {
    /// The failure; `None` if the handshake succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Information about the connection; `None` if the handshake failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
}

/// The maximum size of a [`HandshakeResult`] frame and of a [`Delivery`] message, in bytes.
pub const MAX_RESULT: usize = 16 * 1024;

/// One message on a delivery socket. With `error` it has no descriptor, otherwise one: the connection's
/// socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The connection's token; all zero for a failed handshake.
    pub token: Token,
    /// The result of the handshake.
    #[serde(flatten)]
    pub result: HandshakeResult,
}

/// Messages of a holder on its delivery socket, one byte each.
pub mod holder {
    /// Requests one connection.
    pub const ASK: u8 = b'a';
    /// Requests one connection or one failed handshake, whichever comes first.
    pub const ASK_REPORT: u8 = b'r';
    /// Confirms the oldest unconfirmed delivery. After that, the front transfers the connection's data, and
    /// does not deliver it to another holder.
    pub const TAKEN: u8 = b't';
}
