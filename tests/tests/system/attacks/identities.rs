//! Attack 7: a client without the grant asks for another's identity.

use luassl_protocol::{ContextSpec, MakeContext, Request, SniEntry};
use luassl_tests::daemon::Daemon;
use luassl_tests::wire::Control;

/// Two identities, each with the grant of one socket.
fn two_tenants() -> Daemon {
    Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\n[identity.mine]\nkey = 'PKI/keys/server.pem'\n\
         [identity.others]\nkey = 'PKI/keys/client.pem'\n[socket.tenant]\npath = 'DIR/tenant.sock'\n\
         [[grant]]\nuser = UID\nidentities = ['mine']\n[[grant]]\nsocket = 'tenant'\nidentities = ['others']\n",
    )
}

/// The ways to name an identity.
fn specs(name: &str) -> [ContextSpec; 3] {
    [
        ContextSpec { identity: Some(name.into()), ..ContextSpec::default() },
        ContextSpec {
            identity: Some("mine".into()),
            identities: vec![name.into()],
            ..ContextSpec::default()
        },
        ContextSpec {
            identity: Some("mine".into()),
            sni: vec![SniEntry { name: "example.org".into(), identity: name.into() }],
            ..ContextSpec::default()
        },
    ]
}

/// The answers about the identity `name`, as they are on the wire, but for the name itself.
fn answers(control: &mut Control, name: &str) -> Vec<String> {
    let requests = specs(name).map(|spec| Request::Context(Box::new(MakeContext { spec, again: false })));
    let bodies = requests.map(|request| control.exchange(7, &request, &[]).body);
    bodies.iter().map(|body| String::from_utf8_lossy(body).replace(name, "NAME")).collect()
}

#[test]
fn attack_7_anothers_identity_is_answered_as_an_unknown_one_byte_by_byte() {
    let daemon = two_tenants();
    let mut control = Control::open(&daemon.socket());
    let forbidden = answers(&mut control, "others");
    assert_eq!(forbidden, answers(&mut control, "nobody"));
    assert!(forbidden.iter().all(|answer| answer.contains("NAME")), "{forbidden:?}");
}

#[test]
fn attack_7_whoever_asked_for_anothers_identity_is_in_the_audit_log() {
    let daemon = two_tenants();
    answers(&mut Control::open(&daemon.socket()), "others");
    let (uid, pid) = (rustix::process::geteuid().as_raw(), std::process::id());
    daemon.expect_log("identity=\"others\"");
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("identity=\"others\"")).expect("a line");
    for fact in [
        "audit by=front event=refused".to_owned(),
        " operation=context".to_owned(),
        " reason=identity".to_owned(),
        format!(" uid={uid}"),
        format!(" pid={pid}"),
        " socket=\"control\"".to_owned(),
    ] {
        assert!(line.contains(&fact), "no {fact} in {line}");
    }
}

/// Positive control: whoever has the grant gets contexts.
#[test]
fn attack_7_the_same_requests_succeed_with_the_grant() {
    let daemon = two_tenants();
    for (socket, name) in [("luassl.sock", "mine"), ("tenant.sock", "others")] {
        let mut control = Control::open(&daemon.directory().join(socket));
        control.context(specs(name)[0].clone()).expect("a context");
    }
}
