//! Consumers, as the header says; see the module above for what is believed.

use super::{
    BROKEN, CError, INVALID, freed, guarded, handed, items, made, outcome, places, text, timeout,
};
use crate::batch::{Batch, CMessage, CPlace, Places};
use crate::fault::Fault;
use crate::reader::{Ask, Place, Reader};
use crate::settings::Settings;
use millpond_client::OffsetSpec;
use millpond_wire::limits;
use std::ffi::{c_char, c_int};
use std::sync::mpsc::SyncSender;

/// Offsets that mean a place: `MP_END`, `MP_BEGINNING`.
const END: i64 = -1;
const BEGINNING: i64 = -2;

// SAFETY of all exports: the names are our own (`mp_`), and no other library has them.

#[unsafe(no_mangle)]
extern "C" fn mp_consumer_new(
    config: *const Settings,
    error: *mut c_char,
    error_bytes: usize,
) -> *mut Reader {
    // SAFETY: null or ours, and null or as long as C says.
    unsafe {
        made(config, (error, error_bytes), |settings| settings.reading().and_then(Reader::start))
    }
}

#[unsafe(no_mangle)]
extern "C" fn mp_consumer_free(consumer: *mut Reader) {
    // SAFETY: it came from `mp_consumer_new`, and is not used again.
    unsafe { freed(consumer) };
}

#[unsafe(no_mangle)]
extern "C" fn mp_consumer_fd(consumer: *const Reader) -> c_int {
    // SAFETY: null or ours, as the header demands.
    guarded(-1, || unsafe { consumer.as_ref() }.map_or(-1, Reader::descriptor))
}

/// Asks a consumer for what has no other answer than that it is done.
fn asked(
    consumer: *const Reader,
    timeout_ms: c_int,
    error: *mut CError,
    ask: impl FnOnce(SyncSender<Result<(), Fault>>) -> Ask,
) -> c_int {
    // SAFETY: null or ours, as the header demands.
    let Some(reader) = (unsafe { consumer.as_ref() }) else { return INVALID };
    // SAFETY: null or room for one.
    unsafe { outcome(reader.ask(timeout(timeout_ms), ask), error) }
}

