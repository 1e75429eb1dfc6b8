//! The push: the files and settings that the supervisor passes to the keeper and the fronts over their admin
//! sockets.
//!
//! Every file is opened in this module or its submodules, with the rights of the pushing process: `luassld
//! run`, or `luasslctl` under systemd. The keeper and the fronts receive descriptors and read them; they do
//! not open files.

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
