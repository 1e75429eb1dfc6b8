//! Requests that a captured front might send to its keeper, each on a separate connection.

use luassl_keeper_ipc::front::{ANSWER_MAX, Answer, Decrypt, REQUEST_MAX, Request, Sign};
use luassl_keeper_ipc::transport::{self, RecvFlags, SendFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The identity that the front has.
const OWN: &str = "site";
/// An identity that another front has.
const OTHERS: &str = "others";
/// An identity that no front has.
const NOBODY: &str = "nobody";

/// The number of requests of a flood.
const FLOOD: u32 = 10_000;

/// ecdsa_secp256r1_sha256.
const P256: u16 = 0x0403;
/// ed25519, which is not the algorithm of the front's identity.
const ED25519: u16 = 0x0807;

/// What the keeper sent about an identity.
struct Known {
    key_id: [u8; 32],
    public_key: Vec<u8>,
}

struct Line {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// Sends the request that `what` names, then the request for the signature of a handshake, and logs the answers.
pub(super) fn act(what: &str, keeper: &Path) {
    for (title, request) in [(what, what), ("a handshake after that", "handshake")] {
        let answer = Line::open(keeper).and_then(|mut line| {
            let own = line.subscribe()?;
            line.ask(request, &own)
        });
        match answer {
            Ok(answer) => tracing::error!("hostile: {title}: {answer}"),
            Err(error) => tracing::error!("hostile: {title}: dropped: {error}"),
        }
    }
}

fn other(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Line {
    fn open(path: &Path) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(20)))?;
        Ok(Self { socket, buffer: vec![0; ANSWER_MAX] })
    }

    fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        transport::send(&self.socket, bytes, descriptors, SendFlags::empty())?;
        Ok(())
    }

    fn put(&self, request: &Request<'_>) -> io::Result<()> {
        let mut out = Vec::new();
        request.encode(&mut out).map_err(other)?;
        self.send(&out, &[])
    }

    fn next(&mut self) -> io::Result<Vec<u8>> {
        match transport::recv(&self.socket, &mut self.buffer, 0, RecvFlags::empty()).map_err(other)?.len {
            0 => Err(other("the keeper closed the connection")),
            length => Ok(self.buffer[..length].to_vec()),
        }
    }

    fn answer(&mut self, request: &Request<'_>) -> io::Result<Vec<u8>> {
        self.put(request)?;
        self.next()
    }

    /// Subscribes, and returns the front's identity.
    fn subscribe(&mut self) -> io::Result<Known> {
        self.put(&Request::Subscribe)?;
        let mut known = BTreeMap::new();
        loop {
            match Answer::decode(&self.next()?).map_err(other)? {
                Answer::Identity(identity) => {
                    let public_key = identity.public_key.to_vec();
                    known.insert(identity.name.to_owned(), Known { key_id: identity.key_id, public_key });
                }
                Answer::Synced => break,
                _ => {}
            }
        }
        if known.keys().ne([OWN]) {
            return Err(other(format_args!("told of {:?}", known.keys())));
        }
        known.remove(OWN).ok_or_else(|| other("nothing"))
    }

    fn ask(&mut self, what: &str, own: &Known) -> io::Result<String> {
        match what {
            "others" => {
                let (others, nobody) = (self.named(OTHERS, own)?, self.named(NOBODY, own)?);
                let alike = if others == nobody { "as nobody's is" } else { "unlike nobody's" };
                Ok(format!("{}, {alike}", told(&others)?))
            }
            "no-such-key" => self.sign([0; 32], P256, &tls13("server")),
            "scheme" => self.sign(own.key_id, ED25519, &tls13("server")),
            "decrypt" => self.decrypt(own),
            "flood" => self.flood(own),
            "garbage" => self.raw(&[0xff; 100]),
            "huge" => self.raw(&vec![0x02; REQUEST_MAX + 1]),
            "descriptors" => {
                let stderr = io::stderr();
                self.send(&[0x01], &[stderr.as_fd(); 16])?;
                told(&self.next()?)
            }
            what => match message(what, own) {
                Some(message) => self.sign(own.key_id, P256, &message),
                None => Err(other("what is that?")),
            },
        }
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<String> {
        self.send(bytes, &[])?;
        told(&self.next()?)
    }

    fn sign(&mut self, key_id: [u8; 32], scheme: u16, message: &[u8]) -> io::Result<String> {
        told(&self.answer(&Request::Sign(Sign { call: 1, key_id, name: OWN, scheme, message }))?)
    }

    /// Returns the answer to a request for an identity with this name.
    fn named(&mut self, name: &str, own: &Known) -> io::Result<Vec<u8>> {
        let message = &tls13("server");
        self.answer(&Request::Sign(Sign { call: 1, key_id: own.key_id, name, scheme: P256, message }))
    }

    fn decrypt(&mut self, own: &Known) -> io::Result<String> {
        let (key_id, ciphertext) = (own.key_id, &[0x17; 256]);
        let decrypt = Decrypt { call: 1, key_id, name: OWN, version: 0x0303, ciphertext };
        told(&self.answer(&Request::Decrypt(decrypt))?)
    }

    /// Sends as many requests as the keeper answers.
    fn flood(&mut self, own: &Known) -> io::Result<String> {
        tracing::error!("hostile: flood: begins");
        let mut answers = BTreeMap::<String, u32>::new();
        for _ in 0..FLOOD {
            *answers.entry(self.sign(own.key_id, P256, &tls13("server"))?).or_default() += 1;
        }
        let answers: Vec<_> =
            answers.iter().map(|(answer, count)| format!("{count} times {answer}")).collect();
        Ok(format!("ended: {}", answers.join(", ")))
    }
}