/// The same for something about places.
fn asked_of(
    consumer: *const Reader,
    (start, count): (*const CPlace, usize),
    timeout_ms: c_int,
    error: *mut CError,
    ask: impl FnOnce(Vec<Place>, SyncSender<Result<(), Fault>>) -> Ask,
) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or as many as C says.
        let Some(places) = (unsafe { places(start, count) }) else { return INVALID };
        if places.is_empty() {
            return INVALID;
        }
        asked(consumer, timeout_ms, error, |reply| ask(places, reply))
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_subscribe(
    consumer: *const Reader,
    topics: *const *const c_char,
    count: usize,
    error: *mut CError,
) -> c_int {
    guarded(BROKEN, || {
        if topics.is_null() || count == 0 || count > limits::CLIENT_C_PLACES_MAX {
            return INVALID;
        }
        // SAFETY: not null, of a sane length; the rest is the header's demand.
        let given = unsafe { std::slice::from_raw_parts(topics, count) };
        // SAFETY: null or C strings, as the header demands.
        let named = given.iter().map(|topic| unsafe { text(*topic) }.map(str::to_owned));
        let Some(named) = named.collect::<Option<Vec<String>>>() else { return INVALID };
        asked(consumer, -1, error, |reply| Ask::Subscribe(named, Vec::new(), reply))
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_assign(
    consumer: *const Reader,
    start: *const CPlace,
    count: usize,
    error: *mut CError,
) -> c_int {
    asked_of(consumer, (start, count), -1, error, |places, reply| {
        Ask::Subscribe(Vec::new(), places, reply)
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_consumer_poll(
    consumer: *const Reader,
    timeout_ms: c_int,
    batch: *mut *mut Batch,
    error: *mut CError,
) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or ours, as the header demands.
        let (Some(reader), false) = (unsafe { consumer.as_ref() }, batch.is_null()) else {
            return INVALID;
        };
        let poll = || {
            let records = reader.poll(timeout(timeout_ms))?;
            Ok((!records.is_empty()).then(|| Batch::of(records)))
        };
        // SAFETY: not null, and null or room for one.
        unsafe { handed(batch, error, poll) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_batch_count(batch: *const Batch) -> usize {
    // SAFETY: null or ours, as the header demands.
    unsafe { items(batch, Batch::messages) }.0
}

#[unsafe(no_mangle)]
extern "C" fn mp_batch_messages(batch: *const Batch) -> *const CMessage {
    // SAFETY: null or ours, as the header demands.
    unsafe { items(batch, Batch::messages) }.1
}

#[unsafe(no_mangle)]
extern "C" fn mp_batch_free(batch: *mut Batch) {
    // SAFETY: it came from `mp_consumer_poll`, and is not used again.
    unsafe { freed(batch) };
}

#[unsafe(no_mangle)]
extern "C" fn mp_commit(
    consumer: *const Reader,
    start: *const CPlace,
    count: usize,
    timeout_ms: c_int,
    error: *mut CError,
) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or as many as C says.
        let Some(given) = (unsafe { places(start, count) }) else { return INVALID };
        let given = (!start.is_null()).then_some(given);
        asked(consumer, timeout_ms, error, |reply| Ask::Commit(given, reply))
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_seek(
    consumer: *const Reader,
    start: *const CPlace,
    count: usize,
    timeout_ms: c_int,
    error: *mut CError,
) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or as many as C says.
        let Some(given) = (unsafe { places(start, count) }) else { return INVALID };
        let Some((_, _, offset)) = given.first() else { return INVALID };
        let spec = match *offset {
            END => Some(OffsetSpec::Latest),
            BEGINNING => Some(OffsetSpec::Earliest),
            _ => None,
        };
        // One call goes to one kind of place.
        let is_alike = |place: &Place| match spec {
            Some(_) => place.2 == *offset,
            None => place.2 >= 0,
        };
        if !given.iter().all(is_alike) {
            return INVALID;
        }
        asked(consumer, timeout_ms, error, |reply| Ask::Seek(given, spec, reply))
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_seek_time(
    consumer: *const Reader,
    start: *const CPlace,
    count: usize,
    timestamp_ms: i64,
    timeout_ms: c_int,
    error: *mut CError,
) -> c_int {
    let spec = Some(OffsetSpec::AtTimestamp(timestamp_ms));
    asked_of(consumer, (start, count), timeout_ms, error, |places, reply| {
        Ask::Seek(places, spec, reply)
    })
}

// SAFETY of the exports below: the same as above, the names are our own.

#[unsafe(no_mangle)]
extern "C" fn mp_pause(
    consumer: *const Reader,
    start: *const CPlace,
    count: usize,
    error: *mut CError,
) -> c_int {
    asked_of(consumer, (start, count), -1, error, |places, reply| Ask::Pause(places, true, reply))
}

#[unsafe(no_mangle)]
extern "C" fn mp_resume(
    consumer: *const Reader,
    start: *const CPlace,
    count: usize,
    error: *mut CError,
) -> c_int {
    asked_of(consumer, (start, count), -1, error, |places, reply| Ask::Pause(places, false, reply))
}

/// Asks a consumer for places, which C frees.
fn listed(
    consumer: *const Reader,
    timeout_ms: c_int,
    list: *mut *mut Places,
    error: *mut CError,
    ask: impl FnOnce(SyncSender<Result<Vec<Place>, Fault>>) -> Ask,
) -> c_int {
    // SAFETY: null or ours, as the header demands.
    let (Some(reader), false) = (unsafe { consumer.as_ref() }, list.is_null()) else {
        return INVALID;
    };
    let find = || reader.ask(timeout(timeout_ms), ask).map(|places| Some(Places::of(places)));
    // SAFETY: not null, and null or room for one.
    unsafe { handed(list, error, find) }
}

#[unsafe(no_mangle)]
extern "C" fn mp_positions(
    consumer: *const Reader,
    list: *mut *mut Places,
    error: *mut CError,
) -> c_int {
    guarded(BROKEN, || listed(consumer, -1, list, error, Ask::Positions))
}

#[unsafe(no_mangle)]
extern "C" fn mp_committed(
    consumer: *const Reader,
    start: *const CPlace,
    count: usize,
    timeout_ms: c_int,
    list: *mut *mut Places,
    error: *mut CError,
) -> c_int {
    guarded(BROKEN, || {
        // SAFETY: null or as many as C says.
        let Some(given) = (unsafe { places(start, count) }) else { return INVALID };
        listed(consumer, timeout_ms, list, error, |reply| Ask::Committed(given, reply))
    })
}

#[unsafe(no_mangle)]
extern "C" fn mp_places_count(list: *const Places) -> usize {
    // SAFETY: null or ours, as the header demands.
    unsafe { items(list, Places::places) }.0
}

#[unsafe(no_mangle)]
extern "C" fn mp_places_at(list: *const Places) -> *const CPlace {
    // SAFETY: null or ours, as the header demands.
    unsafe { items(list, Places::places) }.1
}

#[unsafe(no_mangle)]
extern "C" fn mp_places_free(list: *mut Places) {
    // SAFETY: it came from this library, and is not used again.
    unsafe { freed(list) };
}

#[unsafe(no_mangle)]
extern "C" fn mp_consumer_close(
    consumer: *const Reader,
    timeout_ms: c_int,
    error: *mut CError,
) -> c_int {
    guarded(BROKEN, || asked(consumer, timeout_ms, error, Ask::Close))
}
