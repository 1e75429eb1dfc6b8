//! Authorization: which caller may do what, how much of it, and what of that is counted and logged.

pub(crate) mod admission;
pub(crate) mod audit;
pub(crate) mod authority;
pub(crate) mod counters;
pub(crate) mod credentials;
pub(crate) mod identity_name;
pub(crate) mod owner;
pub(crate) mod policy;
pub(crate) mod principal;
pub(crate) mod quota;
pub(crate) mod standing;
