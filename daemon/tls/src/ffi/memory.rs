//! Wipes the memory that libcrypto frees. Many of its structures contain session secrets, and it wipes only some of
//! them.

use crate::error::TlsError;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

unsafe extern "C" {
    fn CRYPTO_set_mem_functions(
        malloc: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        realloc: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: unsafe extern "C" fn(*mut c_void, *const c_char, c_int),
    ) -> c_int;
}

thread_local! {
    /// The bytes that this thread has allocated from libcrypto's memory, less those that it has freed.
    static TAKEN: Cell<i64> = const { Cell::new(0) };
    /// The maximum of this value since [`peak_of`] began.
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// Runs `work`, and returns by how many bytes this thread's part of libcrypto's memory has grown.
pub(crate) fn grown_by<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = TAKEN.get();
    let outcome = work();
    (outcome, u64::try_from(TAKEN.get().wrapping_sub(before)).unwrap_or(0))
}

/// Returns freed memory to the system. glibc keeps it in the arena of its allocation, even if another thread frees it,
/// and by itself returns only the memory at the end of an arena.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes only a number, and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Runs `work`, and returns the peak growth of this thread's part of libcrypto's memory, in bytes.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = TAKEN.get();
    PEAK.set(before);
    let outcome = work();
    (outcome, u64::try_from(PEAK.get().wrapping_sub(before)).unwrap_or(0))
}

fn count(bytes: usize, count: impl FnOnce(i64, i64) -> i64) {
    // A thread that is ending may still free memory.
    let _ = TAKEN.try_with(|taken| {
        taken.set(count(taken.get(), i64::try_from(bytes).unwrap_or(0)));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(taken.get())));
    });
}

/// Sets an allocator for libcrypto that wipes freed memory. Must be called before any other call to OpenSSL.
///
/// # Errors
/// [`TlsError::Late`] if OpenSSL has already allocated memory.
pub fn wipe_what_is_freed() -> Result<(), TlsError> {
    // SAFETY: the three functions keep the contract of malloc, realloc and free, for any number of threads.
    match unsafe { CRYPTO_set_mem_functions(allocate, reallocate, release) } {
        1 => Ok(()),
        _ => Err(TlsError::Late),
    }
}

unsafe extern "C" fn allocate(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    if size == 0 {
        return ptr::null_mut();
    }
    // SAFETY: any size may be requested, and the size of any block may be queried.
    unsafe {
        let block = libc::malloc(size);
        count(libc::malloc_usable_size(block), i64::wrapping_add);
        block
    }
}

unsafe extern "C" fn reallocate(
    block: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    // SAFETY: the caller's contract is that of realloc: `block` is null or came from `allocate`, and is live. Its
    // usable size may be read and written; the new block is no smaller than the number of copied bytes.
    unsafe {
        let room = libc::malloc_usable_size(block);
        if !block.is_null() && (1..=room).contains(&size) {
            return block;
        }
        let larger = allocate(size, file, line);
        if !larger.is_null() {
            ptr::copy_nonoverlapping(block.cast::<u8>(), larger.cast(), room.min(size));
        }
        if size == 0 || !larger.is_null() {
            release(block, file, line);
        }
        larger
    }
}

unsafe extern "C" fn release(block: *mut c_void, _: *const c_char, _: c_int) {
    // SAFETY: `block` is null or came from `allocate`, its owner no longer uses it, and the wiped bytes are all within
    // it.
    unsafe {
        if !block.is_null() {
            let size = libc::malloc_usable_size(block);
            count(size, i64::wrapping_sub);
            libc::explicit_bzero(block, size);
        }
        libc::free(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_and_what_is_given_back_is_not() {
        let (block, grown) = grown_by(|| {
            // SAFETY: each block is freed once.
            unsafe {
                release(allocate(4096, ptr::null(), 0), ptr::null(), 0);
                allocate(1000, ptr::null(), 0)
            }
        });
        assert!((1000..2000).contains(&grown), "{grown}");
        // SAFETY: as above.
        let ((), grown) = grown_by(|| unsafe { release(block, ptr::null(), 0) });
        assert_eq!(grown, 0);
    }

    #[test]
    fn the_most_that_was_taken_is_told_though_it_is_given_back() {
        // SAFETY: each block is freed once.
        let take = |size| unsafe { release(allocate(size, ptr::null(), 0), ptr::null(), 0) };
        take(1 << 20);
        let ((), peak) = peak_of(|| take(4096));
        assert!((4096..8192).contains(&peak), "{peak}");
    }

    #[test]
    fn a_block_that_grows_keeps_what_was_in_it() {
        // SAFETY: each block is used within its size, and freed once.
        unsafe {
            let block = allocate(16, ptr::null(), 0).cast::<u8>();
            ptr::write_bytes(block, 7, 16);
            let grown = reallocate(block.cast(), 1 << 20, ptr::null(), 0).cast::<u8>();
            assert_eq!(std::slice::from_raw_parts(grown, 16), [7; 16]);
            assert!(reallocate(grown.cast(), 0, ptr::null(), 0).is_null());
            assert!(allocate(0, ptr::null(), 0).is_null());
            release(ptr::null_mut(), ptr::null(), 0);
            let fresh = reallocate(ptr::null_mut(), 8, ptr::null(), 0);
            assert!(!fresh.is_null());
            release(fresh, ptr::null(), 0);
        }
    }
}
