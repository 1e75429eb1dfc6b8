//! The checked form of a context's description: the parts that do not change with identities and trusts.

use crate::context::ciphers::{self, DhParameters};
use crate::context::credentials::{client_supplied_certificates, foreign_chain, is_anchor, is_chain_of};
use crate::context::options::options;
use crate::context::source::{Charge, ContextSource, Floors};
use crate::context::versions::{Versions, versions};
use crate::handshake::psk::Shared;
use crate::identity::{IdentitySource, PublicIdentity};
use crate::names::is_server_name;
use crate::verify::client_supplied::{Material, charged, check_sizes, decode_extensions};
use crate::verify::trust::{Anchors, SYSTEM, TrustStores};
use crate::verify::{self, LARGEST_DEPTH, Modes};
use luassl_protocol::{
    AdditionalIdentity, ContextSpec, DaneSpec, DhSpec, Digest, ErrorCode, Failure, SniEntry,
};
use openssl::ssl::SslOptions;
use openssl::x509::X509;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A chain that a client supplied for its identity.
pub(crate) struct BroughtChain {
    pub(crate) certificates: Vec<X509>,
    /// The generation of the identity that the chain was supplied for.
    made_for: Arc<PublicIdentity>,
}

impl BroughtChain {
    /// Returns whether the chain is still in use. After a renewal of the identity with its own chain, that chain is
    /// used.
    pub(crate) fn holds_for(&self, identity: &PublicIdentity) -> bool {
        identity.chain.is_empty()
            || (identity.key_id == self.made_for.key_id && identity.chain == self.made_for.chain)
    }
}

/// An additional identity of the context.
pub(crate) struct PlannedIdentity {
    pub(crate) identity: String,
    pub(crate) chain: Option<BroughtChain>,
}

/// A plan as the module documentation describes it.
pub(crate) struct Plan {
    pub(crate) identity: Option<String>,
    pub(crate) identities: Vec<String>,
    pub(crate) sni: Vec<SniEntry>,
    pub(crate) sni_strict: bool,
    pub(crate) chain: Option<BroughtChain>,
    pub(crate) additional_identities: Vec<PlannedIdentity>,
    pub(crate) anchors: Anchors,
    pub(crate) modes: Modes,
    pub(crate) verify_required: bool,
    pub(crate) depth: u32,
    pub(crate) verify_continue: bool,
    pub(crate) ignore_purpose: bool,
    pub(crate) crl_check: bool,
    pub(crate) crl_check_chain: bool,
    pub(crate) options: SslOptions,
    pub(crate) versions: Versions,
    pub(crate) ciphers: Option<String>,
    pub(crate) rsa_key_exchange: bool,
    pub(crate) suites: Option<String>,
    pub(crate) groups: Option<String>,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) alpn_optional: bool,
    pub(crate) client_hello: bool,
    pub(crate) dh: DhParameters,
    pub(crate) resumption: bool,
    pub(crate) psk: Option<Arc<Shared>>,
    pub(crate) dane: Option<DaneSpec>,
    pub(crate) staple: bool,
    pub(crate) key_log: bool,
    /// The charges for the memory of supplied chains.
    _charges: Vec<Charge>,
}

/// Refuses a description that does not meet the requirements of the grant.
fn refuse_below(spec: &ContextSpec, floors: Floors) -> Result<(), Failure> {
    let refused = |message: String| Err(Failure::new(ErrorCode::Refused, message));
    let without = [
        ("verify_continue", spec.verify_continue),
        ("psk", spec.psk.is_some()),
        ("dane", spec.dane.is_some()),
    ];
    if let Some((name, _)) = without.iter().find(|(_, asked)| floors.verify_required && *asked) {
        return refused(format!("the grant requires verification, and {name} goes on without"));
    }
    if spec.key_log && !floors.key_log {
        return refused("a key log needs a grant of key_log".into());
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::Invalid, message)
}

