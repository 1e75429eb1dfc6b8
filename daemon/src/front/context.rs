//! Contexts of clients: what they asked for, and the OpenSSL contexts that this gives under each grant.

use super::{
    Active, Front,
    counters::Refusal,
    owner::Owner,
    policy::{self, Caller, Denial, Operation, Way},
    quota::Slot,
    standing::Standing,
};
use crate::{
    settings::Grant,
    tls::{self, Floors},
};
use luassl_protocol::{ContextSpec, Dane, Digest, ErrorCode, Failure, Role};
use openssl::ssl::{Ssl, SslContext};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

/// A context as a client described it, with the bytes that it refers to.
pub(super) struct Recipe {
    pub(super) spec: ContextSpec,
    pub(super) blobs: HashMap<Digest, Arc<[u8]>>,
    /// Whether the client had it before.
    pub(super) again: bool,
    pub(super) _slot: Slot,
}

impl Recipe {
    /// Whether its handshakes may ask the client for keys.
    pub(super) fn asks_for_keys(&self) -> bool {
        self.spec.psk.as_ref().is_some_and(|psk| psk.ask)
    }
}

/// All identities that a description names.
pub(super) fn identities_of(spec: &ContextSpec) -> Vec<String> {
    let by_sni = spec.sni.iter().map(|entry| entry.identity.clone());
    let also = spec.also.iter().map(|also| also.identity.clone());
    spec.identity.iter().cloned().chain(spec.identities.iter().cloned()).chain(by_sni).chain(also).collect()
}

/// The digests that a description refers to.
pub(super) fn digests_of(spec: &ContextSpec) -> Vec<Digest> {
    let mut digests: Vec<Digest> = spec.chain.iter().chain(&spec.chain_or_trust).copied().collect();
    digests.extend(spec.also.iter().filter_map(|also| also.chain));
    digests.extend(spec.trust.certificates.iter().chain(&spec.trust.crls).copied());
    if let Some(luassl_protocol::DhSpec::Parameters(digest)) = &spec.dh {
        digests.push(*digest);
    }
    digests
}

/// Whoever asked, kept for as long as what was asked for lasts.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) owner: Owner,
    /// The primary group.
    pub(super) gid: u32,
    pub(super) gids: Arc<[u32]>,
    /// The process that connected, where the kernel can tell.
    pub(super) pid: Option<u32>,
}

impl Asker {
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller { uid: self.owner.uid, gids: &self.gids, socket: &self.owner.socket }
    }
}

/// Who is at the other end of a session.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer<'a> {
    /// A former session with the same peer may be taken up again.
    Resumable(Option<SocketAddr>),
    /// None is.
    New(Option<SocketAddr>),
    /// None is, and a server is verified by TLSA records.
    ByRecords(Option<SocketAddr>, &'a Dane),
}

impl Peer<'_> {
    fn address(self) -> Option<SocketAddr> {
        let (Self::Resumable(address) | Self::New(address) | Self::ByRecords(address, _)) = self;
        address
    }

    fn resumable(self) -> Option<SocketAddr> {
        match self {
            Self::Resumable(address) => address,
            Self::New(_) | Self::ByRecords(..) => None,
        }
    }
}

/// An OpenSSL context under a grant.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) context: Arc<tls::Context>,
    /// Whether each use is logged.
    audit: bool,
}

/// What was granted, and the generation of the configuration that it was made under.
type Current = (u64, Granted);

/// A recipe in use: new sessions by it, under the grant that holds at that moment.
pub(super) struct Sessions {
    pub(super) asker: Asker,
    recipe: Arc<Recipe>,
    listener: Option<String>,
    /// What it gave last, for each role, and under which generation of the configuration.
    current: Mutex<[Option<Current>; 2]>,
    /// What connections rest on that it makes, for each role.
    standings: [OnceLock<Arc<Standing>>; 2],
}

impl Sessions {
    pub(super) fn new(asker: Asker, recipe: Arc<Recipe>, listener: Option<String>) -> Self {
        Self { asker, recipe, listener, current: Mutex::default(), standings: Default::default() }
    }

    /// What a connection rests on that it makes.
    pub(super) fn standing(&self, role: Role) -> Arc<Standing> {
        let make =
            || Standing::new(self.asker.clone(), &self.recipe.spec, self.listener.clone(), role).into();
        Arc::clone(self.standings[usize::from(role == Role::Server)].get_or_init(make))
    }

    /// Whether the settings of another use are the same.
    pub(super) fn is_like(&self, front: &Front, other: &Self) -> bool {
        let active = front.active();
        // The same files may be named from different directories.
        let full = |sessions: &Self| with_full_names(&active, &sessions.recipe.spec);
        self.asker.owner == other.asker.owner && self.listener == other.listener && full(self) == full(other)
    }

