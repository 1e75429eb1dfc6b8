//! A client of XMPP that says what it is told, and SCRAM with channel binding (RFC 5802, RFC 5929, RFC 6120).

use crate::peer::{self, Tls};
use openssl::base64::{decode_block, encode_block};
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sha::sha1;
use openssl::sign::Signer;
use openssl::ssl::SslContextBuilder;
use std::io::{Read, Write};

/// A stream of XMPP over TLS.
pub struct Xmpp {
    tls: Tls,
    host: String,
    namespace: &'static str,
    said: String,
}

impl Xmpp {
    /// A client of `host`, by STARTTLS, whose TLS is changed by `configure`.
    ///
    /// # Panics
    /// When the server does not go along.
    #[must_use]
    pub fn client(port: u16, host: &str, configure: impl FnOnce(&mut SslContextBuilder)) -> Self {
        Self::start(port, host, "jabber:client", "", configure)
    }

    /// Another server, `from`, likewise.
    ///
    /// # Panics
    /// When the server does not go along.
    #[must_use]
    pub fn server(port: u16, host: &str, from: &str, configure: impl FnOnce(&mut SslContextBuilder)) -> Self {
        Self::start(port, host, "jabber:server", from, configure)
    }

    fn start(
        port: u16,
        host: &str,
        namespace: &'static str,
        from: &str,
        configure: impl FnOnce(&mut SslContextBuilder),
    ) -> Self {
        let connector = peer::connector(|builder| configure(builder));
        let mut tcp = peer::tcp(port).expect("a connection");
        tcp.write_all(header(host, namespace, from).as_bytes()).expect("a stream");
        read_until(&mut tcp, &["</stream:features>"]);
        tcp.write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("a request");
        read_until(&mut tcp, &["<proceed"]);
        let tls = connector.connect(host, tcp).expect("a handshake");
        let mut stream = Self { tls, host: host.to_owned(), namespace, said: String::new() };
        stream.open(from);
        stream
    }

    /// Opens the stream, again: the features that the server has now are returned, or its stream's end.
    ///
    /// # Panics
    /// When neither comes.
    pub fn open(&mut self, from: &str) -> String {
        let header = header(&self.host, self.namespace, from);
        self.ask_for(&header, &["</stream:features>", "<stream:features/>", "</stream:stream>"])
    }

    /// Says `text`, and reads until `answer` comes: all that came with it.
    ///
    /// # Panics
    /// When it does not come.
    pub fn ask(&mut self, text: &str, answer: &str) -> String {
        self.ask_for(text, &[answer])
    }

    fn ask_for(&mut self, text: &str, answers: &[&str]) -> String {
        self.tls.write_all(text.as_bytes()).expect("a write");
        self.said = read_until(&mut self.tls, answers);
        self.said.clone()
    }

    /// What came last.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Logs in by SCRAM-SHA-1-PLUS, with `binding` of the connection: its name, and what the other end has to have
    /// as well.
    ///
    /// # Errors
    /// What the server said in place of success.
    ///
    /// # Panics
    /// When the server does not follow RFC 5802.
    pub fn scram(&mut self, user: &str, password: &str, name: &str, binding: &[u8]) -> Result<(), String> {
        let header = format!("p={name},,");
        let bare = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
        let first = encode_block(format!("{header}{bare}").as_bytes());
        let challenge =
            self.sasl(&format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1-PLUS'>{first}</auth>"))?;
        let field = |name: &str| {
            let found = challenge.split(',').find_map(|field| field.strip_prefix(name));
            found.expect("a field of the challenge").to_owned()
        };
        let salt = decode_block(&field("s=")).expect("a salt");
        let mut salted = [0; 20];
        let rounds = field("i=").parse().expect("a number");
        pbkdf2_hmac(password.as_bytes(), &salt, rounds, MessageDigest::sha1(), &mut salted).expect("a hash");
        let bound = encode_block(&[header.as_bytes(), binding].concat());
        let without_proof = format!("c={bound},r={}", field("r="));
        let signed = format!("{bare},{challenge},{without_proof}");
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&sha1(&client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, bit)| key ^ bit).collect();
        let last = encode_block(format!("{without_proof},p={}", encode_block(&proof)).as_bytes());
        let success = self.sasl(&format!("<response xmlns='{SASL}'>{last}</response>"))?;
        let of_server = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
        assert_eq!(
            success,
            format!("v={}", encode_block(&of_server)),
            "the server does not know the password"
        );
        Ok(())
    }

    /// The decoded text of the server's next element, where it is no failure.
    fn sasl(&mut self, text: &str) -> Result<String, String> {
        let said = self.ask(text, "</");
        if said.contains("<failure") {
            return Err(said);
        }
        let (_, rest) = said.split_once('>').expect("an element");
        let (text, _) = rest.split_once('<').expect("its end");
        Ok(String::from_utf8(decode_block(text).expect("base64")).expect("text"))
    }

    /// The connection.
    #[must_use]
    pub fn tls(&self) -> &Tls {
        &self.tls
    }
}

/// The namespace of SASL (RFC 6120, section 6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).expect("a key");
    let mut signer = Signer::new(MessageDigest::sha1(), &key).expect("a signer");
    signer.sign_oneshot_to_vec(text).expect("a signature")
}

fn header(host: &str, namespace: &str, from: &str) -> String {
    let from = if from.is_empty() { String::new() } else { format!(" from='{from}'") };
    format!(
        "<?xml version='1.0'?><stream:stream to='{host}'{from} xmlns='{namespace}' \
         xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
    )
}

fn read_until(stream: &mut impl Read, answers: &[&str]) -> String {
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    let there = |said: &[u8], answer: &&str| memchr::memmem::find(said, answer.as_bytes()).is_some();
    while !answers.iter().any(|answer| there(&said, answer)) {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => said.extend_from_slice(&buffer[..count]),
            ended => panic!("{answers:?} did not come: {ended:?} after {}", String::from_utf8_lossy(&said)),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}