impl Plan {
    pub(crate) fn new(
        source: &ContextSource,
        identities: &dyn IdentitySource,
        trusts: &TrustStores,
    ) -> Result<Self, Failure> {
        let ContextSource { spec, floors, .. } = source;
        let Floors { minimum_protocol, verify_required, rsa_key_exchange, dhe, .. } = *floors;
        refuse_below(spec, *floors)?;
        source.refuse_other_trusts(source.brings_trust(), &source.named_trusts())?;
        source.check_sizes()?;
        let mut charges = Vec::new();
        let (chain, anchors) = source.certificates(identities, trusts, &mut charges)?;
        // Only now is it known whether supplied certificates are a chain or a trust.
        source.refuse_other_trusts(anchors.has_brought_certificates(), anchors.named())?;
        Ok(Self {
            identity: spec.identity.clone(),
            identities: spec.identities.clone(),
            sni: server_names(spec)?,
            sni_strict: spec.sni_strict,
            chain,
            additional_identities: source.additional_identities(identities, &mut charges)?,
            anchors,
            modes: verify::modes(spec.verify, verify_required)?,
            verify_required,
            depth: depth(spec.depth)?,
            verify_continue: spec.verify_continue,
            ignore_purpose: spec.ignore_purpose,
            crl_check: spec.crl_check,
            crl_check_chain: spec.crl_check_chain,
            options: options(spec.options)?,
            versions: versions(spec, minimum_protocol)?,
            ciphers: spec.ciphers.clone(),
            rsa_key_exchange,
            suites: spec.ciphersuites.clone(),
            groups: spec.groups.clone(),
            alpn: protocols(spec)?,
            alpn_optional: spec.alpn_optional,
            client_hello: spec.client_hello,
            dh: source.dh_parameters()?.offered_if(dhe || !has_identity(spec)),
            // If another context may be chosen for a session, the session belongs to no scope.
            resumption: !spec.no_resumption && !spec.client_hello && spec.psk.is_none(),
            psk: spec.psk.as_ref().map(Shared::new).transpose()?,
            dane: spec.dane,
            staple: spec.staple,
            key_log: spec.key_log,
            _charges: charges,
        })
    }
}

impl ContextSource {
    fn blob(&self, digest: &Digest, what: &str) -> Result<&[u8], Failure> {
        let blob = self.blobs.get(digest).map(|blob| &**blob);
        let blob = blob.ok_or_else(|| invalid(format!("{what}: its bytes were not sent")))?;
        let secret = b"PRIVATE KEY-----";
        if blob.windows(secret.len()).any(|window| window == secret) {
            return Err(invalid(format!("{what}: it holds a private key, which must not be sent here")));
        }
        Ok(blob)
    }

    /// Checks the sizes with [`check_sizes`].
    fn check_sizes(&self) -> Result<(), Failure> {
        let spec = &self.spec;
        let chains = spec.chain.iter().chain(&spec.chain_or_trust);
        let chains = chains
            .chain(spec.additional_identities.iter().filter_map(|additional| additional.chain.as_ref()));
        // Each chain is parsed separately, and trusted material once.
        let trusted: BTreeSet<&Digest> = spec.trust.certificates.iter().chain(&spec.trust.crls).collect();
        check_sizes(chains.chain(trusted).filter_map(|digest| self.blobs.get(digest).map(|blob| &**blob)))
    }

    /// Returns the certificates of a supplied chain.
    fn chain(&self, digest: &Digest, what: &str, charges: &mut Vec<Charge>) -> Result<Vec<X509>, Failure> {
        let blob = self.blob(digest, what)?;
        let (chain, charge) = charged(self.ledger.as_deref(), blob.len(), || {
            let chain = client_supplied_certificates(blob, what)?;
            decode_extensions(&chain);
            Ok(chain)
        })?;
        charges.extend(charge);
        Ok(chain)
    }

