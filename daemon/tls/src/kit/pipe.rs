//! Two ends of a stream in memory, and the loops that drive two TLS sessions over them.

use openssl::error::ErrorStack;
use openssl::ssl::{self, ErrorCode, Ssl, SslStream};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

#[derive(Default, Clone)]
struct Buffer(Rc<RefCell<VecDeque<u8>>>);

/// One end of a pipe. Reading from an empty pipe would block, or is at the end if the other end is closed.
pub struct End {
    incoming: Buffer,
    outgoing: Buffer,
}

impl End {
    /// Returns two connected ends.
    pub fn pair() -> (Self, Self) {
        let (one, other) = (Buffer::default(), Buffer::default());
        (Self { incoming: one.clone(), outgoing: other.clone() }, Self { incoming: other, outgoing: one })
    }
}

impl Read for End {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut queue = self.incoming.0.borrow_mut();
        if queue.is_empty() {
            let gone = Rc::strong_count(&self.incoming.0) == 1;
            return if gone { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        queue.read(into)
    }
}

impl Write for End {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.outgoing.0.borrow_mut().write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A session with its end of the pipe.
pub type Session = SslStream<End>;

/// The results of the handshake on both sides.
pub struct Outcome {
    pub server: Session,
    pub client: Session,
    pub server_error: Option<ssl::Error>,
    pub client_error: Option<ssl::Error>,
}

impl Outcome {
    /// Returns both sides, whose handshake must have succeeded.
    pub fn established(self) -> (Session, Session) {
        if let Some(error) = &self.server_error {
            panic!("server: {error} (client: {:?})", self.client_error);
        }
        if let Some(error) = &self.client_error {
            panic!("client: {error}");
        }
        (self.server, self.client)
    }
}

/// Runs a handshake between two configured sessions until it ends.
pub fn shake(mut server: Ssl, mut client: Ssl) -> Outcome {
    server.set_accept_state();
    client.set_connect_state();
    let (server_end, client_end) = End::pair();
    let mut server = SslStream::new(server, server_end).unwrap();
    let mut client = SslStream::new(client, client_end).unwrap();
    let (mut server_done, mut client_done) = (None, None);
    for _ in 0..20 {
        step(&mut client, &mut client_done);
        step(&mut server, &mut server_done);
    }
    Outcome {
        server,
        client,
        server_error: server_done.unwrap_or_else(|| Some(stalled())),
        client_error: client_done.unwrap_or_else(|| Some(stalled())),
    }
}

fn stalled() -> ssl::Error {
    ErrorStack::get().into()
}

fn step(session: &mut Session, done: &mut Option<Option<ssl::Error>>) {
    if done.is_some() {
        return;
    }
    match session.do_handshake() {
        Ok(()) => *done = Some(None),
        Err(error) if error.code() == ErrorCode::WANT_READ => {}
        Err(error) => *done = Some(Some(error)),
    }
}

/// Sends `text` from one side and reads it on the other.
pub fn pass(from: &mut Session, to: &mut Session, text: &[u8]) {
    from.ssl_write(text).unwrap();
    let mut buffer = vec![0; text.len() + 1];
    let length = to.ssl_read(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], text);
}
