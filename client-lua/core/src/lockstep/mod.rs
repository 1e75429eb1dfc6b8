//! A connection in lock-step mode: the program keeps its TCP socket and polls it; the daemon works on it when asked.

mod link;
mod patience;
mod pattern;
mod secured;
mod times;

pub use pattern::{Pattern, Received};
pub use secured::{Handshaken, Hello, Hindrance, Plan, Secured, Sent, Statistics, Want};
pub use times::Times;
