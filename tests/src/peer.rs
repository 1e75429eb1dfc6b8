//! TLS peers that are not luassl: the openssl crate in this process, and the openssl command.

use crate::process::Process;
use crate::{PATIENCE, pki};
use foreign_types_shared::ForeignTypeRef;
use openssl::ssl::{
    ErrorCode, Ssl, SslAcceptor, SslConnector, SslConnectorBuilder, SslContextBuilder, SslFiletype,
    SslMethod, SslStream, SslVerifyMode, SslVersion,
};
use std::ffi::{c_int, c_void};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

/// A TLS connection of the test's own.
pub type Tls = SslStream<TcpStream>;

/// Connects over TCP to a port of this machine, with bounded reads and writes.
///
/// # Errors
/// As [`TcpStream::connect`].
pub fn tcp(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    bound(&stream)?;
    Ok(stream)
}

fn bound(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)
}

/// A client that trusts the development root, changed by `configure`.
///
/// # Panics
/// When OpenSSL cannot be set up.
#[must_use]
pub fn connector(configure: impl FnOnce(&mut SslConnectorBuilder)) -> SslConnector {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("a connector");
    builder.set_ca_file(pki::file("keys/rootcert.pem")).expect("the root certificate");
    configure(&mut builder);
    builder.build()
}

/// Allows one protocol version: `TLSv1.2` or `TLSv1.3`.
///
/// # Panics
/// For any other text.
pub fn only(builder: &mut SslContextBuilder, version: &str) {
    let version = match version {
        "TLSv1.2" => SslVersion::TLS1_2,
        "TLSv1.3" => SslVersion::TLS1_3,
        other => panic!("no protocol version {other}"),
    };
    builder.set_min_proto_version(Some(version)).expect("a lowest version");
    builder.set_max_proto_version(Some(version)).expect("a highest version");
}

/// Gives the peer the certificate and the key of `keys/NAME.pem`.
///
/// # Panics
/// When the file cannot be used.
pub fn with_identity(builder: &mut SslContextBuilder, name: &str) {
    let path = pki::file(&format!("keys/{name}.pem"));
    builder.set_certificate_chain_file(&path).expect("a chain");
    builder.set_private_key_file(&path, SslFiletype::PEM).expect("a key");
}

/// Connects with the defaults of [`connector`].
///
/// # Panics
/// When the handshake fails.
#[must_use]
pub fn connect(port: u16) -> Tls {
    connect_with(&connector(|_| {}), port)
}

/// Connects to `localhost`.
///
/// # Panics
/// When the handshake fails.
#[must_use]
pub fn connect_with(connector: &SslConnector, port: u16) -> Tls {
    try_connect(connector, port).unwrap_or_else(|error| panic!("the handshake failed: {error}"))
}

/// Connects to `localhost`.
///
/// # Errors
/// Why TCP or the handshake failed, in OpenSSL's words.
pub fn try_connect(connector: &SslConnector, port: u16) -> Result<Tls, String> {
    let stream = tcp(port).map_err(|error| error.to_string())?;
    connector.connect("localhost", stream).map_err(|error| error.to_string())
}

/// A TLS server in this process, one connection at a time.
pub struct Server {
    listener: TcpListener,
    acceptor: SslAcceptor,
}

impl Server {
    /// With the identity `keys/NAME.pem`, changed by `configure`.
    ///
    /// # Panics
    /// When it cannot be set up.
    #[must_use]
    pub fn start(name: &str, configure: impl FnOnce(&mut SslContextBuilder)) -> Self {
        Self::with_files(&pki::file(&format!("keys/{name}.pem")), configure)
    }

    /// With certificate and key in one file.
    ///
    /// # Panics
    /// When it cannot be set up.
    #[must_use]
    pub fn with_files(path: &Path, configure: impl FnOnce(&mut SslContextBuilder)) -> Self {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("an acceptor");
        builder.set_certificate_chain_file(path).expect("a chain");
        builder.set_private_key_file(path, SslFiletype::PEM).expect("a key");
        configure(&mut builder);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self { listener, acceptor: builder.build() }
    }

    /// The port that it listens on.
    ///
    /// # Panics
    /// Never, once it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }

