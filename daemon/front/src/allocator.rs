//! How many arenas glibc's allocator has. Beyond eight it counts processors, and opens files to do so, which a front that
//! has locked itself down may not; and each arena keeps what its threads have given back.
#![allow(unsafe_code)]

/// Arenas for each core: threads of one core seldom wait for another's.
#[cfg(target_env = "gnu")]
const ARENAS_PER_CORE: usize = 2;
/// Arenas at least, as many as glibc makes without counting.
#[cfg(target_env = "gnu")]
const ARENAS_MIN: usize = 8;

/// Bounds the arenas, before the threads start.
#[cfg(target_env = "gnu")]
pub(super) fn bound_arenas(cores: usize) {
    let arenas = i32::try_from((cores * ARENAS_PER_CORE).max(ARENAS_MIN)).unwrap_or(i32::MAX);
    // SAFETY: mallopt(3) sets a number of the allocator's, under its lock.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) } != 1 {
        tracing::warn!("the allocator does not take a bound on its arenas");
    }
}

/// Other allocators have no arenas to bound.
#[cfg(not(target_env = "gnu"))]
pub(super) fn bound_arenas(_cores: usize) {}
