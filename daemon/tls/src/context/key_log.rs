//! The secrets of a session, for debugging, if its context's grant allows it (in the format of NSS, RFC 9850).

use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslContextBuilder, SslRef};
use parking_lot::Mutex;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// The maximum size of the log of one session, in bytes. The number of lines from key updates has no limit.
const MOST: usize = 16 * 1024;

static LINES: LazyLock<Option<Index<Ssl, Mutex<Zeroizing<String>>>>> =
    LazyLock::new(|| Ssl::new_ex_index().ok());

/// Prepares a context.
pub(crate) fn allow(context: &mut SslContextBuilder) {
    context.set_keylog_callback(|ssl, line| {
        let Some(lines) = (*LINES).and_then(|index| ssl.ex_data(index)) else { return };
        let mut lines = lines.lock();
        if lines.len() + line.len() < MOST {
            lines.push_str(line);
            lines.push('\n');
        }
    });
}

/// Prepares a session.
pub(crate) fn keep(ssl: &mut SslRef) {
    if let Some(index) = *LINES {
        // Growth of the buffer would leave copies behind.
        ssl.set_ex_data(index, Mutex::new(Zeroizing::new(String::with_capacity(MOST))));
    }
}

/// Returns the lines that were kept.
pub(crate) fn lines(ssl: &SslRef) -> Option<String> {
    let lines = ssl.ex_data((*LINES)?)?;
    Some(lines.lock().to_string())
}
