//! Users without a grant: whatever they do, there is one small account for all of them. Beside each attack somebody with a grant does the same, or goes on.

use luassl_protocol::{
    Blob, BlobStored, ConnectionRef, Done, ErrorCode, Failure, Hello, ReadCertificate, Request, Token,
    VERSION, Welcome,
};
use luassl_tests::daemon::{Daemon, STRANGER};
use luassl_tests::process::as_user;
use luassl_tests::wire::Control;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Grants for whoever runs the test, and none for anybody else.
fn daemon() -> Daemon {
    Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\nmode = '0666'\n[identities]\ndirectory = 'PKI/keys'\n[limits]\nrequest = 2\n\
         [[grant]]\nuser = UID\nidentities = ['*']\n",
    )
}

/// Somebody with a grant connects, and has a blob stored.
fn granted_is_served(daemon: &Daemon) {
    let mut control = Control::open(&daemon.socket());
    control.ask::<BlobStored>(&blob(300_000)).expect("a granted user's blob");
}

fn blob(length: usize) -> Request {
    Request::Blob(Blob { data: vec![b'-'; length] })
}

/// Connects and says hello; none where the front has reset the connection.
fn hello(path: &Path) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(path).ok()?;
    let hello = Hello { version: VERSION, features: Vec::new(), client: "test".into() };
    let frame = Request::Hello(hello).to_frame(1).expect("a frame");
    stream.write_all(&frame).ok()?;
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut body).ok()?;
    luassl_protocol::decode_reply::<Welcome>(&body).ok().map(|_| stream)
}

mod needs_root {
    use super::*;

    #[test]
    fn finding_7_without_a_grant_nothing_but_hello_is_answered() {
        let daemon = daemon();
        let path = daemon.socket();
        let refused: Vec<Failure> = as_user(STRANGER, move || {
            let mut control = Control::open(&path);
            let certificate = ReadCertificate { data: b"x".to_vec() };
            let status = ConnectionRef { token: Token::new([0; 16]) };
            [blob(10), Request::Certificate(certificate), Request::Status(status)]
                .iter()
                .map(|request| control.ask::<Done>(request).expect_err("a refusal"))
                .collect()
        });
        assert!(refused.iter().all(|failure| failure.code == ErrorCode::Refused), "{refused:?}");
        assert!(refused.iter().all(|failure| *failure == refused[0]), "{refused:?}");
        granted_is_served(&daemon);
    }

    #[test]
    fn finding_7_users_without_a_grant_share_sixteen_connections_and_the_granted_have_theirs() {
        let daemon = daemon();
        let mut held = Vec::new();
        for number in 0..40 {
            let path = daemon.socket();
            held.extend(as_user(STRANGER + number % 4, move || hello(&path)));
        }
        assert!(held.len() <= 16, "{} of four users are held at a time", held.len());
        assert!(!held.is_empty(), "the account is not full from the beginning");
        // Positive control: the same number by somebody with a grant.
        let path = daemon.socket();
        let granted: Vec<_> = (0..40).filter_map(|_| hello(&path)).collect();
        assert_eq!(granted.len(), 40);
        granted_is_served(&daemon);
    }

    #[test]
    fn finding_7_large_frames_of_the_ungranted_are_refused_by_their_length() {
        let daemon = daemon();
        let path = daemon.socket();
        let refused = as_user(STRANGER, move || {
            let mut stream = hello(&path).expect("a connection");
            let frame = blob(5_000).to_frame(9).expect("a frame");
            stream.write_all(&frame[..100]).expect("sent");
            let mut refused = Vec::new();
            // It ends with what was not read.
            let _ = stream.read_to_end(&mut refused);
            refused
        });
        assert!(refused.windows(9).any(|text| text == b"too_large"), "{refused:?}");
        granted_is_served(&daemon);
    }

    #[test]
    fn finding_7_a_grant_that_comes_later_reaches_whoever_connects_anew() {
        let daemon = daemon();
        let path = daemon.socket();
        let refused = as_user(STRANGER, move || Control::open(&path).ask::<BlobStored>(&blob(10)).is_err());
        assert!(refused);
        let config = daemon.directory().join("luassl.toml");
        let text = std::fs::read_to_string(&config).expect("the configuration");
        std::fs::write(&config, format!("{text}[[grant]]\nuser = {STRANGER}\n")).expect("written");
        daemon.signal(rustix::process::Signal::HUP);
        daemon.expect_log("serve configuration 2");
        let path = daemon.socket();
        as_user(STRANGER, move || Control::open(&path).ask::<BlobStored>(&blob(10)).map(drop))
            .expect("granted");
    }
}
