//! A whole front without a keeper.

use crate::{keeper_client::KeeperLink, services::Services};
use luassl_settings::Limits;

/// Returns a front to which nothing has been pushed.
pub(crate) fn front() -> Services {
    let keeper = KeeperLink::start("/nonexistent/keeper".into(), Limits::default().keeper()).unwrap();
    Services::start(keeper, 1).unwrap()
}
