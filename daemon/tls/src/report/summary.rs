//! Facts about an established session.

use crate::ffi::safe_ffi;
use luassl_protocol::Info;
use openssl::ssl::{NameType, SslRef};

/// Returns the negotiated facts of a session. The caller fills in the addresses.
#[must_use]
pub fn summary(ssl: &SslRef) -> Info {
    let cipher = ssl.current_cipher();
    let verdict = ssl.verify_result();
    let certified = ssl.peer_certificate().is_some();
    Info {
        protocol: ssl.version_str().to_owned(),
        cipher: cipher.map(|cipher| cipher.name().to_owned()).unwrap_or_default(),
        bits: cipher.map_or(0, |cipher| u32::try_from(cipher.bits().secret).unwrap_or(0)),
        group: safe_ffi::without_error_queue(|| safe_ffi::negotiated_group(ssl)),
        reused: ssl.session_reused(),
        alpn: ssl.selected_alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        sni: ssl.servername_raw(NameType::HOST_NAME).map(|name| String::from_utf8_lossy(name).into_owned()),
        verify_code: verdict.as_raw(),
        verify_text: if certified { verdict.error_string().to_owned() } else { String::new() },
        peer_certificate: certified,
        ..Info::default()
    }
}
