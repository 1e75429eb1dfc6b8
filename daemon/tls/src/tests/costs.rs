//! What clients bring costs memory and time: both have bounds, and the memory is charged.

use crate::kit::pki::{Authority, Kind, Wanted};
use crate::kit::world::{FREE, World};
use crate::{Charge, Context, Floors, Ledger, check_issued, read_certificate};
use luassl_protocol::{
    CheckIssued, ContextSpec, Dane, DaneSpec, Digest, ErrorCode, Failure, ReadCertificate, TlsaRecord,
    TrustSpec,
};
use parking_lot::Mutex;
use serde_bytes::ByteBuf;
use std::sync::Arc;

/// An account with a bound; it remembers each charge.
#[derive(Debug, Default)]
struct Account {
    charges: Mutex<Vec<u64>>,
    held: Arc<Mutex<u64>>,
    bound: u64,
}

/// A part of an account, until it is dropped.
struct Part(Arc<Mutex<u64>>, u64);

impl Drop for Part {
    fn drop(&mut self) {
        *self.0.lock() -= self.1;
    }
}

impl Ledger for Account {
    fn charge(&self, bytes: u64) -> Result<Charge, Failure> {
        let mut held = self.held.lock();
        if *held + bytes > self.bound {
            return Err(Failure::new(ErrorCode::Limit, "the account is empty"));
        }
        *held += bytes;
        self.charges.lock().push(bytes);
        Ok(Box::new(Part(Arc::clone(&self.held), bytes)))
    }
}

fn charged_world(bound: u64) -> (World, Arc<Account>) {
    let world = World::new();
    let account = Arc::new(Account { bound, ..Account::default() });
    *world.ledger.lock() = Some(Arc::clone(&account) as Arc<dyn Ledger>);
    (world, account)
}

fn trusting(certificates: Vec<Digest>) -> ContextSpec {
    ContextSpec { trust: TrustSpec { certificates, ..TrustSpec::default() }, ..ContextSpec::default() }
}

fn code(outcome: Result<Context, Failure>) -> Option<ErrorCode> {
    outcome.err().map(|failure| failure.code)
}

#[test]
fn finding_6_a_digest_that_is_given_again_and_again_is_parsed_and_charged_once() {
    let pem = Authority::root().pem();
    // Padded, so that the same many times would be more than a context may bring.
    let pem = [&pem[..], &vec![b'\n'; 100_000]].concat();
    let (world, account) = charged_world(200_000);
    let digest = world.blob(&pem);
    let context = world.context(&trusting(vec![digest; 64]));
    // Its text is charged as it is parsed; what else it takes is little.
    let charges = || account.charges.lock().clone();
    let parsed = charges();
    assert_eq!(parsed.iter().filter(|bytes| **bytes >= pem.len() as u64).count(), 1, "{parsed:?}");
    assert!(*account.held.lock() >= pem.len() as u64);
    // Another context with the same shares it.
    let _second = world.context(&ContextSpec { depth: Some(3), ..trusting(vec![digest]) });
    assert_eq!(charges(), parsed);
    drop(context);
}

#[test]
fn finding_6_a_context_that_brings_too_much_is_refused_before_it_is_parsed() {
    let (world, account) = charged_world(u64::MAX);
    let of =
        |count: usize| b"-----BEGIN CERTIFICATE-----\nno base64\n-----END CERTIFICATE-----\n".repeat(count);
    let digest = world.blob(&of(513));
    let refusal = world.refusal(&trusting(vec![digest]));
    assert_eq!(refusal.code, ErrorCode::Limit);
    assert!(refusal.message.contains("512") && refusal.message.contains("[trust]"), "{refusal}");
    let large: Vec<_> = (0..2).map(|byte| world.blob(&vec![byte; (1 << 19) + 1])).collect();
    assert_eq!(world.refusal(&trusting(large)).code, ErrorCode::Limit);
    // Positive control: what is within the bounds is parsed, and found to be nothing.
    let digest = world.blob(&of(512));
    assert_eq!(world.refusal(&trusting(vec![digest])).code, ErrorCode::Invalid);
    assert!(account.charges.lock().is_empty());
}

