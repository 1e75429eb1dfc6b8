//! The control connection: missing daemons, fronts that die, answers that make no sense.

use crate::context::client;
use crate::front::Front;
use luassl_client::{Client, Context, ContextRequest, Error};
use luassl_protocol::{LuaCode, Request};

fn make(client: &std::rc::Rc<Client>) -> Result<(), Error> {
    Context::new(client, ContextRequest::default()).map(|_| ())
}

#[test]
fn without_a_daemon_the_message_names_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("luassl.sock");
    let error = make(&Client::new("test", Some(path.clone()))).unwrap_err();
    assert_eq!(error.code, LuaCode::Daemon);
    assert!(error.message.contains(path.to_str().unwrap()), "{}", error.message);
}

#[test]
fn the_client_says_who_it_is() {
    let front = Front::start();
    make(&Client::new("luassl 1 (Lua)", Some(front.path.clone()))).unwrap();
    assert!(matches!(&front.log()[0], Request::Hello(hello) if hello.client == "luassl 1 (Lua)"));
}

#[test]
fn a_new_front_is_used_as_soon_as_the_old_one_has_gone() {
    let front = Front::start();
    let client = client(&front);
    make(&client).unwrap();
    let (path, _directory) = front.die();
    assert_eq!(make(&client).unwrap_err().code, LuaCode::Daemon);
    let _front = Front::start_at(path);
    make(&client).unwrap();
}

#[test]
fn a_front_that_was_replaced_between_two_requests_is_not_noticed() {
    let front = Front::start();
    let client = client(&front);
    make(&client).unwrap();
    let (path, _directory) = front.die();
    let _front = Front::start_at(path);
    make(&client).unwrap();
}

#[test]
fn answers_that_are_no_frames_are_the_daemons_fault() {
    for garbage in [&b"\xff\xff\xff\xffxxxx"[..], b"\0\0\0\x01\xc1", b"\0\0\0\x03abc"] {
        let front = Front::start();
        front.script().garbage = Some(garbage.to_vec());
        let error = make(&client(&front)).unwrap_err();
        assert_eq!(error.code, LuaCode::Daemon, "{}", error.message);
    }
}
