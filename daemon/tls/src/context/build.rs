//! Builds the SSL_CTX of a context from its plan and the current identities and trusts.

use crate::context::credentials::Credentials;
use crate::context::plan::Plan;
use crate::context::select::Selection;
use crate::identity::IdentitySource;
use crate::names::Index;
use crate::resumption::scope::ScopeBase;
use crate::resumption::{self, Resuming};
use crate::verify::trust::{Anchored, Resolved, TrustStores};
use crate::{
    context::{ciphers, key_log, versions},
    ffi::{message_ffi, safe_ffi, signing_guard},
    handshake::{hello, peer_bounds},
    verify::{dane, peer_keys},
};
use luassl_protocol::{ErrorCode, Failure};
use openssl::error::ErrorStack;
use openssl::ssl::{AlpnError, SslContext, SslContextBuilder, SslMethod, SslMode, SslRef};
use openssl::x509::verify::X509VerifyFlags;
use std::collections::HashMap;
use std::sync::Arc;

/// The current state of a context.
pub(crate) struct Built {
    pub(crate) context: SslContext,
    /// The base for the scopes of sessions. `None` if sessions are not resumed.
    pub(crate) common: Option<ScopeBase>,
    /// The identities in use, by name.
    credentials: HashMap<String, Arc<Credentials>>,
    epochs: (u64, u64),
}

impl Built {
    /// Builds the state for the first time. Every identity and trust must be usable.
    pub(crate) fn new(
        plan: &Plan,
        identities: &dyn IdentitySource,
        trusts: &TrustStores,
        resuming: &Resuming,
    ) -> Result<Self, Failure> {
        let epochs = epochs(identities, trusts);
        let credentials = plan
            .all_identities()
            .map(|name| Ok((name.to_owned(), Arc::new(load(plan, identities, name)?))))
            .collect::<Result<_, Failure>>()?;
        Self::assemble(plan, credentials, trusts, resuming, epochs)
    }

    /// Returns whether nothing has changed since the build.
    pub(crate) fn is_fresh(&self, identities: &dyn IdentitySource, trusts: &TrustStores) -> bool {
        self.epochs == epochs(identities, trusts)
    }

    /// Builds the state again. A part that cannot be renewed stays as it is, and the fault is logged.
    pub(crate) fn renewed(
        &self,
        plan: &Plan,
        identities: &dyn IdentitySource,
        trusts: &TrustStores,
        resuming: &Resuming,
    ) -> Self {
        let epochs = epochs(identities, trusts);
        let credentials: HashMap<_, _> = self
            .credentials
            .iter()
            .map(|(name, old)| (name.clone(), renew(plan, identities, name, old)))
            .collect();
        let same = credentials.iter().all(|(name, new)| Arc::ptr_eq(new, &self.credentials[name]));
        if same && epochs.1 == self.epochs.1 {
            return self.with(epochs);
        }
        Self::assemble(plan, credentials, trusts, resuming, epochs).unwrap_or_else(|failure| {
            tracing::warn!("a context keeps its former certificates and trust: {failure}");
            self.with(epochs)
        })
    }

    fn with(&self, epochs: (u64, u64)) -> Self {
        let common = self.common.clone();
        Self { context: self.context.clone(), common, credentials: self.credentials.clone(), epochs }
    }

    fn assemble(
        plan: &Plan,
        credentials: HashMap<String, Arc<Credentials>>,
        trusts: &TrustStores,
        resuming: &Resuming,
        epochs: (u64, u64),
    ) -> Result<Self, Failure> {
        let mut builder = SslContextBuilder::new(SslMethod::tls()).map_err(internal)?;
        set_basics(plan, &mut builder)?;
        let anchored = set_trust(plan, &mut builder, trusts)?;
        let resumes = resuming.prepare(&mut builder, plan.resumption).map_err(internal)?;
        let own = plan.identity.as_ref().and_then(|name| credentials.get(name));
        let common = resumes.then(|| ScopeBase::new(plan, &resuming.owner, &anchored, own.map(|own| &**own)));
        // This also applies without a certificate: the callback comes before a server's key exchange.
        message_ffi::set_certificate_callback::<signing_guard::ByThread>(&mut builder);
        message_ffi::watch_peers::<peer_bounds::ByCounts>(&mut builder);
        safe_ffi::bound_certificates(&mut builder, peer_keys::MAX_MESSAGE);
        set_certificates(plan, &mut builder, &credentials, common.as_ref())?;
        set_protocols(plan, &mut builder).map_err(internal)?;
        plan.dane.map_or(Ok(()), |spec| dane::allow(&mut builder, spec)).map_err(internal)?;
        if plan.key_log {
            key_log::allow(&mut builder);
        }
        let context = builder.build();
        ciphers::refuse_lower_level(&context, plan.ciphers.as_deref())?;
        Ok(Self { context, common, credentials, epochs })
    }
}