    /// Returns whether the client supplies trusted certificates, as far as this is known before parsing.
    fn brings_trust(&self) -> bool {
        let spec = &self.spec;
        !spec.trust.certificates.is_empty() || (spec.chain_or_trust.is_some() && spec.identity.is_none())
    }

    /// Returns the configured trusts that the description names. If it names and supplies none, returns the system's
    /// trust.
    fn named_trusts(&self) -> Vec<String> {
        let trust = &self.spec.trust;
        let none = trust.named.is_empty() && trust.certificates.is_empty() && !trust.trust_none;
        let system = (trust.system || none).then(|| SYSTEM.to_owned());
        system.into_iter().chain(trust.named.iter().cloned()).collect()
    }

    /// Refuses trust that the grant does not name. Supplied CRLs are allowed, because they can only reduce trust.
    fn refuse_other_trusts(&self, brings: bool, named: &[String]) -> Result<(), Failure> {
        let Some(accepted) = &self.trusts else { return Ok(()) };
        let list = accepted.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let refused = |what: String| {
            let message = format!("the grant accepts no trust but {list} (`trusts`), and {what}");
            Err(Failure::new(ErrorCode::Refused, message))
        };
        if brings {
            return refused("this context brings certificates of its own to trust: leave them out".into());
        }
        match named.iter().find(|name| !accepted.contains(name)) {
            Some(other) => refused(format!("this context has {other:?}: name one of those")),
            None => Ok(()),
        }
    }

    fn dh_parameters(&self) -> Result<DhParameters, Failure> {
        match &self.spec.dh {
            None | Some(DhSpec::Automatic) => Ok(DhParameters::Automatic),
            Some(DhSpec::Named(name)) => ciphers::named_dh(name),
            Some(DhSpec::Parameters(digest)) => ciphers::given_dh(self.blob(digest, "dh parameters")?),
        }
    }

    fn additional_identities(
        &self,
        identities: &dyn IdentitySource,
        charges: &mut Vec<Charge>,
    ) -> Result<Vec<PlannedIdentity>, Failure> {
        let mut chain = |digest: &Digest, identity: &str| {
            let certificates = self.chain(digest, "chain", charges)?;
            let made_for = identities.current(identity);
            Ok::<_, Failure>(made_for.map(|made_for| BroughtChain { certificates, made_for }))
        };
        let mut one = |additional: &AdditionalIdentity| {
            let chain =
                additional.chain.as_ref().map(|digest| chain(digest, &additional.identity)).transpose()?;
            Ok(PlannedIdentity { identity: additional.identity.clone(), chain: chain.flatten() })
        };
        self.spec.additional_identities.iter().map(&mut one).collect()
    }

    /// Returns the chain for the identity, and the trust anchors for the peer's chain.
    fn certificates(
        &self,
        identities: &dyn IdentitySource,
        trusts: &TrustStores,
        charges: &mut Vec<Charge>,
    ) -> Result<(Option<BroughtChain>, Anchors), Failure> {
        let spec = &self.spec;
        let identity = spec.identity.as_deref().and_then(|name| identities.current(name));
        let mut anchors = self.anchors(trusts)?;
        let mut chain = match &spec.chain {
            Some(digest) => Some(self.chain(digest, "chain", charges)?),
            None => None,
        };
        if chain.is_some() && spec.identity.is_none() {
            return Err(invalid("a chain is given, but no identity that it belongs to"));
        }
        if let Some(identity) = &identity
            && chain.as_ref().is_some_and(|chain| self.is_superseded(chain, identity))
        {
            chain = None;
        }
        if let Some(digest) = &spec.chain_or_trust {
            let given = self.chain(digest, "certificate", charges)?;
            let belongs = identity.as_ref().is_some_and(|identity| is_chain_of(&given, identity));
            let superseded = !is_anchor(&given)
                && identity.as_ref().is_some_and(|identity| self.is_superseded(&given, identity));
            if belongs && chain.is_none() {
                chain = Some(given);
            } else if superseded {
                // The identity's own chain is used.
            } else if let Some(identity) = identity.as_ref().filter(|_| !belongs && !is_anchor(&given)) {
                return Err(foreign_chain(identity, &given));
            } else if !belongs {
                anchors.certificates.extend(given);
                anchors.add(SYSTEM);
            }
        }
        if anchors.is_empty() && !spec.trust.trust_none {
            anchors.add(SYSTEM);
        }
        let chain = chain.zip(identity);
        let chain = chain.map(|(certificates, made_for)| BroughtChain { certificates, made_for });
        Ok((chain, anchors))
    }

