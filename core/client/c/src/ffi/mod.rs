//! The boundary to C: `millpond_client.h` says what each function does.
//!
//! The only place of the SDK where pointers are believed. What C promises is in the header: pointers are
//! null or point to what their type says, for as long as the call takes; what was freed is not used.
//! Null is always survived, and no panic leaves.

#![allow(unsafe_code)]

mod read;
mod send;

use crate::batch::CPlace;
use crate::fault::{Fault, Kind};
use crate::reader::Place;
use crate::settings::Settings;
use millpond_wire::limits;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

const OK: c_int = 0;
const FULL: c_int = 1;
const TIMED_OUT: c_int = 2;
const INVALID: c_int = 3;
const CLOSED: c_int = 4;
const UNKNOWN_NAME: c_int = 5;
const BROKEN: c_int = 6;
const REFUSED: c_int = 7;
const SPOILT: c_int = 8;
const FENCED: c_int = 9;

const ERROR_BYTES: usize = 256;
/// More of a record than any broker takes; a length beyond it is a mistake.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// `mp_error`.
#[repr(C)]
pub(crate) struct CError {
    code: i32,
    is_retriable: i32,
    text: [c_char; ERROR_BYTES],
}

/// A panic becomes an answer.
fn guarded<T>(broken: T, act: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(broken)
}

/// # Safety
/// `text` is null or ends with a zero byte, and lives for `'a`.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null; the rest is the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// The bytes at `start`; `Ok(None)` for null.
///
/// # Safety
/// `start` is null or has `count` bytes behind it, for the time of the call.
unsafe fn bytes(start: *const c_void, count: usize) -> Result<Option<Vec<u8>>, ()> {
    if start.is_null() {
        return Ok(None);
    }
    if count > RECORD_BYTES_MAX {
        return Err(());
    }
    // SAFETY: not null, of a sane length; the rest is the caller's promise. The bytes are copied.
    Ok(Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), count) }.to_vec()))
}

/// Writes as much of `text` as fits, and a zero byte.
fn fill(into: &mut [c_char], text: &str) {
    let Some(room) = into.len().checked_sub(1) else { return };
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (slot, byte) in into.iter_mut().zip(text.as_bytes()[..end].iter().chain([&0])) {
        *slot = byte.cast_signed() as c_char;
    }
}

/// What C is told of a fault; its words where there is room for them.
///
/// # Safety
/// `error` is null or has room for one.
unsafe fn told(fault: &Fault, error: *mut CError) -> c_int {
    if !error.is_null() {
        let mut seen = CError {
            code: i32::from(fault.code),
            is_retriable: i32::from(fault.is_retriable),
            text: [0; ERROR_BYTES],
        };
        fill(&mut seen.text, &fault.text);
        // SAFETY: not null, and room for one. Written without being read.
        unsafe { error.write(seen) };
    }
    match fault.kind {
        Kind::Failed => REFUSED,
        Kind::Spoilt => SPOILT,
        Kind::Fenced => FENCED,
        Kind::Invalid => INVALID,
        Kind::Closed => CLOSED,
        Kind::TimedOut => TIMED_OUT,
        Kind::Full => FULL,
    }
}

/// # Safety
/// As of [`told`].
unsafe fn outcome(done: Result<(), Fault>, error: *mut CError) -> c_int {
    match done {
        Ok(()) => OK,
        // SAFETY: passed on.
        Err(fault) => unsafe { told(&fault, error) },
    }
}

/// The places at `start`; `None` if one makes no sense, or there are too many.
///
/// # Safety
/// `start` is null or has `count` of them behind it, whose topics are null or C strings.
unsafe fn places(start: *const CPlace, count: usize) -> Option<Vec<Place>> {
    if count == 0 {
        return Some(Vec::new());
    }
    if start.is_null() || count > limits::CLIENT_C_PLACES_MAX {
        return None;
    }
    // SAFETY: not null, of a sane length; the rest is the caller's promise.
    let given = unsafe { std::slice::from_raw_parts(start, count) };
    let place = |place: &CPlace| {
        // SAFETY: null or a C string, as the caller promises.
        let topic = unsafe { text(place.topic) }?;
        (place.partition >= 0).then(|| (topic.into(), place.partition, place.offset))
    };
    given.iter().map(place).collect()
}

