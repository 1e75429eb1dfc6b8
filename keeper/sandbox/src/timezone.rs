//! The time zone, which libc reads from a file the first time that anybody asks for a date, as certificates do.

unsafe extern "C" {
    fn tzset();
}

/// Reads it now, while files can be opened: later it would be a refused call in the kernel's log.
pub(crate) fn read() {
    // SAFETY: takes nothing; it reads the environment, which this process never changes.
    unsafe { tzset() };
}
