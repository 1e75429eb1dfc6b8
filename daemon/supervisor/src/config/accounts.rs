//! Users and groups by name, through the system's name service (nsswitch.conf: files, LDAP, systemd's own), which only
//! libc reaches. The one module of the configuration with unsafe code.

use std::ffi::{CStr, CString, c_char, c_int};
use std::{io, ptr};

/// The first size of the buffer for an entry; doubled while the entry does not fit.
const FIRST_BUFFER: usize = 1024;
/// A group with tens of thousands of members fits in this many bytes; an entry beyond it is an error.
const LARGEST_BUFFER: usize = 4 << 20;

/// The uid of the user `name`; none where there is no such user.
///
/// # Errors
/// Where the name service cannot be asked.
pub(crate) fn uid_of(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    with_buffer(|buffer| user_entry(&name, buffer))
}

/// The gid of the group `name`; none where there is no such group.
///
/// # Errors
/// Where the name service cannot be asked.
pub(super) fn gid_of(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    with_buffer(|buffer| group_entry(&name, buffer))
}

/// The gid of the user with this uid; none where there is no such user.
///
/// # Errors
/// Where the name service cannot be asked.
pub(crate) fn gid_of_user(uid: u32) -> io::Result<Option<u32>> {
    with_buffer(|buffer| {
        // SAFETY: `passwd` consists of pointers and integers, for which all zeroes is a valid value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: entry, buffer (with its true length) and result outlive the call.
        let errno = unsafe {
            libc::getpwuid_r(uid, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        (errno, (!found.is_null()).then_some(entry.pw_gid))
    })
}

/// Whether there is a group with this gid.
///
/// # Errors
/// Where the name service cannot be asked.
pub(crate) fn is_group(gid: u32) -> io::Result<bool> {
    let found = with_buffer(|buffer| {
        // SAFETY: `group` consists of pointers and integers, for which all zeroes is a valid value.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: entry, buffer (with its true length) and result outlive the call.
        let errno = unsafe {
            libc::getgrgid_r(gid, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        (errno, (!found.is_null()).then_some(entry.gr_gid))
    })?;
    Ok(found.is_some())
}

/// Asks with a larger buffer each time until the entry fits. The functions answer errno and the number found.
fn with_buffer(ask: impl Fn(&mut [c_char]) -> (c_int, Option<u32>)) -> io::Result<Option<u32>> {
    let mut size = FIRST_BUFFER;
    while size <= LARGEST_BUFFER {
        match ask(&mut vec![0; size]) {
            (libc::ERANGE, _) => size *= 2,
            (0, found) => return Ok(found),
            // getpwnam(3): "not found" comes as one of these from some name services.
            (libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, _) => return Ok(None),
            (errno, _) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ERANGE))
}

fn user_entry(name: &CStr, buffer: &mut [c_char]) -> (c_int, Option<u32>) {
    // SAFETY: `passwd` consists of pointers and integers, for which all zeroes is a valid value.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = ptr::null_mut();
    // SAFETY: the name is terminated; entry, buffer (with its true length) and result outlive the call.
    let errno = unsafe {
        libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    (errno, (!found.is_null()).then_some(entry.pw_uid))
}

fn group_entry(name: &CStr, buffer: &mut [c_char]) -> (c_int, Option<u32>) {
    // SAFETY: `group` consists of pointers and integers, for which all zeroes is a valid value.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = ptr::null_mut();
    // SAFETY: the name is terminated; entry, buffer (with its true length) and result outlive the call.
    let errno = unsafe {
        libc::getgrnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    (errno, (!found.is_null()).then_some(entry.gr_gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_nobody_of_that_name_is_not() {
        assert_eq!(uid_of("root").expect("nss answers"), Some(0));
        assert_eq!(gid_of("root").expect("nss answers"), Some(0));
        assert_eq!(uid_of("no-such-user-here").expect("nss answers"), None);
        assert_eq!(gid_of("no\0name").expect("no question asked"), None);
        assert_eq!(gid_of_user(0).expect("nss answers"), Some(0));
        assert_eq!(gid_of_user(4_000_000_001).expect("nss answers"), None);
        assert!(is_group(0).expect("nss answers") && !is_group(4_000_000_001).expect("nss answers"));
    }
}
