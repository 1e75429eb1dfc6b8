//! The limits on the requests of a peer during its handshake and afterwards, and on the Diffie-Hellman groups that it
//! may choose.
//!
//! Each renegotiation, each request for a certificate and each new key is work that a peer can cause with a few bytes,
//! on a thread that also serves others. libssl skips a HelloRequest during a handshake, and reads the next one in the
//! same call. A certificate can have a key that takes long to parse ([`peer_keys`]). libssl has no limit on any of
//! these, and processes all data that has arrived in one call. Therefore they are counted in the callback that libssl
//! calls for each message before it processes the message (`docs/decisions/0015-message-callback.md`).

use crate::ffi::message_ffi::{self, Dhe, Verdict, Watch};
use crate::ffi::safe_ffi;
use crate::verify::peer_keys::{self, Form};
use luassl_protocol::{ErrorCode, Failure};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslRef, SslVersion};
use parking_lot::{Mutex, MutexGuard};
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The maximum number of HelloRequests that a server may send before its first Finished. There is no reason to send
/// one.
const MAX_EARLY_HELLO_REQUESTS: u32 = 4;
/// The maximum number of handshake messages that a peer may send up to its first Finished. No handshake has more than
/// about ten.
const MAX_EARLY_MESSAGES: u32 = 64;
/// The maximum number of renegotiations that a peer may request at once, including refused ones.
const MAX_RENEGOTIATIONS: u32 = 4;
/// The maximum number of certificates that a server may request at once after its handshake. Each costs a signature.
const MAX_CERTIFICATE_REQUESTS: u32 = 4;
/// The time until the peer may request one more renegotiation, or one more certificate.
const NEXT_REQUEST: Duration = Duration::from_secs(60);
/// The maximum number of handshake messages (including key updates and tickets) that a peer may send at once after its
/// handshake.
const MAX_MESSAGES: u32 = 64;
/// The time until the peer may send one more of these messages.
const NEXT_MESSAGE: Duration = Duration::from_millis(250);
/// The maximum part of [`MAX_MESSAGES`] that one renegotiation by the program uses.
const MESSAGES_OF_A_HANDSHAKE: u32 = 16;
/// The size of a prime that a server may choose for DHE, in bits. Smaller primes are broken. With a prime of 8,192
/// bits, a client computes for a third of a second.
const DH_BITS: RangeInclusive<usize> = 2048..=4096;

/// Handshake messages by their type (RFC 5246, 7.4; RFC 8446, 4).
mod message {
    pub(crate) const HELLO_REQUEST: u8 = 0;
    pub(crate) const CLIENT_HELLO: u8 = 1;
    pub(crate) const CERTIFICATE: u8 = 11;
    pub(crate) const SERVER_KEY_EXCHANGE: u8 = 12;
    pub(crate) const CERTIFICATE_REQUEST: u8 = 13;
    pub(crate) const FINISHED: u8 = 20;
}
/// The length of the type and the length of a message.
const HEADER: usize = 4;

/// A number of messages that increases with time.
struct Bucket {
    left: u32,
    most: u32,
    /// The time in which it increases by one.
    interval: Duration,
    since: Option<Instant>,
}

impl Bucket {
    fn full(most: u32, interval: Duration) -> Self {
        Self { left: most, most, interval, since: None }
    }

    /// Adds the messages that belong to a request of the program.
    fn allow(&mut self, more: u32) {
        self.left = self.left.saturating_add(more);
    }

    /// Takes one message. Returns `false` if none is left.
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let grown = now.saturating_duration_since(since).as_nanos() / self.interval.as_nanos();
        if let Ok(grown @ 1..) = u32::try_from(grown) {
            self.left = self.left.max(self.left.saturating_add(grown).min(self.most));
            // The rest of the interval counts for the next message.
            self.since = Some(since + self.interval.saturating_mul(grown));
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }
}

/// The progress of a session, according to the peer's messages.
struct Heard {
    hello: bool,
    /// Whether the peer's first Finished has arrived. Later messages come after the handshake.
    finished: bool,
    early_hello_requests: u32,
    early_messages: u32,
    renegotiations: Bucket,
    certificate_requests: Bucket,
    messages: Bucket,
    fault: Option<String>,
}

