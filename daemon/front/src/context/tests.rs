//! Which context a program receives, on a front without sockets and without a keeper.

use super::*;
use crate::context::build::AuthorizedContext;
use crate::{
    activation::activate,
    authorization::{
        owner::Owner,
        principal::Principal,
        quota::{Bound, Kind, Quotas},
    },
    services::Services,
    tests::{rig::block_on, whole::front},
};
use luassl_protocol::{ContextSpec, Digest, ErrorCode, Failure, ProtocolVersion, Role, TrustSpec};
use luassl_settings::{Grant, Grantee, Limits, Settings, TrustSettings};
use luassl_tls::kit::pki::Authority;
use openssl::sha::sha256;
use serde_bytes::{ByteArray, ByteBuf};
use std::{
    collections::HashMap,
    io::{Read, Seek},
    sync::Arc,
};

const UID: u32 = 1;

/// Returns a grant for a client whose servers are verified.
pub(crate) fn grant() -> Grant {
    Grant {
        grantee: Grantee::User(UID),
        identities: vec![],
        server: false,
        client: true,
        listeners: vec![],
        listen: false,
        connect: true,
        minimum_protocol: ProtocolVersion::Tls12,
        verify_required: true,
        key_log: false,
        rsa_key_exchange: false,
        dhe: false,
        audit: false,
        trusts: None,
        max_connections: None,
        max_contexts: None,
    }
}

/// Puts a grant in force. Without room nothing is parsed, as if a program's requests filled its queue.
fn reload(front: &Services, grant: Grant, room: bool) {
    let own = TrustSettings { certificates: vec![ByteBuf::from(Authority::root().pem())], crls: vec![] };
    let parsing_jobs_per_owner = if room { Limits::default().parsing_jobs_per_owner } else { 0 };
    let settings = Settings {
        grants: vec![grant],
        trusts: [("own".to_owned(), own)].into(),
        limits: Limits { parsing_jobs_per_owner, ..Limits::default() },
        ..Settings::default()
    };
    let reply = activate(front, settings, vec![]);
    assert!(reply.faults.is_empty(), "{:?}", reply.faults);
}

fn principal() -> Principal {
    Principal { owner: Owner { socket: "control".into(), uid: UID }, gid: UID, gids: [].into(), pid: None }
}

fn sessions(front: &Services, spec: ContextSpec, blobs: HashMap<Digest, Arc<[u8]>>) -> SessionFactory {
    let bound = Bound { owner: 1, all: None };
    let slot = Quotas::default().take(&principal().owner, Kind::Contexts, 1, bound).unwrap();
    let context_request = ContextRequest { spec, blobs, recreated: false, _slots: vec![slot] };
    SessionFactory::new(Arc::clone(&front.contexts), principal(), context_request.into(), None)
}

/// Creates a context that trusts an authority which the program created.
fn self_made(front: &Services) -> SessionFactory {
    let pem = Authority::new("of the program's making").pem();
    let digest = ByteArray::new(sha256(&pem));
    let trust = TrustSpec { certificates: vec![digest], ..TrustSpec::default() };
    sessions(front, ContextSpec { trust, ..ContextSpec::default() }, [(digest, pem.into())].into())
}

fn code(outcome: Result<AuthorizedContext, Failure>) -> Option<ErrorCode> {
    outcome.err().map(|failure| failure.code)
}

#[test]
fn finding_16_a_full_queue_keeps_no_context_in_service_that_the_grant_no_longer_accepts() {
    let front = front();
    let narrowed = || Grant { trusts: Some(vec!["own".to_owned()]), ..grant() };
    reload(&front, grant(), true);
    block_on(async {
        let sessions = self_made(&front);
        let before = sessions.granted(Role::Client).await.unwrap();
        // Positive control: under the same terms the earlier context serves, for this use.
        reload(&front, grant(), false);
        let former = sessions.granted(Role::Client).await.unwrap();
        assert!(Arc::ptr_eq(&before.context, &former.context));
        // The program fills its queue before the reload that withdraws its trust.
        reload(&front, narrowed(), false);
        for _ in 0..2 {
            assert_eq!(code(sessions.granted(Role::Client).await), Some(ErrorCode::Limit));
        }
        reload(&front, narrowed(), true);
        assert_eq!(code(sessions.granted(Role::Client).await), Some(ErrorCode::Refused));
    });
}

#[test]
fn finding_16_a_full_queue_does_not_decide_for_a_whole_generation() {
    let front = front();
    reload(&front, grant(), true);
    block_on(async {
        let sessions = self_made(&front);
        let before = sessions.granted(Role::Client).await.unwrap();
        let generation = front.authority.active().generation;
        reload(&front, grant(), false);
        assert!(sessions.granted(Role::Client).await.is_ok());
        assert_eq!(sessions.last(Role::Client).unwrap().0, generation, "not stored as of the new one");
        reload(&front, grant(), true);
        let anew = sessions.granted(Role::Client).await.unwrap();
        assert!(!Arc::ptr_eq(&before.context, &anew.context));
        assert_eq!(sessions.last(Role::Client).unwrap().0, front.authority.active().generation);
    });
}

