//! The time zone: libc reads it from a file when a date is first converted, for example of a certificate.

unsafe extern "C" {
    fn tzset();
}

/// Reads the time zone while files can still be opened. Later the call would be refused and appear in the kernel's log.
pub(crate) fn read() {
    // SAFETY: takes nothing; it reads the environment, which this process never changes.
    unsafe { tzset() };
}