impl Plan {
    /// Returns every identity that the context may use, without repetition.
    fn all_identities(&self) -> impl Iterator<Item = &str> {
        let sni = self.sni.iter().map(|entry| &entry.identity);
        let additional = self.additional_identities.iter().map(|additional| &additional.identity);
        let all =
            self.identity.iter().chain(&self.identities).chain(sni).chain(additional).map(String::as_str);
        all.collect::<std::collections::BTreeSet<_>>().into_iter()
    }
}

fn epochs(identities: &dyn IdentitySource, trusts: &TrustStores) -> (u64, u64) {
    (identities.epoch(), trusts.epoch())
}

fn load(plan: &Plan, identities: &dyn IdentitySource, name: &str) -> Result<Credentials, Failure> {
    let identity = identities.current(name).ok_or_else(|| {
        let message = format!("identity {name:?} is not loaded; luassld check says why");
        Failure::new(ErrorCode::Unavailable, message)
    })?;
    let own = plan.chain.as_ref().filter(|_| plan.identity.as_deref() == Some(name));
    let additional =
        || plan.additional_identities.iter().find(|additional| additional.identity == name)?.chain.as_ref();
    let client_supplied = own.or_else(additional);
    let client_supplied = client_supplied.filter(|chain| chain.holds_for(&identity));
    Credentials::new(identity, client_supplied.map(|chain| &chain.certificates[..]))
}

fn renew(
    plan: &Plan,
    identities: &dyn IdentitySource,
    name: &str,
    old: &Arc<Credentials>,
) -> Arc<Credentials> {
    match identities.current(name) {
        Some(now) if now == old.identity => Arc::clone(old),
        _ => load(plan, identities, name).map(Arc::new).unwrap_or_else(|failure| {
            tracing::warn!("a context keeps the former certificate of identity {name:?}: {failure}");
            Arc::clone(old)
        }),
    }
}

fn set_basics(plan: &Plan, builder: &mut SslContextBuilder) -> Result<(), Failure> {
    builder.set_options(plan.options);
    // Chains are sent as they are given, and never completed from the trust.
    const NO_AUTO_CHAIN: SslMode = SslMode::from_bits_retain(8);
    builder.set_mode(SslMode::RELEASE_BUFFERS | SslMode::ACCEPT_MOVING_WRITE_BUFFER | NO_AUTO_CHAIN);
    let range = plan.versions;
    builder.set_min_proto_version(Some(versions::number(range.lowest))).map_err(internal)?;
    builder.set_max_proto_version(Some(versions::number(range.highest))).map_err(internal)?;
    ciphers::set_ciphers(builder, plan.ciphers.as_deref(), plan.rsa_key_exchange)?;
    ciphers::set_suites(builder, plan.suites.as_deref())?;
    ciphers::set_groups(builder, plan.groups.as_deref())?;
    ciphers::set_dh(builder, &plan.dh)
}

fn set_trust(
    plan: &Plan,
    builder: &mut SslContextBuilder,
    trusts: &TrustStores,
) -> Result<Anchored, Failure> {
    let Resolved { store, revocation, digest } = plan.anchors.resolve(trusts)?;
    builder.set_cert_store(store);
    builder.set_verify_depth(plan.depth);
    if plan.crl_check_chain && !plan.crl_check && !revocation {
        let message =
            "the whole chain is to be checked for revocation, but no trust of the context has a CRL";
        return Err(Failure::new(ErrorCode::Invalid, message));
    }
    if revocation || plan.crl_check {
        let mut flags = X509VerifyFlags::CRL_CHECK;
        if plan.crl_check_chain {
            flags |= X509VerifyFlags::CRL_CHECK_ALL;
        }
        builder.verify_param_mut().set_flags(flags).map_err(internal)?;
    }
    Ok(Anchored { digest })
}

