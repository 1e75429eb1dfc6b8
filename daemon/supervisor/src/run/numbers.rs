//! User IDs without a name, reserved in the same way as systemd does for DynamicUser= (its
//! src/core/dynamic-user.c). A process that holds the lock of a number's file in one directory has the
//! number, and no other process assigns it meanwhile. The directory is used without systemd as well, because
//! two supervisors must agree too.

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// User IDs that are reserved for users without a name.
pub(super) const NUMBERS: RangeInclusive<u32> = 61_184..=65_519;
/// The directory of their locks.
pub(super) const DIRECTORY: &str = "/run/systemd/dynamic-uid";
/// The mode of that directory if it is created here.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// A user ID that is reserved until this value is dropped.
#[derive(Debug)]
pub(super) struct Number {
    value: u32,
    path: PathBuf,
    /// The file with its lock.
    _file: OwnedFd,
}

impl Number {
    /// Reserves a user ID. `name` is written to its file as the user's name. Returns `None` if the ID is in
    /// use.
    ///
    /// # Errors
    /// Returns the error of the system call if the lock cannot be taken.
    pub(super) fn take(directory: &Path, value: u32, name: &str) -> Result<Option<Self>, Errno> {
        let path = directory.join(value.to_string());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        loop {
            let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
            let lock = FlockOperation::NonBlockingLockExclusive;
            match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, lock)) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                other => other?,
            }
            // Its previous owner may have removed the file meanwhile.
            if rustix::fs::fstat(&file)?.st_nlink > 0 {
                rustix::fs::ftruncate(&file, 0)?;
                rustix::io::pwrite(&file, format!("{name}\n").as_bytes(), 0)?;
                return Ok(Some(Self { value, path, _file: file }));
            }
        }
    }

    pub(super) fn value(&self) -> u32 {
        self.value
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // The lock is still held.
        let _ = rustix::fs::unlink(&self.path);
    }
}

/// Creates the directory of the locks if systemd has not.
///
/// # Errors
/// Returns the error of the system call.
pub(super) fn make_directory(directory: &Path) -> Result<(), Errno> {
    let made = |path: &Path| match rustix::fs::mkdir(path, DIRECTORY_MODE) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    };
    directory.parent().map_or(Ok(()), made)?;
    made(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_21_a_number_whose_lock_systemd_holds_is_not_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        // This is what pick_uid() of systemd does.
        let file = std::fs::File::create(directory.path().join("61184")).expect("made");
        rustix::fs::flock(&file, FlockOperation::LockExclusive).expect("locked");
        assert!(Number::take(directory.path(), 61_184, "a").expect("an answer").is_none());
        // Positive control: a killed process leaves a file that no process has locked.
        drop(file);
        assert!(Number::take(directory.path(), 61_184, "a").expect("an answer").is_some());
    }

    #[test]
    fn finding_21_a_number_that_is_taken_here_is_locked_for_systemd() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("61184");
        let number = Number::take(directory.path(), 61_184, "luassl").expect("an answer").expect("free");
        let systemds = std::fs::File::options().read(true).write(true).open(&path).expect("there");
        let lock = FlockOperation::NonBlockingLockExclusive;
        assert_eq!(rustix::fs::flock(&systemds, lock), Err(Errno::WOULDBLOCK));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "luassl\n");
        drop(number);
        assert!(!path.exists());
        rustix::fs::flock(&systemds, lock).expect("free");
    }

    #[test]
    fn the_directory_is_made_once() {
        let base = tempfile::tempdir().expect("a directory");
        let directory = base.path().join("systemd/dynamic-uid");
        make_directory(&directory).expect("made");
        make_directory(&directory).expect("there");
        assert!(directory.is_dir());
    }
}
