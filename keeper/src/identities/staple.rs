//! The keeper sends a staple as it is, and fronts parse it. This module checks only the first bytes, at their fixed
//! positions (RFC 6960, 4.2.1), so that no other content of the file, such as a private key, reaches a front.

/// The reason why a file is not a staple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoStaple {
    /// The first bytes do not match.
    #[error("it does not start like one")]
    Start,
    /// The length in its header does not match.
    #[error("its length does not match its header")]
    Length,
    /// The response has an error status.
    #[error("the responder answered with error status {0}")]
    Status(u8),
}

const SEQUENCE: u8 = 0x30;
const ENUMERATED: u8 = 0x0a;
/// The tag of the response bytes, which are present only with the status `successful`.
const RESPONSE_BYTES: u8 = 0xa0;

/// Checks whether `bytes` are a sequence of a successful status and one more element, with nothing after it.
///
/// # Errors
/// [`NoStaple`].
pub(crate) fn check(bytes: &[u8]) -> Result<(), NoStaple> {
    // A response with its signature has at least 128 bytes, and a file has at most 16 KiB.
    let (length, content) = match bytes {
        [SEQUENCE, 0x81, length, content @ ..] => (usize::from(*length), content),
        [SEQUENCE, 0x82, high, low, content @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), content)
        }
        // An error status without response bytes.
        [SEQUENCE, length @ 0..=0x7f, content @ ..] => (usize::from(*length), content),
        _ => return Err(NoStaple::Start),
    };
    if content.len() != length {
        return Err(NoStaple::Length);
    }
    match content {
        [ENUMERATED, 1, 0, RESPONSE_BYTES, ..] => Ok(()),
        [ENUMERATED, 1, status, ..] if *status != 0 => Err(NoStaple::Status(*status)),
        _ => Err(NoStaple::Start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a status and the content after it, with a length of two bytes.
    fn of(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        [&[SEQUENCE, 0x82], length.as_slice(), content].concat()
    }

    #[test]
    fn a_successful_response_is_taken_whatever_is_in_it() {
        let content = [[ENUMERATED, 1, 0, RESPONSE_BYTES].as_slice(), &[0xff; 300]].concat();
        assert_eq!(check(&of(&content)), Ok(()));
        assert_eq!(check(&[&[SEQUENCE, 0x81, 204], &content[..204]].concat()), Ok(()));
    }

    #[test]
    fn finding_17_no_private_key_is_handed_out_as_a_staple() {
        // PKCS#8, PKCS#1 and SEC1 begin with a version.
        let der = of(&[[2, 1, 0, 0x30].as_slice(), &[0x5a; 300]].concat());
        for file in [der.as_slice(), b"-----BEGIN PRIVATE KEY-----\n", b"", &[SEQUENCE, 0x84, 0, 0, 0, 1, 0]]
        {
            assert_eq!(check(file), Err(NoStaple::Start), "{file:?}");
        }
    }

    #[test]
    fn what_is_cut_or_has_more_behind_it_is_refused() {
        let good = of(&[[ENUMERATED, 1, 0, RESPONSE_BYTES].as_slice(), &[0xff; 300]].concat());
        assert_eq!(check(&good[..good.len() - 1]), Err(NoStaple::Length));
        assert_eq!(check(&[good.as_slice(), b"-----BEGIN PRIVATE KEY-----"].concat()), Err(NoStaple::Length));
        assert_eq!(check(&[SEQUENCE, 3, ENUMERATED, 1, 6]), Err(NoStaple::Status(6)));
    }
}
