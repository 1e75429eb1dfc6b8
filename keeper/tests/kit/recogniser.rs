//! What the keeper signs, recognised a second time: by positions in the whole message, without a cursor, and without a
//! line of the keeper's own. Where the two differ, one of them is wrong.

use std::ops::Range;

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Server13,
    Client13,
    /// The curve, and where the point is.
    Ecdhe(u16, Range<usize>),
    Dhe,
    /// Where the client's certificate is.
    Client12(Range<usize>),
    Nothing,
}

/// Reads a whole message.
pub(crate) fn verdict(m: &[u8]) -> Verdict {
    if m.len() >= 64 && m[..64].iter().all(|byte| *byte == 0x20) {
        return tls13(m);
    }
    if is_hello(m) {
        return transcript(m).map_or(Verdict::Nothing, Verdict::Client12);
    }
    if m.len() > 4096 || is_foreign(m) {
        return Verdict::Nothing;
    }
    ecdhe(m).or_else(|| dhe(m)).unwrap_or(Verdict::Nothing)
}

fn tls13(m: &[u8]) -> Verdict {
    let server = b"TLS 1.3, server CertificateVerify\0";
    let client = b"TLS 1.3, client CertificateVerify\0";
    match (m.len(), m.get(64..98)) {
        (130 | 146, Some(context)) if context == server => Verdict::Server13,
        (130 | 146, Some(context)) if context == client => Verdict::Client13,
        _ => Verdict::Nothing,
    }
}

/// A number of `count` bytes at `offset`.
fn number(m: &[u8], offset: usize, count: usize) -> Option<usize> {
    let bytes = m.get(offset..offset.checked_add(count)?)?;
    let mut sum = 0;
    for byte in bytes {
        sum = sum * 256 + usize::from(*byte);
    }
    Some(sum)
}

fn is_hello(m: &[u8]) -> bool {
    if m.first() != Some(&1) {
        return false;
    }
    let of_tls = number(m, 1, 3).is_some_and(|length| length <= m.len() - 4);
    let lengths = [3, 5, 7].map(|offset| number(m, offset, 2));
    let of_ssl2 = m.get(1) == Some(&3)
        && lengths.iter().all(Option::is_some)
        && 9 + lengths.into_iter().flatten().sum::<usize>() <= m.len();
    of_tls || of_ssl2
}

fn ecdhe(m: &[u8]) -> Option<Verdict> {
    let (curve, size) = match m.len().checked_sub(68)? {
        32 => (29, 32),
        56 => (30, 56),
        65 => (number(m, 65, 2).filter(|curve| [23, 26].contains(curve))?, 65),
        97 => (number(m, 65, 2).filter(|curve| [24, 27].contains(curve))?, 97),
        129 => (28, 129),
        133 => (25, 133),
        _ => return None,
    };
    let head = [3, 0, curve as u8, size as u8];
    let compressed = size % 2 == 1 && m[68] != 4;
    (m[64..68] == head && !compressed).then_some(Verdict::Ecdhe(curve as u16, 68..m.len()))
}

fn dhe(m: &[u8]) -> Option<Verdict> {
    let prime = number(m, 64, 2)?;
    let generator = number(m, 66 + prime, 2)?;
    let public = number(m, 68 + prime + generator, 2)?;
    let adds_up = 70 + prime + generator + public == m.len();
    let sizes = (256..=1024).contains(&prime)
        && generator >= 1
        && public >= 1
        && generator <= prime
        && public <= prime;
    (adds_up && sizes && m[66] != 0 && m[65 + prime] % 2 == 1).then_some(Verdict::Dhe)
}

/// Type and body of every handshake message, to the last byte.
fn messages(m: &[u8]) -> Option<Vec<(u8, Range<usize>)>> {
    let mut found = Vec::new();
    let mut offset = 0;
    while offset < m.len() {
        let end = offset + 4 + number(m, offset + 1, 3)?;
        if end > m.len() {
            return None;
        }
        found.push((m[offset], offset + 4..end));
        offset = end;
    }
    Some(found)
}

