//! Whoever attacks gets no key and no more than was his: each attack on its own, and beside it the same attack on
//! something without the protection, which has to succeed. The list is in docs/threat-model.md.

mod canary;
mod cores;
mod descriptors;
mod environment;
mod identities;
mod kernels;
mod key_exchange;
mod misuse;
mod other_processes;
mod sandbox;
mod tenants;
mod tokens;
mod unanswered;
mod users;
mod withdrawn;