fn set_certificates(
    plan: &Plan,
    builder: &mut SslContextBuilder,
    credentials: &HashMap<String, Arc<Credentials>>,
    common: Option<&ScopeBase>,
) -> Result<(), Failure> {
    if plan.client_hello {
        builder.set_client_hello_callback(hello::answer);
    }
    if let Some(own) = plan.identity.as_ref().and_then(|name| credentials.get(name)) {
        own.use_in_context(builder)?;
        safe_ffi::allow_post_handshake_authentication(builder);
    }
    let additional = plan
        .additional_identities
        .iter()
        .filter_map(|additional| credentials.get(&additional.identity))
        .cloned();
    let additional: Vec<Arc<Credentials>> = additional.collect();
    additional.iter().try_for_each(|one| one.use_in_context(builder))?;
    if credentials.is_empty() {
        return Ok(());
    }
    let selection = Arc::new(selection(plan, credentials));
    if let Some(common) = common.cloned() {
        let selection = Arc::clone(&selection);
        builder
            .set_client_hello_callback(move |ssl, _| Ok(resumption::bind_to_sni(ssl, &common, &selection)));
    }
    let for_staples = Arc::clone(&selection);
    builder.set_servername_callback(move |ssl, alert| selection.select(ssl, alert));
    builder.set_status_callback(move |ssl| for_staples.staple(&additional, ssl)).map_err(internal)
}

fn selection(plan: &Plan, credentials: &HashMap<String, Arc<Credentials>>) -> Selection {
    // If several identities have the same name in their certificates, the first of them is used; `identity` comes
    // first.
    let order = plan.identity.iter().chain(&plan.identities);
    let order = order.chain(plan.sni.iter().map(|entry| &entry.identity));
    let mut all: Vec<Arc<Credentials>> = Vec::new();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for name in order {
        positions.entry(name).or_insert_with(|| {
            all.push(Arc::clone(&credentials[name]));
            all.len() - 1
        });
    }
    let (mut explicit, mut by_certificate) = (Index::default(), Index::default());
    for entry in &plan.sni {
        explicit.add(&entry.name, positions[&*entry.identity]);
    }
    for name in plan.identity.iter().chain(&plan.identities) {
        let position = positions[&**name];
        for host in &all[position].host_names {
            by_certificate.add(host, position);
        }
    }
    let own = plan.identity.as_deref().map(|name| positions[name]);
    let default = own.or_else(|| plan.identities.first().map(|name| positions[&**name]));
    Selection { all, own, default, explicit, by_certificate, strict: plan.sni_strict }
}

fn set_protocols(plan: &Plan, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    if !plan.alpn.is_empty() {
        let wire: Vec<u8> = plan.alpn.iter().flat_map(|name| wire(name)).collect();
        builder.set_alpn_protos(&wire)?;
    }
    let ours = plan.alpn.clone();
    let none = if ours.is_empty() || plan.alpn_optional { AlpnError::NOACK } else { AlpnError::ALERT_FATAL };
    // Every context has this callback, because a session with a decision from a client may come from another context.
    builder.set_alpn_select_callback(move |ssl: &mut SslRef, theirs| match hello::decided_protocol(ssl) {
        Some(decided) => {
            decided.and_then(|name| find_protocol(theirs, name.as_bytes())).ok_or(AlpnError::NOACK)
        }
        None => ours.iter().find_map(|name| find_protocol(theirs, name)).ok_or(none),
    });
    Ok(())
}

/// Returns a protocol's name after its length, as in ALPN.
fn wire(name: &[u8]) -> impl Iterator<Item = u8> {
    // The plan has checked that no name is longer than 255 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    std::iter::once(length).chain(name.iter().copied())
}

/// Finds a name in a list of names with lengths.
fn find_protocol<'a>(mut list: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    while let Some((&length, rest)) = list.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        if name == wanted {
            return Some(name);
        }
        list = rest;
    }
    None
}

fn internal(error: ErrorStack) -> Failure {
    Failure::new(ErrorCode::Internal, format!("a context cannot be made: {error}"))
}
