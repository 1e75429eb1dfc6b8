//! The sockets of the keeper, and the code that serves them.

pub(crate) mod admin;
pub(crate) mod front;
pub(crate) mod inherited_socket;
pub(crate) mod report;
#[allow(unsafe_code)]
pub(crate) mod signers;
pub(crate) mod socket;