fn told(answer: &[u8]) -> io::Result<String> {
    Ok(match Answer::decode(answer).map_err(other)? {
        Answer::Signature { .. } => "signed".to_owned(),
        Answer::Refused { reason, .. } => format!("refused: {reason}"),
        Answer::Secret { .. } => "decrypted".to_owned(),
        answer => format!("answered: {answer:?}"),
    })
}

/// Returns the message to be signed.
fn message(what: &str, own: &Known) -> Option<Vec<u8>> {
    Some(match what {
        "handshake" => tls13("server"),
        "client-context" => tls13("client"),
        "other-context" => {
            tls13("server").into_iter().map(|byte| if byte == b'3' { b'4' } else { byte }).collect()
        }
        "longer" => [tls13("server"), vec![0]].concat(),
        "jwt" => b"eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJyb290IiwiZXhwIjo0MTAyNDQ0ODAwfQ".to_vec(),
        "csr" => certification_request(&own.public_key),
        "random" => random(130),
        "digest" => random(32),
        "transcript" => transcript(&random(500)),
        "exchange" => ecdhe(&random(64)),
        "cose" => ecdhe(&[b"\x84\x6aSignature1\x43\xa1\x01\x26", random(49).as_slice()].concat()),
        "dhe" => dhe(&random(64)),
        "hello-as-dhe" => dhe(&[&[1, 0, 0, 200, 3, 4], random(58).as_slice()].concat()),
        _ => return None,
    })
}

/// Returns a ServerKeyExchange of TLS 1.2 with X25519 (RFC 8422, 5.4).
fn ecdhe(randoms: &[u8]) -> Vec<u8> {
    [randoms, &[3, 0, 29, 32], &random(32)].concat()
}

/// Returns a ServerKeyExchange with a group of 2048 bits (RFC 5246, 7.4.3).
fn dhe(randoms: &[u8]) -> Vec<u8> {
    [randoms, &[1, 0], &[0xff; 256], &[0, 1, 2], &[1, 0], &random(256)].concat()
}

/// Returns the signed content of TLS 1.3 (RFC 8446, 4.4.3).
fn tls13(role: &str) -> Vec<u8> {
    [&[0x20; 64], format!("TLS 1.3, {role} CertificateVerify\0").as_bytes(), &[0x42; 32]].concat()
}

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    // On failure the present content is sufficient.
    let _ = openssl::rand::rand_bytes(&mut bytes);
    bytes
}

/// Returns a CertificationRequestInfo (RFC 2986) for this key. A request for a certificate with any name begins with
/// it.
fn certification_request(public_key: &[u8]) -> Vec<u8> {
    let version = [2, 1, 0];
    let common_name = [0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, b'a'];
    let body = [&version[..], &common_name, public_key, &[0xa0, 0]].concat();
    let length = u16::try_from(body.len()).unwrap_or_default().to_be_bytes();
    [&[0x30, 0x82], &length[..], &body].concat()
}

/// Returns what a TLS 1.2 client signs (RFC 5246, 7.4.8), with `leaf` as its certificate.
fn transcript(leaf: &[u8]) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[1..], bytes].concat();
    let message = |kind: u8, body: &[u8]| [&[kind], vector(body).as_slice()].concat();
    let hello = [[3, 3].as_slice(), &[7; 40]].concat();
    let certificate = |der: &[u8]| vector(&vector(der));
    [
        message(1, &hello),
        message(2, &hello),
        message(11, &certificate(b"server")),
        message(12, &[3, 0, 29]),
        message(13, &[1, 1, 0, 0]),
        message(14, &[]),
        message(11, &certificate(leaf)),
        message(16, &[32; 33]),
    ]
    .concat()
}
