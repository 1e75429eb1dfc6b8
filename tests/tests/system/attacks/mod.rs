//! Whoever attacks gets no key and no more than was his: each attack on its own, and beside it the same attack on
//! something without the protection, which has to succeed. The list is in docs/threat-model.md.

mod bystander;
mod canary;
mod combined;
mod cores;
mod costly;
mod descriptors;
mod environment;
mod hostile_peers;
mod identities;
mod isolation;
mod kernels;
mod key_exchange;
mod links;
mod misuse;
mod other_processes;
mod parsing;
mod peers;
mod sandbox;
mod tenants;
mod tokens;
mod unanswered;
mod ungranted;
mod users;
mod withdrawn;
