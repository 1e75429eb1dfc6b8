//! A connection in lock-step mode: the program keeps its TCP socket and polls it; the daemon works on it when asked.

mod link;
mod outcome;
mod patience;
mod pattern;
mod secured;
mod times;

pub use outcome::{Handshaken, Hello, Hindrance, Plan, Sent, Want};
pub use pattern::{Pattern, Received};
pub use secured::{Secured, Statistics};
pub use times::Times;
