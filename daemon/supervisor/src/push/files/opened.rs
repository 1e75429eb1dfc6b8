//! The open files of one identity.

use crate::config::{FileRef, Finding, Identity};
use crate::push::files::{open_file, too_open};
use luassl_keeper_ipc::admin::Files;
use rustix::fs::fstat;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An identity's open files, in the order in which the keeper expects them.
pub(crate) struct Opened {
    pub(crate) files: Files,
    descriptors: Vec<OwnedFd>,
    /// A warning about the key's permissions.
    pub(crate) too_open: Option<Finding>,
}

impl Opened {
    pub(crate) fn of(name: &str, identity: &Identity) -> Result<Self, Box<Finding>> {
        let key = open_file(name, "key", &identity.key)?;
        let mut opened = Self {
            files: Files { key: true, ..Files::default() },
            too_open: too_open(name, &identity.key, &key),
            descriptors: vec![key],
        };
        opened.files.certificate = opened.add(name, "certificate", identity.certificate.as_ref())?;
        opened.files.password = opened.add(name, "password file", identity.password.as_ref())?;
        opened.files.staple = opened.add(name, "staple", identity.staple.as_ref())?;
        Ok(opened)
    }

    fn add(&mut self, name: &str, what: &str, file: Option<&FileRef>) -> Result<bool, Box<Finding>> {
        let Some(file) = file else { return Ok(false) };
        self.descriptors.push(open_file(name, what, file)?);
        Ok(true)
    }

    /// Returns the devices that contain the files.
    pub(crate) fn devices(&self) -> BTreeSet<u64> {
        self.descriptors.iter().filter_map(|file| Some(fstat(file).ok()?.st_dev)).collect()
    }

    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd).collect()
    }
}