    /// The next connection, handshaken.
    ///
    /// # Errors
    /// Why TCP or the handshake failed, in OpenSSL's words.
    pub fn accept(&self) -> Result<Tls, String> {
        self.handshake(self.accept_tcp().map_err(|error| error.to_string())?)
    }

    /// The handshake on a connection of [`Server::accept_tcp`].
    ///
    /// # Errors
    /// Why it failed, in OpenSSL's words.
    pub fn handshake(&self, stream: TcpStream) -> Result<Tls, String> {
        self.acceptor.accept(stream).map_err(|error| error.to_string())
    }

    /// The next connection, before its handshake, within the usual patience.
    ///
    /// # Errors
    /// When none comes.
    pub fn accept_tcp(&self) -> io::Result<TcpStream> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let mut wait = [PollFd::new(&self.listener, PollFlags::IN)];
        if poll(&mut wait, Some(&patience))? == 0 {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        let stream = self.listener.accept()?.0;
        bound(&stream)?;
        Ok(stream)
    }
}

/// Asks peers for a certificate and verifies it against the development root.
///
/// # Panics
/// When the root certificate cannot be read.
pub fn demand_certificate(builder: &mut SslContextBuilder) {
    builder.set_ca_file(pki::file("keys/rootcert.pem")).expect("the root certificate");
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
}

/// A session over `stream` that does nothing by itself: for peers that misbehave.
///
/// # Panics
/// When OpenSSL cannot be set up.
#[must_use]
pub fn raw_client(stream: TcpStream) -> Tls {
    let context = SslContextBuilder::new(SslMethod::tls_client()).expect("a context").build();
    let session = Ssl::new(&context).expect("a session");
    SslStream::new(session, stream).expect("a stream")
}

unsafe extern "C" {
    fn SSL_renegotiate(ssl: *mut c_void) -> c_int;
    fn SSL_key_update(ssl: *mut c_void, kind: c_int) -> c_int;
}

/// The client is to send a new key as well.
const SSL_KEY_UPDATE_REQUESTED: c_int = 1;

/// A server of TLS 1.2 asks its client for a renegotiation, and reads until its turn is over. False once the connection is.
pub fn renegotiate(tls: &mut Tls) -> bool {
    // SAFETY: the session is live, and nobody else uses it.
    let begun = unsafe { SSL_renegotiate(tls.ssl().as_ptr().cast()) } == 1;
    begun && tls.do_handshake().is_ok() && goes_on(tls.ssl_read(&mut [0]))
}

/// A peer of TLS 1.3 sends a new key and asks for one, and reads nothing. False once the connection is over.
pub fn update_keys(tls: &mut Tls) -> bool {
    // SAFETY: the session is live, and nobody else uses it.
    let begun = unsafe { SSL_key_update(tls.ssl().as_ptr().cast(), SSL_KEY_UPDATE_REQUESTED) } == 1;
    begun && tls.do_handshake().is_ok()
}

fn goes_on(read: Result<usize, openssl::ssl::Error>) -> bool {
    read.is_ok() || read.is_err_and(|error| error.code() == ErrorCode::WANT_READ)
}

/// `openssl s_client` to a port of this machine, with more `options`.
#[must_use]
pub fn s_client(port: u16, options: &[&str]) -> Process {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &format!("localhost:{port}"), "-CAfile"])
        .arg(pki::file("keys/rootcert.pem"))
        .args(["-verify_return_error", "-verify_hostname", "localhost", "-ign_eof"])
        .args(options);
    Process::start(&mut command)
}

/// `openssl s_server` with the identity `keys/NAME.pem` and more `options`, and its port.
///
/// # Panics
/// When it does not say where it listens.
#[must_use]
pub fn s_server(name: &str, options: &[&str]) -> (Process, u16) {
    let identity = pki::file(&format!("keys/{name}.pem"));
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", "127.0.0.1:0", "-cert"]).arg(&identity).arg("-key").arg(&identity);
    command
        .arg("-cert_chain")
        .arg(&identity)
        .arg("-CAfile")
        .arg(pki::file("keys/rootcert.pem"))
        .args(options);
    let mut process = Process::start(&mut command);
    loop {
        let line = process.line();
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            let port = address.rsplit(':').next().and_then(|port| port.trim().parse().ok());
            return (process, port.expect("a port"));
        }
    }
}
