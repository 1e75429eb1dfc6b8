//! The lock that is held while a socket is created: a file beside the socket that only its owner can open. A
//! lock on the directory is not suitable: every user who can list the directory can lock it, and delay a
//! start.

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The time that a start waits for another start that creates the same socket. Creating a socket takes
/// milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The interval of attempts to take a held lock. flock(2) has no deadline of its own.
const RETRY: Duration = Duration::from_millis(20);

/// A lock that is held until it is dropped. Dropping it also removes its file.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: OwnedFd,
}

/// The reason why the lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// The file cannot be opened.
    #[error("{0}")]
    System(#[from] Errno),
    /// Another user controls the file.
    #[error("{0}")]
    Foreign(&'static str),
    /// Another process holds the lock.
    #[error("{0} has held it for {1} s")]
    Held(String, u64),
}

impl Lock {
    /// Takes the lock at `path`. Creates the file if it does not exist.
    ///
    /// # Errors
    /// Returns [`LockError`] if the lock cannot be taken, or if another process still holds it after
    /// `patience`.
    pub(super) fn take(path: PathBuf, patience: Duration) -> Result<Self, LockError> {
        let deadline = Instant::now() + patience;
        loop {
            let file = open(&path)?;
            let status = own(&file)?;
            match rustix::io::retry_on_intr(|| {
                rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            }) {
                // The previous owner may have removed the file meanwhile.
                Ok(()) if is_at(&path, &status) => return Ok(Self { path, _file: file }),
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() >= deadline => {
                    return Err(LockError::Held(holder(&status), patience.as_secs()));
                }
                Err(Errno::WOULDBLOCK) => std::thread::sleep(RETRY),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The lock is still held. A process that waits for it checks whether its file still exists.
        let _ = rustix::fs::unlink(&self.path);
    }
}

/// Opens the file without following a link.
fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
}

/// Checks that a file belongs to this user, and that no other user can open it or can have it open.
fn own(file: &OwnedFd) -> Result<Stat, LockError> {
    let status = rustix::fs::fstat(file)?;
    let regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    if !regular || status.st_uid != rustix::process::geteuid().as_raw() {
        return Err(LockError::Foreign("another user created the file"));
    }
    if !(Mode::from_raw_mode(status.st_mode) & (Mode::RWXG | Mode::RWXO)).is_empty() {
        return Err(LockError::Foreign("other users can open the file"));
    }
    Ok(status)
}

fn is_at(path: &Path, status: &Stat) -> bool {
    rustix::fs::lstat(path).is_ok_and(|there| (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino))
}

/// Returns the process that holds the lock of this file, from /proc/locks: `1: FLOCK  ADVISORY  WRITE 4711
/// fe:00:1234 0 EOF`.
fn holder(status: &Stat) -> String {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = format!(":{}", status.st_ino);
    let pid = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1) == Some(&"FLOCK") && words.get(5)?.ends_with(&inode);
        is_it.then(|| words.get(4).copied()).flatten()
    });
    let Some(pid) = pid else { return "another process".to_owned() };
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim().escape_debug()),
        Err(_) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_10_a_lock_that_is_held_is_not_waited_for_without_end_and_names_its_holder() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.lock");
        let held = Lock::take(path.clone(), Duration::ZERO).expect("taken");
        let refused = Lock::take(path.clone(), Duration::ZERO).expect_err("held").to_string();
        assert!(refused.starts_with(&format!("process {} (", std::process::id())), "{refused}");
        assert!(refused.ends_with("has held it for 0 s"), "{refused}");
        drop(held);
        assert!(!path.exists());
        // Positive control.
        Lock::take(path, Duration::ZERO).expect("free again");
    }

    #[test]
    fn a_lock_that_becomes_free_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.lock");
        let held = Lock::take(path.clone(), Duration::ZERO).expect("taken");
        let waiting = std::thread::spawn(move || Lock::take(path, PATIENCE).map(drop));
        drop(held);
        waiting.join().expect("no panic").expect("taken in its turn");
    }

    #[test]
    fn finding_10_what_others_could_lock_is_no_lock() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("victim"), "").expect("written");
        std::os::unix::fs::symlink(path("victim"), path("link")).expect("linked");
        let refused = |name: &str| Lock::take(path(name), Duration::ZERO).expect_err(name).to_string();
        assert!(refused("link").contains("Too many levels of symbolic links"));
        // The file has the usual mode: other users may open it.
        assert_eq!(refused("victim"), "other users can open the file");
    }
}
