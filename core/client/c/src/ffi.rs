//! The boundary to C: `millpond_client.h` says what each function does.
//!
//! The only place of the SDK where pointers are believed. What C promises is in the header: pointers are
//! null or point to what their type says, for as long as the call takes; what was freed is not used.
//! Null is always survived, and no panic leaves.

#![allow(unsafe_code)]

use crate::line::{Line, Report, Status, Untaken};
use crate::settings::Settings;
use millpond_client::Record;
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

const ERROR_BYTES: usize = 256;
/// More of a record than any broker takes; a length beyond it is a mistake.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// `mp_record`.
#[repr(C)]
pub(crate) struct CRecord {
    topic: *const c_char,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    partition: i32,
    timestamp_ms: i64,
}

/// `mp_report`.
#[repr(C)]
pub(crate) struct CReport {
    tag: *mut c_void,
    status: i32,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    error: [c_char; ERROR_BYTES],
}

/// `mp_metrics`.
#[repr(C)]
pub(crate) struct CMetrics {
    accepted: u64,
    delivered: u64,
    failed: u64,
    waiting: u64,
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
    if !config.is_null() {
        // SAFETY: it came from `mp_config_new`, and is not used again.
        guarded((), || drop(unsafe { Box::from_raw(config) }));
    }
}

#[unsafe(no_mangle)]
extern "C" fn mp_producer_new(
    config: *const Settings,
    error: *mut c_char,
    error_bytes: usize,
) -> *mut Line {
    guarded(ptr::null_mut(), || {
        // SAFETY: null or ours, as the header demands.
        let made = match unsafe { config.as_ref() } {
            Some(config) => config.make(),
            None => Err("there is no configuration".to_owned()),
        };
        match made.and_then(Line::start) {
            Ok(line) => Box::into_raw(Box::new(line)),
            Err(reason) => {
                if !error.is_null() {
                    // SAFETY: not null; the caller says how many bytes are there.
                    let into = unsafe { std::slice::from_raw_parts_mut(error, error_bytes) };
                    fill(into, &reason);
                }
                ptr::null_mut()
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_producer_free(producer: *mut Line) {
    if !producer.is_null() {
        // SAFETY: it came from `mp_producer_new`, and is not used again.
        guarded((), || drop(unsafe { Box::from_raw(producer) }));
    }
}

#[unsafe(no_mangle)]
extern "C" fn mp_send(producer: *const Line, record: *const CRecord, tag: *mut c_void) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or what their types say, as the header demands.
        let (Some(line), Some(given)) = (unsafe { (producer.as_ref(), record.as_ref()) }) else {
            return INVALID;
        };
        // SAFETY: the record's pointers are null or have the bytes that it tells of.
        let parts = unsafe {
            let key = bytes(given.key, given.key_bytes);
            (text(given.topic), key, bytes(given.value, given.value_bytes))
        };
        let (Some(topic), Ok(key), Ok(value)) = parts else { return INVALID };
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let size = topic.len() + length(&key) + length(&value) + 64;
        let mut record = Record::to(topic);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.value(value);
        }
        if given.partition >= 0 {
            record = record.partition(given.partition);
        }
        if given.timestamp_ms >= 0 {
            record = record.timestamp_ms(given.timestamp_ms);
        }
        match line.send(record, size, tag.expose_provenance()) {
            Ok(()) => OK,
            Err(Untaken::Full) => FULL,
            Err(Untaken::Closed) => CLOSED,
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_fd(producer: *const Line) -> c_int {
    // SAFETY: null or ours, as the header demands.
    guarded(-1, || unsafe { producer.as_ref() }.map_or(-1, Line::descriptor))
}

#[unsafe(no_mangle)]
extern "C" fn mp_poll(producer: *const Line, reports: *mut CReport, max: usize) -> usize {
    guarded(0, || {
        // SAFETY: null or ours, as the header demands.
        let Some(line) = (unsafe { producer.as_ref() }) else { return 0 };
        if reports.is_null() {
            return 0;
        }
        let mut count = 0;
        while count < max {
            let Some(report) = line.poll() else { break };
            // SAFETY: `reports` has room for `max` of them, and `count` is below that. Written without
            // being read: what is there may be uninitialised.
            unsafe { reports.add(count).write(seen(&report)) };
            count += 1;
        }
        count
    })
}

fn seen(report: &Report) -> CReport {
    let status = match report.status {
        Status::Delivered => 0,
        Status::Failed => 1,
        Status::InDoubt => 2,
    };
    let mut error = [0; ERROR_BYTES];
    fill(&mut error, &report.error);
    CReport {
        tag: ptr::with_exposed_provenance_mut(report.tag),
        status,
        partition: report.partition,
        offset: report.offset,
        timestamp_ms: report.timestamp_ms,
        error,
    }
}

#[unsafe(no_mangle)]
extern "C" fn mp_wait(producer: *const Line, timeout_ms: c_int) -> c_int {
    waited(producer, |line| line.wait(timeout(timeout_ms)))
}

#[unsafe(no_mangle)]
extern "C" fn mp_flush(producer: *const Line, timeout_ms: c_int) -> c_int {
    waited(producer, |line| line.flush(timeout(timeout_ms)))
}

fn waited(producer: *const Line, wait: impl FnOnce(&Line) -> bool) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or ours, as the header demands.
        match unsafe { producer.as_ref() } {
            Some(line) if wait(line) => OK,
            Some(_) => TIMED_OUT,
            None => INVALID,
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_producer_metrics(producer: *const Line, metrics: *mut CMetrics) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or what their types say, as the header demands.
        let (Some(line), false) = (unsafe { producer.as_ref() }, metrics.is_null()) else {
            return INVALID;
        };
        let numbers = line.numbers();
        let seen = CMetrics {
            accepted: numbers.accepted,
            delivered: numbers.delivered,
            failed: numbers.failed,
            waiting: numbers.waiting,
        };
        // SAFETY: not null, and room for one, as the header demands.
        unsafe { metrics.write(seen) };
        OK
    })
}