fn transcript(m: &[u8]) -> Option<Range<usize>> {
    if m.len() > 65_536 {
        return None;
    }
    let found = messages(m)?;
    let kinds: Vec<u8> = found.iter().map(|(kind, _)| *kind).collect();
    let orders: [&[u8]; 4] = [
        &[1, 2, 11, 13, 14, 11, 16],
        &[1, 2, 11, 22, 13, 14, 11, 16],
        &[1, 2, 11, 12, 13, 14, 11, 16],
        &[1, 2, 11, 22, 12, 13, 14, 11, 16],
    ];
    if !orders.contains(&&kinds[..]) {
        return None;
    }
    let mut leaves = Vec::new();
    for (kind, at) in found {
        let body = &m[at.clone()];
        let good = match kind {
            1 | 2 => body.len() >= 36 && body[..2] == [3, 3],
            14 => body.is_empty(),
            22 => number(body, 1, 3).is_some_and(|length| length > 0 && length + 4 == body.len()),
            11 => {
                let leaf = first_certificate(body)?;
                leaves.push(at.start + leaf.start..at.start + leaf.end);
                true
            }
            _ => !body.is_empty(),
        };
        if !good {
            return None;
        }
    }
    leaves.pop()
}

fn first_certificate(body: &[u8]) -> Option<Range<usize>> {
    if number(body, 0, 3)? + 3 != body.len() {
        return None;
    }
    let mut ends = vec![3];
    while *ends.last()? < body.len() {
        let offset = *ends.last()?;
        let end = offset + 3 + number(body, offset, 3)?;
        if end > body.len() {
            return None;
        }
        ends.push(end);
    }
    let end = *ends.get(1)?;
    (end > 6).then_some(6..end)
}

fn is_foreign(m: &[u8]) -> bool {
    let readable = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, 9 | 10 | 13 | 32);
    let text = m.len() >= 32 && m[..32].iter().all(readable) || m.get(..3) == Some(b"eyJ");
    let sshsig = m.get(..6) == Some(b"SSHSIG");
    let little = |offset: usize| m.get(offset..offset + 8).map(|bytes| (bytes[0], bytes[1..] == [0; 7]));
    let paseto = matches!((little(0), little(8)), (Some((0..=15, true)), Some((0..=63, true))));
    let cose = m.starts_with(b"\x84jSignature1")
        || m.starts_with(b"\x85iSignature")
        || m.starts_with(b"\x84pCounterSignature")
        || m.starts_with(b"\x85pCounterSignature");
    let ssh = number(m, 0, 4)
        .is_some_and(|length| [20, 32, 48, 64].contains(&length) && m.get(4 + length) == Some(&50));
    let ike = m.len() >= 24 && m[17] >> 4 == 2 && m[18] == 34 && m[20..24] == [0; 4];
    text || cose || ssh || ike || sshsig || paseto || is_der(m)
}

/// Where the DER value at `offset` has its content.
fn der(m: &[u8], offset: usize) -> Option<Range<usize>> {
    let first = usize::from(*m.get(offset + 1)?);
    let (start, length) = match first {
        0..=127 => (offset + 2, first),
        _ => {
            let octets = m.get(offset + 2..offset + 2 + first - 128)?;
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            if octets.len() - zeros > 4 {
                return None;
            }
            (offset + 2 + octets.len(), number(m, offset + 2 + zeros, octets.len() - zeros)?)
        }
    };
    let end = start.checked_add(length)?;
    (end <= m.len()).then_some(start..end)
}

fn is_der(m: &[u8]) -> bool {
    if !matches!(m.first(), Some(0x30 | 0x31)) {
        return false;
    }
    if m.get(1) == Some(&0x80) && m.ends_with(&[0, 0]) && m.len() >= 4 {
        return true;
    }
    let Some(content) = der(m, 0) else { return false };
    if content.end != m.len() {
        return false;
    }
    let mut offset = content.start;
    while m.len() < 128 && offset < m.len() {
        let Some(inner) = der(m, offset) else { return false };
        offset = inner.end;
    }
    true
}
