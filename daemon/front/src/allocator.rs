//! Limits the number of arenas of glibc's allocator. Above eight arenas glibc counts processors, and opens files to do
//! so, which a front that has locked itself down may not do. In addition, each arena keeps what its threads have freed.
#![allow(unsafe_code)]

/// The number of arenas for each core. Threads of one core seldom wait for those of another.
#[cfg(target_env = "gnu")]
const ARENAS_PER_CORE: usize = 2;
/// The minimum number of arenas. glibc creates as many without counting processors.
#[cfg(target_env = "gnu")]
const ARENAS_MIN: usize = 8;

/// Limits the number of arenas. It must be called before the threads start.
#[cfg(target_env = "gnu")]
pub(super) fn bound_arenas(cores: usize) {
    let arenas = i32::try_from((cores * ARENAS_PER_CORE).max(ARENAS_MIN)).unwrap_or(i32::MAX);
    // SAFETY: mallopt(3) sets a number of the allocator, under the allocator's lock.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) } != 1 {
        tracing::warn!("the allocator does not take a bound on its arenas");
    }
}

/// Does nothing, because other allocators have no arenas to limit.
#[cfg(not(target_env = "gnu"))]
pub(super) fn bound_arenas(_cores: usize) {}