impl Heard {
    fn new() -> Self {
        Self {
            hello: false,
            finished: false,
            early_hello_requests: 0,
            early_messages: 0,
            renegotiations: Bucket::full(MAX_RENEGOTIATIONS, NEXT_REQUEST),
            certificate_requests: Bucket::full(MAX_CERTIFICATE_REQUESTS, NEXT_REQUEST),
            messages: Bucket::full(MAX_MESSAGES, NEXT_MESSAGE),
            fault: None,
        }
    }

    fn hear(&mut self, bytes: &[u8], dhe: Option<Dhe>, now: Instant) -> Verdict {
        let Some(&kind) = bytes.first() else { return Verdict::Process };
        if self.fault.is_some() {
            // The session has failed, and libssl must stop with any message.
            return Verdict::Stop;
        }
        if kind == message::SERVER_KEY_EXCHANGE
            && let Some(dhe) = dhe
            && let Some((at, bits)) = prime(bytes, dhe).filter(|(_, bits)| !DH_BITS.contains(bits))
        {
            let (least, most) = (DH_BITS.start(), DH_BITS.end());
            let fault =
                format!("the peer's Diffie-Hellman prime has {bits} bits; {least} to {most} are taken");
            return self.spoil(at, fault);
        }
        self.hello |= kind == message::CLIENT_HELLO;
        let excess = if self.finished { self.excess(kind, now) } else { self.early_excess(kind) };
        self.finished |= kind == message::FINISHED;
        let Some(fault) = excess else { return Verdict::Process };
        self.fault.get_or_insert_with(|| fault.to_owned());
        Verdict::Stop
    }

    /// Spoils a message with a value that libssl must not compute with.
    fn spoil(&mut self, at: usize, fault: String) -> Verdict {
        self.fault.get_or_insert(fault);
        Verdict::Spoil(at)
    }

    /// Returns the limit that a message of the first handshake exceeds.
    fn early_excess(&mut self, kind: u8) -> Option<&'static str> {
        self.early_messages = self.early_messages.saturating_add(1);
        if kind == message::HELLO_REQUEST {
            self.early_hello_requests = self.early_hello_requests.saturating_add(1);
        }
        if self.early_hello_requests > MAX_EARLY_HELLO_REQUESTS {
            Some("the peer sends one HelloRequest after another during the handshake")
        } else if self.early_messages > MAX_EARLY_MESSAGES {
            Some("the peer's handshake has too many messages")
        } else {
            None
        }
    }

    /// Returns the limit that a message after the handshake exceeds.
    fn excess(&mut self, kind: u8, now: Instant) -> Option<&'static str> {
        let renegotiates = matches!(kind, message::HELLO_REQUEST | message::CLIENT_HELLO);
        if renegotiates && !self.renegotiations.take(now) {
            Some("the peer asks for one renegotiation after another")
        } else if kind == message::CERTIFICATE_REQUEST && !self.certificate_requests.take(now) {
            Some("the peer asks for one certificate after another")
        } else if !self.messages.take(now) {
            Some("the peer sends one handshake message (a key update, a ticket) after another")
        } else {
            None
        }
    }
}

/// Returns the fault of a Certificate message, and the offset of the length of its list.
fn certificates(bytes: &[u8], form: Form) -> Option<(usize, String)> {
    if bytes.first() != Some(&message::CERTIFICATE) {
        return None;
    }
    let (at, fault) = peer_keys::check_message(bytes.get(HEADER..)?, form).err()?;
    Some((HEADER + at, fault.to_string()))
}

/// Returns the offset of the length of the prime in a ServerKeyExchange, and the number of bits of the prime.
fn prime(bytes: &[u8], dhe: Dhe) -> Option<(usize, usize)> {
    let length_at = |at: usize| Some(usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)));
    let at = match dhe {
        Dhe::Plain => HEADER,
        Dhe::WithPsk => HEADER + 2 + length_at(HEADER)?,
    };
    let prime = bytes.get(at + 2..at + 2 + length_at(at)?)?;
    let zeros = prime.iter().take_while(|byte| **byte == 0).count();
    let bits = prime.get(zeros).map_or(0, |first| (prime.len() - zeros) * 8 - first.leading_zeros() as usize);
    Some((at, bits))
}

/// The data that is kept for a session.
struct Watched {
    heard: Mutex<Heard>,
    /// Whether renegotiation requests of the peer are refused. Those of the program are not.
    peer_is_refused: bool,
    /// Whether [`Heard::fault`] is set. Each read checks it.
    at_fault: AtomicBool,
}

static WATCHED: LazyLock<Option<Index<Ssl, Watched>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

