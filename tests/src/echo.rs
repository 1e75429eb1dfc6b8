//! Many connections to an echo server, and how long their echoes take.

use crate::peer::{self, Tls};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Opens `count` connections to `port`.
///
/// # Panics
/// When one of them cannot be made.
#[must_use]
pub fn open(port: u16, count: usize) -> Vec<Tls> {
    let connector = peer::connector(|_| {});
    (0..count).map(|_| peer::connect_with(&connector, port)).collect()
}

/// Sends `text` and waits until it has come back.
///
/// # Errors
/// Where the connection ends, or something else comes back.
pub fn echo(tls: &mut Tls, text: &str) -> io::Result<()> {
    tls.write_all(text.as_bytes())?;
    let mut back = vec![0; text.len()];
    tls.read_exact(&mut back)?;
    if back == text.as_bytes() { Ok(()) } else { Err(io::Error::other("another echo")) }
}

/// All of them write before any of them reads: each echo has to come back on its own connection.
///
/// # Panics
/// When one does not.
pub fn echo_on_all(connections: &mut [Tls], round: usize) {
    for (n, tls) in connections.iter_mut().enumerate() {
        writeln!(tls, "round {round} connection {n}").expect("a write");
    }
    for (n, tls) in connections.iter_mut().enumerate() {
        let expected = format!("round {round} connection {n}\n");
        let mut back = vec![0; expected.len()];
        tls.read_exact(&mut back).unwrap_or_else(|error| panic!("connection {n}: {error}"));
        assert_eq!(String::from_utf8_lossy(&back), expected);
    }
}

/// The median time of an echo over `rounds` on each connection, one at a time.
///
/// # Panics
/// When an echo fails.
#[must_use]
pub fn median_latency(connections: &mut [Tls], rounds: usize) -> Duration {
    let mut times = Vec::with_capacity(connections.len() * rounds);
    for round in 0..rounds {
        for (n, tls) in connections.iter_mut().enumerate() {
            let start = Instant::now();
            echo(tls, &format!("round {round} connection {n}\n"))
                .unwrap_or_else(|error| panic!("round {round}, connection {n}: {error}"));
            times.push(start.elapsed());
        }
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// Adler-32 (RFC 1950), byte by byte as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    a: u32,
    b: u32,
    /// Bytes so far.
    pub count: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self { a: 1, b: 0, count: 0 }
    }
}

impl Checksum {
    /// Takes in the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(4096) {
            for byte in chunk {
                self.a += u32::from(*byte);
                self.b += self.a;
            }
            self.a %= 65521;
            self.b %= 65521;
        }
        self.count += bytes.len() as u64;
    }

    /// The sum of everything so far.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.b << 16 | self.a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_adler_32() {
        let mut sum = Checksum::default();
        sum.add(b"Wiki");
        sum.add(b"pedia");
        assert_eq!((sum.value(), sum.count), (0x11e6_0398, 9));
    }
}
