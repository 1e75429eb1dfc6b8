//! The sockets that systemd or `luassld run` hands to a front when it starts (sd_listen_fds(3)).

use listenfd::ListenFd;
use luassl_settings::KEEPER_FILE;
use rustix::net::{AddressFamily, SocketType};
use std::io;
use std::os::fd::OwnedFd;

/// Takes every socket that came along, close-on-exec from now on, by its name in LISTEN_FDNAMES. To be called once.
///
/// # Errors
/// Where a socket is not of the kind that its name asks for.
pub fn take() -> io::Result<Vec<(String, OwnedFd)>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut came = ListenFd::from_env();
    let mut sockets = Vec::new();
    for (index, name) in names.split(':').enumerate().take(came.len()) {
        if name == KEEPER_FILE {
            // It stays open, and is found by its number: `--keeper` has it.
            continue;
        }
        let Some((family, kind)) = kind_of(name) else {
            tracing::warn!("a socket called `{name}` came along, and nobody needs it");
            continue;
        };
        let (family, kind) = (i32::from(family.as_raw()), kind.as_raw().cast_signed());
        if let Some(socket) = came.take_custom(index, family, kind, name)? {
            sockets.push((name.to_owned(), socket));
        }
    }
    Ok(sockets)
}

/// AF_INET stands for both address families here.
fn kind_of(name: &str) -> Option<(AddressFamily, SocketType)> {
    match name.split_once('.').map_or(name, |(kind, _)| kind) {
        "admin" | "status" => Some((AddressFamily::UNIX, SocketType::SEQPACKET)),
        "control" | "socket" => Some((AddressFamily::UNIX, SocketType::STREAM)),
        "listener" => Some((AddressFamily::INET, SocketType::STREAM)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_kind_of_socket_it_is() {
        assert_eq!(kind_of("admin"), Some((AddressFamily::UNIX, SocketType::SEQPACKET)));
        assert_eq!(kind_of("status"), kind_of("admin"));
        assert_eq!(kind_of("socket.a.b"), Some((AddressFamily::UNIX, SocketType::STREAM)));
        assert_eq!(kind_of("listener.https"), Some((AddressFamily::INET, SocketType::STREAM)));
        assert_eq!(kind_of("front.default"), None);
    }
}
