//! The memory of libcrypto. All its allocations are in a `memfd_secret` mapping, which the kernel does not expose to
//! any other process, including those of root, or to core dumps.
//!
//! [`start`] must run before libcrypto's first allocation. Memory that is given back is wiped. If the arena is full,
//! the allocation fails, because there is no other memory to use. On a kernel without `memfd_secret` (ENOSYS only), the
//! arena is locked memory that is left out of core dumps, and [`Kind`] reports it.

mod heap;

use crate::limits::{ARENA_MAX, ARENA_MIN, SIGNER_STACK, STACKS_SHARE};
use heap::{Block, Heap, PAGE};
use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MlockFlags, MprotectFlags, ProtFlags, madvise, mlock_with, mmap, mmap_anonymous,
    mprotect,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The kind of memory that holds keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Memory that no other process can read.
    Secret,
    /// Memory that is not swapped and not dumped, but that root can read.
    Locked,
}

impl Kind {
    /// Returns a warning for the operator, with cause and remedy.
    pub(crate) fn warning(self) -> Option<&'static str> {
        match self {
            Self::Secret => None,
            Self::Locked => Some(
                "the kernel has no memfd_secret, so root can read the keys from the keeper's memory, which is locked and \
                 excluded from core dumps: start Linux 5.14 or later with secretmem.enable=1",
            ),
        }
    }
}

/// The reason why there is no arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArenaError {
    /// RLIMIT_MEMLOCK is too low.
    #[error(
        "only {0} bytes of memory may be locked, and the keys need at least {ARENA_MIN}: raise RLIMIT_MEMLOCK \
         (LimitMEMLOCK= of the unit, or ulimit -l)"
    )]
    Limit(u64),
    /// The kernel refuses the system call. Only ENOSYS would mean that the kernel does not have it.
    #[error(
        "the kernel refuses secret memory: {0} (does a seccomp filter block memfd_secret, and is RLIMIT_MEMLOCK really that \
         large?)"
    )]
    Refused(Errno),
    /// The arena cannot hold a thread's stack, or its guard page cannot be set.
    #[error("no stack in secret memory for a signing thread: {0}")]
    Stack(Errno),
    /// libcrypto has already allocated memory.
    #[error("libcrypto allocated memory before it was given the arena")]
    Late,
}

unsafe extern "C" {
    fn CRYPTO_set_mem_functions(
        malloc: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        realloc: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: unsafe extern "C" fn(*mut c_void, *const c_char, c_int),
    ) -> c_int;
}

/// The only arena of the process.
static ARENA: OnceLock<Arena> = OnceLock::new();

struct Arena {
    kind: Kind,
    base: NonNull<u8>,
    len: usize,
    heap: Mutex<Heap>,
    /// The number of failed allocations.
    refused: AtomicU64,
}

// SAFETY: the mapping is shared by all threads for the life of the process, and the heap's lock decides which thread
// owns which part of it.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// Makes libcrypto use the arena. Must be called once, before any other call to libcrypto.
///
/// # Errors
/// [`ArenaError`]; libcrypto must not be used after an error.
pub(crate) fn start() -> Result<(), ArenaError> {
    let len = size()?;
    let (kind, base) = match secret(len) {
        Ok(base) => (Kind::Secret, base),
        Err(Errno::NOSYS) => (Kind::Locked, locked(len).map_err(ArenaError::Refused)?),
        Err(error) => return Err(ArenaError::Refused(error)),
    };
    let heap = Mutex::new(Heap::new(len));
    if ARENA.set(Arena { kind, base, len, heap, refused: AtomicU64::new(0) }).is_err() {
        return Err(ArenaError::Late);
    }
    // SAFETY: the three functions keep the contract of malloc, realloc and free, for any number of threads.
    match unsafe { CRYPTO_set_mem_functions(allocate, reallocate, release) } {
        1 => Ok(()),
        _ => Err(ArenaError::Late),
    }
}

/// Returns the kind of memory that holds keys. `None` if the process has not called [`start`].
pub(crate) fn kind() -> Option<Kind> {
    ARENA.get().map(|arena| arena.kind)
}

/// Returns the number of free bytes and the total number of bytes. `None` if the process has not called [`start`].
pub(crate) fn capacity() -> Option<(usize, usize)> {
    ARENA.get().map(|arena| (arena.heap().free_bytes(), arena.len))
}

/// A part of the arena that is the stack of a thread. It is never given back.
pub(crate) struct Stack {
    base: NonNull<u8>,
    len: usize,
}

