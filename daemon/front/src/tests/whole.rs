//! A whole front without a keeper.

use crate::{
    Active, Front, audit, context, half_open, keeper_client::KeeperLink, listener, parsing, quota, runtime,
    turns,
};
use luassl_settings::{Limits, Settings};
use luassl_tls as tls;
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};
use tokio::sync::watch;

/// A front that nothing has been pushed to.
pub(crate) fn front() -> Arc<Front> {
    let keeper = KeeperLink::start("/nonexistent/keeper".into(), Limits::default().keeper()).unwrap();
    let active = Active {
        generation: 0,
        settings: Settings::default(),
        identities: keeper.identities(),
        listeners: HashMap::new(),
    };
    Arc::new(Front {
        active: RwLock::new(Arc::new(active)),
        pushed: watch::Sender::new(false),
        trusts: Arc::default(),
        resumption: Arc::new(tls::Resumption::new(keeper.tickets())),
        keeper,
        turns: turns::Turns::default(),
        quotas: quota::Quotas::default(),
        sources: half_open::Sources::default(),
        runtime: Arc::new(runtime::ConnectionRuntime::start(1).unwrap()),
        contexts: context::Contexts::default(),
        parsing: parsing::Parsing::start().unwrap(),
        acceptors: listener::Acceptors::default(),
        counters: Arc::default(),
        audit: audit::Audit::default(),
        notice: None,
    })
}
