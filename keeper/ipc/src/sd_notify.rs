//! Notifies the service manager (sd_notify(3)) that the process is ready, or that it reloads.

use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long to wait for a service manager that does not read. After that, the notification is dropped.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connected NOTIFY_SOCKET. Connect it before the process gives up files and system calls; it works afterwards.
#[derive(Debug)]
pub struct SdNotify {
    socket: UnixDatagram,
}

impl SdNotify {
    /// Connects to the socket that NOTIFY_SOCKET names. `None` if the variable is not set.
    ///
    /// # Errors
    /// The error of the system if the connection fails.
    pub fn from_environment() -> io::Result<Option<Self>> {
        // On first use, rustix looks up the clock with system calls that the process may not be allowed to make later.
        monotonic_microseconds();
        env::var("NOTIFY_SOCKET").ok().map(|path| Self::connect(&path)).transpose()
    }

    fn connect(path: &str) -> io::Result<Self> {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect_addr(&address)?;
        Ok(Self { socket })
    }

    /// Sends `READY=1`: the process serves requests, or serves them again.
    ///
    /// # Errors
    /// The error of the system, also if the manager does not read.
    pub fn ready(&self) -> io::Result<()> {
        self.tell("READY=1")
    }

    /// Sends `RELOADING=1`: the process applies a push. Includes the time, which systemd 253 and later need.
    ///
    /// # Errors
    /// As for [`SdNotify::ready`].
    pub fn reloading(&self) -> io::Result<()> {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()))
    }

    fn tell(&self, state: &str) -> io::Result<()> {
        self.socket.send(state.as_bytes()).map(drop)
    }
}

fn monotonic_microseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer).expect("received");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn ready_is_told_on_paths_and_abstract_names() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("notify");
        let abstract_name = format!("luassl-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("address");
        let sockets = [
            (path.to_str().expect("utf-8").to_owned(), UnixDatagram::bind(&path).expect("bind")),
            (format!("@{abstract_name}"), UnixDatagram::bind_addr(&address).expect("bind")),
        ];
        for (name, socket) in sockets {
            SdNotify::connect(&name).expect("connected").ready().expect("told");
            assert_eq!(received(&socket), "READY=1");
        }
    }

    #[test]
    fn a_reload_comes_with_its_time() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind");
        let sd_notify = SdNotify::connect(path.to_str().expect("utf-8")).expect("connected");
        let before = monotonic_microseconds();
        sd_notify.reloading().expect("told");
        let told = received(&socket);
        let time: i64 =
            told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("both").parse().expect("a number");
        assert!((before..=monotonic_microseconds()).contains(&time));
    }
}
