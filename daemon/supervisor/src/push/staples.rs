//! The check of staples for `luassld check`. The keeper passes staples on unchanged, and a front leaves out a
//! staple that it cannot parse. The check reports such a staple in advance. Only staples of identities that
//! the keeper has loaded are read: their first bytes are those of an OCSP response, so they are not keys.

use crate::config::{Config, FileRef, Finding};
use crate::push::files::open_file;
use crate::push::report::{Outcome, Report};
use openssl::ocsp::OcspResponse;
use std::fs::File;
use std::io::{self, Read};

/// The maximum size of a staple, in bytes. It is larger than the keeper's limit.
const STAPLE_MAX: u64 = 64 << 10;

/// Returns a warning for each staple that fronts will leave out.
pub fn unreadable_staples(config: &Config, report: &Report) -> Vec<Finding> {
    let loaded = |name: &String| matches!(report.outcomes.get(name), Some(Outcome::Loaded(_)));
    let stapled = config.identities.iter().filter(|(name, _)| loaded(name));
    stapled.filter_map(|(name, identity)| unreadable(name, identity.staple.as_ref()?)).collect()
}

fn unreadable(name: &str, file: &FileRef) -> Option<Finding> {
    let opened = open_file(name, "staple", file).ok()?;
    let parsed = read(opened.into()).map(|bytes| OcspResponse::from_der(&bytes).is_ok());
    let cause = format!("identity `{name}`: the staple cannot be parsed and is ignored");
    let finding = Finding::warning(file.location.clone(), cause).hint("name an OCSP response in DER");
    (!parsed.unwrap_or(false)).then_some(finding)
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(STAPLE_MAX).read_to_end(&mut bytes).map(|_| bytes)
}