    /// A session for one handshake. A client's to a known `peer` may be one that is taken up again.
    ///
    /// # Errors
    /// Why there is none: no grant (any more), an identity that is not loaded, a host that cannot be checked.
    pub(super) fn session(
        &self,
        front: &Front,
        role: Role,
        host: Option<&str>,
        sni: Option<&str>,
        peer: Peer<'_>,
    ) -> Result<Ssl, Failure> {
        let Granted { context, audit } = self.granted(front, role)?;
        let session = match (role, peer, peer.resumable()) {
            (Role::Client, Peer::ByRecords(_, dane), _) => context.session_by_records(host, sni, dane),
            (Role::Client, _, Some(peer)) => context.session_with(host, sni, peer),
            _ => context.session(role, host, sni),
        };
        match &session {
            Ok(_) if audit => {
                self.with_operation(role, |operation| {
                    front.audit.used(&self.asker, operation, peer.address())
                });
            }
            Err(failure) if failure.code == ErrorCode::Refused => {
                front.counters.refused(&self.asker.owner, Refusal::Floor);
                self.with_operation(role, |operation| {
                    front.audit.below_floor(&self.asker, operation, failure);
                });
            }
            _ => {}
        }
        session
    }

    /// What the grant demands of connections.
    ///
    /// # Errors
    /// As [`Sessions::session`].
    pub(super) fn floors(&self, front: &Front, role: Role) -> Result<Floors, Failure> {
        Ok(self.granted(front, role)?.context.floors())
    }

    /// The OpenSSL context for a server's session that began in another one, whose grant demands `floors`.
    ///
    /// # Errors
    /// What the grants have against it, and a grant that demands something else: what is asked of the peer stays as it
    /// began.
    pub(super) fn chosen(
        &self,
        front: &Front,
        floors: Floors,
        peer: Option<SocketAddr>,
    ) -> Result<SslContext, Failure> {
        let Granted { context, audit } = self.granted(front, Role::Server)?;
        if context.floors() != floors {
            let message = "the grants of the two contexts demand different things of a peer";
            return Err(Failure::new(ErrorCode::Refused, message));
        }
        if audit {
            self.with_operation(Role::Server, |operation| front.audit.used(&self.asker, operation, peer));
        }
        Ok(context.current_context())
    }

    /// Looks whether there would be a session.
    ///
    /// # Errors
    /// As [`Sessions::session`].
    pub(super) fn check(&self, front: &Front, role: Role) -> Result<(), Failure> {
        self.granted(front, role)?.context.session(role, None, None).map(drop)
    }

    /// What the audit log says of a session.
    fn with_operation(&self, role: Role, log: impl FnOnce(&Operation<'_>)) {
        let identities = identities_of(&self.recipe.spec);
        log(&Operation { identities: &identities, role: Some(role), way: self.way() });
    }

    fn way(&self) -> Way<'_> {
        self.listener.as_deref().map_or(Way::OwnSocket, Way::Listener)
    }

    /// The OpenSSL context under the present configuration; made anew when that has changed.
    fn granted(&self, front: &Front, role: Role) -> Result<Granted, Failure> {
        let active = front.active();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut current[usize::from(role == Role::Server)];
        if let Some((generation, context)) = slot
            && *generation == active.generation
        {
            return Ok(context.clone());
        }
        let made = front.contexts.build(front, &active, &self.asker, &self.recipe, Some(role), self.way());
        let context = match (made, &slot) {
            (Ok(context), _) => context,
            // What a reload has broken leaves the former context in service, unless it forbids that.
            (Err(failure), Some((_, former)))
                if failure.code != ErrorCode::Refused
                    && self.standing(role).judge(&active) == Ok(former.context.floors()) =>
            {
                tracing::warn!("a context keeps its former state: {failure}");
                former.clone()
            }
            (Err(failure), _) => return Err(failure),
        };
        *slot = Some((active.generation, context.clone()));
        Ok(context)
    }
}

/// What decides which OpenSSL context a recipe gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    owner: Owner,
    spec: ContextSpec,
    floors: Floors,
    again: bool,
    generation: u64,
}

impl From<&Grant> for Floors {
    fn from(grant: &Grant) -> Self {
        Self {
            minimum_protocol: grant.minimum_protocol,
            verify_required: grant.verify_required,
            rsa_key_exchange: grant.rsa_key_exchange,
            key_log: grant.key_log,
        }
    }
}

/// OpenSSL contexts by what they are made of, as long as somebody uses them.
#[derive(Default)]
pub(super) struct Contexts {
    cache: Mutex<HashMap<CacheKey, Weak<tls::Context>>>,
}

/// Dead entries are swept out when the cache has grown by this many.
const SWEEP_AT: usize = 256;

