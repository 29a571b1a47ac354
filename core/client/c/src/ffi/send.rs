//! Producers and transactions, as the header says; see the module above for what is believed.

use super::{
    BROKEN, CError, CLOSED, ERROR_BYTES, FULL, INVALID, OK, TIMED_OUT, bytes, fill, freed, guarded,
    made, outcome, places, text, timeout,
};
use crate::batch::{CHeader, CPlace};
use crate::line::{Act, Line, Report, Status, Untaken};
use crate::reader::{Ask, Reader, Standing};
use crate::settings::Settings;
use millpond_client::Record;
use millpond_wire::limits;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

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
    headers: *const CHeader,
    header_count: usize,
}

/// `mp_report`.
#[repr(C)]
pub(crate) struct CReport {
    tag: *mut c_void,
    status: i32,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    code: i32,
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

/// A record with the headers at `start`, and their bytes.
///
/// # Safety
/// `start` is null or has `count` of them behind it, whose pointers are null or what they say.
unsafe fn with_headers(
    mut record: Record,
    start: *const CHeader,
    count: usize,
) -> Result<(Record, usize), ()> {
    if start.is_null() || count == 0 {
        return Ok((record, 0));
    }
    if count > limits::CLIENT_C_HEADERS_MAX {
        return Err(());
    }
    let mut size = 0;
    // SAFETY: not null, of a sane length; the rest is the caller's promise.
    for header in unsafe { std::slice::from_raw_parts(start, count) } {
        // SAFETY: as the caller promises.
        let (name, value) = unsafe { (text(header.name), bytes(header.value, header.value_bytes)) };
        let (Some(name), Ok(value)) = (name, value) else { return Err(()) };
        size += name.len() + value.as_ref().map_or(0, Vec::len);
        record = match value {
            Some(value) => record.header(name.to_owned(), value),
            None => record.header_without_value(name.to_owned()),
        };
    }
    Ok((record, size))
}

// SAFETY of all exports: the names are our own (`mp_`), and no other library has them.

#[unsafe(no_mangle)]
extern "C" fn mp_producer_new(
    config: *const Settings,
    error: *mut c_char,
    error_bytes: usize,
) -> *mut Line {
    // SAFETY: null or ours, and null or as long as C says.
    unsafe { made(config, (error, error_bytes), |settings| settings.make().and_then(Line::start)) }
}

#[unsafe(no_mangle)]
extern "C" fn mp_producer_free(producer: *mut Line) {
    // SAFETY: it came from `mp_producer_new`, and is not used again.
    unsafe { freed(producer) };
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
        // SAFETY: null or as many as the record tells of.
        let headed = unsafe { with_headers(record, given.headers, given.header_count) };
        let Ok((record, more)) = headed else { return INVALID };
        match line.send(record, size + more, tag.expose_provenance()) {
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
    fill(&mut error, &report.fault.text);
    CReport {
        tag: ptr::with_exposed_provenance_mut(report.tag),
        status,
        partition: report.partition,
        offset: report.offset,
        timestamp_ms: report.timestamp_ms,
        code: i32::from(report.fault.code),
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

fn step(producer: *const Line, act: Act, timeout_ms: c_int, error: *mut CError) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or ours, as the header demands.
        let Some(line) = (unsafe { producer.as_ref() }) else { return INVALID };
        // SAFETY: null or room for one.
        unsafe { outcome(line.act(act, timeout(timeout_ms)), error) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_transaction_begin(
    producer: *const Line,
    timeout_ms: c_int,
    error: *mut CError,
) -> c_int {
    step(producer, Act::Begin, timeout_ms, error)
}

#[unsafe(no_mangle)]
extern "C" fn mp_transaction_commit(
    producer: *const Line,
    timeout_ms: c_int,
    error: *mut CError,
) -> c_int {
    step(producer, Act::Commit, timeout_ms, error)
}

#[unsafe(no_mangle)]
extern "C" fn mp_transaction_abort(
    producer: *const Line,
    timeout_ms: c_int,
    error: *mut CError,
) -> c_int {
    step(producer, Act::Abort, timeout_ms, error)
}

#[unsafe(no_mangle)]
extern "C" fn mp_transaction_offsets(
    producer: *const Line,
    consumer: *const Reader,
    start: *const CPlace,
    count: usize,
    timeout_ms: c_int,
    error: *mut CError,
) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or ours, as the header demands.
        let both = unsafe { (producer.as_ref(), consumer.as_ref()) };
        let (Some(line), Some(reader)) = both else { return INVALID };
        // SAFETY: null or as many as C says.
        let Some(given) = (unsafe { places(start, count) }) else { return INVALID };
        let done = reader.ask(timeout(timeout_ms), Ask::Stand).and_then(|standing| {
            let places = if start.is_null() { standing.places } else { given };
            line.act(Act::Offsets(Standing { places, ..standing }), timeout(timeout_ms))
        });
        // SAFETY: null or room for one.
        unsafe { outcome(done, error) }
    })
}
