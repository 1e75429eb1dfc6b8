//! Messages on a connection's socket and on a delivery socket.

use crate::{Failure, Info, Token};
use serde::{Deserialize, Serialize};

/// How a handshake ended. On an outgoing connection it is the only frame before plaintext; on a delivery
/// socket it is the message itself ([`Delivery`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeResult {
    /// Why it failed; `None` if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Information about the connection; `None` if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
}

/// The largest [`HandshakeResult`] frame and the largest [`Delivery`] message, in bytes.
pub const MAX_RESULT: usize = 16 * 1024;

/// One message on a delivery socket. With `error` it carries no descriptor, otherwise one: the connection's socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The connection's token; all zero for a handshake that failed.
    pub token: Token,
    /// How the handshake ended.
    #[serde(flatten)]
    pub result: HandshakeResult,
}

/// Messages of a holder on its delivery socket, one byte each.
pub mod holder {
    /// Requests one connection.
    pub const ASK: u8 = b'a';
    /// Requests one connection or one failed handshake, whichever comes first.
    pub const ASK_REPORT: u8 = b'r';
    /// Confirms the oldest unconfirmed delivery: from now on the front moves the connection's data, and does not deliver
    /// it to another holder.
    pub const TAKEN: u8 = b't';
}