fn watched(ssl: &SslRef) -> Option<&Watched> {
    ssl.ex_data((*WATCHED)?)
}

impl Watched {
    /// Locks the counts. A thread that panicked may have left a count too high.
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock()
    }
}

/// Starts to count the messages of the session's peer. `renegotiable` is whether a server may ask its client for a
/// renegotiation. libssl handles a client's request (`SSL_OP_ALLOW_CLIENT_RENEGOTIATION`).
pub(crate) fn watch(ssl: &mut SslRef, renegotiable: bool) {
    let peer_is_refused = !renegotiable && safe_ffi::refuse_renegotiation(ssl);
    if let Some(index) = *WATCHED {
        let (heard, at_fault) = (Mutex::new(Heard::new()), AtomicBool::new(false));
        ssl.set_ex_data(index, Watched { heard, peer_is_refused, at_fault });
    }
}

/// Prepares a renegotiation that the program requests.
pub(crate) fn renegotiate(ssl: &SslRef) -> Result<(), ErrorStack> {
    let refused = watched(ssl).is_some_and(|watched| watched.peer_is_refused);
    if refused {
        safe_ffi::allow_renegotiation(ssl);
    }
    renegotiates_itself(ssl);
    let outcome = safe_ffi::renegotiate(ssl);
    if refused {
        safe_ffi::refuse_renegotiation(ssl);
    }
    outcome
}

/// Decides by the counts of a session.
pub(crate) enum ByCounts {}

impl Watch for ByCounts {
    fn hear(ssl: &SslRef, bytes: &[u8]) -> Verdict {
        let Some(watched) = watched(ssl) else { return Verdict::Process };
        let dhe = if bytes.first() == Some(&message::SERVER_KEY_EXCHANGE) {
            message_ffi::pending_dhe(ssl)
        } else {
            None
        };
        let form = if ssl.version2() == Some(SslVersion::TLS1_3) { Form::Tls13 } else { Form::Tls12 };
        let verdict = match certificates(bytes, form) {
            // After a fault, libssl still processes messages of the same record.
            Some((at, fault)) => watched.heard().spoil(at, fault),
            None => watched.heard().hear(bytes, dhe, Instant::now()),
        };
        if verdict != Verdict::Process {
            watched.at_fault.store(true, Ordering::Relaxed);
        }
        verdict
    }
}

/// Records that the program itself requests new keys. The messages that belong to it do not count for the peer.
pub(crate) fn renegotiates_itself(ssl: &SslRef) {
    if let Some(watched) = watched(ssl) {
        let mut heard = watched.heard();
        heard.renegotiations.allow(1);
        heard.certificate_requests.allow(1);
        heard.messages.allow(MESSAGES_OF_A_HANDSHAKE);
    }
}

/// Returns whether the peer's ClientHello has arrived completely. `true` for a session that is not watched.
#[must_use]
pub fn hello_has_come(ssl: &SslRef) -> bool {
    watched(ssl).is_none_or(|watched| watched.heard().hello)
}