impl Stack {
    /// Returns its lowest address, above a guard page.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Returns its size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Returns the number of stacks that the arena has room for beside keys. There is no bound if the process has not
/// called [`start`].
pub(crate) fn stacks() -> usize {
    ARENA.get().map_or(usize::MAX, |arena| arena.len / STACKS_SHARE / SIGNER_STACK)
}

/// Takes a stack, with a guard page below it. `None` if the process has not called [`start`].
///
/// # Errors
/// [`ArenaError::Stack`].
pub(crate) fn stack() -> Result<Option<Stack>, ArenaError> {
    let Some(arena) = ARENA.get() else { return Ok(None) };
    let Some(guard) = NonNull::new(arena.allocate(SIGNER_STACK)) else {
        return Err(ArenaError::Stack(Errno::NOMEM));
    };
    // SAFETY: the page is the first of a block of whole pages that was just taken, and that is never given back; no
    // reference to it exists.
    unsafe { mprotect(guard.as_ptr().cast(), PAGE, MprotectFlags::empty()) }.map_err(ArenaError::Stack)?;
    // SAFETY: the block is longer than a page.
    let base = unsafe { guard.add(PAGE) };
    Ok(Some(Stack { base, len: SIGNER_STACK - PAGE }))
}

/// Returns the number of failed allocations.
pub(crate) fn refused() -> u64 {
    ARENA.get().map_or(0, |arena| arena.refused.load(Ordering::Relaxed))
}

/// Returns the number of bytes that may be locked: the soft limit, raised to the hard limit.
fn size() -> Result<usize, ArenaError> {
    let limit = getrlimit(Resource::Memlock);
    // Every process may raise its soft limit to the hard limit. If that fails, the soft limit applies.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, ..limit });
    let allowed = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    let len = usize::try_from(allowed).unwrap_or(usize::MAX).min(ARENA_MAX) / PAGE * PAGE;
    if len < ARENA_MIN { Err(ArenaError::Limit(allowed)) } else { Ok(len) }
}

/// Returns a mapping of memory that only this process has. Its descriptor is closed, so that no other mapping of it can
/// be made.
fn secret(len: usize) -> Result<NonNull<u8>, Errno> {
    let memory = memfd_secret()?;
    rustix::fs::ftruncate(&memory, len as u64)?;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses; no other code has the descriptor or can truncate it.
    let base = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, &memory, 0)? };
    NonNull::new(base.cast()).ok_or(Errno::NOMEM)
}

fn memfd_secret() -> Result<OwnedFd, Errno> {
    const CLOEXEC: libc::c_uint = libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: the system call takes only flags.
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, CLOEXEC) };
    match c_int::try_from(descriptor) {
        // SAFETY: the descriptor is new and has no other owner.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOSYS)),
    }
}

/// Returns memory that is not swapped and not part of core dumps.
fn locked(len: usize) -> Result<NonNull<u8>, Errno> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses; the advice applies only to it.
    unsafe {
        let base = mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::PRIVATE)?;
        mlock_with(base, len, MlockFlags::ONFAULT)?;
        madvise(base, len, Advice::LinuxDontDump)?;
        NonNull::new(base.cast()).ok_or(Errno::NOMEM)
    }
}

impl Arena {
    /// Locks the heap. Code that holds the lock cannot panic with the metadata half written, except for a bug in the
    /// metadata itself.
    fn heap(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, size: usize) -> *mut u8 {
        match self.heap().take(size) {
            // SAFETY: the block lies within the mapping.
            Some(block) => unsafe { self.base.as_ptr().add(block.offset) },
            None => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                ptr::null_mut()
            }
        }
    }

    fn offset(&self, block: *mut u8) -> usize {
        block.addr().wrapping_sub(self.base.as_ptr().addr())
    }

    fn len_of(&self, block: *mut u8) -> usize {
        match self.heap().block(self.offset(block)) {
            Some(block) => block.len,
            None => no_such_block(),
        }
    }

    fn release(&self, block: *mut u8) {
        let mut heap = self.heap();
        let Some(Block { len, .. }) = heap.give(self.offset(block)) else { no_such_block() };
        // SAFETY: the block is `len` bytes of the mapping, its owner no longer uses it, and no other thread gets it
        // before the heap's lock is released. The compiler cannot remove the writes, because other threads read the
        // mapping.
        unsafe { ptr::write_bytes(block, 0, len) };
        drop(heap);
    }
}

/// Aborts after a block is given back twice, or was never allocated. The memory of a process that holds keys is then
/// corrupt.
fn no_such_block() -> ! {
    crate::log::line("libcrypto freed memory that it did not allocate");
    std::process::abort();
}

unsafe extern "C" fn allocate(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    match ARENA.get() {
        Some(arena) if size > 0 => arena.allocate(size).cast(),
        _ => ptr::null_mut(),
    }
}

unsafe extern "C" fn reallocate(
    block: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    if block.is_null() {
        // SAFETY: the caller's contract is the same.
        return unsafe { allocate(size, file, line) };
    }
    let Some(arena) = ARENA.get() else { return ptr::null_mut() };
    if size == 0 {
        arena.release(block.cast());
        return ptr::null_mut();
    }
    let len = arena.len_of(block.cast());
    if size <= len {
        return block;
    }
    let larger = arena.allocate(size);
    if !larger.is_null() {
        // SAFETY: both are blocks of the arena, and the new one is longer.
        unsafe { ptr::copy_nonoverlapping(block.cast::<u8>(), larger, len) };
        arena.release(block.cast());
    }
    larger.cast()
}

unsafe extern "C" fn release(block: *mut c_void, _: *const c_char, _: c_int) {
    if let Some(arena) = ARENA.get().filter(|_| !block.is_null()) {
        arena.release(block.cast());
    }
}