#[test]
fn finding_6_what_is_parsed_is_on_its_owners_account_for_as_long_as_it_is_used() {
    let bundle = |subject: &str| [&Authority::new(subject).pem()[..], &vec![b'\n'; 50_000]].concat();
    let (world, account) = charged_world(120_000);
    let contexts: Vec<_> =
        ["one", "two"].map(|name| world.context(&trusting(vec![world.blob(&bundle(name))]))).into();
    let third = trusting(vec![world.blob(&bundle("three"))]);
    assert_eq!(code(world.context_with(&third, FREE)), Some(ErrorCode::Limit));
    // What nobody uses any more makes room, though it is kept for contexts to come.
    drop(contexts);
    assert!(*account.held.lock() > 100_000);
    let _third = world.context(&third);
    assert!(*account.held.lock() < 60_000);
}

#[test]
fn finding_6_tlsa_records_are_charged_for_as_long_as_their_session_lasts() {
    let (world, account) = charged_world(250_000);
    let held = || *account.held.lock();
    let context = world.context(&ContextSpec { dane: Some(DaneSpec::default()), ..ContextSpec::default() });
    let before = held();
    let session = |bytes: usize| {
        // What is no certificate is as if it were not there, and charged all the same.
        let record = TlsaRecord { usage: 2, selector: 0, matching: 0, data: ByteBuf::from(vec![0; bytes]) };
        let dane = Dane { host: "server.test".to_owned(), records: vec![record; 10] };
        context.session_by_records(Some("server.test"), None, &dane)
    };
    let first = session(10_000).unwrap();
    assert!((100_000..110_000).contains(&(held() - before)), "{}", held() - before);
    let second = session(10_000).unwrap();
    assert_eq!(session(10_000).err().unwrap().code, ErrorCode::Limit);
    // Positive control: what is small has room, and so has what a session that is no more had.
    drop(session(100).unwrap());
    drop(first);
    let third = session(10_000).unwrap();
    drop((second, third));
    assert_eq!(held(), before);
}

#[test]
fn finding_6_chains_are_charged_for_each_context() {
    let authority = Authority::root();
    let (world, account) = charged_world(u64::MAX);
    let key = Kind::P256.generate();
    let leaf = authority.issue(&Wanted::leaf(&["server.test"]), &key);
    let chain = world.blob(&leaf.to_pem().unwrap());
    world.identities.put(crate::kit::pki::declare("server", key, vec![]));
    let spec = ContextSpec { chain: Some(chain), ..crate::kit::world::of("server") };
    let contexts = [world.context(&spec), world.context(&spec)];
    assert_eq!(account.charges.lock().len(), 2);
    drop(contexts);
    assert_eq!(*account.held.lock(), 0);
}

#[test]
fn finding_4_certificates_beyond_the_bounds_are_not_looked_at() {
    let authority = Authority::root();
    let leaf = authority.issue(&Wanted::leaf(&["a.test"]), &Kind::P256.generate());
    let der = |certificate: &openssl::x509::X509Ref| certificate.to_der().unwrap();
    let check = |between: Vec<Vec<u8>>| {
        let between = between.into_iter().map(ByteBuf::from).collect();
        check_issued(&CheckIssued { anchor: der(&authority.certificate), certificate: der(&leaf), between })
    };
    // Positive control.
    assert!(check(vec![der(&authority.certificate); 14]).unwrap().issued);
    let refused = check(vec![der(&authority.certificate); 15]).unwrap_err();
    assert!(refused.code == ErrorCode::Limit && refused.message.contains("16"), "{refused}");
    let refused = check(vec![vec![0; 64 << 10]]).unwrap_err();
    assert!(refused.code == ErrorCode::Limit && refused.message.contains("65536"), "{refused}");
    let read = |data: Vec<u8>| read_certificate(&ReadCertificate { data });
    assert!(read(der(&leaf)).is_ok());
    let padded = [authority.pem(), vec![b'\n'; 64 << 10]].concat();
    assert_eq!(read(padded).unwrap_err().code, ErrorCode::Limit);
}

