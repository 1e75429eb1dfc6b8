//! Names of identities as programs give them, and the declared ones that they stand for.

use crate::authorization::{
    authority::Active,
    policy::{self, Denial},
};
use crate::context::request::identities_of;
use luassl_protocol::{ContextSpec, ErrorCode, Failure};
use luassl_tls::identity::IdentitySource;

/// The same description, with each identity that nothing answers to as given joined to the program's directory and
/// resolved as text, where something answers to that.
pub(super) fn with_full_names(active: &Active, spec: &ContextSpec) -> ContextSpec {
    let mut spec = spec.clone();
    let directory = spec.directory.take();
    let additional = spec.additional_identities.iter_mut().map(|additional| &mut additional.identity);
    let names = spec.identity.iter_mut().chain(&mut spec.identities).chain(additional);
    for name in names.chain(spec.sni.iter_mut().map(|entry| &mut entry.identity)) {
        if let Some(full) = full_name(active, directory.as_deref(), name) {
            *name = full;
        }
    }
    spec
}

/// The full name of an identity that nothing answers to as given, seen from `directory`, where something answers to that.
pub(crate) fn full_name(active: &Active, directory: Option<&str>, name: &str) -> Option<String> {
    let has_full_name = directory.is_some() || name.starts_with('/');
    if !has_full_name || policy::declared(&active.settings, name).is_some() {
        return None;
    }
    let full = policy::joined(directory.unwrap_or_default(), name);
    policy::declared(&active.settings, &full).is_some().then_some(full)
}

/// The same denial in the caller's words: the full name of what it asked for would tell that there is such an identity.
pub(super) fn as_asked(denial: Denial, identities: &[String], spec: &ContextSpec) -> Denial {
    let Denial::Identity(full) = denial else { return denial };
    let place = identities.iter().position(|name| *name == full);
    let asked = place.and_then(|place| identities_of(spec).into_iter().nth(place));
    Denial::Identity(asked.unwrap_or(full))
}

/// The same description with each identity under its declared name.
pub(super) fn with_declared_names(
    active: &Active,
    identities: &dyn IdentitySource,
    spec: &ContextSpec,
) -> Result<ContextSpec, Failure> {
    let declared = |asked: &mut String| -> Result<(), Failure> {
        // The grant has been found by this name, so it is declared.
        let name = policy::declared(&active.settings, asked)
            .ok_or_else(|| Denial::Identity(asked.clone()).into_failure())?;
        if let Some(fault) = active.settings.identities.get(name).and_then(|identity| identity.fault.as_ref())
            && identities.current(name).is_none()
        {
            let own_words = format!("identity `{name}`: ");
            let fault = fault.strip_prefix(&own_words).unwrap_or(fault);
            return Err(Failure::new(
                ErrorCode::Unavailable,
                format!("identity \"{asked}\" is not loaded: {fault}"),
            ));
        }
        name.clone_into(asked);
        Ok(())
    };
    let mut spec = spec.clone();
    spec.identity.as_mut().map(declared).transpose()?;
    spec.identities.iter_mut().try_for_each(declared)?;
    spec.additional_identities.iter_mut().try_for_each(|additional| declared(&mut additional.identity))?;
    spec.sni.iter_mut().try_for_each(|entry| declared(&mut entry.identity))?;
    Ok(spec)
}