    /// Returns whether the chain matched when the client first had this context, and the identity now has a renewed
    /// chain of its own.
    fn is_superseded(&self, chain: &[X509], identity: &PublicIdentity) -> bool {
        let superseded = self.recreated && !identity.chain.is_empty() && !is_chain_of(chain, identity);
        if superseded {
            tracing::info!(
                "identity {:?} was renewed: a program that made its context again brought the chain of the former key; \
                 the identity's own is used",
                identity.name
            );
        }
        superseded
    }

    fn anchors(&self, trusts: &TrustStores) -> Result<Anchors, Failure> {
        let trust = &self.spec.trust;
        let mut anchors = Anchors::default();
        if trust.system {
            anchors.add(SYSTEM);
        }
        for name in &trust.named {
            anchors.add(name);
        }
        let bytes = |digests: &[Digest], what| {
            // A certificate that is given twice is trusted once.
            let mut seen = BTreeSet::new();
            let once = digests.iter().filter(|digest| seen.insert(**digest));
            once.map(|digest| self.blob(digest, what)).collect::<Result<Vec<_>, _>>()
        };
        let certificates = bytes(&trust.certificates, "trusted certificates")?;
        let crls = bytes(&trust.crls, "crls")?;
        if !(certificates.is_empty() && crls.is_empty()) {
            let ledger = self.ledger.as_deref();
            let material = Material { owner: &self.owner, certificates, crls, ledger };
            anchors.client_supplied = Some(trusts.parsed.get(&material)?);
        }
        Ok(anchors)
    }
}

/// Returns whether the context has a key that would sign DHE parameters. With only pre-shared keys there is no such
/// key.
fn has_identity(spec: &ContextSpec) -> bool {
    spec.identity.is_some()
        || !(spec.identities.is_empty() && spec.additional_identities.is_empty() && spec.sni.is_empty())
}

fn server_names(spec: &ContextSpec) -> Result<Vec<SniEntry>, Failure> {
    if let Some(SniEntry { name, .. }) = spec.sni.iter().find(|entry| !is_server_name(&entry.name)) {
        return Err(invalid(format!(
            "sni {name:?} is no server name: there are names such as www.example.org, and wildcards for the names one \
             label below, such as *.example.org; `key` is for clients that ask for another name or for none"
        )));
    }
    Ok(spec.sni.clone())
}

fn depth(depth: Option<u32>) -> Result<u32, Failure> {
    let depth = depth.unwrap_or(verify::DEFAULT_DEPTH);
    if depth > LARGEST_DEPTH {
        return Err(invalid(format!("depth {depth} is above {LARGEST_DEPTH}")));
    }
    Ok(depth)
}

/// Returns the application protocols. Each has 1 to 255 bytes, and all together fit in the extension (RFC 7301).
fn protocols(spec: &ContextSpec) -> Result<Vec<Vec<u8>>, Failure> {
    const LONGEST_LIST: usize = 65_535 - 2;
    for name in &spec.alpn {
        if name.is_empty() || name.len() > 255 {
            return Err(invalid(format!("alpn protocol {name:?} has not 1 to 255 bytes")));
        }
    }
    if spec.alpn.iter().map(|name| name.len() + 1).sum::<usize>() > LONGEST_LIST {
        return Err(invalid("the alpn protocols are too long together"));
    }
    Ok(spec.alpn.iter().map(|name| name.clone().into_bytes()).collect())
}
