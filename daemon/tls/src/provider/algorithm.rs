//! An entry of the provider's tables of algorithms.

use crate::ffi::{Algorithm, Dispatch};
use std::ffi::CStr;
use std::ptr;

/// What finds the algorithms of this provider.
pub(super) const PROPERTIES: &CStr = c"provider=luassl";

/// By its names, separated by colons.
pub(super) const fn algorithm(names: &'static CStr, functions: &'static [Dispatch]) -> Algorithm {
    Algorithm {
        names: names.as_ptr(),
        properties: PROPERTIES.as_ptr(),
        functions: functions.as_ptr(),
        capabilities: ptr::null(),
    }
}
