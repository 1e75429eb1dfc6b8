//! The push: what the supervisor hands over to keeper and fronts, on their admin sockets.
//!
//! Everything that is opened is opened here or below, with the rights of whoever pushes: `luassld run`, or `luasslctl`
//! under systemd. Keeper and front get descriptors and read them; they open nothing themselves.

mod channel;
mod files;
mod front;
mod keeper;
mod report;
mod rights;
mod settings;
mod staples;
#[allow(unsafe_code)]
mod system_trust;
mod trust;

pub use channel::{ANSWER_DEADLINE, PushError};
pub use front::{front_status, late_reply, send_settings};
pub use keeper::{Caution, keeper_status, push_keeper, push_keeper_within};
pub use report::{Account, LoadedIdentity, Outcome, Report};
pub use settings::for_front;
pub use staples::unreadable_staples;
pub use trust::{Trusts, read_trusts};