/// Makes what C holds, or says why not.
///
/// # Safety
/// `config` is null or ours; `error` is null or has `error_bytes` behind it.
unsafe fn made<T>(
    config: *const Settings,
    (error, error_bytes): (*mut c_char, usize),
    make: impl FnOnce(&Settings) -> Result<T, String>,
) -> *mut T {
    guarded(ptr::null_mut(), || {
        // SAFETY: null or ours, as the caller promises.
        let config = unsafe { config.as_ref() };
        let reason = match config.map(make) {
            Some(Ok(made)) => return Box::into_raw(Box::new(made)),
            Some(Err(reason)) => reason,
            None => "there is no configuration".to_owned(),
        };
        let mut words = [0; ERROR_BYTES];
        let count = error_bytes.min(ERROR_BYTES);
        fill(&mut words[..count], &reason);
        if !error.is_null() {
            // SAFETY: not null, and room for `count`, as the caller says. Written without being read: what
            // is there may be uninitialised.
            unsafe { ptr::copy_nonoverlapping(words.as_ptr(), error, count) };
        }
        ptr::null_mut()
    })
}

/// Frees what C held.
///
/// # Safety
/// `held` is null or came from this library, and is not used again.
unsafe fn freed<T>(held: *mut T) {
    if !held.is_null() {
        // SAFETY: as the caller promises.
        guarded((), || drop(unsafe { Box::from_raw(held) }));
    }
}

/// What there is in a list: how many, and where; nothing in null.
///
/// # Safety
/// `list` is null or ours, and lives for `'a`.
unsafe fn items<'a, T: 'a, I: 'a>(
    list: *const T,
    of: impl FnOnce(&'a T) -> &'a [I],
) -> (usize, *const I) {
    // SAFETY: as the caller promises.
    guarded((0, ptr::null()), || match unsafe { list.as_ref() }.map(of) {
        Some(items) => (items.len(), items.as_ptr()),
        None => (0, ptr::null()),
    })
}

/// Puts what is found where C looks for it, and null where nothing is.
///
/// # Safety
/// `into` has room for a pointer; `error` as of [`told`].
unsafe fn handed<T>(
    into: *mut *mut T,
    error: *mut CError,
    find: impl FnOnce() -> Result<Option<T>, Fault>,
) -> c_int {
    // SAFETY: room for one, as the caller promises.
    unsafe { into.write(ptr::null_mut()) };
    match find() {
        Ok(Some(found)) => {
            // SAFETY: as above.
            unsafe { into.write(Box::into_raw(Box::new(found))) };
            OK
        }
        Ok(None) => TIMED_OUT,
        // SAFETY: passed on.
        Err(fault) => unsafe { told(&fault, error) },
    }
}

fn timeout(ms: c_int) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

// SAFETY of all exports: the names are our own (`mp_`), and no other library has them.

#[unsafe(no_mangle)]
extern "C" fn mp_config_new() -> *mut Settings {
    guarded(ptr::null_mut(), || Box::into_raw(Box::default()))
}

#[unsafe(no_mangle)]
extern "C" fn mp_config_set(
    config: *mut Settings,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or ours (`mp_config_new`), and C strings, as the header demands.
        let (config, name, value) = unsafe { (config.as_mut(), text(name), text(value)) };
        let (Some(config), Some(name), Some(value)) = (config, name, value) else {
            return INVALID;
        };
        if config.set(name, value) { OK } else { UNKNOWN_NAME }
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_config_free(config: *mut Settings) {
    // SAFETY: it came from `mp_config_new`, and is not used again.
    unsafe { freed(config) };
}
