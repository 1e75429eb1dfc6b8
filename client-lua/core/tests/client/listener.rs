//! Listeners: what is asked for and when, confirmations, reports, the loss of the front.

use crate::context::{client, context};
use crate::front::{Front, Holder};
use luassl_client::{AcceptFilter, Accepted, Context, ContextRequest, Error, Listener, Stream, Timeout};
use luassl_protocol::{ErrorCode, Failure, LuaCode};
use rustix::fd::AsFd;
use std::net::TcpStream;
use std::time::Duration;

const NOW: Timeout = Timeout::After(Duration::ZERO);

fn bound(front: &Front) -> (Listener, Holder) {
    let listener = Listener::bind(&context(front), 0, None).unwrap();
    (listener, front.holder())
}

fn accept(listener: &mut Listener, timeout: Timeout) -> Result<Stream, Error> {
    match listener.accept(AcceptFilter::Connections, timeout)? {
        Accepted::Connection(stream) => Ok(*stream),
        Accepted::Failed(failure) => panic!("{failure}"),
    }
}

fn port(listener: &Listener) -> u16 {
    listener.address().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_blocking_accept_asks_for_one_and_confirms_it() {
    let front = Front::start();
    let (mut listener, holder) = bound(&front);
    let daemon = std::thread::spawn(move || {
        let asked = holder.hear();
        let _peer = holder.deliver();
        (asked, holder.hear())
    });
    let stream = accept(&mut listener, Timeout::Never).unwrap();
    assert_eq!(stream.known().peer, "[::1]:4711");
    assert_eq!(daemon.join().unwrap(), (b"a".to_vec(), b"t".to_vec()));
}

#[test]
fn an_accept_that_timed_out_does_not_ask_a_second_time() {
    let front = Front::start();
    let (mut listener, holder) = bound(&front);
    let soon = Timeout::After(Duration::from_millis(20));
    for _ in 0..3 {
        assert_eq!(accept(&mut listener, soon).err().unwrap().code, LuaCode::Timeout);
    }
    let _peer = holder.deliver();
    accept(&mut listener, soon).unwrap();
    drop(listener);
    assert_eq!([holder.hear(), holder.hear(), holder.hear()], [b"a".to_vec(), b"t".to_vec(), vec![]]);
}

#[test]
fn a_listener_that_does_not_wait_keeps_four_asked_for() {
    let front = Front::start();
    let (mut listener, holder) = bound(&front);
    listener.prefetch().unwrap();
    assert_eq!(holder.hear(), b"aaaa");
    assert_eq!(accept(&mut listener, NOW).err().unwrap().code, LuaCode::Timeout);
    let _peer = holder.deliver();
    accept(&mut listener, NOW).unwrap();
    assert_eq!(holder.hear(), b"t");
    assert_eq!(accept(&mut listener, NOW).err().unwrap().code, LuaCode::Timeout);
    assert_eq!(holder.hear(), b"a");
}

#[test]
fn whoever_wants_to_poll_has_something_asked_for() {
    let front = Front::start();
    let (mut listener, holder) = bound(&front);
    assert!(listener.descriptor(Timeout::Never).is_some());
    assert!(listener.descriptor(Timeout::Never).is_some());
    assert_eq!(holder.hear(), b"a");
}

#[test]
fn failed_handshakes_come_to_those_who_ask_for_them() {
    let front = Front::start();
    let (mut listener, holder) = bound(&front);
    let daemon = std::thread::spawn(move || {
        let asked = holder.hear();
        holder.report(Failure::new(ErrorCode::Tls, "an HTTP request"));
        (asked, holder)
    });
    match listener.accept(AcceptFilter::Reports, Timeout::Never).unwrap() {
        Accepted::Failed(failure) => assert_eq!(failure.message, "an HTTP request"),
        Accepted::Connection(_) => panic!("there was none"),
    }
    assert_eq!(daemon.join().unwrap().0, b"r");
}

#[test]
fn an_accept_passes_over_a_report_that_an_earlier_one_asked_for() {
    let front = Front::start();
    let (mut listener, holder) = bound(&front);
    assert!(listener.accept(AcceptFilter::Reports, NOW).is_err());
    holder.report(Failure::new(ErrorCode::Tls, "an HTTP request"));
    let _peer = holder.deliver();
    accept(&mut listener, Timeout::Never).unwrap();
}

#[test]
fn the_loss_of_the_front_is_told_once_and_then_the_listener_is_passed_again() {
    let front = Front::start();
    let (mut listener, holder) = bound(&front);
    let before = port(&listener);
    let (path, _directory) = front.die();
    drop(holder);
    let next = Front::start_at(path);
    assert_eq!(accept(&mut listener, Timeout::Never).err().unwrap().code, LuaCode::Daemon);
    assert_eq!(accept(&mut listener, NOW).err().unwrap().code, LuaCode::Timeout);
    let holder = next.holder();
    assert!(holder.listening.is_some());
    assert_eq!(port(&listener), before);
    let _peer = holder.deliver();
    accept(&mut listener, NOW).unwrap();
}

#[test]
fn a_listener_without_an_address_takes_ipv4_and_ipv6() {
    let front = Front::start();
    let (listener, _holder) = bound(&front);
    TcpStream::connect(("127.0.0.1", port(&listener))).unwrap();
    if rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::STREAM, None).is_ok() {
        TcpStream::connect(("::1", port(&listener))).unwrap();
    }
}

#[test]
fn an_address_narrows_the_listener() {
    let front = Front::start();
    let listener = Listener::bind(&context(&front), 0, Some("127.0.0.1")).unwrap();
    assert!(listener.address().starts_with("127.0.0.1:"), "{}", listener.address());
}

#[test]
fn a_port_in_use_is_refused_by_its_number() {
    let front = Front::start();
    let (listener, _holder) = bound(&front);
    let error = Listener::bind(&context(&front), port(&listener), None).err().unwrap();
    assert_eq!(error.code, LuaCode::Refused);
    assert!(error.message.contains(&port(&listener).to_string()), "{}", error.message);
}

#[test]
fn a_configured_listener_is_named_and_tells_its_address() {
    let front = Front::start();
    let context = Context::new(&client(&front), ContextRequest::default()).unwrap();
    let listener = Listener::configured(&context, "web").unwrap();
    assert_eq!(listener.address(), "192.0.2.1:443");
    assert!(front.holder().listening.is_none());
}

#[test]
fn a_closed_listener_gives_its_address_back() {
    let front = Front::start();
    let (listener, holder) = bound(&front);
    let port = port(&listener);
    let daemon = std::thread::spawn(move || {
        while !holder.hear().is_empty() {}
        drop(holder);
    });
    listener.close();
    daemon.join().unwrap();
    Listener::bind(&context(&front), port, None).unwrap();
}

#[test]
fn what_arrives_is_the_passed_listening_socket() {
    let front = Front::start();
    let (listener, holder) = bound(&front);
    let passed = holder.listening.unwrap();
    let address = rustix::net::getsockname(passed.as_fd()).unwrap();
    let address = std::net::SocketAddr::try_from(address).unwrap();
    assert_eq!(address.port(), port(&listener));
}
