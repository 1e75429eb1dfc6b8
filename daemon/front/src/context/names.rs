//! A description whose identities are resolved.

use crate::authorization::{
    authority::Active,
    identity_name::{AskedIdentity, IdentityName},
};
use luassl_protocol::{ContextSpec, ErrorCode, Failure};
use luassl_tls::identity::IdentitySource;

/// A description whose identities have been resolved under one configuration.
pub(super) struct Resolved {
    /// The description with declared names, and without the program's directory. A name that no identity answers to is
    /// unchanged.
    pub(super) spec: ContextSpec,
    /// All identities that the description names.
    pub(super) identities: Vec<AskedIdentity>,
}

impl Resolved {
    pub(super) fn new(active: &Active, spec: &ContextSpec) -> Self {
        let mut spec = spec.clone();
        let directory = spec.directory.take();
        let mut identities = Vec::new();
        let additional = spec.additional_identities.iter_mut().map(|additional| &mut additional.identity);
        let by_sni = spec.sni.iter_mut().map(|entry| &mut entry.identity);
        for name in spec.identity.iter_mut().chain(&mut spec.identities).chain(by_sni).chain(additional) {
            let resolved = active.identities.resolve(directory.as_deref(), name);
            if let Some(declared) = &resolved.name {
                declared.as_str().clone_into(name);
            }
            identities.push(resolved);
        }
        Self { spec, identities }
    }

    /// Checks that each identity is loaded, as far as is known.
    ///
    /// # Errors
    /// Returns `Unavailable` for the first identity that the keeper could not load.
    pub(super) fn check_loaded(&self, active: &Active, loaded: &dyn IdentitySource) -> Result<(), Failure> {
        self.identities.iter().try_for_each(|AskedIdentity { asked, name }| match name {
            Some(name) => check_loaded(active, loaded, asked, name),
            None => Ok(()),
        })
    }
}

fn check_loaded(
    active: &Active,
    loaded: &dyn IdentitySource,
    asked: &str,
    name: &IdentityName,
) -> Result<(), Failure> {
    let name = name.as_str();
    let fault = active.settings.identities.get(name).and_then(|identity| identity.fault.as_ref());
    match fault {
        Some(fault) if loaded.current(name).is_none() => {
            let own_words = format!("identity `{name}`: ");
            let fault = fault.strip_prefix(&own_words).unwrap_or(fault);
            Err(Failure::new(ErrorCode::Unavailable, format!("identity \"{asked}\" is not loaded: {fault}")))
        }
        _ => Ok(()),
    }
}