impl Contexts {
    /// The context that a recipe gives under the asker's grant.
    ///
    /// # Errors
    /// Refused by the grants; an identity without a loaded key; a setting that OpenSSL does not take.
    pub(super) fn build(
        &self,
        front: &Front,
        active: &Active,
        asker: &Asker,
        recipe: &Recipe,
        role: Option<Role>,
        way: Way<'_>,
    ) -> Result<Granted, Failure> {
        let spec = with_full_names(active, &recipe.spec);
        let identities = identities_of(&spec);
        let operation = Operation { identities: &identities, role, way };
        let grant = policy::decide(&active.settings, asker.caller(), operation).map_err(|denial| {
            front.counters.refused(&asker.owner, Refusal::Denied(denial.word()));
            front.audit.refused(asker, &operation, &denial);
            as_asked(denial, &identities, &recipe.spec).into_failure()
        })?;
        let (floors, audit) = (Floors::from(grant), grant.audit);
        let key = CacheKey {
            owner: asker.owner.clone(),
            spec: spec.clone(),
            floors,
            again: recipe.again,
            generation: active.generation,
        };
        if spec.psk.is_some() {
            // Keys stay nowhere longer than they are used.
            let context = Arc::new(make(front, active, asker, &spec, recipe, floors)?);
            return Ok(Granted { context, audit });
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cache.get(&key).and_then(Weak::upgrade) {
            return Ok(Granted { context: known, audit });
        }
        let made = make(front, active, asker, &spec, recipe, floors);
        let context = Arc::new(made.inspect_err(|failure| {
            if failure.code == ErrorCode::Refused {
                front.counters.refused(&asker.owner, Refusal::Floor);
                front.audit.below_floor(asker, &operation, failure);
            }
        })?);
        if cache.len() >= SWEEP_AT {
            cache.retain(|_, known| known.strong_count() > 0);
        }
        cache.insert(key, Arc::downgrade(&context));
        Ok(Granted { context, audit })
    }
}

fn make(
    front: &Front,
    active: &Active,
    asker: &Asker,
    spec: &ContextSpec,
    recipe: &Recipe,
    floors: Floors,
) -> Result<tls::Context, Failure> {
    let source = tls::ContextSource {
        spec: with_declared_names(active, spec)?,
        blobs: recipe.blobs.clone(),
        floors,
        owner: asker.owner.label(),
        again: recipe.again,
    };
    let (identities, trusts) = (Arc::clone(&active.identities), Arc::clone(&front.trusts));
    tls::Context::new(source, identities, trusts, Arc::clone(&front.resumption))
}

/// The same description, with each identity that nothing answers to as given joined to the program's directory and
/// resolved as text, where something answers to that.
fn with_full_names(active: &Active, spec: &ContextSpec) -> ContextSpec {
    let mut spec = spec.clone();
    let directory = spec.directory.take();
    let also = spec.also.iter_mut().map(|also| &mut also.identity);
    let names = spec.identity.iter_mut().chain(&mut spec.identities).chain(also);
    for name in names.chain(spec.sni.iter_mut().map(|entry| &mut entry.identity)) {
        if let Some(full) = full_name(active, directory.as_deref(), name) {
            *name = full;
        }
    }
    spec
}

/// The full name of an identity that nothing answers to as given, seen from `directory`, where something answers to that.
pub(super) fn full_name(active: &Active, directory: Option<&str>, name: &str) -> Option<String> {
    let has_full_name = directory.is_some() || name.starts_with('/');
    if !has_full_name || policy::declared(&active.settings, name).is_some() {
        return None;
    }
    let full = policy::joined(directory.unwrap_or_default(), name);
    policy::declared(&active.settings, &full).is_some().then_some(full)
}

/// The same denial in the caller's words: the full name of what it asked for would tell that there is such an identity.
fn as_asked(denial: Denial, identities: &[String], spec: &ContextSpec) -> Denial {
    let Denial::Identity(full) = denial else { return denial };
    let place = identities.iter().position(|name| *name == full);
    let asked = place.and_then(|place| identities_of(spec).into_iter().nth(place));
    Denial::Identity(asked.unwrap_or(full))
}

/// The same description with each identity under its declared name.
fn with_declared_names(active: &Active, spec: &ContextSpec) -> Result<ContextSpec, Failure> {
    let declared = |asked: &mut String| -> Result<(), Failure> {
        // The grant has been found by this name, so it is declared.
        let name = policy::declared(&active.settings, asked)
            .ok_or_else(|| Denial::Identity(asked.clone()).into_failure())?;
        if let Some(fault) = active.settings.identities.get(name).and_then(|identity| identity.fault.as_ref())
            && active.identities.current(name).is_none()
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
    spec.also.iter_mut().try_for_each(|also| declared(&mut also.identity))?;
    spec.sni.iter_mut().try_for_each(|entry| declared(&mut entry.identity))?;
    Ok(spec)
}