#[test]
fn finding_16_a_full_queue_keeps_no_use_out_of_the_audit_log() {
    let front = front();
    let audited = || Grant { audit: true, ..grant() };
    reload(&front, grant(), true);
    block_on(async {
        let sessions = self_made(&front);
        assert!(!sessions.granted(Role::Client).await.unwrap().terms.audit);
        reload(&front, audited(), false);
        assert_eq!(code(sessions.granted(Role::Client).await), Some(ErrorCode::Limit));
        reload(&front, audited(), true);
        assert!(sessions.granted(Role::Client).await.unwrap().terms.audit);
    });
}

#[test]
fn finding_6_the_cache_keeps_no_description_of_a_context_that_is_no_more() {
    let front = front();
    reload(&front, grant(), true);
    let own = TrustSpec { named: vec!["own".to_owned()], ..TrustSpec::default() };
    let large = |last: &str| {
        let mut alpn: Vec<_> = (0..200).map(|number| format!("{number:0>250}")).collect();
        alpn.push(last.to_owned());
        ContextSpec { alpn, trust: own.clone(), ..ContextSpec::default() }
    };
    block_on(async {
        let made = |last: &str| sessions(&front, large(last), HashMap::new());
        let uses = [made("one"), made("one"), made("two")];
        let mut granted = Vec::new();
        for sessions in &uses {
            granted.push(sessions.granted(Role::Client).await.unwrap().context);
        }
        // Positive control: the same description gives the same context, and a different description gives a different
        // context.
        assert!(Arc::ptr_eq(&granted[0], &granted[1]) && !Arc::ptr_eq(&granted[0], &granted[2]));
        assert!(format!("{:?}", large("one")).len() > 50_000);
        drop((granted, uses));
        let cache = front.contexts.cache.lock();
        assert!(cache.len() == 2 && cache.values().all(|context| context.strong_count() == 0));
        let kept: usize = cache.keys().map(|key| format!("{key:?}").len()).sum();
        assert!(kept < 2 * 1_024, "{kept}");
    });
}

/// Returns the number of log lines during `work` which report that a context is unchanged.
fn complaints(work: impl Future<Output = ()>) -> usize {
    let mut log = tempfile::tempfile().unwrap();
    let subscriber =
        tracing_subscriber::fmt().with_writer(std::sync::Mutex::new(log.try_clone().unwrap())).finish();
    tracing::subscriber::with_default(subscriber, || block_on(work));
    let mut text = String::new();
    log.rewind().unwrap();
    log.read_to_string(&mut text).unwrap();
    text.lines().filter(|line| line.contains("keeps its former")).count()
}

/// Sets whether the configuration in force has room to parse, without changing its generation.
fn set_room(front: &Services, room: bool) {
    let parsing_jobs_per_owner = if room { Limits::default().parsing_jobs_per_owner } else { 0 };
    front.authority.amend(|settings| settings.limits.parsing_jobs_per_owner = parsing_jobs_per_owner);
}

#[test]
fn a_full_queue_does_not_fill_the_log_when_a_trust_has_changed() {
    let front = front();
    reload(&front, grant(), true);
    let own = TrustSpec { named: vec!["own".to_owned()], ..TrustSpec::default() };
    let sessions = sessions(&front, ContextSpec { trust: own, ..ContextSpec::default() }, HashMap::new());
    let change = |name: &str| {
        let certificates = vec![ByteBuf::from(Authority::new(name).pem())];
        let trust = TrustSettings { certificates, crls: vec![] };
        assert!(front.contexts.trusts.update(&[("own".to_owned(), trust)].into()).is_empty());
    };
    let handshakes = |count: usize| {
        let sessions = &sessions;
        async move {
            for _ in 0..count {
                sessions.granted(Role::Client).await.unwrap();
            }
        }
    };
    let is_stale = || sessions.last(Role::Client).unwrap().1.context.is_stale();
    assert_eq!(complaints(handshakes(2)), 0);
    set_room(&front, false);
    change("one");
    assert_eq!(complaints(handshakes(10)), 1, "one line for all of them");
    assert!(is_stale());
    set_room(&front, true);
    assert_eq!(complaints(handshakes(2)), 0);
    assert!(!is_stale());
    // Positive control: the next change that cannot be applied is logged again.
    set_room(&front, false);
    change("two");
    assert_eq!(complaints(handshakes(10)), 1);
}

#[test]
fn a_full_queue_does_not_fill_the_log_after_a_reload() {
    let front = front();
    reload(&front, grant(), true);
    let sessions = self_made(&front);
    let handshakes = |count: usize| {
        let sessions = &sessions;
        async move {
            for _ in 0..count {
                sessions.granted(Role::Client).await.unwrap();
            }
        }
    };
    assert_eq!(complaints(handshakes(2)), 0);
    for _ in 0..2 {
        reload(&front, grant(), false);
        assert_eq!(complaints(handshakes(10)), 1, "one line for all of them");
        // Positive control: after a new context is in service, the next reload is logged again.
        reload(&front, grant(), true);
        assert_eq!(complaints(handshakes(2)), 0);
    }
}