#[test]
fn finding_4_a_chain_that_is_deeper_than_the_bound_does_not_verify() {
    let root = Authority::new("deep root");
    let mut authorities = vec![root];
    for depth in 0..9 {
        let next = authorities[depth].intermediate(&format!("deep {depth}"));
        authorities.push(next);
    }
    let issued = |depth: usize| {
        let leaf = authorities[depth].issue(&Wanted::leaf(&["a.test"]), &Kind::P256.generate());
        let der = |certificate: &openssl::x509::X509Ref| certificate.to_der().unwrap();
        let between = authorities[1..=depth].iter().map(|one| ByteBuf::from(der(&one.certificate))).collect();
        let anchor = der(&authorities[0].certificate);
        check_issued(&CheckIssued { anchor, certificate: der(&leaf), between }).unwrap()
    };
    assert!(issued(8).issued, "positive control");
    let deep = issued(9);
    assert!(!deep.issued && deep.reason.contains("too long"), "{}", deep.reason);
}

const VERIFIED: Floors = Floors { verify_required: true, ..FREE };

#[test]
fn finding_16_a_grant_that_names_trusts_takes_no_other_and_none_of_the_programs_making() {
    let world = World::new();
    world.trust("own", &Authority::root().pem(), &[]);
    world.trust("other", &Authority::root().pem(), &[]);
    let client_supplied = world.blob(&Authority::new("of the program's making").pem());
    let named = |name: &str| ContextSpec {
        trust: TrustSpec { named: vec![name.into()], ..TrustSpec::default() },
        ..ContextSpec::default()
    };
    let beside = ContextSpec {
        trust: TrustSpec {
            certificates: vec![client_supplied],
            named: vec!["own".into()],
            ..TrustSpec::default()
        },
        ..ContextSpec::default()
    };
    let as_trust = ContextSpec { chain_or_trust: Some(client_supplied), ..ContextSpec::default() };
    // Positive control: without the key a program's own trust meets verify_required.
    for spec in [&trusting(vec![client_supplied]), &beside, &as_trust, &named("other")] {
        assert!(world.context_with(spec, VERIFIED).is_ok());
    }
    *world.accepted.lock() = Some(["own".to_owned()].into());
    for spec in [trusting(vec![client_supplied]), beside, as_trust, named("other"), ContextSpec::default()] {
        let Err(refusal) = world.context_with(&spec, VERIFIED) else { panic!("{:?}", spec.trust) };
        assert_eq!(refusal.code, ErrorCode::Refused);
        assert!(refusal.message.contains("`trusts`") && refusal.message.contains("\"own\""), "{refusal}");
    }
    assert!(world.context_with(&named("own"), VERIFIED).is_ok());
    // CRLs that are brought can but take away.
    let crl = world.blob(&Authority::root().revoke(&[]));
    let mut with_crl = named("own");
    with_crl.trust.crls = vec![crl];
    assert!(world.context_with(&with_crl, VERIFIED).is_ok());
}

#[test]
fn finding_16_a_trust_that_the_grant_does_not_accept_is_neither_parsed_nor_charged() {
    let (world, account) = charged_world(0);
    let client_supplied = world.blob(&Authority::new("of the program's making").pem());
    let as_trust = ContextSpec { chain_or_trust: Some(client_supplied), ..ContextSpec::default() };
    let specs = [trusting(vec![client_supplied]), as_trust];
    // Positive control: without the key it would be parsed, and there is no room for that.
    for spec in &specs {
        assert_eq!(code(world.context_with(spec, VERIFIED)), Some(ErrorCode::Limit));
    }
    *world.accepted.lock() = Some(["own".to_owned()].into());
    for spec in &specs {
        assert_eq!(code(world.context_with(spec, VERIFIED)), Some(ErrorCode::Refused));
    }
    assert!(account.charges.lock().is_empty());
}
