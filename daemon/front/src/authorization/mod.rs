//! Who may do what and how much of it, and what is counted and logged of that.

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
