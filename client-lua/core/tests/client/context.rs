//! Contexts: material crosses once, identities are found as given or joined to the working directory.

use crate::front::Front;
use luassl_client::{Client, Context, ContextRequest, Listener, Material};
use luassl_protocol::{LuaCode, Request};
use std::rc::Rc;

pub(crate) fn client(front: &Front) -> Rc<Client> {
    Client::new("test", Some(front.path.clone()))
}

pub(crate) fn context(front: &Front) -> Rc<Context> {
    Context::new(&client(front), ContextRequest::default()).unwrap()
}

fn blobs(front: &Front) -> usize {
    front.count(|request| matches!(request, Request::Blob(_)))
}

fn named(identity: &str) -> ContextRequest {
    let mut context_request = ContextRequest::default();
    context_request.spec.identity = Some(identity.into());
    context_request
}

fn tried(front: &Front) -> Vec<String> {
    let requests = front.log();
    let identity = |request: &Request| match request {
        Request::Context(context) => context.spec.identity.clone(),
        _ => None,
    };
    requests.iter().filter_map(identity).collect()
}

#[test]
fn material_is_sent_when_the_daemon_lacks_it_and_not_again() {
    let front = Front::start();
    let client = client(&front);
    for _ in 0..3 {
        let mut context_request = ContextRequest::default();
        context_request.trust(Material::from_bytes(b"-----BEGIN CERTIFICATE-----", "a.pem"));
        Context::new(&client, context_request).unwrap();
    }
    assert_eq!(blobs(&front), 1);
}

#[test]
fn a_private_key_beside_a_chain_never_leaves_the_program() {
    let front = Front::start();
    let certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = b"-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n";
    let mut context_request = ContextRequest::default();
    context_request.chain(Material::from_bytes(&[&key[..], certificate].concat(), "a.pem"));
    Context::new(&client(&front), context_request).unwrap();
    let sent = front.log().into_iter().find_map(|request| match request {
        Request::Blob(blob) => Some(blob.data),
        _ => None,
    });
    assert_eq!(sent.unwrap(), certificate);
}

#[test]
fn material_above_the_daemons_limit_is_refused_by_name() {
    let front = Front::start();
    front.script().frame_limit = Some(1000);
    let mut context_request = ContextRequest::default();
    context_request.trust(Material::from_bytes(&[b'x'; 2000], "a.pem"));
    let error = Context::new(&client(&front), context_request).err().unwrap();
    assert_eq!(error.code, LuaCode::Misuse);
    assert!(error.message.contains("limit of 1000") && error.message.contains("a.pem"), "{}", error.message);
}

#[test]
fn a_name_that_is_known_as_given_is_asked_for_once() {
    let front = Front::start();
    front.script().identities = Some(["keys/server.pem".to_owned()].into());
    Context::new(&client(&front), named("keys/server.pem")).unwrap();
    assert_eq!(tried(&front), ["keys/server.pem"]);
}

#[test]
fn a_relative_name_goes_with_the_working_directory() {
    let front = Front::start();
    Context::new(&client(&front), named("./keys/../keys/server.pem")).unwrap();
    let here = std::env::current_dir().unwrap().into_os_string().into_string().unwrap();
    let named_directory = |request: &Request| match request {
        Request::Context(make) => make.spec.directory.as_deref() == Some(&here),
        _ => false,
    };
    assert_eq!(front.count(named_directory), 1);
    assert_eq!(tried(&front), ["./keys/../keys/server.pem"]);
}

#[test]
fn an_unknown_name_is_reported_as_it_was_given() {
    let front = Front::start();
    front.script().identities = Some(["other".to_owned()].into());
    let error = Context::new(&client(&front), named("server.pem")).err().unwrap();
    assert_eq!(error.code, LuaCode::Refused);
    assert_eq!(error.message, "no identity 'server.pem' for this program");
}

#[test]
fn a_context_that_is_dropped_is_freed_with_the_next_request() {
    let front = Front::start();
    let client = client(&front);
    drop(Context::new(&client, ContextRequest::default()).unwrap());
    assert_eq!(front.count(|request| matches!(request, Request::FreeContext(_))), 0);
    let _second = Context::new(&client, ContextRequest::default()).unwrap();
    assert_eq!(front.count(|request| matches!(request, Request::FreeContext(_))), 1);
}

#[test]
fn a_context_is_given_back_at_once_when_the_last_who_has_it_lets_go() {
    let front = Front::start();
    let freed = || front.count(|request| matches!(request, Request::FreeContext(_)));
    let first = context(&front);
    let second = Rc::clone(&first);
    Context::release(first);
    assert_eq!(freed(), 0, "somebody has it");
    Context::release(second);
    assert_eq!(freed(), 1);
}

#[test]
fn thousands_of_contexts_are_given_back_without_a_stall() {
    let front = Front::start();
    let client = client(&front);
    let contexts: Vec<_> =
        (0..2000).map(|_| Context::new(&client, ContextRequest::default()).unwrap()).collect();
    drop(contexts);
    Context::new(&client, ContextRequest::default()).unwrap();
    assert_eq!(front.count(|request| matches!(request, Request::FreeContext(_))), 2000);
    assert_eq!(front.count(|request| matches!(request, Request::Hello(_))), 1);
}

#[test]
fn a_context_that_is_made_again_says_so() {
    let front = Front::start();
    let client = client(&front);
    let context = Context::new(&client, ContextRequest::default()).unwrap();
    let (path, _directory) = front.die();
    let front = Front::start_at(path);
    let _listener = Listener::configured(&context, "web").unwrap();
    let again = |request: &Request| matches!(request, Request::Context(make) if make.again);
    assert_eq!(front.count(again), 1);
    let _other = Context::new(&client, ContextRequest::default()).unwrap();
    assert_eq!(front.count(again), 1);
}

#[test]
fn a_hashed_directory_gives_its_certificates_and_crls() {
    let front = Front::start();
    let directory = tempfile::tempdir().unwrap();
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let (one, two) = (pem("CERTIFICATE", "one"), pem("CERTIFICATE", "two"));
    let (crl, key) = (pem("X509 CRL", "crl"), pem("PRIVATE KEY", "secret"));
    let with_key = format!("{key}{one}");
    let files = [
        ("5ed36f99.0", with_key.as_str()),
        ("5ed36f99.1", two.as_str()),
        ("01234567.r0", crl.as_str()),
        ("ca.pem", "no"),
        ("5ed36f99.x", "no"),
    ];
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let mut context_request = ContextRequest::default();
    context_request.directory(directory.path().to_str().unwrap().as_bytes()).unwrap();
    assert_eq!(context_request.spec.trust.crls.len(), 1);
    Context::new(&client(&front), context_request).unwrap();
    let sent = front.log().into_iter().find_map(|request| match request {
        Request::Blob(blob) => Some(blob.data),
        _ => None,
    });
    // A key that lies in the same file stays where it is.
    assert_eq!(String::from_utf8(sent.unwrap()).unwrap(), one + &two);
}

#[test]
fn a_directory_without_hashed_names_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), "certificate").unwrap();
    let error =
        ContextRequest::default().directory(directory.path().to_str().unwrap().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("openssl rehash"), "{error}");
}
