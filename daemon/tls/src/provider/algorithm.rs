//! An entry of the provider's tables of algorithms.

use crate::ffi::{Algorithm, Dispatch};
use std::ffi::CStr;
use std::ptr;

/// The property query that finds the algorithms of this provider.
pub(super) const PROPERTIES: &CStr = c"provider=luassl";

/// Returns an entry for the given names, which are separated by colons.
pub(super) const fn algorithm(names: &'static CStr, functions: &'static [Dispatch]) -> Algorithm {
    Algorithm {
        names: names.as_ptr(),
        properties: PROPERTIES.as_ptr(),
        functions: functions.as_ptr(),
        capabilities: ptr::null(),
    }
}
