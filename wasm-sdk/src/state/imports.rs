//! The host's state and timers, called. See `abi.rs` for their contract.

#![allow(unsafe_code)]

use crate::abi;

#[link(wasm_import_module = "millpond")]
unsafe extern "C" {
    fn state_get(key: *const u8, key_len: usize, buf: *mut u8, buf_len: usize) -> i32;
    fn state_put(
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
        expires_ms: i64,
    ) -> u32;
    fn state_delete(key: *const u8, key_len: usize) -> u32;
    fn state_range(
        from: *const u8,
        from_len: usize,
        to: *const u8,
        to_len: usize,
        buf: *mut u8,
        buf_len: usize,
    ) -> i32;
    fn timer_set(at_ms: i64, key: *const u8, key_len: usize) -> u32;
    fn timer_delete(at_ms: i64, key: *const u8, key_len: usize) -> u32;
}

// SAFETY, of all: the host reads what is passed as `*const` and writes at most `buf_len` bytes to
// `buf`, during the call; all of it lives throughout the call.

pub(crate) fn get(key: &[u8], buffer: &mut [u8]) -> i32 {
    // SAFETY: as above.
    unsafe { state_get(key.as_ptr(), key.len(), buffer.as_mut_ptr(), buffer.len()) }
}

pub(crate) fn put(key: &[u8], value: &[u8], expires_ms: i64) -> u32 {
    // SAFETY: as above.
    unsafe { state_put(key.as_ptr(), key.len(), value.as_ptr(), value.len(), expires_ms) }
}

pub(crate) fn delete(key: &[u8]) -> u32 {
    // SAFETY: as above.
    unsafe { state_delete(key.as_ptr(), key.len()) }
}

pub(crate) fn range(from: &[u8], to: Option<&[u8]>, buffer: &mut [u8]) -> i32 {
    let (to, to_len) = match to {
        Some(to) => (to.as_ptr(), to.len()),
        None => (core::ptr::null(), abi::NULL as usize),
    };
    // SAFETY: as above.
    unsafe { state_range(from.as_ptr(), from.len(), to, to_len, buffer.as_mut_ptr(), buffer.len()) }
}

pub(crate) fn set_timer(at_ms: i64, key: &[u8]) -> u32 {
    // SAFETY: as above.
    unsafe { timer_set(at_ms, key.as_ptr(), key.len()) }
}

pub(crate) fn delete_timer(at_ms: i64, key: &[u8]) -> u32 {
    // SAFETY: as above.
    unsafe { timer_delete(at_ms, key.as_ptr(), key.len()) }
}
