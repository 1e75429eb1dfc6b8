//! Findings 4, 6 and 16 of the review: certificates that cost much to parse or to verify, and whom they hold up.

use super::costly;
use luassl_protocol::{
    Blob, BlobStored, CertificateFacts, CheckIssued, ContextSpec, Digest, ErrorCode, Issued, ReadCertificate,
    Request, TrustSpec,
};
use luassl_tests::daemon::Daemon;
use luassl_tests::pki;
use luassl_tests::wire::Control;

/// A grant for whoever runs the test, with `more` in it; nothing for anybody else.
fn daemon(more: &str) -> Daemon {
    Daemon::with_config(&format!(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[trust.own]\nfile = 'PKI/ca/root.crt'\n\
         [[grant]]\nuser = UID\nidentities = ['*']\n{more}\n"
    ))
}

/// What asks whether the last of a chain verifies with its first.
pub(crate) fn check(length: usize, count: usize) -> Request {
    let mut chain = costly::chain(length, count).into_iter().map(|one| one.to_der().expect("DER"));
    let anchor = chain.next().expect("an anchor");
    let mut between: Vec<_> = chain.collect();
    let certificate = between.pop().expect("a certificate");
    let between = between.into_iter().map(Into::into).collect();
    Request::CheckIssued(CheckIssued { anchor, certificate, between })
}

pub(crate) fn read(data: Vec<u8>) -> Request {
    Request::Certificate(ReadCertificate { data })
}

pub(crate) fn store(control: &mut Control, data: Vec<u8>) -> Digest {
    control.ask::<BlobStored>(&Request::Blob(Blob { data })).expect("it is stored").digest
}

pub(crate) fn trusting(certificates: Vec<Digest>) -> ContextSpec {
    ContextSpec { trust: TrustSpec { certificates, ..TrustSpec::default() }, ..ContextSpec::default() }
}

#[test]
fn finding_4_a_chain_above_the_bounds_is_refused_and_one_within_them_is_looked_at() {
    let daemon = daemon("");
    let mut control = Control::open(&daemon.socket());
    for (length, count) in [(17, 1), (10, 1000)] {
        let refused = control.ask::<Issued>(&check(length, count)).expect_err("a refusal");
        assert_eq!(refused.code, ErrorCode::Limit, "{refused}");
    }
    assert!(control.ask::<Issued>(&check(9, 700)).expect("an answer").issued);
}

#[test]
fn finding_6_a_context_that_brings_too_much_is_refused() {
    let daemon = daemon("");
    let mut control = Control::open(&daemon.socket());
    let many = store(&mut control, costly::bundle("many", 513, 0));
    let refused = control.context(trusting(vec![many])).expect_err("a refusal");
    assert!(refused.code == ErrorCode::Limit && refused.message.contains("512"), "{refused}");
    // Positive control: one less is taken, be it named again and again.
    let fewer = store(&mut control, costly::bundle("fewer", 512, 0));
    control.context(trusting(vec![fewer; 64])).expect("a context");
}

#[test]
fn finding_6_the_memory_of_what_is_parsed_has_a_bound_for_each_owner() {
    let daemon = daemon("[limits]\nparsed_bytes_per_owner = 2000000");
    let mut control = Control::open(&daemon.socket());
    // 370 names in each of 128 certificates: 260 KiB of PEM are megabytes once they are parsed.
    let dear = store(&mut control, costly::bundle("dear", 128, 370));
    let refused = control.context(trusting(vec![dear])).expect_err("a refusal");
    assert!(refused.message.contains("parsed_bytes_per_owner"), "{refused}");
    // Positive control: as many without the names.
    let cheap = store(&mut control, costly::bundle("cheap", 128, 0));
    let context = control.context(trusting(vec![cheap])).expect("a context");
    // The account is the owner's, not the connection's, and what is not used makes room.
    control
        .ask::<luassl_protocol::Done>(&Request::FreeContext(luassl_protocol::FreeContext { context }))
        .expect("freed");
    let other = store(&mut control, costly::bundle("other", 128, 0));
    control.context(trusting(vec![other])).expect("a context");
}

#[test]
fn finding_16_a_program_cannot_meet_verify_required_with_a_trust_of_its_making() {
    let bundle = std::fs::read(pki::file("ca/root.crt")).expect("a bundle");
    let strict = daemon("verify_required = true\ntrusts = ['own']\naudit = true");
    let mut control = Control::open(&strict.socket());
    let brought = store(&mut control, bundle.clone());
    let refused = control.context(trusting(vec![brought])).expect_err("a refusal");
    assert!(refused.code == ErrorCode::Refused && refused.message.contains("`trusts`"), "{refused}");
    strict.expect_log("reason=floor");
    strict.expect_log("the grant accepts no trust but");
    let named = TrustSpec { named: vec!["own".into()], ..TrustSpec::default() };
    control.context(ContextSpec { trust: named, ..ContextSpec::default() }).expect("positive control");
    // And where the grant names none, a program's own meets it.
    let lax = daemon("verify_required = true");
    let mut control = Control::open(&lax.socket());
    let brought = store(&mut control, bundle);
    control.context(trusting(vec![brought])).expect("a context");
}

mod needs_root {
    use super::*;
    use luassl_tests::daemon::STRANGER;
    use luassl_tests::process::as_user;

    #[test]
    fn finding_4_without_a_grant_no_certificate_is_looked_at() {
        let daemon = daemon("");
        let (good, chain) = (read(std::fs::read(pki::file("ca/root.crt")).expect("PEM")), check(3, 1));
        let mut control = Control::open(&daemon.socket());
        control.ask::<CertificateFacts>(&good).expect("positive control");
        assert!(control.ask::<Issued>(&chain).expect("positive control").issued);
        let socket = daemon.socket();
        as_user(STRANGER, move || {
            let mut control = Control::open(&socket);
            // The same for what is a certificate and for what is none: it is not looked at.
            for request in [good, read(b"nothing".to_vec())] {
                let refused = control.ask::<CertificateFacts>(&request).expect_err("a refusal");
                assert_eq!(refused.code, ErrorCode::Refused, "{refused}");
            }
            assert_eq!(control.ask::<Issued>(&chain).expect_err("a refusal").code, ErrorCode::Refused);
            let refused = control.context(ContextSpec::default()).expect_err("a refusal");
            assert_eq!(refused.code, ErrorCode::Refused);
        });
    }
}