/// Returns the limit that the peer has exceeded. The session is then over, independent of libssl's result.
#[must_use]
pub fn excess(ssl: &SslRef) -> Option<Failure> {
    let watched = watched(ssl).filter(|watched| watched.at_fault.load(Ordering::Relaxed))?;
    let fault = watched.heard().fault.clone();
    fault.map(|fault| Failure::new(ErrorCode::Tls, fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY_UPDATE: u8 = 24;

    fn finished() -> Heard {
        let mut heard = Heard::new();
        assert_eq!(heard.hear(&[message::FINISHED, 0, 0, 0], None, Instant::now()), Verdict::Process);
        heard
    }

    /// Returns how many messages of a kind are processed at one time.
    fn processed(heard: &mut Heard, kind: u8, now: Instant) -> usize {
        // The counts continue after a fault.
        heard.fault = None;
        (0..1000).take_while(|_| heard.hear(&[kind, 0, 0, 0], None, now) == Verdict::Process).count()
    }

    #[test]
    fn finding_8_renegotiations_and_requests_for_certificates_are_bounded() {
        let now = Instant::now();
        assert_eq!(processed(&mut finished(), message::HELLO_REQUEST, now), 4);
        assert_eq!(processed(&mut finished(), message::CLIENT_HELLO, now), 4);
        let mut heard = finished();
        assert_eq!(processed(&mut heard, message::CERTIFICATE_REQUEST, now), 4);
        assert!(heard.fault.unwrap().contains("certificate"));
    }

    #[test]
    fn finding_8_key_updates_are_bounded_by_time() {
        let (mut heard, now) = (finished(), Instant::now());
        assert_eq!(processed(&mut heard, KEY_UPDATE, now), 64);
        assert_eq!(processed(&mut heard, KEY_UPDATE, now + Duration::from_secs(2)), 8);
        assert_eq!(processed(&mut heard, KEY_UPDATE, now + Duration::from_secs(3600)), 64);
    }

    #[test]
    fn finding_8_requests_are_allowed_again_with_time_and_for_the_programs_own() {
        for kind in [message::HELLO_REQUEST, message::CERTIFICATE_REQUEST] {
            let (mut heard, now) = (finished(), Instant::now());
            let at = |seconds| now + Duration::from_secs(seconds);
            assert_eq!(processed(&mut heard, kind, now), 4);
            assert_eq!(processed(&mut heard, kind, at(59)), 0);
            assert_eq!(processed(&mut heard, kind, at(60)), 1);
            assert_eq!(processed(&mut heard, kind, at(179)), 1);
            assert_eq!(processed(&mut heard, kind, at(180)), 1, "half an interval is not lost");
            assert_eq!(processed(&mut heard, kind, at(36_000)), 4);
            heard.renegotiations.allow(1);
            heard.certificate_requests.allow(1);
            assert_eq!(processed(&mut heard, kind, at(36_000)), 1);
        }
    }

    #[test]
    fn finding_8_messages_before_the_first_finished_are_bounded() {
        let (mut heard, now) = (Heard::new(), Instant::now());
        assert_eq!(processed(&mut heard, message::HELLO_REQUEST, now), 4);
        assert!(heard.fault.unwrap().contains("HelloRequest"));
        let mut heard = Heard::new();
        assert_eq!(processed(&mut heard, message::CERTIFICATE_REQUEST, now), 64);
        assert!(heard.fault.unwrap().contains("too many messages"));
        // Positive control: the messages of the handshake do not count for later messages.
        let mut heard = Heard::new();
        for kind in std::iter::repeat_n(message::HELLO_REQUEST, 4).chain([message::FINISHED]) {
            assert_eq!(heard.hear(&[kind, 0, 0, 0], None, now), Verdict::Process);
        }
        assert_eq!(processed(&mut heard, KEY_UPDATE, now), 64);
    }

    #[test]
    fn a_client_hello_is_noticed() {
        let mut heard = Heard::new();
        for (kind, hello) in [(message::CERTIFICATE_REQUEST, false), (message::CLIENT_HELLO, true)] {
            heard.hear(&[kind, 0, 0, 0], None, Instant::now());
            assert_eq!(heard.hello, hello);
        }
    }

    /// Returns a ServerKeyExchange with a prime of the given number of bits, after `hint`.
    fn exchange(bits: usize, zeros: usize, hint: Option<&[u8]>) -> Vec<u8> {
        let mut prime = vec![0; zeros];
        prime.extend(vec![0xff; bits.div_ceil(8)]);
        prime[zeros] >>= bits.div_ceil(8) * 8 - bits;
        let with_length = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let hint = hint.map(with_length).unwrap_or_default();
        [&[message::SERVER_KEY_EXCHANGE, 0, 0, 0], &hint[..], &with_length(&prime), &[0, 1, 2]].concat()
    }

    #[test]
    fn finding_8_a_prime_outside_of_the_bounds_is_not_computed_with() {
        let now = Instant::now();
        let hear = |bytes: &[u8], dhe| Heard::new().hear(bytes, Some(dhe), now);
        for (bits, taken) in
            [(1024, false), (2047, false), (2048, true), (4096, true), (4097, false), (8192, false)]
        {
            for zeros in [0, 1, 600] {
                let (plain, psk) = (exchange(bits, zeros, None), exchange(bits, zeros, Some(b"hint")));
                let expected = |at| if taken { Verdict::Process } else { Verdict::Spoil(at) };
                assert_eq!(hear(&plain, Dhe::Plain), expected(4), "{bits}");
                assert_eq!(hear(&psk, Dhe::WithPsk), expected(10), "{bits}");
            }
        }
        assert_eq!(Heard::new().hear(&exchange(8192, 0, None), None, now), Verdict::Process, "not a prime");
        for cut in 0..12 {
            assert_eq!(hear(&exchange(8192, 0, Some(b"hint"))[..cut], Dhe::WithPsk), Verdict::Process);
        }
    }
}
